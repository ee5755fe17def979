-- PRESENCE.HEARTBEAT and the daemon's own heartbeats: refreshes entries, makes none.
--
-- KEYS  five per beat: users, user, connections, entries, roster
-- ARGV  two per beat: member, binding that its entry must have or '' for any; last: time or ''
-- Reply one number per beat: 1 refreshed, 0 gone (never entered, left, past its deadline), -1 entered anew under another
--       binding

local function beat(keys, s, member, binding)
  local before, ttl, _, bound = entry(keys, member)
  if not before or before <= s.now then
    return 0
  end
  if binding ~= '' and binding ~= bound then
    return -1
  end
  local deadline = extended(s, ttl, before, ttl)
  redis.call('ZADD', keys.connections, whole(deadline), member)
  redis.call('HSET', keys.entries, 'seen', whole(s.us))
  keep(keys, s)
  keep_user(keys, deadline - s.now)
  return 1
end

local us = clock(ARGV[#ARGV])
local results = {}
for i = 1, #KEYS / 5 do
  local at = 5 * i - 4
  local keys = { users = KEYS[at], user = KEYS[at + 1], connections = KEYS[at + 2], entries = KEYS[at + 3],
    roster = KEYS[at + 4] }
  results[i] = beat(keys, look(keys, us), ARGV[2 * i - 1], ARGV[2 * i])
end
return results
