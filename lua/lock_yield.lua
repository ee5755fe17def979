-- An ACQUIRE to which no quorum granted the lock gives back what single masters granted. With 'x' the ACQUIRE is over: it
-- leaves the line, and an attempt of it that arrives later is refused. What an earlier ACQUIRE with the same token holds
-- stays held.
--
-- KEYS  1 lock  2 grant  3 released  4 queue  5 signs
-- ARGV  1 nonce  2 letters: x it is over, r it was REENTRANT  3 channel that wakes waiters  4 name  5 time or ''
-- Reply 1 if the lock became free

local keys = { lock = KEYS[1], grant = KEYS[2], released = KEYS[3], queue = KEYS[4], signs = KEYS[5] }
local nonce, over, reentrant = ARGV[1], ARGV[2]:find('x'), ARGV[2]:find('r')
local s, problem = look(keys, ARGV[5])
if problem then
  return problem
end
local waited = 0
if over then
  waited = redis.call('ZREM', keys.signs, nonce) + redis.call('ZREM', keys.queue, nonce)
  remember(keys, s, { 'n' .. nonce })
end
local rest = s.held and s.ours and without_nonce(s.nonces, nonce)
if rest and rest == '' then
  free(keys, s)
  wake(keys, s, ARGV[3], ARGV[4])
  return 1
end
if rest and #rest < #s.nonces then
  redis.call('HSET', keys.grant, 'holds', whole(reentrant and math.max(1, s.holds - 1) or s.holds),
    'nonces', rest, 'seen', whole(s.now))
elseif waited > 0 and not s.held then
  wake(keys, s, ARGV[3], ARGV[4])
end
return 0
