-- expire gives out copies whose time is over.
--
--   KEYS[1]  copies and when they are to be erased     expire
--   ARGV[1]  how many
--   ARGV[2]  ms after which one that was not settled comes again
--
-- Returns {"org|call|integ", …}. Each is put back for ARGV[2] later, so one whose
-- erasure could not be made comes again; done removes it.

local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))
for _, m in ipairs(due) do
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), m)
end
return due
