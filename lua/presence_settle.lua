-- A sweeper's last word on a channel: when to look again, or never; unless the hint was written since it was read.
--
-- KEYS  1 due
-- ARGV  1 channel  2 the score read  3 ms to the next deadline or -1  4 time or ''
-- Reply 1, or 0 where the hint has changed

local channel, next_ms = ARGV[1], tonumber(ARGV[3])
local us = clock(ARGV[4])
if tonumber(redis.call('ZSCORE', KEYS[1], channel) or nil) ~= tonumber(ARGV[2]) then
  return 0
end
if next_ms < 0 then
  redis.call('ZREM', KEYS[1], channel)
else
  redis.call('ZADD', KEYS[1], whole(us + next_ms * 1000), channel)
  keep(KEYS[1], next_ms)
end
return 1
