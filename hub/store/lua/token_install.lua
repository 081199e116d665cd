-- token_install stores the tokens that an admin brought.
--
--   KEYS[1]  the org      org:<org>
--   ARGV     org, conn, provider, version, sealed tokens, actor
--
-- Returns 1, 0 if version is not the next one or the connection is
-- disconnected, or -1 if there is no such org. Safe to run twice: the same version with the same bytes is a
-- repeat.

local org, conn, ver, actor = ARGV[1], ARGV[2], tonumber(ARGV[4]), ARGV[6]
local ckey = P .. 'conn:' .. org .. ':' .. conn
local c = redis.call('HMGET', ckey, 'st', 'tv', 'tok')
if c[1] == 'disconnected' then return 0 end
if redis.call('HEXISTS', KEYS[1], 'ver') == 0 then return -1 end
local have = tonumber(c[2] or 0)
if have == ver and c[3] == ARGV[5] then return 1 end
if have + 1 ~= ver then return 0 end
redis.call('HSET', ckey, 'st', 'connected', 'why', '', 'pv', ARGV[3], 'tv', ver, 'tok', ARGV[5], 'pause', 0, 'rp', '')
redis.call('HDEL', ckey, 'ri', 'rl', 'rt', 'ru')
redis.call('HINCRBY', KEYS[1], 'ver', 1)
-- The admin's own act is in the audit log by the change that brought them here.
audit(org, 't', 'token.installed', 'by', actor, 'n', conn)
flush()
local due = firstdue(org, conn)
if due then wakeif(org, conn, due) end
return 1
