-- claim leases the lane that is due first in the shard to one worker and gives
-- it a batch of the lane's due transfers.
--
--   KEYS[1]  the orgs in line      ready
--   KEYS[2]  what this token got   claim:<token>
--   ARGV[1]  lease, ms
--   ARGV[2]  JSON: provider -> most transfers in a batch; '*' for the others
--   ARGV[3]  JSON: provider -> ms between two transfers of one pace key
--
-- Returns
--   {'none', due, now}   nothing is due; due is when something will be, or ''
--   {'lane', org, conn, fence, provider, ver, now, {transfer, …}, tokens}
-- where tokens are the connection's, as token_take answers them, and a transfer is
--   {id, call, revision, integration, kind, grant, grant accepted under, attempts,
--    unknown (1: begun before, outcome unknown), begun (ms), content, content's revision, copy, created, state}
--
-- A transfer found in the state 'sending' is one whose outcome is unknown (I5):
-- transfer.unknown is written here, before anything is done with it. The lane
-- stays out of the line until finish gives it back or the lease ends; whatever
-- a worker writes later must carry the fence.
--
-- Safe to run twice: a second run with the same token gets the same lane.

local lease = tonumber(ARGV[1])
local batches, paces = cjson.decode(ARGV[2]), cjson.decode(ARGV[3])

local function collect(org, conn, fence, provider)
  local lane = P .. 'lane:' .. org .. ':' .. conn
  local most = batches[provider] or batches['*']
  local pace = paces[provider]
  local ids = redis.call('ZRANGEBYSCORE', lane, '-inf', now, 'LIMIT', 0, most)
  local out = {}
  for _, tid in ipairs(ids) do
    local key = P .. 'xfer:' .. org .. ':' .. tid
    local x = redis.call('HMGET', key, 'c', 'r', 'i', 'k', 'g', 'g0', 'at', 's', 'bg', 'p', 'sl', 'cr', 'f')
    local take, unknown = true, 0
    if not x[1] then -- expired or erased under us
      redis.call('ZREM', lane, tid)
      take = false
    elseif x[8] == 'sending' then
      unknown = 1
      if x[13] ~= fence then
        audit(org, 't', 'transfer.unknown', 'by', 'hub', 'c', x[1], 'r', x[2], 'i', x[3], 'n', conn, 'x', tid,
          'g', x[5], 'k', x[4], 'a', x[7])
        redis.call('HSET', key, 'f', fence)
      end
    elseif pace and s(x[10]) ~= '' and s(x[11]) == '' then
      -- Take the next free slot of this place; come back when it is there.
      local pk = P .. 'pace:' .. org .. ':' .. conn
      local slot = tonumber(redis.call('HGET', pk, x[10]) or 0)
      if slot < now then slot = now end
      redis.call('HSET', pk, x[10], string.format('%.0f', slot + pace))
      redis.call('PEXPIRE', pk, 3600000 + slot - now + pace)
      redis.call('HSET', key, 'sl', string.format('%.0f', slot))
      if slot > now then
        redis.call('ZADD', lane, string.format('%.0f', slot), tid)
        take = false
      end
    end
    if take then
      local c = redis.call('HMGET', P .. 'call:' .. org .. ':' .. x[1], 'ct', 'rev')
      local copy = redis.call('HGET', P .. 'cp:' .. org .. ':' .. x[1], x[3])
      out[#out + 1] = { tid, x[1], x[2], x[3], x[4], x[5], x[6], x[7], unknown, s(x[9]), s(c[1]), s(c[2]), s(copy), x[12], x[8] }
    end
  end
  return out
end

local function lanereply(org, conn, fence, provider, items)
  flush()
  local ver = redis.call('HGET', P .. 'org:' .. org, 'ver')
  local k = redis.call('HMGET', P .. 'conn:' .. org .. ':' .. conn, 'pv', 'st', 'tv', 'tok', 'ri', 'rl', 'rt', 'ru')
  local left = 0
  if k[6] then left = tonumber(k[6]) - now end
  local tokens = { s(k[1]), s(k[2]), s(k[3]), s(k[4]), s(k[5]), string.format('%.0f', left), s(k[7]), s(k[8]) }
  return { 'lane', org, conn, fence, provider, s(ver), string.format('%.0f', now), items, tokens }
end

local again = redis.call('GET', KEYS[2])
if again then
  local org, conn, fence = string.match(again, '^([^|]*)|([^|]*)|(.*)$')
  local c = redis.call('HMGET', P .. 'conn:' .. org .. ':' .. conn, 'fence', 'pv')
  if c[1] == fence then return lanereply(org, conn, fence, c[2], collect(org, conn, fence, c[2])) end
end

for _ = 1, 16 do
  local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  if #first == 0 then return { 'none', '', string.format('%.0f', now) } end
  if tonumber(first[2]) > now then return { 'none', first[2], string.format('%.0f', now) } end
  local org = first[1]
  local lanes = P .. 'lanes:' .. org
  local due = redis.call('ZRANGEBYSCORE', lanes, '-inf', now, 'LIMIT', 0, 4)
  for _, conn in ipairs(due) do
    local ckey = P .. 'conn:' .. org .. ':' .. conn
    local c = redis.call('HMGET', ckey, 'st', 'pv')
    local ost = redis.call('HGET', P .. 'org:' .. org, 'st')
    local items = {}
    local fence
    if c[1] == 'connected' and ost == 'active' then
      fence = string.format('%.0f', redis.call('HINCRBY', ckey, 'fence', 1))
      items = collect(org, conn, fence, c[2])
      if #items > 0 then
        local til = string.format('%.0f', now + lease)
        redis.call('HSET', ckey, 'lease', til)
        redis.call('ZADD', lanes, til, conn)
        rescore(org)
        redis.call('SET', KEYS[2], org .. '|' .. conn .. '|' .. fence, 'PX', lease)
        return lanereply(org, conn, fence, c[2], items)
      end
      local nxt = redis.call('ZRANGE', P .. 'lane:' .. org .. ':' .. conn, 0, 0, 'WITHSCORES')
      if #nxt == 0 then
        redis.call('ZREM', lanes, conn)
      else
        local nd = tonumber(nxt[2])
        if nd <= now then nd = now + 1 end -- only expired ones were due; look again
        redis.call('ZADD', lanes, string.format('%.0f', nd), conn)
      end
    else
      redis.call('ZREM', lanes, conn) -- held: whoever allows work again wakes it
    end
  end
  rescore(org)
end
flush()
local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return { 'none', s(head[2]), string.format('%.0f', now) }
