-- Makes a master a member of those on which locks live. A process that is new, or whose data are, is on probation first:
-- for as long as a lock lives that it may have helped to grant. Then it learns which fences may have been given. May be
-- repeated, by any daemon.
--
-- KEYS  1 member
-- ARGV  1 window: the longest ttl in ms  2 floor that the others said, or '' where too few did  3 time or ''
-- Reply 1 if it counts now

local key, window, floor, now = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), clock(ARGV[3])
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local m = redis.call('HMGET', key, 'run_id', 'since', 'window', 'ready', 'floor')
local since, known_window = tonumber(m[2]) or 0, tonumber(m[3]) or 0
if window > known_window then
  redis.call('HSET', key, 'window', whole(window))
end
if m[1] == run_id and m[4] then
  return 1
end
-- A clock that was set back begins anew: until it is where it was could be long.
if m[1] ~= run_id or since > now then
  redis.call('HSET', key, 'run_id', run_id, 'since', whole(now))
  redis.call('HDEL', key, 'ready')
  return 0
end
if floor and now >= since + math.max(window, known_window) * 1010 + 2000 then
  redis.call('HSET', key, 'floor', whole(math.max(floor, tonumber(m[5]) or 0)), 'ready', 1)
  return 1
end
return 0
