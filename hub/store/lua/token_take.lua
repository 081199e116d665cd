-- token_take gives the right to refresh a connection's tokens to one taker, and
-- writes the intent before the provider is called.
--
--   KEYS[1]  the org      org:<org>
--   ARGV     org, conn, version, taker, lease (ms), takeover (0|1)
--
-- Returns {verdict, provider, state, version, tokens, taker, ms left, tries, unknown}
-- with the record as it is afterwards; verdict: taken, busy, moved, orphaned,
-- closed, none. Safe to run twice: an intent of the taker itself is taken.

local org, conn, ver, taker, lease = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local ckey = P .. 'conn:' .. org .. ':' .. conn

local function record(verdict)
  local c = redis.call('HMGET', ckey, 'pv', 'st', 'tv', 'tok', 'ri', 'rl', 'rt', 'ru')
  local left = 0
  if c[6] then left = tonumber(c[6]) - now end
  return { verdict, s(c[1]), s(c[2]), s(c[3]), s(c[4]), s(c[5]), string.format('%.0f', left), s(c[7]), s(c[8]) }
end

local c = redis.call('HMGET', ckey, 'st', 'tv', 'ri', 'rl', 'rt')
if not c[1] then return { 'none' } end
if c[1] == 'needs_reauth' or c[1] == 'disconnected' then return record('closed') end
if (c[2] or '0') ~= ver then return record('moved') end
local til = string.format('%.0f', now + lease)
if c[3] == taker then
  redis.call('HSET', ckey, 'rl', til)
  return record('taken')
end
if not c[3] then
  redis.call('HSET', ckey, 'ri', taker, 'rl', til, 'rt', 1, 'ru', 0)
  return record('taken')
end
if tonumber(c[4] or 0) > now then return record('busy') end
if ARGV[6] ~= '1' then return record('orphaned') end
redis.call('HSET', ckey, 'ri', taker, 'rl', til, 'rt', tonumber(c[5] or 0) + 1, 'ru', 0)
audit(org, 't', 'token.refresh_unknown', 'by', 'hub', 'n', conn, 'w', 'taken_over')
flush()
return record('taken')
