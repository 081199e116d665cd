-- sweep_calls forgets the content of calls whose time is over (P6).
--
--   KEYS[1]  calls and when their content may go     retain
--   ARGV[1]  how many to look at
--   ARGV[2]  ms to look again at a call that still has open transfers
--
-- Returns {forgotten, looked at}. What stays is ids, decisions and receipts.

local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))
local gone = 0
for _, m in ipairs(due) do
  local org, call = string.match(m, '^([^|]*)|(.*)$')
  local key = P .. 'call:' .. org .. ':' .. call
  if tonumber(redis.call('HGET', key, 'open') or 0) > 0 then
    redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), m)
  else
    if redis.call('EXISTS', key) == 1 then redis.call('HSET', key, 'ct', '', 'dg', '') end
    redis.call('ZREM', KEYS[1], m)
    gone = gone + 1
  end
end
return { gone, #due }
