-- Ends what one ACQUIRE began: it leaves the line, the hold that it was granted ends, and an attempt of it that arrives
-- later is refused. For waiters whose client left, and for BIND. A lock that was taken anew with the same token stays.
--
-- KEYS  1 lock  2 grant  3 released  4 queue  5 signs
-- ARGV  1 nonce  2 channel that wakes waiters  3 channel of events  4 name  5 time or ''
-- Reply 1 if a hold ended

local keys = { lock = KEYS[1], grant = KEYS[2], released = KEYS[3], queue = KEYS[4], signs = KEYS[5] }
local nonce = ARGV[1]
local s, problem = look(keys, ARGV[5])
if problem then
  return problem
end
local fresh = not was_released(keys, s, 'n' .. nonce)
local rest = s.held and s.ours and without_nonce(s.nonces, nonce)
local is_held = rest and fresh and #rest < #s.nonces
local is_last = rest and string.sub(s.nonces, -NONCE_BYTES) == nonce

local waited = redis.call('ZREM', keys.signs, nonce) + redis.call('ZREM', keys.queue, nonce)
if is_held and s.holds > 1 then
  redis.call('HSET', keys.grant, 'holds', whole(s.holds - 1), 'nonces', rest, 'seen', whole(s.now))
  remember(keys, s, { 'n' .. nonce })
  return 1
end
if is_held and is_last then
  give_up(keys, s, {})
  wake(keys, s, ARGV[2], ARGV[4])
  event(ARGV[3], 'release', s.fence)
  return 1
end
remember(keys, s, { 'n' .. nonce })
if waited > 0 and not s.held then
  wake(keys, s, ARGV[2], ARGV[4])
end
return 0
