-- finish records how each transfer of a batch ended, with its audit entry, its
-- receipt and the copy register, and gives the lane back to the line.
--
--   KEYS[1]  the org      org:<org>
--   ARGV[1]  JSON: org, conn, fence, keep (1: keep the lease, more to come), pause (ms, 0: none),
--            ok (1: the provider answered well), ec, ed (last error's code and detail), items[]: x, to, w, typ, delay (ms),
--            rc (JSON), ls (JSON), pd, rd, ec, eo, ed, uncount (1: the attempt does not count), expire (ms, 0: never)
--
-- to: delivered, waiting, held, ambiguous, dead, withdrawn, or sending: its
-- outcome is still unknown, look again after delay. typ is the type of the
-- audit entry, '' for none. A transfer of kind erase that is delivered takes the copy
-- out of the register and marks the transfer that made it erased.
--
-- Returns {'ok', v1, v2, …}: applied, or lost when somebody with a newer fence
-- has the transfer: then nothing was written for it.
--
-- Safe to run twice: a transfer that carries this fence and is no longer
-- 'sending' was finished by the first run.

local a = cjson.decode(ARGV[1])
local org, conn = a.org, a.conn
local ckey = P .. 'conn:' .. org .. ':' .. conn
local lane = P .. 'lane:' .. org .. ':' .. conn
local c = redis.call('HMGET', ckey, 'fence', 'lease', 'pv', 'st')
local mine = c[1] == a.fence

local function register(x, it)
  local reg = P .. 'cp:' .. org .. ':' .. x.c
  if x.k == 'erase' then
    local old = redis.call('HGET', reg, x.i)
    if old then
      local maker = cjson.decode(old).x
      redis.call('HDEL', reg, x.i)
      redis.call('ZREM', P .. 'cpx:' .. org, x.c .. ' ' .. x.i)
      redis.call('HINCRBY', ckey, 'copies', -1)
      local mk = redis.call('HMGET', P .. 'xfer:' .. org .. ':' .. maker, 's', 'cr')
      if mk[1] == 'delivered' then redis.call('HSET', P .. 'xfer:' .. org .. ':' .. maker, 's', 'erased') end
    end
    return
  end
  if redis.call('HSET', reg, x.i, cjson.encode({ x = it.x, n = conn, r = x.r, g = x.g, rc = it.rc, rd = it.rd, pd = it.pd, at = now })) == 1 then
    redis.call('HINCRBY', ckey, 'copies', 1)
  end
  redis.call('ZADD', P .. 'cpx:' .. org, string.format('%.0f', now), x.c .. ' ' .. x.i)
  if it.expire > 0 then
    redis.call('ZADD', P .. 'expire', string.format('%.0f', now + it.expire), org .. '|' .. x.c .. '|' .. x.i)
  end
end

local out = { 'ok' }
for _, it in ipairs(a.items) do
  local key = P .. 'xfer:' .. org .. ':' .. it.x
  local v = redis.call('HMGET', key, 's', 'f', 'c', 'r', 'i', 'k', 'g', 'cr', 'at')
  local x = { s = v[1], f = v[2], c = v[3], r = v[4], i = v[5], k = v[6], g = v[7], cr = v[8], at = tonumber(v[9] or 0) }
  local begun = x.s == 'sending' and x.f == a.fence
  local unbegun = mine and (x.s == 'waiting' or x.s == 'held') and x.f ~= a.fence
  if not begun and not unbegun then
    out[#out + 1] = (x.f == a.fence and x.s ~= 'sending') and 'applied' or 'lost'
  elseif it.to == 'sending' then
    local due = string.format('%.0f', now + it.delay)
    redis.call('HSET', key, 'du', due, 'ec', it.ec, 'eo', it.eo, 'ed', it.ed)
    if begun then redis.call('ZADD', lane, due, it.x) end
    out[#out + 1] = begun and 'applied' or 'lost'
  else
    if begun then
      redis.call('HINCRBY', P .. 'integ:' .. org .. ':' .. x.i, 'fly', -1)
      if it.uncount == 1 then redis.call('HSET', key, 'at', x.at - 1) end
    end
    redis.call('HSET', key, 'f', a.fence, 'ec', it.ec, 'eo', it.eo, 'ed', it.ed)
    redis.call('HDEL', key, 'sl')
    audit(org, 't', it.typ, 'by', 'hub', 'c', x.c, 'r', x.r, 'i', x.i, 'n', conn, 'x', it.x, 'g', x.g, 'k', x.k,
      'a', x.at, 'w', it.w, 'd', it.pd)
    if it.to == 'waiting' or it.to == 'held' then
      local due = string.format('%.0f', now + it.delay)
      redis.call('HSET', key, 's', it.to, 'w', it.w, 'du', due)
      redis.call('ZADD', lane, due, it.x)
      reindex(org, it.x, x.s, it.to, x.cr)
    else
      if it.to == 'delivered' then
        redis.call('HSET', key, 'rc', it.rc, 'ls', it.ls, 'pd', it.pd)
        register(x, it)
      elseif it.gone == 1 then
        redis.call('HDEL', P .. 'cp:' .. org .. ':' .. x.c, x.i)
        redis.call('ZREM', P .. 'cpx:' .. org, x.c .. ' ' .. x.i)
      end
      settle(org, conn, it.x, x.s, it.to, x.cr, it.w)
      redis.call('HINCRBY', P .. 'call:' .. org .. ':' .. x.c, 'open', -1)
    end
    out[#out + 1] = 'applied'
  end
end
flush()

if a.ok == 1 then redis.call('HSET', ckey, 'oks', string.format('%.0f', now), 'fails', 0)
elseif a.ec ~= '' then redis.call('HSET', ckey, 'ers', string.format('%.0f', now), 'erc', a.ec, 'erd', a.ed) end

if mine and a.keep == 0 and tonumber(c[2] or 0) > 0 then
  local lanes = P .. 'lanes:' .. org
  local pause = 0
  if a.pause > 0 then
    pause = now + a.pause
    redis.call('HSET', ckey, 'pause', string.format('%.0f', pause))
  end
  redis.call('HSET', ckey, 'lease', 0)
  local nxt = redis.call('ZRANGE', lane, 0, 0, 'WITHSCORES')
  if #nxt == 0 or c[4] ~= 'connected' then
    redis.call('ZREM', lanes, conn)
  else
    local due = tonumber(nxt[2])
    if due < now then due = now end
    if due < pause then due = pause end
    redis.call('ZADD', lanes, string.format('%.0f', due), conn)
  end
  rescore(org)
end
return out
