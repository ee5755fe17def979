-- SESSION.VALIDATE: reads a session by its token. What the client gets of it, now or later from L1, the caller computes.
--
-- KEYS  1 session
-- ARGV  1 time or ''
-- Reply false or {id, user, version, now_ms, used_ms, idle_ms, expires_ms, ends_ms, data or false}

local s = read(KEYS[1], clock_ms(ARGV[1]))
if not s then
  return false
end
return { s.id, s.user, s.version, s.now, s.used, s.idle, s.expires, s.ends, redis.call('HGET', s.key, 'data') }
