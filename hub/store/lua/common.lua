-- Put before every script. All keys of a script carry the hash tag of one
-- shard, {NN}, and so does every key that a script derives from KEYS[1]: they
-- live in one slot, and the scripts run unchanged on a Redis Cluster.
--
-- The clock is Redis' own, in milliseconds, so replicas with wrong clocks
-- agree on leases and due times.
--
-- A transfer's hash has these fields:
--   c call, r revision, i integration, n connection, k kind, g grant (it began
--   under, before that the one in force when the call was accepted), g0 grant in
--   force when the call was accepted, s state, w reason, at attempts,
--   cr made, du due, bg begun, fn finished (ms), p pace key, rc receipt,
--   ls losses, fl released fields, pd digest of the payload,
--   ec, eo, ed class, code and detail of the last error,
--   f  fence of who wrote last, b fence it was begun under,
--   un 1: transfer.unknown is written for this beginning,
--   ud 1: no longer counted as being in flight,
--   sl ticket at its place, sf fence that ticket was used under,
--   af the transfer that it waits behind, nx the one that waits behind it.

local P = string.match(KEYS[1], '^(cb:{%d+}:)')
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local function int(n) return string.format('%.0f', n) end

-- score reads a score. Redis writes 1.8e12 as 1800000000000; miniredis as
-- 1.8e+12, which its own Lua does not read.
local function score(v)
  local m, e = string.match(v, '^([%d.]+)e%+(%d+)$')
  if m then return tonumber(m) * 10 ^ tonumber(e) end
  return tonumber(v)
end

local function s(v) -- a Redis reply as a string, '' for nothing
  if not v then return '' end
  return v
end

-- Audit. seq is read once and written once, by flush, which every path that
-- audited something must reach.
local auditorg, seq

local function flush()
  if auditorg then redis.call('HSET', P .. 'org:' .. auditorg, 'aseq', int(seq)) end
end

local function audit(org, ...)
  if auditorg ~= org then
    flush()
    auditorg = org
    seq = tonumber(redis.call('HGET', P .. 'org:' .. org, 'aseq') or 0)
  end
  seq = seq + 1
  redis.call('XADD', P .. 'audit:' .. org, int(seq) .. '-0', 'at', int(now), ...)
end

-- note audits something about the transfer x.
local function note(org, typ, by, x, ...)
  audit(org, 't', typ, 'by', by, 'c', x.c, 'r', x.r, 'i', x.i, 'n', x.n, 'x', x.id, 'k', x.k, 'g', x.g, ...)
end

-- Tokens of requests: "token value token value …", newest first, so that a
-- request that was done is known again even when others came in between.
local REMEMBER = 4

