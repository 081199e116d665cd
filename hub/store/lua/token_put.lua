-- token_put stores the tokens that a refresh gave.
--
--   KEYS[1]  the org      org:<org>
--   ARGV     org, conn, version refreshed, taker, sealed tokens
--
-- Returns 1, or 0 if the version or the intent is no longer the taker's. Safe to
-- run twice: what this taker has put is a repeat.

local org, conn, ver, taker = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local ckey = P .. 'conn:' .. org .. ':' .. conn
local c = redis.call('HMGET', ckey, 'st', 'tv', 'ri', 'rp')
local have = tonumber(c[2] or 0)
if have == ver + 1 and c[4] == taker then return 1 end
if c[1] == 'disconnected' or have ~= ver or c[3] ~= taker then return 0 end
redis.call('HSET', ckey, 'tv', ver + 1, 'tok', ARGV[5], 'rp', taker)
redis.call('HDEL', ckey, 'ri', 'rl', 'rt', 'ru')
redis.call('HINCRBY', ckey, 'refreshes', 1)
audit(org, 't', 'token.refreshed', 'by', 'hub', 'n', conn)
flush()
return 1
