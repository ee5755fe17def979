-- Removes hints of what was found gone, unless they were written since, or so shortly before that the script which they
-- announce may not have run yet.
--
-- KEYS  any number of connection and user
-- ARGV  1 ms that have passed since before it was found gone; one member per key; last: time or ''
-- Reply how many were removed

local latest = clock(ARGV[#ARGV]) - tonumber(ARGV[1]) * 1000 - SAFE_US
local removed = 0
for i, key in ipairs(KEYS) do
  local written = tonumber(redis.call('ZSCORE', key, ARGV[i + 1]) or nil)
  if written and written <= latest then
    removed = removed + redis.call('ZREM', key, ARGV[i + 1])
  end
end
return removed
