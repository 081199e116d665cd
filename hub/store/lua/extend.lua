-- extend keeps a lane for longer.
--
--   KEYS[1]  the org      org:<org>
--   ARGV     org, conn, fence, lease (ms)
--
-- Returns 1, or 0 if the lane is no longer this worker's.

local org, conn, fence, lease = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local ckey = P .. 'conn:' .. org .. ':' .. conn
local c = redis.call('HMGET', ckey, 'fence', 'lease')
if c[1] ~= fence or tonumber(c[2] or 0) <= now then return 0 end
local til = string.format('%.0f', now + lease)
redis.call('HSET', ckey, 'lease', til)
redis.call('ZADD', P .. 'lanes:' .. org, til, conn)
rescore(org, false)
return 1
