-- SESSION.DESTROYALL: ends all sessions of a user at one moment, but the one of a given token. A list of them made before
-- would miss those that are created or rotated meanwhile.
--
-- KEYS  1 index  2 names  3 perhaps the session to keep
-- ARGV  1 base  2 user  3 time or ''
-- Reply how many ended

local keys = { index = KEYS[1], names = KEYS[2] }
local base, user, now = ARGV[1], ARGV[2], clock_ms(ARGV[3])
local kept = KEYS[3] and read(KEYS[3], now)
local live, gone = {}, {}
for _, id in ipairs(redis.call('ZRANGE', keys.index, 0, -1)) do
  local name, owner = lookup(keys, id)
  if not name then
    gone[#gone + 1] = id
  elseif owner == user and not (kept and kept.id == id) then
    local s = read(base .. name, now)
    if s and s.id == id then
      reach(base, s.prev)
      s.name = name
      live[#live + 1] = s
    else
      gone[#gone + 1] = id
    end
  end
end
for _, id in ipairs(gone) do
  forget(keys, id)
end
for _, s in ipairs(live) do
  finish(keys, base, s.name, s.prev, s.id)
end
return #live
