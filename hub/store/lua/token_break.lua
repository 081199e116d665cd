-- token_break marks a connection whose tokens the provider refuses.
--
--   KEYS[1]  the org      org:<org>
--   ARGV     org, conn, version refused, taker ('' if the access token was refused), code,
--            detail (a sentence for the admin)
--
-- Returns 1, or 0 if the version has moved on, the intent is not the taker's, or
-- somebody is refreshing who may yet bring a good token. begin looks at the
-- state, so nothing is sent from now on. Safe to run twice.

local org, conn, ver, taker, code = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local ckey = P .. 'conn:' .. org .. ':' .. conn
local c = redis.call('HMGET', ckey, 'st', 'tv', 'ri', 'rl', 'ru')
if not c[1] then return -1 end
if (c[2] or '0') ~= ver then return 0 end
if c[1] == 'needs_reauth' then return 1 end
if c[1] ~= 'connected' and c[1] ~= 'paused' then return 0 end
if taker ~= '' then
  if c[3] ~= taker then return 0 end
elseif c[3] and tonumber(c[4] or 0) > now and c[5] ~= '1' then
  return 0
end
redis.call('HSET', ckey, 'st', 'needs_reauth', 'why', code, 'sts', string.format('%.0f', now),
  'ers', string.format('%.0f', now), 'erc', code, 'erd', ARGV[6] or '')
redis.call('HDEL', ckey, 'ri', 'rl', 'rt', 'ru')
redis.call('HINCRBY', KEYS[1], 'ver', 1)
audit(org, 't', 'connection.broken', 'by', 'hub', 'n', conn, 'w', code)
flush()
return 1
