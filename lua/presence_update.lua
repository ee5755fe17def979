-- PRESENCE.UPDATE: another META for a user, by one of its connections, which it does not refresh. The same META once more
-- changes and announces nothing.
--
-- KEYS  1 user  2 connections  3 entries  4 roster
-- ARGV  1 channel of events  2 user  3 member  4 meta  5 time or ''
-- Reply seq; 0: this connection is gone, JOIN again

local keys = { user = KEYS[1], connections = KEYS[2], entries = KEYS[3], roster = KEYS[4] }
local user, meta = ARGV[2], ARGV[4]

local s = look(keys, clock(ARGV[5]))
local deadline = entry(keys, ARGV[3])
local count, meta_before = standing(keys, user)
if not deadline or deadline <= s.now or count == 0 then
  return 0
end
if meta == meta_before then
  return s.seq
end
advance(s)
redis.call('HSET', keys.roster, user, whole(count) .. ' ' .. meta)
remember(keys, s)
if redis.call('EXISTS', keys.user) == 1 then
  redis.call('HSET', keys.user, 'meta', meta)
end
redis.pcall('PUBLISH', ARGV[1], event(s, 'update', user, 'client'))
return s.seq
