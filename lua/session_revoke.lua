-- SESSION.REVOKE: ends a session by its id.
--
-- KEYS  1 index  2 names
-- ARGV  1 base  2 id  3 time or ''
-- Reply 1, or 0 where there was none

local keys = { index = KEYS[1], names = KEYS[2] }
local base, id = ARGV[1], ARGV[2]
local name = lookup(keys, id)
local s = name and read(base .. name, clock_ms(ARGV[3]))
if not s or s.id ~= id then
  forget(keys, id)
  return 0
end
finish(keys, base, name, s.prev, id)
return 1
