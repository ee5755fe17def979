-- SESSION.ROTATE: the session goes on under a new token; the old one ends, at once or behind its grace. A grace that is
-- under way ends: there is one old token at most.
--
-- KEYS  1 old session  2 new session  3 index  4 names
-- ARGV  1 base  2 old name  3 new name  4 grace in ms  5 time or ''
-- Reply {id, expires_in_ms}, -NOSESSION, or -STALE for a token that was rotated before

local keys = { index = KEYS[3], names = KEYS[4] }
local old, new, base = KEYS[1], KEYS[2], ARGV[1]
local s = read(old, clock_ms(ARGV[5]))
if not s then
  return missing()
end
if s.next then
  return redis.error_reply('STALE the token was rotated before')
end

if s.prev then
  redis.call('DEL', base .. s.prev)
  redis.call('HDEL', old, 'prev')
end
local fields = {}
local all = redis.call('HGETALL', old)
for i = 1, #all, 2 do
  -- These two are written anew by the use.
  if all[i] ~= 'used_ms' and all[i] ~= 'expires_ms' then
    fields[#fields + 1] = all[i]
    fields[#fields + 1] = all[i + 1]
  end
end
local grace = math.min(tonumber(ARGV[4]), s.idle, s.ends - s.now)
if grace > 0 then
  local ends = whole(s.now + grace)
  redis.call('HSET', old, 'next', ARGV[3], 'used_ms', whole(s.now), 'expires_ms', ends, 'ends_ms', ends)
  redis.call('PEXPIRE', old, whole(grace))
  fields[#fields + 1] = 'prev'
  fields[#fields + 1] = ARGV[2]
else
  redis.call('DEL', old)
end
s.key, s.name, s.prev, s.token_ends = new, ARGV[3], false, s.ends
use(keys, s, base, fields)
return { s.id, idle_left(s) }
