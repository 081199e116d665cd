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
-- Safe to run twice.

local org, conn, what, integ, why, actor = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local from, most = tonumber(ARGV[7]), tonumber(ARGV[8])
local lane = P .. 'lane:' .. org .. ':' .. conn
local ids = redis.call('ZRANGE', lane, from, from + most - 1)
local changed, kept = 0, 0

local function withdraw(tid, x)
  audit(org, 't', 'transfer.withdrawn', 'by', actor, 'c', x[2], 'r', x[3], 'i', x[4], 'n', conn, 'x', tid, 'k', x[6], 'w', why)
  settle(org, conn, tid, x[1], 'withdrawn', x[5], why)
  redis.call('HINCRBY', P .. 'call:' .. org .. ':' .. x[2], 'open', -1)
  changed = changed + 1
end

for _, tid in ipairs(ids) do
  local key = P .. 'xfer:' .. org .. ':' .. tid
  local x = redis.call('HMGET', key, 's', 'c', 'r', 'i', 'cr', 'k', 'nx')
  local here = integ == '' or x[4] == integ
  if what == 'withdraw' and here and (x[1] == 'waiting' or x[1] == 'held') and x[6] ~= 'erase' then
    withdraw(tid, x)
  else
    kept = kept + 1
    -- what waits behind one that is being sent is not in the lane itself
    if what == 'withdraw' and here and s(x[7]) ~= '' then
      local n = redis.call('HMGET', P .. 'xfer:' .. org .. ':' .. x[7], 's', 'c', 'r', 'i', 'cr', 'k')
      if (n[1] == 'waiting' or n[1] == 'held') and n[6] ~= 'erase' then
        redis.call('HSET', key, 'nx', '')
        withdraw(x[7], n)
      end
    elseif what == 'hold' and here and x[1] == 'waiting' then
      redis.call('HSET', key, 's', 'held', 'w', why)
      reindex(org, tid, 'waiting', 'held', x[5])
      audit(org, 't', 'transfer.held', 'by', 'hub', 'c', x[2], 'r', x[3], 'i', x[4], 'n', conn, 'x', tid, 'w', why)
      changed = changed + 1
    elseif what == 'resume' and here and x[1] == 'held' then
      redis.call('HSET', key, 's', 'waiting', 'w', '')
      reindex(org, tid, 'held', 'waiting', x[5])
      audit(org, 't', 'transfer.resumed', 'by', actor, 'c', x[2], 'r', x[3], 'i', x[4], 'n', conn, 'x', tid)
      changed = changed + 1
    end
  end
end
flush()
if what == 'resume' then
  local first = redis.call('ZRANGE', lane, 0, 0, 'WITHSCORES')
  if #first > 0 then wakeif(org, conn, tonumber(first[2])) end
end
if #ids < most then return { -1, changed } end
return { from + kept, changed }
