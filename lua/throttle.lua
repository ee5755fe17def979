#!lua
-- CL.THROTTLE as the module redis-cell answers it: GCRA in nanoseconds, times in seconds. A rest of a millisecond or more
-- makes another second.
--
-- KEYS  1 the key: a HASH whose field "cell" is "time ahead", where `ahead` (ns) is how far the theoretical arrival time
--         was ahead of `time` (us)
-- ARGV  1 max burst  2 count  3 period in seconds  4 quantity  5 time in us or ''
-- Reply {limited, limit, remaining, retry_after_s or -1, reset_after_s}

local SECOND_NS = 1000000000
local burst, count, period, quantity = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local now = tonumber(ARGV[5])
if ARGV[5] == '' then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local found = redis.pcall('HGET', KEYS[1], 'cell')
if type(found) == 'table' then
  return redis.error_reply(found.err)
end

-- A clock that stepped back stands still until it is where it was; by more than a period, and the past is forgotten.
local ahead, lag = 0, 0
if found then
  local time, stored = string.match(found, '^(%d+) (%d+)$')
  time, stored = tonumber(time), tonumber(stored)
  if time <= now + period * 1000000 then
    lag = math.max(0, time - now) * 1000
    now = math.max(now, time)
    ahead = math.max(0, stored - (now - time) * 1000)
  end
end

local function toward_zero(number)
  return number < 0 and math.ceil(number) or math.floor(number)
end

local function seconds(ns)
  local rest = math.fmod(ns, SECOND_NS)
  return (ns - rest) / SECOND_NS + (rest >= 1000000 and 1 or 0)
end

local interval = math.floor(period * SECOND_NS / count)
local tolerance = interval * (burst + 1)
local increment = interval * quantity
local limited = ahead + increment > tolerance

local retry = -1
if not limited then
  ahead = ahead + increment
  if quantity > 0 then
    redis.call('HSET', KEYS[1], 'cell', string.format('%.0f %.0f', now, ahead))
    -- Only collects what `time` made void: no hurry.
    redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.max(10000, math.ceil((ahead + lag) / 1000000))))
  end
elseif increment <= tolerance then
  retry = seconds(ahead + increment - tolerance + lag)
end

local remaining, room = 0, tolerance - ahead
if room > -interval then
  remaining = toward_zero(toward_zero(room / 1000) / math.floor(interval / 1000))
end
return { limited and 1 or 0, burst + 1, remaining, retry, seconds(ahead + lag) }
