-- begin is the last look at the permission (I1) and the record that a transfer
-- begins (I2), in one step, for a batch of one lane.
--
--   KEYS[1]  the org      org:<org>
--   ARGV[1]  JSON: org, conn, fence, lease (ms), items[]: x, i, g (the grant the
--            release was made under; 0 for an erasure), k, r, f (names of released fields)
--
-- Returns {'lost'} if the lane is no longer this worker's, otherwise {'ok', v1, v2, …}
-- with one verdict for each item:
--   begun        it is 'sending' now, and the audit entry is written
--   disabled     its integration is not enabled: settled as withdrawn
--   stale        another grant is in force, or the transfer or the call changed: make the release anew
--   held         the org or the connection does not allow work
--   gone         it is settled already
--
-- Safe to run twice: what carries this fence and is 'sending' was begun by the
-- first run.

local a = cjson.decode(ARGV[1])
local org, conn = a.org, a.conn
local ckey = P .. 'conn:' .. org .. ':' .. conn
local c = redis.call('HMGET', ckey, 'fence', 'lease', 'st')
if c[1] ~= a.fence or tonumber(c[2] or 0) <= now then return { 'lost' } end
local til = string.format('%.0f', now + a.lease)
redis.call('HSET', ckey, 'lease', til)
redis.call('ZADD', P .. 'lanes:' .. org, til, conn)

local hold = ''
if redis.call('HGET', KEYS[1], 'st') ~= 'active' then hold = 'org_suspended'
elseif c[3] ~= 'connected' then hold = 'connection_broken' end

local out = { 'ok' }
local integs = {}
for _, it in ipairs(a.items) do
  local key = P .. 'xfer:' .. org .. ':' .. it.x
  local x = redis.call('HMGET', key, 's', 'f', 'c', 'r', 'at', 'cr')
  local verdict
  if x[1] == 'sending' and x[2] == a.fence then
    verdict = 'begun'
  elseif x[1] ~= 'waiting' and x[1] ~= 'held' then
    verdict = 'gone'
  elseif hold ~= '' then
    verdict = 'held'
    if x[1] ~= 'held' then
      redis.call('HSET', key, 's', 'held', 'w', hold)
      reindex(org, it.x, x[1], 'held', x[6])
      audit(org, 't', 'transfer.held', 'by', 'hub', 'c', x[3], 'r', x[4], 'i', it.i, 'n', conn, 'x', it.x, 'w', hold)
    end
  else
    local en = integs[it.i]
    if not en then
      en = redis.call('HMGET', P .. 'integ:' .. org .. ':' .. it.i, 'en', 'gr')
      integs[it.i] = en
    end
    if it.k ~= 'erase' and en[1] ~= '1' then
      verdict = 'disabled'
      audit(org, 't', 'transfer.withdrawn', 'by', 'hub', 'c', x[3], 'r', x[4], 'i', it.i, 'n', conn, 'x', it.x,
        'k', it.k, 'w', 'not_enabled')
      settle(org, conn, it.x, x[1], 'withdrawn', x[6], 'not_enabled')
      redis.call('HINCRBY', P .. 'call:' .. org .. ':' .. x[3], 'open', -1)
    elseif (it.k ~= 'erase' and en[2] ~= it.g) or x[4] ~= it.r then
      verdict = 'stale'
    else
      verdict = 'begun'
      local at = tonumber(x[5] or 0) + 1
      redis.call('HSET', key, 's', 'sending', 'w', '', 'f', a.fence, 'at', at, 'bg', string.format('%.0f', now), 'k', it.k, 'g', it.g, 'fl', it.f)
      reindex(org, it.x, x[1], 'sending', x[6])
      redis.call('HINCRBY', P .. 'integ:' .. org .. ':' .. it.i, 'fly', 1)
      audit(org, 't', 'transfer.begin', 'by', 'hub', 'c', x[3], 'r', x[4], 'i', it.i, 'n', conn, 'x', it.x,
        'g', it.g, 'k', it.k, 'a', at, 'f', it.f)
    end
  end
  out[#out + 1] = verdict
end
flush()
return out
