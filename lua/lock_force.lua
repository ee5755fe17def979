-- LOCK.FORCE: frees the lock whoever holds it. Its holder learns of it as of any loss.
--
-- KEYS  1 lock  2 grant  3 released  4 queue  5 signs
-- ARGV  1 channel that wakes waiters  2 channel of events  3 name  4 time or ''
-- Reply 1 if somebody held it

local keys = { lock = KEYS[1], grant = KEYS[2], released = KEYS[3], queue = KEYS[4], signs = KEYS[5] }
local s, problem = look(keys, ARGV[4])
if problem then
  return problem
end
if not s.held then
  return 0
end
give_up(keys, s, {})
wake(keys, s, ARGV[1], ARGV[3])
event(ARGV[2], 'force', fence_of(s))
return 1
