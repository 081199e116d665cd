-- sweep_lane goes through a part of a lane and withdraws, holds or resumes what
-- waits there.
--
--   KEYS[1]  the org      org:<org>
--   ARGV[1]  org
--   ARGV[2]  conn
--   ARGV[3]  what: withdraw, hold, resume
--   ARGV[4]  the integration it is about, '' for all of the lane
--   ARGV[5]  reason
--   ARGV[6]  actor
--   ARGV[7]  offset in the lane
--   ARGV[8]  how many to look at
--
-- Returns {next offset, changed}; next offset is -1 at the end of the lane.
-- Erasures are left alone by withdraw: they take data back, they share none.
-- What is being sent is left alone by all.
-- Safe to run twice.

local org, conn, what, integ, why, actor = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local from, most = tonumber(ARGV[7]), tonumber(ARGV[8])
local ids = redis.call('ZRANGE', lanekey(org, conn), from, from + most - 1)
local changed, kept = 0, 0

-- sweep reports whether the transfer stays in the lane.
local function sweep(x)
  if x.s ~= 'waiting' and x.s ~= 'held' then return true end
  if what == 'withdraw' then
    if x.k == 'erase' then return true end
    note(org, 'transfer.withdrawn', actor, x, 'w', why)
    settle(org, x, 'withdrawn', why)
    changed = changed + 1
    return false
  end
  local to, typ, reason = 'held', 'transfer.held', why
  if what == 'resume' then to, typ, reason = 'waiting', 'transfer.resumed', '' end
  if x.s == to then return true end
  note(org, typ, actor, x, 'w', reason)
  redis.call('HSET', xkey(org, x.id), 's', to, 'w', reason)
  reindex(org, x.id, x.s, to, x.cr)
  changed = changed + 1
  return true
end

for _, tid in ipairs(ids) do
  local x = load(org, tid) -- as it is now: settling the one before may have changed it
  if not x or (integ ~= '' and x.i ~= integ) or sweep(x) then kept = kept + 1 end
end
flush()
if what == 'resume' then
  local due = firstdue(org, conn)
  if due then wakeif(org, conn, due) end
end
if #ids < most then return { -1, changed } end
return { from + kept, changed }
