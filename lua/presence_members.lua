#!lua flags=no-writes
-- PRESENCE.MEMBERS: the users of a channel.
--
-- KEYS  1 roster
-- ARGV  1 '1' with meta, else ''  2 time or '' (not looked at)
-- Reply {user..} or {user, meta or false..}

if ARGV[1] == '' then
  return redis.call('HKEYS', KEYS[1])
end
local members = redis.call('HGETALL', KEYS[1])
for i = 2, #members, 2 do
  local meta = string.match(members[i], '^%d+ (.*)$')
  members[i] = meta ~= '' and meta
end
return members
