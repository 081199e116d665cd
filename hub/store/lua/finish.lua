-- finish records how each transfer of a batch ended, with its audit entry, its
-- receipt and the copy register, and gives the lane back to the line.
--
--   KEYS[1]  the org      org:<org>
--   ARGV[1]  JSON: org, conn, fence, keep (1: keep the lease, more to come), pause (ms, 0: none),
--            ok (1: the provider answered well), ec, ed (last error's code and detail), items[]: x, to, w, typ, delay (ms),
--            rc (JSON), ls (JSON), pd, rd, ec, eo, ed, uncount (1: the attempt does not count), gone (1: there
--            is no copy any more), expire (ms, 0: never)
--
-- to: delivered, waiting, held, ambiguous, dead, withdrawn, superseded, or
-- sending: its outcome is still unknown, look again after delay. typ is the type
-- of the audit entry, '' for none. A transfer of kind erase that is delivered
-- takes the copy out of the register and marks the transfers that made it erased.
--
-- A transfer that is to be tried again while another one waits behind it is
-- settled instead: by then its content is replaced (superseded) or erased
-- (withdrawn). An erasure is not: what is behind it comes after it.
--
-- Returns {'ok', v1, v2, …}: applied, or lost when somebody with a newer fence
-- has the transfer, or it was settled by somebody else before it was begun: then
-- nothing was written for it.
--
-- Safe to run twice: a transfer that carries this fence and is no longer
-- 'sending' was finished by the first run.

local a = cjson.decode(ARGV[1])
local org, conn = a.org, a.conn
local ckey = connkey(org, conn)
local lane = lanekey(org, conn)
local c = redis.call('HMGET', ckey, 'fence', 'lease', 'st')
local mine = c[1] == a.fence

local function again(x, it)
  local nx = x.nx ~= '' and x.k ~= 'erase' and load(org, x.nx)
  if nx then
    local to, why = 'superseded', ''
    if nx.k == 'erase' then to, why = 'withdrawn', 'erased' end
    note(org, 'transfer.' .. to, 'hub', x, 'w', why)
    settle(org, x, to, why)
    return
  end
  local due = int(now + it.delay)
  redis.call('HSET', xkey(org, x.id), 's', it.to, 'w', it.w, 'du', due)
  redis.call('ZADD', lane, due, x.id)
  reindex(org, x.id, x.s, it.to, x.cr)
end

local function delivered(x, it)
  redis.call('HSET', xkey(org, x.id), 'rc', it.rc, 'ls', it.ls, 'pd', it.pd)
  if x.k == 'erase' then
    erased(org, x)
    return
  end
  register(org, x, { rc = it.rc, rd = it.rd, pd = it.pd })
  local member = org .. '|' .. x.c .. '|' .. x.i
  if it.expire > 0 then
    redis.call('ZADD', P .. 'expire', int(now + it.expire), member)
  else
    redis.call('ZREM', P .. 'expire', member)
  end
end

local function finish(it)
  local x = load(org, it.x)
  if not x or x.n ~= conn then return 'lost' end
  local begun = x.s == 'sending' and x.f == a.fence
  local unbegun = mine and (x.s == 'waiting' or x.s == 'held') and x.f ~= a.fence and x.af == ''
  if not begun and not unbegun then
    -- settled by somebody else in the way that was meant: nothing is lost by it
    if x.s == it.to and (it.to == 'withdrawn' or it.to == 'superseded') then return 'applied' end
    return (x.f == a.fence and x.s ~= 'sending') and 'applied' or 'lost'
  end
  if it.to == 'sending' then
    if not begun then return 'lost' end
    landed(org, x)
    local due = int(now + it.delay)
    redis.call('HSET', xkey(org, x.id), 'du', due, 'ec', it.ec, 'eo', it.eo, 'ed', it.ed)
    redis.call('ZADD', lane, due, x.id)
    return 'applied'
  end
  if begun and not x.ud then redis.call('HINCRBY', P .. 'integ:' .. org .. ':' .. x.i, 'fly', -1) end
  if it.typ ~= '' then note(org, it.typ, 'hub', x, 'a', x.at, 'w', it.w, 'd', it.pd) end
  if begun and it.uncount == 1 then redis.call('HSET', xkey(org, x.id), 'at', x.at - 1) end
  redis.call('HSET', xkey(org, x.id), 'f', a.fence, 'ec', it.ec, 'eo', it.eo, 'ed', it.ed)
  redis.call('HDEL', xkey(org, x.id), 'sl', 'sf', 'un', 'ud')
  if it.to == 'waiting' or it.to == 'held' then
    again(x, it)
    return 'applied'
  end
  if it.to == 'delivered' then
    delivered(x, it)
  elseif it.gone == 1 then
    unregister(org, x.c, x.i)
  end
  settle(org, x, it.to, it.w)
  return 'applied'
end

local out = { 'ok' }
for _, it in ipairs(a.items) do out[#out + 1] = finish(it) end
flush()

if a.ok == 1 then redis.call('HSET', ckey, 'oks', int(now))
elseif a.ec ~= '' then redis.call('HSET', ckey, 'ers', int(now), 'erc', a.ec, 'erd', a.ed) end

if mine and a.keep == 0 and tonumber(c[2] or 0) > 0 then
  local lanes = P .. 'lanes:' .. org
  local pause = 0
  if a.pause > 0 then
    pause = now + a.pause
    redis.call('HSET', ckey, 'pause', int(pause))
  end
  redis.call('HSET', ckey, 'lease', 0)
  local due = firstdue(org, conn)
  if c[3] == 'disconnected' then
    redis.call('ZADD', lanes, int(now), conn) -- claim empties it
  elseif due and c[3] == 'connected' then
    redis.call('ZADD', lanes, int(math.max(due, now, pause)), conn)
  else
    redis.call('ZREM', lanes, conn)
  end
  rescore(org, false)
end
return out
