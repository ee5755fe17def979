-- PRESENCE.LEAVE, each step of LEAVEALL, and the clean-up behind a client that joined with BIND and went away. A
-- repeated LEAVE answers the same.
--
-- KEYS  1 users  2 user  3 connections  4 entries  5 roster
-- ARGV  1 channel of events  2 user  3 member  4 cause  5 binding that the entry must have or '' for any
--       6 '1' to answer `removed` too, else ''  7 time or ''
-- Reply {last, users, seq} and perhaps removed; last: no connection of the user is left

local keys = { users = KEYS[1], user = KEYS[2], connections = KEYS[3], entries = KEYS[4], roster = KEYS[5] }
local user, member, binding = ARGV[2], ARGV[3], ARGV[5]

local s = look(keys, clock(ARGV[7]))
local before, _, _, bound = entry(keys, member)
local removed = before ~= nil and (binding == '' or binding == bound)
local left = false
if removed then
  left = remove(keys, s, user, member)
  remember(keys, s)
  keep(keys, s)
end
local reply = { 1 - redis.call('HEXISTS', keys.roster, user), redis.call('HLEN', keys.roster), s.seq or 0 }
if ARGV[6] ~= '' then
  reply[4] = removed and 1 or 0
end
if left then
  redis.pcall('PUBLISH', ARGV[1], event(s, 'leave', user, ARGV[4]))
end
return reply
