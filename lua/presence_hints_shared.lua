-- What the scripts for presence's indexes share; it stands before each of them, behind the line of flags.
--
-- due         ZSET  x:presence:due: channels by the time (us) at which a sweeper looks for deadlines
-- connection  ZSET  x:presence:connection:<conn>: "<bytes of the user>:<user><channel>" by the time of writing (us)
-- user        ZSET  x:presence:user:<id>: channels by the time of writing (us)
--
-- These lie in slots of their own and are hints: written before a channel's script runs, verified on use, removed behind it
-- unless written since. A script that is announced runs within SAFE_US, or its hints are written again behind it.

local SAFE_US = 5000000
local SPARE_MS = 3600000

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

-- Lets an index live for `ms`, and an hour that spares heartbeats the trouble.
local function keep(key, ms)
  if redis.call('PTTL', key) < ms + SPARE_MS then
    redis.call('PEXPIRE', key, whole(ms + SPARE_MS))
  end
end
