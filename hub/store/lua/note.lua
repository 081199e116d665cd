-- note writes audit entries that belong to no change of the configuration.
--
--   KEYS[1]  the org      org:<org>
--   ARGV[1]  org
--   ARGV[2]  a token of this request
--   ARGV[3]  JSON: entries[], each a list of names and values
--
-- Returns 1, or 0 if there is no such org. Safe to run twice: the second run
-- finds its token.

local org, tok = ARGV[1], ARGV[2]
local o = redis.call('HMGET', KEYS[1], 'ver', 'noted')
if not o[1] then return 0 end
if recall(o[2], tok) then return 1 end
for _, e in ipairs(cjson.decode(ARGV[3])) do audit(org, unpack(e)) end
redis.call('HSET', KEYS[1], 'noted', remember(o[2], tok, '1'))
flush()
return 1
