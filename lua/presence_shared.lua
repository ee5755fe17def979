-- What the presence scripts share; it stands before each of them, behind the line of flags.
--
-- users        SET   presence:channel:<channel>:users: who is in, for SMEMBERS; expires with the last deadline
-- user         HASH  presence:channel:<channel>:user:<id>: connections, meta, joined_ms; expires with this user's last deadline
-- connections  ZSET  x:presence:{<channel>}:connections: members by deadline (ms)
-- entries      HASH  x:presence:{<channel>}:entries: member -> "<ttl_ms> <1: brought the user in, else 0> <binding>";
--                    seq (number of the last event), seen (newest time written, us)
-- roster       HASH  x:presence:{<channel>}:roster: user -> "<number of its members in connections> <meta>"
--
-- A member is one connection of one user: "<bytes of the user>:<user><connection>". The companions are the truth and outlive
-- the last deadline by SPARE_MS, so that a sweeper can announce who ran out; users and user follow them for plain readers.

local SPARE_MS = 60000
local JUMP_US = 60000000

local function whole(number)
  return string.format('%.0f', number)
end

local function clock(injected)
  if injected ~= '' then
    return tonumber(injected)
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- The channel's record at this time (`us`, and in ms `now`). A clock that stepped back stands still until it reaches
-- `seen` again; where it stepped further than JUMP_US, `seen` is not believed.
local function look(keys, us)
  local f = redis.call('HMGET', keys.entries, 'seq', 'seen')
  local seen = tonumber(f[2] or nil)
  if seen and seen > us and seen <= us + JUMP_US then
    us = seen
  end
  return { us = us, now = math.floor(us / 1000), seq = tonumber(f[1] or nil) }
end

-- How many connections a user has, and its meta, '' for none.
local function standing(keys, user)
  local count, meta = string.match(redis.call('HGET', keys.roster, user) or '0 ', '^(%d+) (.*)$')
  return tonumber(count), meta
end

-- The deadline of a member, or nil; then its ttl, whether it brought the user in, and its binding.
local function entry(keys, member)
  local deadline = tonumber(redis.call('ZSCORE', keys.connections, member) or nil)
  if not deadline then
    return nil
  end
  local ttl, first, binding = string.match(redis.call('HGET', keys.entries, member) or '0 0 ', '^(%d+) (%d) (.*)$')
  return deadline, tonumber(ttl), tonumber(first), binding
end

-- When a member that is refreshed now runs out: never earlier than before, unless that comes from a clock far ahead.
local function extended(s, ttl, before, ttl_before)
  if before and before <= s.now + ttl_before + SPARE_MS then
    return math.max(s.now + ttl, before)
  end
  return s.now + ttl
end

-- Lets the keys live as long as the last deadline wants.
local function keep(keys, s)
  local latest = tonumber(redis.call('ZREVRANGE', keys.connections, 0, 0, 'WITHSCORES')[2]) or s.now
  local left = math.max(latest - s.now, 1)
  redis.call('PEXPIRE', keys.users, whole(left))
  redis.call('PEXPIRE', keys.connections, whole(left + SPARE_MS))
  redis.call('PEXPIRE', keys.entries, whole(left + SPARE_MS))
  redis.call('PEXPIRE', keys.roster, whole(left + SPARE_MS))
end

local function keep_user(keys, left)
  if redis.call('PTTL', keys.user) < left then
    redis.call('PEXPIRE', keys.user, whole(left))
  end
end

-- The number for the next event: TIME for a new record.
local function advance(s)
  s.seq = s.seq and s.seq + 1 or s.us
end

local function remember(keys, s)
  redis.call('HSET', keys.entries, 'seq', whole(s.seq or s.us), 'seen', whole(s.us))
end

-- Takes one connection out; true where it was its user's last.
local function remove(keys, s, user, member)
  redis.call('ZREM', keys.connections, member)
  redis.call('HDEL', keys.entries, member)
  local count, meta = standing(keys, user)
  if count > 1 then
    redis.call('HSET', keys.roster, user, whole(count - 1) .. ' ' .. meta)
    -- One that ran out before its user's last connection is not made again: it would never expire.
    if redis.call('EXISTS', keys.user) == 1 then
      redis.call('HSET', keys.user, 'connections', whole(count - 1))
    end
    return false
  end
  redis.call('HDEL', keys.roster, user)
  redis.call('SREM', keys.users, user)
  redis.call('DEL', keys.user)
  advance(s)
  return true
end

local function event(s, kind, user, cause)
  return '{"type":"' .. kind .. '","user":' .. cjson.encode(user) .. ',"seq":' .. whole(s.seq) .. ',"cause":"' .. cause
    .. '"}'
end
