-- SESSION.DESTROY: ends a session by its token, or by its old one within the grace; both end.
--
-- KEYS  1 session  2 index  3 names
-- ARGV  1 base  2 name  3 time or ''
-- Reply 1, or 0 where there was none

local keys = { index = KEYS[2], names = KEYS[3] }
local s = resolve(KEYS[1], ARGV[2], ARGV[1], clock_ms(ARGV[3]))
if not s then
  redis.call('DEL', KEYS[1])
  return 0
end
reach(ARGV[1], s.prev)
-- Deleting a key twice is refused too where the slot moves.
if ARGV[2] ~= s.name and ARGV[2] ~= s.prev then
  redis.call('DEL', KEYS[1])
end
finish(keys, ARGV[1], s.name, s.prev, s.id)
return 1
