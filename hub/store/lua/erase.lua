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
--
-- Safe to run twice: the second run finds the erasures of the first. The token
-- of the accept that made the call stays, so that a repeat of that does not
-- bring the content back.

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
    local x = load(org, fields[k + 1])
    local copy = redis.call('HGET', P .. 'cp:' .. org .. ':' .. call, i)
    if x and (x.k ~= 'erase' or x.s == 'dead') then
      local due = copy or x.s == 'sending' or x.s == 'ambiguous' or x.af ~= ''
      if due and not ids[i] then missing[#missing + 1] = i end
      todo[#todo + 1] = { x = x, conn = copy and cjson.decode(copy).n or x.n, due = due }
    end
  end
end
if #missing > 1 then return missing end

local made, list = 0, s(c[3])
for _, d in ipairs(todo) do
  local after = behind(org, d.x.id, 'withdrawn', 'transfer.withdrawn', actor, 'erased')
  if d.due then
    local tid = ids[d.x.i]
    admit(org, { id = tid, c = call, r = c[1], i = d.x.i, n = d.conn, k = 'erase', g = 0 }, after, 0, '')
    list = list .. ' ' .. tid
    made = made + 1
  end
end
redis.call('HSET', KEYS[2], 'xl', list)
if only == '' then
  redis.call('HSET', KEYS[2], 'gone', id, 'ct', '', 'dg', '')
  redis.call('ZREM', P .. 'retain', org .. '|' .. call)
  audit(org, 't', 'call.erased', 'by', actor, 'c', call, 'r', c[1], 'q', made, 's', id)
end
flush()
return { 'ok', id, made }
