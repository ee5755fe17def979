-- PRESENCE.JOIN: enters one connection of a user, or refreshes it. A repeated JOIN answers the same, and only the
-- connection that brings its user in is announced.
--
-- KEYS  1 users  2 user  3 connections  4 entries  5 roster
-- ARGV  1 channel of events  2 user  3 member  4 ttl in ms  5 binding or ''  6 meta or ''  7 time or ''
-- Reply {first, users, seq}

local keys = { users = KEYS[1], user = KEYS[2], connections = KEYS[3], entries = KEYS[4], roster = KEYS[5] }
local user, member, ttl, binding, meta = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]

local s = look(keys, clock(ARGV[7]))
local before, ttl_before, first = entry(keys, member)
local count, meta_before = standing(keys, user)
local enters = false
if before then
  count = math.max(count, 1)
  ttl = math.max(ttl, ttl_before)
else
  enters = count == 0
  first = enters and 1 or 0
  count = count + 1
end
local deadline = extended(s, ttl, before, ttl_before)
local changes = meta ~= '' and meta ~= meta_before
if meta == '' then
  meta = meta_before
end
if enters or changes then
  advance(s)
end

redis.call('ZADD', keys.connections, whole(deadline), member)
redis.call('HSET', keys.entries, member, whole(ttl) .. ' ' .. whole(first) .. ' ' .. binding)
redis.call('HSET', keys.roster, user, whole(count) .. ' ' .. meta)
remember(keys, s)
redis.call('HSET', keys.user, 'connections', whole(count))
redis.call('HSETNX', keys.user, 'joined_ms', whole(s.now))
if meta ~= '' then
  redis.call('HSET', keys.user, 'meta', meta)
end
redis.call('SADD', keys.users, user)
if redis.call('SCARD', keys.users) ~= redis.call('HLEN', keys.roster) then
  -- It ran out before a sweeper came, or somebody else changed it: it follows the roster.
  redis.call('DEL', keys.users)
  for _, present in ipairs(redis.call('HKEYS', keys.roster)) do
    redis.call('SADD', keys.users, present)
  end
end
keep(keys, s)
keep_user(keys, deadline - s.now)

local users = redis.call('HLEN', keys.roster)
if enters or changes then
  redis.pcall('PUBLISH', ARGV[1], event(s, enters and 'join' or 'update', user, 'client'))
end
return { first, users, s.seq or s.us }
