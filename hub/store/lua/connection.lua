-- connection moves a connection to another state.
--
--   KEYS[1]  the org      org:<org>
--   ARGV     org, conn, state, cause, actor, audit type, token version it is about ('' for any)
--
-- Returns 1 if the state changed, 0 if it was so already, is final, or the token
-- version has moved on: then the cause is out of date. The org's configuration
-- gets a new version. Holding and resuming what waits in the lane is
-- sweep_lane's; begin looks at the state itself, so nothing is sent meanwhile.

local org, conn, to, why, actor, typ, tv = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local ckey = P .. 'conn:' .. org .. ':' .. conn
local c = redis.call('HMGET', ckey, 'st', 'tv', 'why')
if not c[1] or c[1] == 'disconnected' or (c[1] == to and c[3] == why) then return 0 end
if tv ~= '' and c[2] ~= tv then return 0 end
redis.call('HSET', ckey, 'st', to, 'why', why, 'sts', string.format('%.0f', now))
redis.call('HINCRBY', KEYS[1], 'ver', 1)
audit(org, 't', typ, 'by', actor, 'n', conn, 'w', why)
flush()
if to == 'connected' then
  redis.call('HSET', ckey, 'pause', 0, 'fails', 0)
  local first = redis.call('ZRANGE', P .. 'lane:' .. org .. ':' .. conn, 0, 0, 'WITHSCORES')
  if #first > 0 then wakeif(org, conn, now) end
end
return 1
