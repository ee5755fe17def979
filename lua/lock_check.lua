-- LOCK.CHECK: whether this token holds the lock.
--
-- KEYS  1 lock  2 grant
-- ARGV  1 token  2 time or ''
-- Reply {held, fence or false, ttl_ms}; ttl_ms -1: a foreign holder's that never expires

local keys = { lock = KEYS[1], grant = KEYS[2] }
local s, problem = look(keys, ARGV[2])
if problem then
  return problem
end
if not s.held or s.value ~= ARGV[1] then
  return { 0, false, 0 }
end
return { 1, fence_of(s), ms_left(keys, s) }
