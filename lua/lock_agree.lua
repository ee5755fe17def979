-- The fence that a quorum gave an ACQUIRE, the largest of those that its masters said, is written back to each of them.
-- Whoever is granted the lock next by a quorum meets one of these, and is given a larger one. The masters' own fences stay
-- where they are larger: only `agreed` is what the holder was told.
--
-- KEYS  1 lock  2 grant
-- ARGV  1 token  2 nonce  3 fence  4 channel of events  5 owner's label or ''  6 time or ''
-- Reply 1, or LOCKLOST

local keys = { lock = KEYS[1], grant = KEYS[2] }
local nonce, fence, owner = ARGV[2], tonumber(ARGV[3]), ARGV[5]
local s, problem = look(keys, ARGV[6])
if problem then
  return problem
end
if not (s.held and s.ours and s.value == ARGV[1]) or #without_nonce(s.nonces, nonce) == #s.nonces then
  return lost()
end
redis.call('HSET', keys.grant, 'fence', whole(math.max(s.fence, fence)), 'agreed', whole(math.max(s.agreed or 0, fence)))
if fence > least_fence then
  redis.call('HSET', member, 'floor', whole(fence))
end
if not s.agreed then
  event(ARGV[4], 'acquire', fence, owner ~= '' and owner)
end
return 1
