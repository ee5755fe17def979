-- SESSION.LIST and SESSION.COUNT: the live sessions of a user, those that end first before the others. Removes from the
-- index what has ended.
--
-- KEYS  1 index  2 names
-- ARGV  1 base  2 user  3 '1' to count only, else ''  4 time or ''
-- Reply {{id, device or false, created_ms, used_ms, expires_ms}..} or their number

local keys = { index = KEYS[1], names = KEYS[2] }
local base, user, now = ARGV[1], ARGV[2], clock_ms(ARGV[4])
local rows = {}
for _, id in ipairs(redis.call('ZRANGE', keys.index, 0, -1)) do
  local name, owner = lookup(keys, id)
  local s = name and read(base .. name, now)
  if not s or s.id ~= id then
    forget(keys, id)
  elseif owner == user then
    local f = redis.call('HMGET', s.key, 'device', 'created_ms')
    rows[#rows + 1] = { id, f[1], tonumber(f[2]), s.used, s.expires }
  end
end
if ARGV[3] ~= '' then
  return #rows
end
return rows
