-- LOCK.ACQUIRE: grants the lock if it is free and nobody is before the caller; with 'w' a denied caller waits in line.
--
-- KEYS  1 lock  2 grant  3 released  4 queue  5 signs
-- ARGV  1 token  2 ttl in ms  3 nonce of this ACQUIRE (32 digits), the same in each of its attempts
--       4 letters: w the caller waits, f FAIR, r REENTRANT  5 owner's label or ''  6 channel of events  7 time or ''
-- Reply {1, token, fence, ttl_ms} or {0, false, the holder's fence or false, retry_ms}

local keys = { lock = KEYS[1], grant = KEYS[2], released = KEYS[3], queue = KEYS[4], signs = KEYS[5] }
local token, ttl, nonce, letters, owner = ARGV[1], tonumber(ARGV[2]) * 1000, ARGV[3], ARGV[4], ARGV[5]
local waits, fair, reentrant = letters:find('w'), letters:find('f'), letters:find('r')

local s, problem = look(keys, ARGV[7])
if problem then
  return problem
end
-- An attempt that was sent before its holder released, and arrives after it.
if was_released(keys, s, 'n' .. nonce) then
  return redis.error_reply('LOCKLOST this ACQUIRE was granted and released before')
end

-- Whether waiters are before the caller. Newcomers queue behind any waiter; among waiters only FAIR ones have an order.
local function is_preceded()
  if waiters_alive(keys, s) == 0 then
    return false
  end
  local first = first_in_queue(keys, s, nonce)
  if first then
    return first ~= nonce
  end
  return not redis.call('ZSCORE', keys.signs, nonce)
end

local function leave_line(member)
  redis.call('ZREM', keys.signs, member)
  redis.call('ZREM', keys.queue, member)
end

local function forget_dead()
  local ranges = { { '-inf', whole(s.now - ALIVE_US) }, { whole(s.now + ALIVE_US), '+inf' } }
  for _, range in ipairs(ranges) do
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', keys.signs, range[1], range[2], 'LIMIT', 0, 100)) do
      if member ~= nonce then
        leave_line(member)
      end
    end
  end
end

local function stand_in_line()
  forget_dead()
  redis.call('ZADD', keys.signs, whole(s.now), nonce)
  redis.call('PEXPIRE', keys.signs, 60000)
  if fair then
    for _, member in ipairs(redis.call('ZRANGE', keys.queue, 0, 15)) do
      if not redis.call('ZSCORE', keys.signs, member) then
        redis.call('ZREM', keys.queue, member)
      end
    end
    if not redis.call('ZSCORE', keys.queue, nonce) then
      local last = redis.call('ZREVRANGE', keys.queue, 0, 0, 'WITHSCORES')
      redis.call('ZADD', keys.queue, whole((tonumber(last[2]) or 0) + 1), nonce)
    end
    redis.call('PEXPIRE', keys.queue, 60000)
  end
end

local function deny(retry_ms)
  if waits then
    stand_in_line()
  end
  if s.ours and s.held and s.jumped then
    -- Otherwise the holder would be given its ttl anew at each look, until the clock is where it was.
    redis.call('HSET', keys.grant, 'deadline', whole(s.now + s.left), 'seen', whole(s.now))
  end
  return { 0, false, fence_of(s), retry_ms }
end

local again = s.held and s.value == token
if s.held and not again then
  if s.ours then
    return deny(math.ceil(s.left / 1000))
  end
  local left = ms_left(keys, s)
  return deny(left < 0 and LOOK_AGAIN_MS or left + 1)
end
if not again and is_preceded() then
  return deny(LOOK_AGAIN_MS)
end

local fence, left, holds, nonces = math.max((s.fence or 0) + 1, least_fence + 1, s.real), ttl, 1, nonce
if again and s.ours then
  fence, left, holds, nonces = s.fence, math.max(s.left, ttl), s.holds, s.nonces
  local known = false
  each_nonce(nonces, function(one)
    known = known or one == nonce
  end)
  if not known then
    holds = reentrant and holds + 1 or holds
    nonces = string.sub(nonces .. nonce, -NONCES_MAX * NONCE_BYTES)
  end
end

local left_ms = math.ceil(left / 1000)
redis.call('SET', keys.lock, token, 'PX', whole(left_ms))
redis.call('HSET', keys.grant, 'token', token, 'fence', whole(fence), 'deadline', whole(s.now + left),
  'ttl', whole(left), 'holds', whole(holds), 'nonces', nonces, 'seen', whole(s.now))
if s.agreed and not (again and s.ours) then
  redis.call('HDEL', keys.grant, 'agreed')
end
if owner ~= '' then
  redis.call('HSET', keys.grant, 'owner', owner)
elseif not again then
  redis.call('HDEL', keys.grant, 'owner')
end
redis.call('PEXPIRE', keys.grant, whole(GRANT_KEPT_MS + left_ms))
-- Granted anew, it can be lost anew.
redis.call('ZREM', keys.released, 't' .. token)
leave_line(nonce)
if not (again and s.ours) then
  event(ARGV[6], 'acquire', fence, owner ~= '' and owner)
end
return { 1, token, again and fence_of(s) or fence, math.floor(left / 1000) }
