-- What the lock scripts share; it stands before each of them, behind the line of flags.
--
-- lock      STRING  lock:<name>: the holder's token. Others (redlock, redis-py ...) set it too: a foreign holder.
-- grant     HASH    x:{lock:<name>}:grant: the last grant of ours. Counts only while its token is the value of lock.
--                   token, fence, deadline, ttl (us), holds, owner, seen (newest time written),
--                   nonces (32 digits each: the ACQUIREs that are held, newest last),
--                   agreed (the fence that a quorum of masters gave the present hold; see lock_agree.lua)
-- released  ZSET    x:{lock:<name>}:released: t<token> and n<nonce> by the time of their release, for a minute
-- queue     ZSET    x:{lock:<name>}:queue: nonces of FAIR waiters by ticket
-- signs     ZSET    x:{lock:<name>}:signs: nonces of all waiters by the time of their last look
--
-- Times are microseconds. Numbers that are stored go through whole(): tostring loses digits.

local ALIVE_US = 3000000
local REMEMBERED_US = 60000000
local REMEMBERED_MAX = 100000
local JUMP_US = 60000000
local LOOK_AGAIN_MS = 1000
local GRANT_KEPT_MS = 7 * 24 * 3600 * 1000
local NONCE_BYTES = 32
local NONCES_MAX = 32

-- No grant here has a fence as low as this one. lock_member.lua raises it where locks live on several masters.
local least_fence = 0

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

-- The lock as it is now, or nil and an error. `held`: somebody holds it; `ours`: by a grant of these scripts, and then
-- `left` is how long it still lasts. A clock that stepped back stands still until it reaches `seen` again; where it
-- stepped further than JUMP_US, `seen` is not believed, and no holder keeps more than its ttl.
local function look(keys, injected)
  local value = redis.pcall('GET', keys.lock)
  if type(value) == 'table' then
    return nil, redis.error_reply(value.err)
  end
  local f = redis.call('HMGET', keys.grant, 'token', 'fence', 'deadline', 'ttl', 'holds', 'nonces', 'owner', 'seen',
    'agreed')
  local s = { value = value, real = clock(injected), fence = tonumber(f[2]), agreed = tonumber(f[9]) }
  local seen = tonumber(f[8]) or 0
  s.jumped = seen > s.real + JUMP_US
  s.now = s.jumped and s.real or math.max(s.real, seen)
  s.held = value ~= false
  if value and f[1] == value then
    s.ours = true
    s.left = tonumber(f[3]) - s.now
    if s.jumped then
      s.left = math.min(s.left, tonumber(f[4]))
    end
    s.held = s.left > 0
    s.holds = tonumber(f[5])
    s.nonces = f[6]
    s.owner = f[7]
  end
  return s
end

-- The holder's fence; false for a foreign one, and for none.
local function fence_of(s)
  return s.held and s.ours and (s.agreed or s.fence) or false
end

-- What the holder has left in milliseconds; -1: a foreign one that never expires.
local function ms_left(keys, s)
  if s.ours then
    return math.max(1, math.floor(s.left / 1000))
  end
  return redis.call('PTTL', keys.lock)
end

local function lost()
  return redis.error_reply('LOCKLOST the lock is not held with this token')
end

local function was_released(keys, s, member)
  local at = tonumber(redis.call('ZSCORE', keys.released, member))
  return at ~= nil and math.abs(s.now - at) < REMEMBERED_US
end

local function each_nonce(nonces, visit)
  for at = 1, #nonces, NONCE_BYTES do
    visit(string.sub(nonces, at, at + NONCE_BYTES - 1))
  end
end

local function without_nonce(nonces, nonce)
  local kept = {}
  each_nonce(nonces, function(one)
    if one ~= nonce then
      kept[#kept + 1] = one
    end
  end)
  return table.concat(kept)
end

-- Remembers members of `released`, and forgets those older than a minute.
local function remember(keys, s, members)
  redis.call('ZREMRANGEBYSCORE', keys.released, '-inf', whole(s.now - REMEMBERED_US))
  redis.call('ZREMRANGEBYSCORE', keys.released, '(' .. whole(s.now + REMEMBERED_US), '+inf')
  for _, member in ipairs(members) do
    redis.call('ZADD', keys.released, whole(s.now), member)
  end
  redis.call('ZREMRANGEBYRANK', keys.released, 0, -REMEMBERED_MAX - 1)
  redis.call('PEXPIRE', keys.released, 2 * REMEMBERED_US / 1000)
end

local function is_alive(s, sign)
  return sign ~= nil and math.abs(s.now - sign) < ALIVE_US
end

local function waiters_alive(keys, s)
  return redis.call('ZCOUNT', keys.signs, '(' .. whole(s.now - ALIVE_US), '(' .. whole(s.now + ALIVE_US))
end

-- The first FAIR waiter that gave a sign of life, or nil. `caller` is alive: it asks.
local function first_in_queue(keys, s, caller)
  local from = 0
  while true do
    local some = redis.call('ZRANGE', keys.queue, from, from + 15)
    for _, nonce in ipairs(some) do
      if nonce == caller or is_alive(s, tonumber(redis.call('ZSCORE', keys.signs, nonce))) then
        return nonce
      end
    end
    if #some < 16 then
      return nil
    end
    from = from + 16
  end
end

-- Tells the daemons that the lock can be had: by one waiter (its nonce), or by whoever looks first (*).
local function wake(keys, s, channel, name)
  if waiters_alive(keys, s) > 0 then
    redis.pcall('PUBLISH', channel, (first_in_queue(keys, s) or '*') .. ' ' .. name)
  end
end

local function event(channel, kind, fence, owner)
  if channel == '' then
    return
  end
  local text = '{"type":"' .. kind .. '"'
  if fence then
    text = text .. ',"fence":' .. whole(fence)
  end
  if owner then
    text = text .. ',"owner":' .. cjson.encode(owner)
  end
  redis.pcall('PUBLISH', channel, text .. '}')
end

-- Nobody holds the lock any more. The fence stays, so that the next one is larger.
local function free(keys, s)
  redis.call('DEL', keys.lock)
  if s.ours then
    redis.call('HDEL', keys.grant, 'token', 'deadline', 'ttl', 'holds', 'nonces', 'owner', 'agreed')
    redis.call('HSET', keys.grant, 'seen', whole(s.now))
  end
end

-- Ends the present hold. `members`: what else is to be remembered.
local function give_up(keys, s, members)
  if s.ours then
    each_nonce(s.nonces, function(nonce)
      members[#members + 1] = 'n' .. nonce
    end)
  end
  free(keys, s)
  if #members > 0 then
    remember(keys, s, members)
  end
end
