-- What the session scripts share; it stands before each of them, behind the line of flags.
--
-- session  HASH  session:<name>: id, user, device, data, version, created_ms, used_ms, idle_ms, expires_ms, ends_ms (its
--                cap), prev (the name of the token before, within its grace). <name> stands for the token.
--                The key of an old token within its grace is a copy, with next (the name behind) and the grace's end.
-- index    ZSET  x:session:{<tag>}:index: ids by expires_ms, of all users who share the tag
-- names    HASH  x:session:{<tag>}:names: id -> "<name> <user>"
--
-- Keys of sessions that are found by id, by user, by prev or by next are `base` and the name. They cannot be declared, as
-- nobody knows them before the script runs; they are in the tag's slot like all others, and only scripts that write reach
-- for them. VALIDATE, which L1 holds, reads its declared key alone. While the slot moves, a node of a cluster refuses keys
-- that it does not have: scripts look for all of them before they write, so that one which is refused has done nothing.

local JUMP_MS = 60000
local PRUNED_MAX = 500

local function whole(number)
  return string.format('%.0f', number)
end

local function clock_ms(injected)
  if injected ~= '' then
    return math.floor(tonumber(injected) / 1000)
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- The session behind a key at the time `now`, or nil. A clock that stepped back stands still until it reaches the last
-- use again; where it stepped further than JUMP_MS, that use is not believed, and nobody keeps more than the idle time.
local function read(key, now)
  local f = redis.call('HMGET', key, 'id', 'user', 'version', 'used_ms', 'idle_ms', 'expires_ms', 'ends_ms', 'prev', 'next')
  if not f[1] then
    return nil
  end
  local s = { key = key, id = f[1], user = f[2], version = tonumber(f[3]), used = tonumber(f[4]), idle = tonumber(f[5]),
    expires = tonumber(f[6]), ends = tonumber(f[7]), prev = f[8], next = f[9], now = now }
  if s.used > now and s.used <= now + JUMP_MS then
    s.now = s.used
  end
  -- Uses are written once per idle/20, and deadlines lie that much later.
  s.slack = math.floor(s.idle / 20)
  s.expires = math.min(s.expires, s.now + s.idle + s.slack)
  return s.expires > s.now and s or nil
end

-- The session of a token: for one within its grace the session behind it. `token_ends` is when the token itself ends.
local function resolve(key, name, base, now)
  local s = read(key, now)
  if s and s.next then
    local current = read(base .. s.next, now)
    if not current or current.id ~= s.id then
      return nil
    end
    current.name, current.token_ends = s.next, s.ends
    return current
  end
  if s then
    s.name, s.token_ends = name, s.ends
  end
  return s
end

local function missing()
  return redis.error_reply('NOSESSION no such session')
end

-- What is left of the idle time at least, however soon the next use is.
local function idle_left(s)
  return math.min(s.idle, s.token_ends - s.now)
end

local function forget(keys, id)
  redis.call('ZREM', keys.index, id)
  redis.call('HDEL', keys.names, id)
end

-- Fails where a node of a cluster does not serve the old token of a session that is about to be written or ended.
local function reach(base, prev)
  return prev and redis.call('EXISTS', base .. prev) == 1
end

-- Ends a session and the old token that is within its grace. Of several, all are reached before.
local function finish(keys, base, name, prev, id)
  if prev then
    redis.call('DEL', base .. prev)
  end
  redis.call('DEL', base .. name)
  forget(keys, id)
end

-- Notes a session in the index, from which ended ones are pruned.
local function enlist(keys, s)
  local ended = redis.call('ZRANGEBYSCORE', keys.index, '-inf', whole(s.now), 'LIMIT', 0, PRUNED_MAX)
  for _, id in ipairs(ended) do
    forget(keys, id)
  end
  redis.call('ZADD', keys.index, whole(s.expires), s.id)
  redis.call('HSET', keys.names, s.id, s.name .. ' ' .. s.user)
  local left = tonumber(redis.call('ZREVRANGE', keys.index, 0, 0, 'WITHSCORES')[2]) - s.now
  redis.call('PEXPIRE', keys.index, whole(left))
  redis.call('PEXPIRE', keys.names, whole(left))
end

-- Writes a use down, with `fields` besides; the copy under an old token follows.
local function use(keys, s, base, fields)
  local has_copy = reach(base, s.prev)
  s.used = s.now
  s.expires = math.min(s.now + s.idle + s.slack, s.ends)
  redis.call('HSET', s.key, 'used_ms', whole(s.used), 'expires_ms', whole(s.expires), unpack(fields))
  redis.call('PEXPIRE', s.key, whole(s.expires - s.now))
  if has_copy then
    redis.call('HSET', base .. s.prev, 'used_ms', whole(s.used), unpack(fields))
  end
  enlist(keys, s)
end

-- The name and the user of an id in the index, or nil.
local function lookup(keys, id)
  return string.match(redis.call('HGET', keys.names, id) or '', '^(%S+) (.*)$')
end
