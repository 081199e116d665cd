-- claim leases the lane that is due first in the shard to one worker and gives
-- it a batch of the lane's due transfers.
--
--   KEYS[1]  the orgs in line      ready
--   KEYS[2]  what this token got   claim:<token>
--   ARGV[1]  lease, ms
--   ARGV[2]  JSON: provider -> most transfers in a batch; '*' for the others
--   ARGV[3]  JSON: provider -> ms between two transfers of one pace key
--   ARGV[4]  most bytes of content in a batch, beyond the first transfer's
--
-- Returns
--   {'none', due, now}   nothing is due; due is when something will be, or ''
--   {'lane', org, conn, fence, provider, ver, now, {transfer, …}, tokens}
-- where tokens are the connection's, as token_take answers them, and a transfer is
--   {id, call, revision, integration, kind, grant, grant accepted under, attempts,
--    unknown (1: begun before, outcome unknown), begun (ms), content, content's revision, copy, created, state}
--
-- A transfer found in the state 'sending' is one whose outcome is unknown (I5):
-- transfer.unknown is written here, before anything is done with it. The lane
-- stays out of the line until finish gives it back or the lease ends; whatever
-- a worker writes later must carry the fence.
--
-- A lane whose org or connection does not allow work is taken out of the line;
-- whoever allows it again wakes it. The lane of a connection that is gone for
-- good is emptied, a part at a time: what waits is withdrawn, erasures are dead,
-- and what was begun is ambiguous. So no transfer is left behind.
--
-- Safe to run twice: a second run with the same token gets the same lane.

local lease, mostbytes = tonumber(ARGV[1]), tonumber(ARGV[4])
local batches, paces = cjson.decode(ARGV[2]), cjson.decode(ARGV[3])

-- place says when the transfer may go to its place (pace key), in the order of
-- tickets given out there. Of a place are kept: the next ticket, the ticket
-- whose turn it is, and from when on. A lane that stood still does not send all
-- that came due meanwhile at once: everybody's turn is reckoned from the last
-- one that was used.
local function place(org, conn, key, pk, ticket, pace)
  local places = P .. 'pace:' .. org .. ':' .. conn
  local nxt, head, from = string.match(redis.call('HGET', places, pk) or '0 0 0', '^(%d+) (%d+) (%d+)$')
  nxt, head, from = tonumber(nxt), tonumber(head), tonumber(from)
  if ticket == '' then
    ticket = math.max(nxt, head)
    nxt = ticket + 1
    redis.call('HSET', key, 'sl', int(ticket))
  else
    ticket = tonumber(ticket)
  end
  local at = from + math.max(0, ticket - head) * pace
  if at <= now then
    at, from, head = now, now + pace, math.max(head, ticket + 1)
  end
  redis.call('HSET', places, pk, int(nxt) .. ' ' .. int(head) .. ' ' .. int(from))
  redis.call('PEXPIRE', places, 86400000) -- a place that is forgotten is free, and its tickets count on
  return at
end

local function collect(org, conn, fence, provider)
  local lane = lanekey(org, conn)
  local most = batches[provider] or batches['*']
  local pace = paces[provider]
  local out, bytes = {}, 0
  for _, tid in ipairs(redis.call('ZRANGEBYSCORE', lane, '-inf', int(now), 'LIMIT', 0, most)) do
    local key = xkey(org, tid)
    local x = redis.call('HMGET', key, 'c', 'r', 'i', 'k', 'g', 'g0', 'at', 's', 'bg', 'p', 'sl', 'cr', 'f', 'sf')
    local take, lost = true, 0
    if not x[1] then -- in no other way can it leave the lane
      redis.call('ZREM', lane, tid)
      take = false
    elseif x[8] == 'sending' then
      lost = 1
      unknown(org, load(org, tid))
      redis.call('HSET', key, 'f', fence)
    elseif pace and s(x[10]) ~= '' and x[14] ~= fence then
      local at = place(org, conn, key, x[10], s(x[11]), pace)
      if at > now then
        redis.call('ZADD', lane, int(at), tid)
        take = false
      else
        redis.call('HSET', key, 'sf', fence)
      end
    end
    if take then
      local c = redis.call('HMGET', callkey(org, x[1]), 'ct', 'rev')
      local copy = redis.call('HGET', P .. 'cp:' .. org .. ':' .. x[1], x[3])
      if lost == 0 and x[4] ~= 'erase' then x[4] = copy and 'update' or 'share' end -- the copy may have come or gone since
      bytes = bytes + #s(c[1])
      if #out > 0 and bytes > mostbytes then break end -- the rest is due still
      out[#out + 1] = { tid, x[1], x[2], x[3], x[4], x[5], x[6], x[7], lost, s(x[9]), s(c[1]), s(c[2]), s(copy), x[12], x[8] }
    end
  end
  return out
end

local function lanereply(org, conn, fence, provider, items)
  flush()
  local ver = redis.call('HGET', P .. 'org:' .. org, 'ver')
  local k = redis.call('HMGET', connkey(org, conn), 'pv', 'st', 'tv', 'tok', 'ri', 'rl', 'rt', 'ru')
  local left = 0
  if k[6] then left = tonumber(k[6]) - now end
  local tokens = { s(k[1]), s(k[2]), s(k[3]), s(k[4]), s(k[5]), int(left), s(k[7]), s(k[8]) }
  return { 'lane', org, conn, fence, provider, s(ver), int(now), items, tokens }
end

-- empty settles a part of the lane of a connection that is gone for good.
local function empty(org, conn)
  for _, tid in ipairs(redis.call('ZRANGE', lanekey(org, conn), 0, 99)) do
    local x = load(org, tid)
    if not x then
      redis.call('ZREM', lanekey(org, conn), tid)
    elseif x.s == 'sending' then
      unknown(org, x)
      landed(org, x)
      note(org, 'transfer.ambiguous', 'hub', x, 'a', x.at, 'w', 'disconnected')
      settle(org, x, 'ambiguous', 'disconnected')
    elseif x.k == 'erase' then
      note(org, 'transfer.dead', 'hub', x, 'w', 'disconnected')
      settle(org, x, 'dead', 'disconnected')
    else
      note(org, 'transfer.withdrawn', 'hub', x, 'w', 'disconnected')
      settle(org, x, 'withdrawn', 'disconnected')
    end
  end
  if redis.call('ZCARD', lanekey(org, conn)) == 0 then
    redis.call('ZREM', P .. 'lanes:' .. org, conn)
  else
    redis.call('ZADD', P .. 'lanes:' .. org, int(now), conn)
  end
end

-- shelve takes a lane out of the line that may not be worked. What its last
-- worker left begun is in flight no longer: the lease is over.
local function shelve(org, conn)
  for _, tid in ipairs(redis.call('ZRANGE', lanekey(org, conn), 0, 255)) do -- begun ones are among those that were due first
    local x = load(org, tid)
    if x and x.s == 'sending' then
      unknown(org, x)
      landed(org, x)
    end
  end
  redis.call('ZREM', P .. 'lanes:' .. org, conn)
end

local again = redis.call('GET', KEYS[2])
if again then
  local org, conn, fence = string.match(again, '^([^|]*)|([^|]*)|(.*)$')
  local c = redis.call('HMGET', connkey(org, conn), 'fence', 'pv')
  if c[1] == fence then return lanereply(org, conn, fence, c[2], collect(org, conn, fence, c[2])) end
end

for _ = 1, 16 do
  local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  if #first == 0 or score(first[2]) > now then break end
  local org = first[1]
  local active = redis.call('HGET', P .. 'org:' .. org, 'st') == 'active'
  local lanes = P .. 'lanes:' .. org
  for _, conn in ipairs(redis.call('ZRANGEBYSCORE', lanes, '-inf', int(now), 'LIMIT', 0, 4)) do
    local ckey = connkey(org, conn)
    local c = redis.call('HMGET', ckey, 'st', 'pv')
    if c[1] == 'disconnected' then
      empty(org, conn)
    elseif c[1] ~= 'connected' or not active then
      shelve(org, conn)
    else
      local fence = int(redis.call('HINCRBY', ckey, 'fence', 1))
      local items = collect(org, conn, fence, c[2])
      if #items > 0 then
        local til = int(now + lease)
        redis.call('HSET', ckey, 'lease', til)
        redis.call('ZADD', lanes, til, conn)
        rescore(org, true)
        redis.call('SET', KEYS[2], org .. '|' .. conn .. '|' .. fence, 'PX', lease)
        return lanereply(org, conn, fence, c[2], items)
      end
      local due = firstdue(org, conn)
      if due then
        redis.call('ZADD', lanes, int(math.max(due, now + 1)), conn) -- all that was due waits for its turn at its place
      else
        redis.call('ZREM', lanes, conn)
      end
    end
  end
  rescore(org, true)
end
flush()
local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return { 'none', s(head[2]), int(now) }
