-- What a master says of itself as one of those on which locks live. lock_member.lua tells of the HASH.
--
-- KEYS  1 member
-- ARGV  1 time or ''
-- Reply {run_id, role, mode, ready 0/1, ms of probation left or -1: it has not begun, floor, window in ms}

local server = redis.call('INFO', 'server')
local run_id = string.match(server, 'run_id:(%x+)')
local role = string.match(redis.call('INFO', 'replication'), 'role:(%a+)')
local m = redis.call('HMGET', KEYS[1], 'run_id', 'since', 'window', 'ready', 'floor')
local window, left = tonumber(m[3]) or 0, -1
if m[1] == run_id then
  left = math.max(0, math.ceil((tonumber(m[2]) + window * 1010 + 2000 - clock(ARGV[1])) / 1000))
end
local ready = m[1] == run_id and m[4] and 1 or 0
return { run_id, role, string.match(server, 'redis_mode:(%a+)'), ready, left, tonumber(m[5]) or 0, window }
