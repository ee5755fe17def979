-- A sweeper's look at one channel: removes those of the given members whose deadline is still past, and names others
-- that are. It is called without members first, then with those that it named: so all keys are declared, and whoever was
-- refreshed meanwhile, or removed by another sweeper, is left alone.
--
-- KEYS  1 users  2 connections  3 entries  4 roster; then each member's user
-- ARGV  1 channel of events  2 most members to name  then the members  last: time or ''
-- Reply {ms to the next deadline or -1, {members to come with next}, {members removed}, {users who left}}

local keys = { users = KEYS[1], connections = KEYS[2], entries = KEYS[3], roster = KEYS[4] }
local limit = tonumber(ARGV[2])

local s = look(keys, clock(ARGV[#ARGV]))
local removed, gone, events = {}, {}, {}
for i = 3, #ARGV - 1 do
  local member = ARGV[i]
  local deadline = entry(keys, member)
  if deadline and deadline <= s.now then
    local length, rest = string.match(member, '^(%d+):(.*)$')
    local user = string.sub(rest, 1, tonumber(length))
    keys.user = KEYS[i + 2]
    removed[#removed + 1] = member
    if remove(keys, s, user, member) then
      gone[#gone + 1] = user
      events[#events + 1] = event(s, 'leave', user, 'expired')
    end
  end
end

-- Deadlines that a clock far ahead has set would not come: each is brought back to one ttl from now.
for _ = 1, limit do
  local top = redis.call('ZREVRANGE', keys.connections, 0, 0, 'WITHSCORES')[1]
  if not top then
    break
  end
  local deadline, ttl = entry(keys, top)
  if deadline <= s.now + ttl + SPARE_MS then
    break
  end
  redis.call('ZADD', keys.connections, whole(s.now + ttl), top)
end

if #removed > 0 then
  remember(keys, s)
  keep(keys, s)
end
local due = redis.call('ZRANGEBYSCORE', keys.connections, '-inf', whole(s.now), 'LIMIT', 0, limit)
local nearest = tonumber(redis.call('ZRANGE', keys.connections, 0, 0, 'WITHSCORES')[2])
local next_ms = nearest and math.max(nearest - s.now, 0) or -1
for _, text in ipairs(events) do
  redis.pcall('PUBLISH', ARGV[1], text)
end
return { next_ms, due, removed, gone }
