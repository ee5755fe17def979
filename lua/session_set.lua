-- SESSION.SET: other DATA for a session that exists; a use of it too.
--
-- KEYS  1 session  2 index  3 names
-- ARGV  1 base  2 name  3 data  4 the version that it must have or ''  5 time or ''
-- Reply the new version, -NOSESSION or -STALE

local keys = { index = KEYS[2], names = KEYS[3] }
local s = resolve(KEYS[1], ARGV[2], ARGV[1], clock_ms(ARGV[5]))
if not s then
  return missing()
end
if ARGV[4] ~= '' and tonumber(ARGV[4]) ~= s.version then
  return redis.error_reply('STALE the session has version ' .. whole(s.version))
end
use(keys, s, ARGV[1], { 'data', ARGV[3], 'version', whole(s.version + 1) })
return s.version + 1
