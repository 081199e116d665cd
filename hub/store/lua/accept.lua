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
-- first run's answer.

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
if o[1] ~= a.ver then return { 'stale' } end

local function answer(rev, status, shares)
  local text = '{"call_id":"' .. call .. '","revision":' .. string.format('%.0f', rev) ..
      ',"status":"' .. status .. '","shares":' .. shares .. '}'
  if a.ik == 1 then redis.call('SET', KEYS[3], a.ih .. '\n' .. text, 'PX', string.format('%.0f', a.ittl)) end
  return { 'ok', status, text }
end

local c = redis.call('HMGET', KEYS[2], 'rev', 'dg', 'tok', 'sh', 'xl', 'open')
local rev = tonumber(c[1] or 0)
if c[3] == a.tok then return answer(rev, 'accepted', c[4]) end
if c[2] == a.dg then return answer(rev, 'unchanged', c[4]) end

local fresh = 0
for _, sh in ipairs(a.shares) do fresh = fresh + sh.ok end
local open = tonumber(o[2] or 0)
if fresh > 0 and open + fresh > a.limit then return { 'full', open } end

rev = rev + 1
local active = redis.call('HGET', KEYS[1], 'st') == 'active'
audit(org, 't', 'call.accepted', 'by', a.actor, 'c', call, 'r', rev, 'q', fresh)

local list = s(c[5])
local callopen = tonumber(c[6] or 0)
for _, sh in ipairs(a.shares) do
  local prev = redis.call('HGET', KEYS[2], 'x:' .. sh.i)
  local after = ''
  if prev then
    local pkey = P .. 'xfer:' .. org .. ':' .. prev
    local p = redis.call('HMGET', pkey, 's', 'cr', 'af', 'r', 'k', 'n')
    if (p[1] == 'waiting' or p[1] == 'held') and p[5] ~= 'erase' then
      after = s(p[3])
      local to, typ, why = 'superseded', 'transfer.superseded', ''
      if sh.ok == 0 then to, typ, why = 'withdrawn', 'transfer.withdrawn', sh.w end
      audit(org, 't', typ, 'by', 'hub', 'c', call, 'r', p[4], 'i', sh.i, 'n', p[6], 'x', prev, 'w', why)
      settle(org, p[6], prev, p[1], to, p[2], why)
      callopen = callopen - 1
      if after ~= '' then redis.call('HSET', P .. 'xfer:' .. org .. ':' .. after, 'nx', '') end
    elseif p[1] == 'sending' or p[1] == 'ambiguous' or p[1] == 'waiting' or p[1] == 'held' then
      after = prev
    end
  end
  if sh.ok == 1 then
    local n = redis.call('HMGET', P .. 'conn:' .. org .. ':' .. sh.n, 'st', 'lease', 'pause')
    local kind = 'share'
    if redis.call('HEXISTS', P .. 'cp:' .. org .. ':' .. call, sh.i) == 1 then kind = 'update' end
    local state, why = 'waiting', ''
    if not active then state, why = 'held', 'org_suspended'
    elseif n[1] ~= 'connected' then state, why = 'held', 'connection_broken' end
    local key = P .. 'xfer:' .. org .. ':' .. sh.x
    redis.call('HSET', key, 'c', call, 'r', rev, 'i', sh.i, 'n', sh.n, 'k', kind, 'g', sh.g, 'g0', sh.g,
      's', state, 'w', why, 'at', 0, 'cr', string.format('%.0f', now), 'du', string.format('%.0f', now), 'p', sh.p)
    redis.call('ZADD', P .. 'xs:' .. org, string.format('%.0f', now), sh.x)
    reindex(org, sh.x, '', state, string.format('%.0f', now))
    if after ~= '' then
      redis.call('HSET', key, 'af', after)
      redis.call('HSET', P .. 'xfer:' .. org .. ':' .. after, 'nx', sh.x)
    else
      redis.call('ZADD', P .. 'lane:' .. org .. ':' .. sh.n, string.format('%.0f', now), sh.x)
    end
    if state == 'held' then
      audit(org, 't', 'transfer.held', 'by', 'hub', 'c', call, 'r', rev, 'i', sh.i, 'n', sh.n, 'x', sh.x, 'g', sh.g, 'w', why)
    elseif after == '' then
      wake(org, sh.n, now, n[2], n[3])
    end
    redis.call('HSET', KEYS[2], 'x:' .. sh.i, sh.x)
    list = list .. ' ' .. sh.x
    callopen = callopen + 1
  else
    audit(org, 't', 'share.withheld', 'by', 'hub', 'c', call, 'r', rev, 'i', sh.i, 'n', sh.n, 'g', sh.g, 'w', sh.w)
  end
end

redis.call('HSET', KEYS[2], 'rev', rev, 'dg', a.dg, 'tok', a.tok, 'sh', a.sh, 'ct', ARGV[2], 'xl', list,
  'open', callopen, 'cr', string.format('%.0f', now))
redis.call('HDEL', KEYS[2], 'gone')
redis.call('HINCRBY', KEYS[1], 'open', fresh)
if fresh > 0 then
  for _, d in ipairs(a.subj) do redis.call('SADD', P .. 'subject:' .. org .. ':' .. d, call) end
end
redis.call('ZADD', P .. 'retain', string.format('%.0f', now + a.retain), org .. '|' .. call)
flush()
return answer(rev, 'accepted', a.sh)
