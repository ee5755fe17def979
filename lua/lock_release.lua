-- LOCK.RELEASE: ends one hold; with the last one the lock is free. Repeated within a minute it answers the same.
--
-- KEYS  1 lock  2 grant  3 released  4 queue  5 signs
-- ARGV  1 token  2 channel that wakes waiters  3 channel of events  4 name  5 time or ''
-- Reply holds left, or LOCKLOST

local keys = { lock = KEYS[1], grant = KEYS[2], released = KEYS[3], queue = KEYS[4], signs = KEYS[5] }
local token = ARGV[1]
local s, problem = look(keys, ARGV[5])
if problem then
  return problem
end
if not s.held or s.value ~= token then
  return was_released(keys, s, 't' .. token) and 0 or lost()
end
if s.ours and s.holds > 1 then
  local last = string.sub(s.nonces, -NONCE_BYTES)
  redis.call('HSET', keys.grant, 'holds', whole(s.holds - 1), 'nonces', string.sub(s.nonces, 1, -NONCE_BYTES - 1),
    'seen', whole(s.now))
  remember(keys, s, { 'n' .. last })
  return s.holds - 1
end
give_up(keys, s, { 't' .. token })
wake(keys, s, ARGV[2], ARGV[4])
event(ARGV[3], 'release', fence_of(s))
return 0
