-- settle carries out what a person decided about one transfer.
--
--   KEYS[1]  the org      org:<org>
--   ARGV     org, transfer, what, actor
--
-- what: retry (a dead one is tried again), resend (an ambiguous one is sent
-- again), delivered (an ambiguous one did arrive).
--
-- Returns 'ok', 'none' (no such transfer), 'blocked' (a newer transfer of the
-- same call and integration exists: retry that) or 'state:<state>' when the
-- transfer is in a state that this cannot be done in.

local org, tid, what, actor = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local key = P .. 'xfer:' .. org .. ':' .. tid
local x = redis.call('HMGET', key, 's', 'c', 'r', 'i', 'n', 'k', 'cr', 'g', 'nx')
if not x[1] then return 'none' end
local want = 'ambiguous'
if what == 'retry' then want = 'dead' end
if x[1] ~= want then return 'state:' .. x[1] end

local typ = 'transfer.resolved'
if what == 'retry' then
  typ = 'transfer.replayed'
  if redis.call('HGET', P .. 'call:' .. org .. ':' .. x[2], 'x:' .. x[4]) ~= tid then return 'blocked' end
end
audit(org, 't', typ, 'by', actor, 'c', x[2], 'r', x[3], 'i', x[4], 'n', x[5], 'x', tid, 'g', x[8], 'k', x[6], 'w', what)
if what == 'delivered' then
  -- The copy is there, only its receipt is not known: what follows is an update
  -- of it, never a second copy.
  if x[6] == 'share' then
    redis.call('HSET', P .. 'cp:' .. org .. ':' .. x[2], x[4], cjson.encode({ x = tid, n = x[5], r = x[3], g = x[8], rc = '{}', rd = '', pd = '', at = now }))
    redis.call('ZADD', P .. 'cpx:' .. org, string.format('%.0f', now), x[2] .. ' ' .. x[4])
  end
  redis.call('HSET', key, 's', 'delivered', 'w', 'resolved', 'fn', string.format('%.0f', now))
  reindex(org, tid, x[1], 'delivered', x[7])
  unblock(org, tid)
elseif s(x[9]) ~= '' then
  -- a newer revision waits behind it: that one goes, this one is out of date
  redis.call('HSET', key, 's', 'superseded', 'w', 'resolved', 'fn', string.format('%.0f', now))
  reindex(org, tid, x[1], 'superseded', x[7])
  unblock(org, tid)
else
  local due = string.format('%.0f', now)
  redis.call('HSET', key, 's', 'waiting', 'w', '', 'du', due, 'fn', '', 'at', 0)
  redis.call('HDEL', key, 'sl')
  reindex(org, tid, x[1], 'waiting', x[7])
  redis.call('HINCRBY', P .. 'org:' .. org, 'open', 1)
  redis.call('HINCRBY', P .. 'call:' .. org .. ':' .. x[2], 'open', 1)
  redis.call('ZADD', P .. 'lane:' .. org .. ':' .. x[5], due, tid)
  wakeif(org, x[5], now)
end
flush()
return 'ok'
