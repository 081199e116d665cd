-- erase removes a call's content here and makes an erasure for each of its
-- copies.
--
--   KEYS[1]  the org      org:<org>
--   KEYS[2]  the call     call:<org>:<call>
--   ARGV[1]  org
--   ARGV[2]  call
--   ARGV[3]  id of the erasure
--   ARGV[4]  actor
--   ARGV[5]  JSON: integration -> id for its transfer of kind erase, for every integration there may be a copy of
--   ARGV[6]  the one integration to erase for, '' for the whole call
--
-- Transfers that wait are withdrawn; an erasure waits behind one that is being
-- sent or is ambiguous. Returns {'none'} if there is no such call, {'again', id}
-- if it was erased before, {'missing', integration…} if ARGV[5] lacks one, or
-- {'ok', id, how many erasures}.

local org, call, id, actor, ids, only = ARGV[1], ARGV[2], ARGV[3], ARGV[4], cjson.decode(ARGV[5]), ARGV[6]
local c = redis.call('HMGET', KEYS[2], 'rev', 'gone', 'xl')
if not c[1] then return { 'none' } end
if only == '' and c[2] then return { 'again', c[2] } end

-- Every integration with a copy, or with a transfer that may yet make one.
local todo, missing = {}, { 'missing' }
local fields = redis.call('HGETALL', KEYS[2])
for k = 1, #fields, 2 do
  local i = string.match(fields[k], '^x:(.*)$')
  if i and (only == '' or only == i) then
    local prev = fields[k + 1]
    local p = redis.call('HMGET', P .. 'xfer:' .. org .. ':' .. prev, 's', 'cr', 'n', 'r', 'k', 'af')
    local copy = redis.call('HGET', P .. 'cp:' .. org .. ':' .. call, i)
    local flying = p[1] == 'sending' or p[1] == 'ambiguous' or s(p[6]) ~= ''
    if p[5] ~= 'erase' or p[1] == 'dead' then
      if (copy or flying) and not ids[i] then missing[#missing + 1] = i end
      todo[#todo + 1] = { i = i, prev = prev, p = p, copy = copy, flying = flying }
    end
  end
end
if #missing > 1 then return missing end

local made, list = 0, s(c[3])
for _, d in ipairs(todo) do
  local p, after = d.p, ''
  if p[1] == 'waiting' or p[1] == 'held' then
    after = s(p[6])
    if after ~= '' then redis.call('HSET', P .. 'xfer:' .. org .. ':' .. after, 'nx', '') end
    audit(org, 't', 'transfer.withdrawn', 'by', actor, 'c', call, 'r', p[4], 'i', d.i, 'n', p[3], 'x', d.prev, 'w', 'erased')
    settle(org, p[3], d.prev, p[1], 'withdrawn', p[2], 'erased')
    redis.call('HINCRBY', KEYS[2], 'open', -1)
  elseif p[1] == 'sending' or p[1] == 'ambiguous' then
    after = d.prev
  end
  if d.copy or d.flying then
    local tid = ids[d.i]
    local conn = p[3]
    if d.copy then conn = cjson.decode(d.copy).n end
    local at = string.format('%.0f', now)
    local key = P .. 'xfer:' .. org .. ':' .. tid
    redis.call('HSET', key, 'c', call, 'r', c[1], 'i', d.i, 'n', conn, 'k', 'erase', 'g', 0, 'g0', 0,
      's', 'waiting', 'w', '', 'at', 0, 'cr', at, 'du', at, 'p', '')
    redis.call('ZADD', P .. 'xs:' .. org, at, tid)
    reindex(org, tid, '', 'waiting', at)
    redis.call('HSET', KEYS[2], 'x:' .. d.i, tid)
    redis.call('HINCRBY', KEYS[2], 'open', 1)
    redis.call('HINCRBY', KEYS[1], 'open', 1)
    list = list .. ' ' .. tid
    if after ~= '' then
      redis.call('HSET', key, 'af', after)
      redis.call('HSET', P .. 'xfer:' .. org .. ':' .. after, 'nx', tid)
    else
      redis.call('ZADD', P .. 'lane:' .. org .. ':' .. conn, at, tid)
      wakeif(org, conn, now)
    end
    made = made + 1
  end
end
redis.call('HSET', KEYS[2], 'xl', list)
if only == '' then
  redis.call('HSET', KEYS[2], 'gone', id, 'ct', '', 'dg', '', 'tok', '')
  redis.call('ZREM', P .. 'retain', org .. '|' .. call)
  audit(org, 't', 'call.erased', 'by', actor, 'c', call, 'r', c[1], 'q', made, 's', id)
end
flush()
return { 'ok', id, made }