local function remember(list, tok, value)
  local out, n = { tok, value }, 1
  for old, v in string.gmatch(s(list), '(%S+) (%S+)') do
    if n >= REMEMBER then break end
    out[#out + 1] = old
    out[#out + 1] = v
    n = n + 1
  end
  return table.concat(out, ' ')
end

local function recall(list, tok)
  for old, v in string.gmatch(s(list), '(%S+) (%S+)') do
    if old == tok then return v end
  end
  return nil
end

local function xkey(org, tid) return P .. 'xfer:' .. org .. ':' .. tid end
local function lanekey(org, conn) return P .. 'lane:' .. org .. ':' .. conn end
local function connkey(org, conn) return P .. 'conn:' .. org .. ':' .. conn end
local function callkey(org, call) return P .. 'call:' .. org .. ':' .. call end

-- load reads a transfer; nil if there is none.
local function load(org, tid)
  local v = redis.call('HMGET', xkey(org, tid), 's', 'c', 'r', 'i', 'n', 'k', 'g', 'at', 'cr', 'af', 'nx', 'f', 'un', 'ud', 'b')
  if not v[1] then return nil end
  return { id = tid, s = v[1], c = v[2], r = v[3], i = v[4], n = v[5], k = v[6], g = v[7], at = tonumber(v[8] or 0),
    cr = v[9], af = s(v[10]), nx = s(v[11]), f = s(v[12]), un = v[13] == '1', ud = v[14] == '1', b = s(v[15]) }
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

-- Lanes. A transfer that waits behind another one stands in its lane as well,
-- so that a sweep meets it, with a due time that never comes.
local BLOCKED = 9007199254740991 -- the greatest integer that a score keeps

-- firstdue returns when the first transfer of the lane is due, nil for never.
local function firstdue(org, conn)
  local first = redis.call('ZRANGE', lanekey(org, conn), 0, 0, 'WITHSCORES')
  if #first == 0 then return nil end
  local due = score(first[2])
  if due >= BLOCKED then return nil end
  return due
end

-- Lanes in line. ready: org -> when its first lane is due; lanes:<org>:
-- connection -> when that lane is due, or while it is leased the end of the
-- lease. An org that has had its turn goes to the end of the line (turn); one
-- whose lanes changed otherwise keeps its place in it.
local function rescore(org, turn)
  local first = redis.call('ZRANGE', P .. 'lanes:' .. org, 0, 0, 'WITHSCORES')
  if #first == 0 then
    redis.call('ZREM', P .. 'ready', org)
    return
  end
  local due = math.max(score(first[2]), now)
  if not turn then
    local place = redis.call('ZSCORE', P .. 'ready', org)
    if place and score(place) <= now then return end
  end
  redis.call('ZADD', P .. 'ready', int(due), org)
end

-- wake puts a lane in line for the time due, unless it is leased (finish looks
-- again) or already due earlier. A lane that slept gains nothing by it: it is
-- due now at the earliest.
local function wake(org, conn, due, lease, pause)
  if tonumber(lease or 0) > now then return end
  due = math.max(due, now, tonumber(pause or 0))
  local lanes = P .. 'lanes:' .. org
  local cur = redis.call('ZSCORE', lanes, conn)
  if cur and score(cur) <= due then return end
  redis.call('ZADD', lanes, int(due), conn)
  rescore(org, false)
end

-- wakeif wakes the lane if its org and its connection allow work, or if the
-- connection is gone for good: claim then empties the lane.
local function wakeif(org, conn, due)
  local c = redis.call('HMGET', connkey(org, conn), 'st', 'lease', 'pause')
  if c[1] == 'disconnected' then
    wake(org, conn, now, c[2], 0)
  elseif c[1] == 'connected' and redis.call('HGET', P .. 'org:' .. org, 'st') == 'active' then
    wake(org, conn, due, c[2], c[3])
  end
end

-- follow makes nx wait behind tid: two transfers of one call and integration
-- are never under way together.
local function follow(org, tid, nx)
  redis.call('HSET', xkey(org, tid), 'nx', nx)
  redis.call('HSET', xkey(org, nx), 'af', tid)
end

-- unblock lets the transfer go that waited behind tid.
local function unblock(org, tid)
  local key = xkey(org, tid)
  local nx = s(redis.call('HGET', key, 'nx'))
  if nx == '' then return end
  redis.call('HDEL', key, 'nx')
  local nkey = xkey(org, nx)
  local n = redis.call('HMGET', nkey, 's', 'n')
  if n[1] ~= 'waiting' and n[1] ~= 'held' then return end
  redis.call('HDEL', nkey, 'af')
  redis.call('HSET', nkey, 'du', int(now))
  redis.call('ZADD', lanekey(org, n[2]), int(now), nx)
  wakeif(org, n[2], now)
end

-- settle ends the open transfer x in a state from which it does not go on by
-- itself. Its content is kept for the call's retention from the end of the
-- call's last transfer.
local function settle(org, x, to, why)
  local key, ckey = xkey(org, x.id), callkey(org, x.c)
  redis.call('ZREM', lanekey(org, x.n), x.id)
  redis.call('HSET', key, 's', to, 'w', why or '', 'fn', int(now))
  redis.call('HDEL', key, 'sl', 'sf', 'af')
  reindex(org, x.id, x.s, to, x.cr)
  redis.call('HINCRBY', P .. 'org:' .. org, 'open', -1)
  if redis.call('HINCRBY', ckey, 'open', -1) == 0 then
    local c = redis.call('HMGET', ckey, 'keep', 'gone')
    if c[1] and not c[2] then redis.call('ZADD', P .. 'retain', int(now + tonumber(c[1])), org .. '|' .. x.c) end
  end
  if x.af == '' then
    if to ~= 'ambiguous' then unblock(org, x.id) end
    return
  end
  -- It waited behind another one, which may be under way still: whatever comes
  -- next waits for that one too.
  local nx = s(redis.call('HGET', key, 'nx'))
  redis.call('HDEL', key, 'nx')
  if nx ~= '' then
    follow(org, x.af, nx)
  else
    redis.call('HDEL', xkey(org, x.af), 'nx')
    if redis.call('HGET', ckey, 'x:' .. x.i) == x.id then redis.call('HSET', ckey, 'x:' .. x.i, x.af) end
  end
end

-- unknown writes that x was found begun and without outcome, once for each time
-- it began.
local function unknown(org, x)
  if x.un then return end
  note(org, 'transfer.unknown', 'hub', x, 'a', x.at)
  redis.call('HSET', xkey(org, x.id), 'un', 1)
  x.un = true
end

-- landed takes x, which was begun, out of the count of what is in flight.
local function landed(org, x)
  if x.ud then return end
  redis.call('HINCRBY', P .. 'integ:' .. org .. ':' .. x.i, 'fly', -1)
  redis.call('HSET', xkey(org, x.id), 'ud', 1)
  x.ud = true
end

-- The copy register. An entry is a JSON object: x transfer that last wrote the
-- copy, n connection, r revision, g grant, rc receipt (JSON), rd digest of the
-- released content it shows ('': not known), pd digest of the payload, at.
local function register(org, x, entry)
  local reg = P .. 'cp:' .. org .. ':' .. x.c
  entry.x, entry.n, entry.r, entry.g, entry.at = x.id, x.n, x.r, x.g, now
  local old = redis.call('HGET', reg, x.i)
  if old then
    old = cjson.decode(old)
    if entry.rc == '{}' then entry.rc = old.rc end -- nothing new was said of it
    if old.n ~= x.n then redis.call('HINCRBY', connkey(org, old.n), 'copies', -1) end
  end
  if not old or old.n ~= x.n then redis.call('HINCRBY', connkey(org, x.n), 'copies', 1) end
  redis.call('HSET', reg, x.i, cjson.encode(entry))
  redis.call('ZADD', P .. 'cpx:' .. org, int(now), x.c .. ' ' .. x.i)
end

-- unregister takes the copy out of the register and reports whether there was one.
local function unregister(org, call, integ)
  local reg = P .. 'cp:' .. org .. ':' .. call
  local old = redis.call('HGET', reg, integ)
  if not old then return false end
  redis.call('HDEL', reg, integ)
  redis.call('ZREM', P .. 'cpx:' .. org, call .. ' ' .. integ)
  redis.call('ZREM', P .. 'expire', org .. '|' .. call .. '|' .. integ)
  redis.call('HINCRBY', connkey(org, cjson.decode(old).n), 'copies', -1)
  return true
end

-- erased takes the copy that x erased out of the register, and marks the
-- transfers that made and corrected it.
local function erased(org, x)
  if not unregister(org, x.c, x.i) then return end
  for tid in string.gmatch(s(redis.call('HGET', callkey(org, x.c), 'xl')), '%S+') do
    local m = redis.call('HMGET', xkey(org, tid), 's', 'i', 'k')
    if m[1] == 'delivered' and m[2] == x.i and m[3] ~= 'erase' then redis.call('HSET', xkey(org, tid), 's', 'erased') end
  end
end

-- admit puts a new transfer where it belongs: into its lane, or behind another
-- one (after); held where its org or connection does not allow work. It sets
-- x.s and x.cr.
local function admit(org, x, after, grant, pace)
  local o = redis.call('HGET', P .. 'org:' .. org, 'st')
  local c = redis.call('HMGET', connkey(org, x.n), 'st', 'lease', 'pause')
  local why = ''
  x.s, x.cr = 'waiting', int(now)
  if c[1] == 'disconnected' then why = '' -- claim settles it
  elseif o ~= 'active' then x.s, why = 'held', 'org_suspended'
  elseif c[1] ~= 'connected' then x.s, why = 'held', 'connection_broken' end
  redis.call('HSET', xkey(org, x.id), 'c', x.c, 'r', x.r, 'i', x.i, 'n', x.n, 'k', x.k, 'g', x.g, 'g0', grant,
    's', x.s, 'w', why, 'at', 0, 'cr', x.cr, 'du', x.cr, 'p', pace)
  redis.call('ZADD', P .. 'xs:' .. org, x.cr, x.id)
  reindex(org, x.id, '', x.s, x.cr)
  redis.call('HINCRBY', P .. 'org:' .. org, 'open', 1)
  redis.call('HINCRBY', callkey(org, x.c), 'open', 1)
  redis.call('HSET', callkey(org, x.c), 'x:' .. x.i, x.id)
  if after ~= '' then
    follow(org, after, x.id)
    redis.call('ZADD', lanekey(org, x.n), int(BLOCKED), x.id)
  else
    redis.call('ZADD', lanekey(org, x.n), x.cr, x.id)
  end
  if x.s == 'held' then
    note(org, 'transfer.held', 'hub', x, 'w', why)
  elseif c[1] == 'disconnected' then
    wake(org, x.n, now, c[2], 0)
  elseif after == '' then
    wake(org, x.n, now, c[2], c[3])
  end
end

-- behind returns the transfer that a new one for the same call and integration
-- has to wait behind, '' for none, after taking out of the way what only waits:
-- it is settled as to, audited as typ by by.
local function behind(org, prev, to, typ, by, why)
  if not prev then return '' end
  local p = load(org, prev)
  if not p then return '' end
  local waits = p.s == 'waiting' or p.s == 'held'
  if waits and p.k ~= 'erase' then
    note(org, typ, by, p, 'w', why)
    settle(org, p, to, why)
    return p.af
  end
  if waits or p.s == 'sending' or p.s == 'ambiguous' then return prev end
  return ''
end
