-- LOCK.EXTEND: the holder's time is `ttl` from now on. Also what RENEW runs. It stores next to nothing, and a lock that
-- cannot be extended is lost: so it runs when L2 is full (allow-oom).
--
-- KEYS  1 lock  2 grant
-- ARGV  1 token  2 ttl in ms  3 time or ''
-- Reply ttl_ms, or LOCKLOST

local keys = { lock = KEYS[1], grant = KEYS[2] }
local s, problem = look(keys, ARGV[3])
if problem then
  return problem
end
if not s.held or s.value ~= ARGV[1] then
  return lost()
end
local ttl_ms = tonumber(ARGV[2])
if s.ours then
  redis.call('HSET', keys.grant, 'deadline', whole(s.now + ttl_ms * 1000), 'ttl', whole(ttl_ms * 1000),
    'seen', whole(s.now))
  redis.call('PEXPIRE', keys.grant, whole(GRANT_KEPT_MS + ttl_ms))
end
redis.call('PEXPIRE', keys.lock, whole(ttl_ms))
return ttl_ms
