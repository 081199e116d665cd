-- accept stores a call, its decisions and its transfers in one step (I4), or
-- finds that there is nothing to do.
--
--   KEYS[1]  the org            org:<org>
--   KEYS[2]  the call           call:<org>:<call>
--   KEYS[3]  the idempotency answer   idem:<org>:<key>, or KEYS[1] if none was given
--   ARGV[1]  JSON: org, call, ver, tok, actor, dg, limit, retain (ms), ik (0|1),
--            ih (digest of the body), ittl (ms), sh (JSON of the answer's shares), subj[],
--            shares[]: i, n, ok (0|1), w, g, x, p
--   ARGV[2]  the sealed content
--
-- Returns one of
--   {'ok', status, answer}        status: accepted, unchanged
--   {'replay', answer}            the idempotency key was used with this body
--   {'reused'}                    …with another body
--   {'stale'}                     the org's configuration is newer than ver
--   {'full', open}                more transfers would wait than limit allows
--   {'noorg'}
--
-- Safe to run twice: the second run finds its own tok in the call and gives the
-- first run's answer, also when the configuration has changed or a newer revision
-- has come since (then with the shares of that one).

local a = cjson.decode(ARGV[1])
local org, call = a.org, a.call

if a.ik == 1 then
  local prev = redis.call('GET', KEYS[3])
  if prev then
    local cut = string.find(prev, '\n', 1, true)
    if string.sub(prev, 1, cut - 1) ~= a.ih then return { 'reused' } end
    return { 'replay', string.sub(prev, cut + 1) }
  end
end

local o = redis.call('HMGET', KEYS[1], 'ver', 'open')
if not o[1] then return { 'noorg' } end

local function answer(rev, status, shares)
  local text = '{"call_id":"' .. call .. '","revision":' .. int(rev) .. ',"status":"' .. status .. '","shares":' .. shares .. '}'
  if a.ik == 1 then redis.call('SET', KEYS[3], a.ih .. '\n' .. text, 'PX', int(a.ittl)) end
  return { 'ok', status, text }
end

local c = redis.call('HMGET', KEYS[2], 'rev', 'dg', 'tok', 'sh', 'xl')
local done = recall(c[3], a.tok)
if done then return answer(tonumber(done), 'accepted', c[4]) end
if o[1] ~= a.ver then return { 'stale' } end
local rev = tonumber(c[1] or 0)
if c[2] == a.dg then return answer(rev, 'unchanged', c[4]) end

local fresh = 0
for _, sh in ipairs(a.shares) do fresh = fresh + sh.ok end
local open = tonumber(o[2] or 0)
if fresh > 0 and open + fresh > a.limit then return { 'full', open } end

rev = rev + 1
audit(org, 't', 'call.accepted', 'by', a.actor, 'c', call, 'r', rev, 'q', fresh)
redis.call('HSET', KEYS[2], 'rev', rev, 'dg', a.dg, 'tok', remember(c[3], a.tok, int(rev)), 'sh', a.sh, 'ct', ARGV[2],
  'keep', int(a.retain), 'cr', int(now))
redis.call('HDEL', KEYS[2], 'gone')

local list = s(c[5])
for _, sh in ipairs(a.shares) do
  local prev = redis.call('HGET', KEYS[2], 'x:' .. sh.i)
  if sh.ok == 1 then
    local after = behind(org, prev, 'superseded', 'transfer.superseded', 'hub', '')
    local kind = 'share'
    if redis.call('HEXISTS', P .. 'cp:' .. org .. ':' .. call, sh.i) == 1 then kind = 'update' end
    admit(org, { id = sh.x, c = call, r = rev, i = sh.i, n = sh.n, k = kind, g = sh.g }, after, sh.g, sh.p)
    list = list .. ' ' .. sh.x
  else
    behind(org, prev, 'withdrawn', 'transfer.withdrawn', 'hub', sh.w)
    audit(org, 't', 'share.withheld', 'by', 'hub', 'c', call, 'r', rev, 'i', sh.i, 'n', sh.n, 'g', sh.g, 'w', sh.w)
  end
end

redis.call('HSET', KEYS[2], 'xl', list)
if fresh > 0 then
  for _, d in ipairs(a.subj) do redis.call('SADD', P .. 'subject:' .. org .. ':' .. d, call) end
end
redis.call('ZADD', P .. 'retain', int(now + a.retain), org .. '|' .. call)
flush()
return answer(rev, 'accepted', a.sh)
