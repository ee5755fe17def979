-- SESSION.TOUCH, and the use that a VALIDATE is: moves a session's deadline, once per idle/20 at most.
--
-- KEYS  1 session  2 index  3 names
-- ARGV  1 base  2 name  3 time or ''
-- Reply idle_left_ms or false

local keys = { index = KEYS[2], names = KEYS[3] }
local s = resolve(KEYS[1], ARGV[2], ARGV[1], clock_ms(ARGV[3]))
if not s then
  return false
end
if s.used > s.now or s.now - s.used >= s.slack then
  use(keys, s, ARGV[1], {})
end
return idle_left(s)
