-- LOCK.INFO: who holds the lock, never with which token.
--
-- KEYS  1 lock  2 grant  3 signs
-- ARGV  1 time or ''
-- Reply false, or {owner's label or false, fence or false, ttl_ms, waiters alive}

local keys = { lock = KEYS[1], grant = KEYS[2], signs = KEYS[3] }
local s, problem = look(keys, ARGV[1])
if problem then
  return problem
end
if not s.held then
  return false
end
return { s.owner or false, fence_of(s), ms_left(keys, s), waiters_alive(keys, s) }
