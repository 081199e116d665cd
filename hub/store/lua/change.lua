-- change writes a new version of an org's configuration.
--
--   KEYS[1]  the org      org:<org>
--   ARGV[1]  the version it was decided on, '' to make the org
--   ARGV[2]  a token of this change
--   ARGV[3]  JSON: org, entries[] (each a list of names and values), ops[]: {command, key after the prefix, args…}
--   ARGV[4…] the sealed documents; an argument "$n" of an op stands for ARGV[3+n]
--
-- Returns {'ok', version}, {'conflict', version in force} or {'noorg'}.
-- Safe to run twice: the second run finds its token, also when others made
-- changes in between.

local a = cjson.decode(ARGV[3])
local o = redis.call('HMGET', KEYS[1], 'ver', 'chg')
local done = recall(o[2], ARGV[2])
if done then return { 'ok', done } end
if o[1] and ARGV[1] == '' then return { 'conflict', o[1] } end
if not o[1] and ARGV[1] ~= '' then return { 'noorg' } end
if o[1] and o[1] ~= ARGV[1] then return { 'conflict', o[1] } end

local allowed = { HSET = true, HSETNX = true, HDEL = true, SADD = true, SREM = true, RPUSH = true, ZADD = true, DEL = true }
for _, op in ipairs(a.ops) do
  if not allowed[op[1]] then return redis.error_reply('change: command ' .. op[1] .. ' is not allowed') end
  local args = { op[1], P .. op[2] }
  for k = 3, #op do
    local n = string.match(op[k], '^%$(%d+)$')
    args[k] = n and ARGV[3 + tonumber(n)] or op[k]
  end
  redis.call(unpack(args))
end
local ver = int(redis.call('HINCRBY', KEYS[1], 'ver', 1))
redis.call('HSET', KEYS[1], 'chg', remember(o[2], ARGV[2], ver))
for _, e in ipairs(a.entries) do audit(a.org, unpack(e)) end
flush()
return { 'ok', ver }
