#!lua flags=no-writes
-- PRESENCE.STATE: a channel's users as they are after its event `seq`.
--
-- KEYS  1 entries  2 roster
-- ARGV  1 time or '' (not looked at)
-- Reply {seq or 0 where there is no record, {user, connections, meta or false}..}

local state = { tonumber(redis.call('HGET', KEYS[1], 'seq') or 0) }
local members = redis.call('HGETALL', KEYS[2])
for i = 1, #members, 2 do
  local count, meta = string.match(members[i + 1], '^(%d+) (.*)$')
  state[#state + 1] = { members[i], tonumber(count), meta ~= '' and meta }
end
return state
