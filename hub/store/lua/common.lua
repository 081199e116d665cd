-- Put before every script. All keys of a script carry the hash tag of one
-- shard, {NN}, and so does every key that a script derives from KEYS[1]: they
-- live in one slot, and the scripts run unchanged on a Redis Cluster.
--
-- The clock is Redis' own, in milliseconds, so replicas with wrong clocks
-- agree on leases and due times.

local P = string.match(KEYS[1], '^(cb:{%d+}:)')
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local function s(v) -- a Redis reply as a string, '' for nothing
  if not v then return '' end
  return v
end

-- Audit. seq is read once and written once, by flush, which every path that
-- audited something must reach.
local auditorg, seq

local function audit(org, ...)
  if auditorg ~= org then
    auditorg = org
    seq = tonumber(redis.call('HGET', P .. 'org:' .. org, 'aseq') or 0)
  end
  seq = seq + 1
  redis.call('XADD', P .. 'audit:' .. org, string.format('%.0f-0', seq), 'at', string.format('%.0f', now), ...)
end

local function flush()
  if auditorg then
    redis.call('HSET', P .. 'org:' .. auditorg, 'aseq', string.format('%.0f', seq))
  end
end

-- The indexes of transfers by state. 'sending' stands with 'waiting': it is a
-- moment, and its readers look at the transfer itself. 'delivered' and 'erased'
-- have none: nearly every transfer ends there.
local indexed = { waiting = true, held = true, ambiguous = true, dead = true, withdrawn = true, superseded = true }

local function reindex(org, tid, from, to, created)
  if from == 'sending' then from = 'waiting' end
  if to == 'sending' then to = 'waiting' end
  if from == to then return end
  if indexed[from] then redis.call('ZREM', P .. 'xs:' .. org .. ':' .. from, tid) end
  if indexed[to] then redis.call('ZADD', P .. 'xs:' .. org .. ':' .. to, created, tid) end
end

-- Lanes in line. ready: org -> when its first lane is due; lanes:<org>:
-- connection -> when that lane is due, or while it is leased the end of the
-- lease.
local function rescore(org)
  local first = redis.call('ZRANGE', P .. 'lanes:' .. org, 0, 0, 'WITHSCORES')
  if #first == 0 then
    redis.call('ZREM', P .. 'ready', org)
    return
  end
  local score = tonumber(first[2])
  if score < now then score = now end -- an org that has had its turn goes to the end of the line
  redis.call('ZADD', P .. 'ready', string.format('%.0f', score), org)
end

-- wake puts a lane in line for the time due, unless it is leased (finish looks
-- again) or already due earlier.
local function wake(org, conn, due, lease, pause)
  if tonumber(lease or 0) > now then return end
  if tonumber(pause or 0) > due then due = tonumber(pause) end
  local lanes = P .. 'lanes:' .. org
  local cur = redis.call('ZSCORE', lanes, conn)
  if cur and tonumber(cur) <= due then return end
  redis.call('ZADD', lanes, string.format('%.0f', due), conn)
  local o = redis.call('ZSCORE', P .. 'ready', org)
  if not o or tonumber(o) > due then
    redis.call('ZADD', P .. 'ready', string.format('%.0f', due), org)
  end
end

-- wakeif wakes the lane if its org and its connection allow work.
local function wakeif(org, conn, due)
  if redis.call('HGET', P .. 'org:' .. org, 'st') ~= 'active' then return end
  local c = redis.call('HMGET', P .. 'conn:' .. org .. ':' .. conn, 'st', 'lease', 'pause')
  if c[1] == 'connected' then wake(org, conn, due, c[2], c[3]) end
end

-- unblock lets the transfer go that waited for tid to be settled: two transfers
-- of one call and one integration are never under way together.
local function unblock(org, tid)
  local key = P .. 'xfer:' .. org .. ':' .. tid
  local nx = redis.call('HGET', key, 'nx')
  if not nx or nx == '' then return end
  redis.call('HDEL', key, 'nx')
  local nkey = P .. 'xfer:' .. org .. ':' .. nx
  local n = redis.call('HMGET', nkey, 's', 'n')
  if n[1] == 'waiting' or n[1] == 'held' then
    redis.call('HDEL', nkey, 'af')
    redis.call('HSET', nkey, 'du', string.format('%.0f', now))
    redis.call('ZADD', P .. 'lane:' .. org .. ':' .. n[2], string.format('%.0f', now), nx)
    wakeif(org, n[2], now)
  end
end

-- settle ends a transfer in a state from which it does not go on by itself.
local function settle(org, conn, tid, from, to, created, why)
  redis.call('ZREM', P .. 'lane:' .. org .. ':' .. conn, tid)
  redis.call('HSET', P .. 'xfer:' .. org .. ':' .. tid, 's', to, 'w', why or '', 'fn', string.format('%.0f', now))
  reindex(org, tid, from, to, created)
  redis.call('HINCRBY', P .. 'org:' .. org, 'open', -1)
  if to ~= 'ambiguous' then unblock(org, tid) end
end
