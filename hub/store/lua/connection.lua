-- connection moves a connection to another state.
--
--   KEYS[1]  the org      org:<org>
--   ARGV     org, conn, state, cause, actor, audit type, token version it is about ('' for any),
--            token of this request
--
-- Returns 1 if the state changed, 0 if it was so already, is final, or the token
-- version has moved on: then the cause is out of date. The org's configuration
-- gets a new version. Holding and resuming what waits in the lane is
-- sweep_lane's; begin looks at the state itself, so nothing is sent meanwhile. The lane
-- of a connection that is disconnected is emptied by claim.
--
-- Safe to run twice: the second run finds its token.

local org, conn, to, why, actor, typ, tv, tok = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local ckey = connkey(org, conn)
local c = redis.call('HMGET', ckey, 'st', 'tv', 'why', 'stt')
if c[4] == tok then return 1 end
if not c[1] or c[1] == 'disconnected' or (c[1] == to and s(c[3]) == why) then return 0 end
if tv ~= '' and s(c[2]) ~= tv then return 0 end
redis.call('HSET', ckey, 'st', to, 'why', why, 'sts', int(now), 'stt', tok)
redis.call('HINCRBY', KEYS[1], 'ver', 1)
audit(org, 't', typ, 'by', actor, 'n', conn, 'w', why)
flush()
if to == 'disconnected' then
  redis.call('HDEL', ckey, 'ri', 'rl', 'rt', 'ru') -- nobody refreshes what is gone
  if redis.call('ZCARD', lanekey(org, conn)) > 0 then wakeif(org, conn, now) end
elseif to == 'connected' then
  redis.call('HSET', ckey, 'pause', 0)
  local due = firstdue(org, conn)
  if due then wakeif(org, conn, due) end
end
return 1
