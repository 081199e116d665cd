-- token_end notes how a refresh ended without new tokens.
--
--   KEYS[1]  the org      org:<org>
--   ARGV     org, conn, taker, unknown (0|1), code, pause (ms), detail (a sentence for
--            the connection's health)
--
-- Returns 1; 0 if the intent is not the taker's, and then nothing was done.
-- Safe to run twice.

local org, conn, taker, unknown, code = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local ckey = P .. 'conn:' .. org .. ':' .. conn
local c = redis.call('HMGET', ckey, 'ri', 'rt', 'ru', 'st')
if c[1] ~= taker or c[4] == 'disconnected' then return 0 end
if c[3] == '1' then return 1 end -- a repeat
if code ~= '' then redis.call('HSET', ckey, 'ers', int(now), 'erc', code, 'erd', ARGV[7]) end
local til = string.format('%.0f', now + tonumber(ARGV[6]))
if unknown == '1' then
  redis.call('HSET', ckey, 'ru', 1, 'rl', til)
  audit(org, 't', 'token.refresh_unknown', 'by', 'hub', 'n', conn, 'w', code)
  flush()
elseif tonumber(c[2] or 1) <= 1 then
  redis.call('HDEL', ckey, 'ri', 'rl', 'rt', 'ru')
else
  redis.call('HSET', ckey, 'rt', tonumber(c[2]) - 1, 'ru', 1, 'rl', til)
end
return 1
