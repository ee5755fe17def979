-- SESSION.CREATE: a new session under a token that the daemon has drawn.
--
-- KEYS  1 session  2 index  3 names
-- ARGV  1 base  2 name  3 id  4 user  5 idle in ms  6 absolute in ms  7 data or ''  8 device or ''
--       9 most sessions of the user, 0 for any number  10 EVICT (those that would end first), REJECT or ''  11 time or ''
-- Reply {id, expires_in_ms} or -MAXSESSIONS

local keys = { index = KEYS[2], names = KEYS[3] }
local base, user, idle, absolute, most = ARGV[1], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[9])
local now = clock_ms(ARGV[11])

local function make_room()
  local live = {}
  for _, id in ipairs(redis.call('ZRANGE', keys.index, 0, -1)) do
    local name, owner = lookup(keys, id)
    local other = owner == user and read(base .. name, now)
    if other and other.id == id then
      reach(base, other.prev)
      other.name = name
      live[#live + 1] = other
    end
  end
  if #live >= most and ARGV[10] == 'REJECT' then
    return redis.error_reply('MAXSESSIONS the user has ' .. #live .. ' sessions')
  end
  for i = 1, #live - most + 1 do
    finish(keys, base, live[i].name, live[i].prev, live[i].id)
  end
end

local refusal = most > 0 and make_room()
if refusal then
  return refusal
end
local s = { key = KEYS[1], name = ARGV[2], id = ARGV[3], user = user, now = now, idle = idle, slack = math.floor(idle / 20),
  ends = now + absolute }
local fields = { 'id', s.id, 'user', user, 'version', '1', 'created_ms', whole(now), 'idle_ms', whole(idle),
  'ends_ms', whole(s.ends) }
for i, field in ipairs({ 'data', 'device' }) do
  if ARGV[6 + i] ~= '' then
    fields[#fields + 1] = field
    fields[#fields + 1] = ARGV[6 + i]
  end
end
use(keys, s, base, fields)
return { s.id, math.min(idle, absolute) }
