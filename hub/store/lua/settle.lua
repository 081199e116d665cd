-- settle carries out what a person decided about one transfer.
--
--   KEYS[1]  the org      org:<org>
--   ARGV     org, transfer, what, actor, token of this request
--
-- what: retry (a dead one is tried again), resend (an ambiguous one is sent
-- again), delivered (an ambiguous one did arrive).
--
-- Returns 'ok', 'none' (no such transfer), 'blocked' (a newer transfer of the
-- same call and integration exists: retry that) or 'state:<state>' when the
-- transfer is in a state that this cannot be done in.
--
-- Safe to run twice: the second run finds its token.

local org, tid, what, actor, tok = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local key = xkey(org, tid)
local x = load(org, tid)
if not x then return 'none' end
if redis.call('HGET', key, 'st') == tok then return 'ok' end
local want = 'ambiguous'
if what == 'retry' then want = 'dead' end
if x.s ~= want then return 'state:' .. x.s end

local function close(to)
  redis.call('HSET', key, 's', to, 'w', 'resolved', 'fn', int(now))
  reindex(org, tid, x.s, to, x.cr)
  unblock(org, tid)
end

local typ = 'transfer.resolved'
if what == 'retry' then
  typ = 'transfer.replayed'
  if redis.call('HGET', callkey(org, x.c), 'x:' .. x.i) ~= tid then return 'blocked' end
end
note(org, typ, actor, x, 'w', what)
redis.call('HSET', key, 'st', tok)
if what == 'delivered' then
  if x.k == 'erase' then
    erased(org, x)
  else
    -- The copy is there, only its receipt may not be known, nor what it shows:
    -- what follows is an update of it, never a second copy.
    register(org, x, { rc = '{}', rd = '', pd = '' })
  end
  close('delivered')
elseif x.nx ~= '' and x.k ~= 'erase' then
  -- What waits behind it has replaced it, or takes it back.
  close('superseded')
else
  local due = int(now)
  redis.call('HSET', key, 's', 'waiting', 'w', '', 'du', due, 'fn', '', 'at', 0, 'f', '')
  redis.call('HDEL', key, 'sl', 'sf')
  reindex(org, tid, x.s, 'waiting', x.cr)
  redis.call('HINCRBY', P .. 'org:' .. org, 'open', 1)
  redis.call('HINCRBY', callkey(org, x.c), 'open', 1)
  redis.call('ZADD', lanekey(org, x.n), due, tid)
  wakeif(org, x.n, now)
end
flush()
return 'ok'
