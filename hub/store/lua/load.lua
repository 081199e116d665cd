-- load reads an org's whole configuration at one version.
--
--   KEYS[1]  the org      org:<org>
--   ARGV[1]  org
--
-- Returns {} if there is no such org, otherwise
--   {org fields, keys, secrets, {{id, connection fields}…}, {{id, integration fields, grants}…}}
-- where fields, keys and secrets are names and values in turn. Of a connection
-- the tokens are left out.

local org = ARGV[1]
local o = redis.call('HGETALL', KEYS[1])
if #o == 0 then return {} end
local conns, integs = {}, {}
for _, id in ipairs(redis.call('SMEMBERS', P .. 'conns:' .. org)) do
  local names = { 'doc', 'st', 'why', 'pv', 'tv', 'oks', 'ers', 'erc', 'erd', 'bu', 'bl', 'bt', 'copies' }
  local v = redis.call('HMGET', P .. 'conn:' .. org .. ':' .. id, unpack(names))
  local f = {}
  for k, name in ipairs(names) do
    f[#f + 1] = name
    f[#f + 1] = s(v[k])
  end
  conns[#conns + 1] = { id, f }
end
for _, id in ipairs(redis.call('SMEMBERS', P .. 'integs:' .. org)) do
  integs[#integs + 1] = { id, redis.call('HGETALL', P .. 'integ:' .. org .. ':' .. id),
    redis.call('LRANGE', P .. 'grants:' .. org .. ':' .. id, 0, -1) }
end
return { o, redis.call('HGETALL', P .. 'keys:' .. org), redis.call('HGETALL', P .. 'secrets:' .. org), conns, integs }
