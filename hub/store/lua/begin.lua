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
--   gone         it is settled already, was begun before with an outcome that is
--                not known yet, waits behind another one, or is not of this lane
--
-- Safe to run twice: what is 'sending' and was begun under this fence was begun
-- by the first run.

local a = cjson.decode(ARGV[1])
local org, conn = a.org, a.conn
local ckey = connkey(org, conn)
local c = redis.call('HMGET', ckey, 'fence', 'lease', 'st')
if c[1] ~= a.fence or tonumber(c[2] or 0) <= now then return { 'lost' } end
local til = int(now + a.lease)
redis.call('HSET', ckey, 'lease', til)
redis.call('ZADD', P .. 'lanes:' .. org, til, conn)
rescore(org, false)

local hold = ''
if redis.call('HGET', KEYS[1], 'st') ~= 'active' then hold = 'org_suspended'
elseif c[3] ~= 'connected' then hold = 'connection_broken' end

local integs = {}
local function integration(i)
  if not integs[i] then integs[i] = redis.call('HMGET', P .. 'integ:' .. org .. ':' .. i, 'en', 'gr') end
  return integs[i]
end

local function begin(it)
  local x = load(org, it.x)
  if not x or x.n ~= conn or x.i ~= it.i then return 'gone' end
  if x.s == 'sending' and x.b == a.fence and not x.un then return 'begun' end
  if (x.s ~= 'waiting' and x.s ~= 'held') or x.af ~= '' then return 'gone' end
  if hold ~= '' then
    if x.s ~= 'held' then
      note(org, 'transfer.held', 'hub', x, 'w', hold)
      redis.call('HSET', xkey(org, x.id), 's', 'held', 'w', hold)
      reindex(org, x.id, x.s, 'held', x.cr)
    end
    return 'held'
  end
  if it.k ~= 'erase' then
    local i = integration(it.i)
    if i[1] ~= '1' then
      note(org, 'transfer.withdrawn', 'hub', x, 'w', 'not_enabled')
      settle(org, x, 'withdrawn', 'not_enabled')
      return 'disabled'
    end
    if i[2] ~= it.g then return 'stale' end
  end
  -- An erasure was made as one, and nothing else can become one.
  if x.r ~= it.r or (x.k == 'erase') ~= (it.k == 'erase') then return 'stale' end
  x.k, x.g = it.k, it.g
  note(org, 'transfer.begin', 'hub', x, 'a', x.at + 1, 'f', it.f)
  redis.call('HSET', xkey(org, x.id), 's', 'sending', 'w', '', 'f', a.fence, 'b', a.fence, 'at', x.at + 1, 'bg', int(now),
    'k', it.k, 'g', it.g, 'fl', it.f)
  redis.call('HDEL', xkey(org, x.id), 'un', 'ud')
  reindex(org, x.id, x.s, 'sending', x.cr)
  redis.call('HINCRBY', P .. 'integ:' .. org .. ':' .. it.i, 'fly', 1)
  return 'begun'
end

local out = { 'ok' }
for _, it in ipairs(a.items) do out[#out + 1] = begin(it) end
flush()
return out
