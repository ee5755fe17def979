-- Writes hints. Each write moves the score, so that who has read it before does not remove it.
--
-- KEYS  any number of due, connection and user
-- ARGV  1 ttl of the entry in ms; per key two: 'due' or 'written', member; last: time or ''
-- Reply per key 1 if it must be written again behind the channel's script, as a sweeper may look before that has run

local ttl = tonumber(ARGV[1])
local us = clock(ARGV[#ARGV])
local again = {}
for i, key in ipairs(KEYS) do
  local kind, member = ARGV[2 * i], ARGV[2 * i + 1]
  local before = tonumber(redis.call('ZSCORE', key, member) or nil)
  local score = us
  again[i] = 0
  if kind == 'due' then
    score = us + ttl * 1000
    if before then
      score = math.min(score, before - 1)
    end
    if score < us + SAFE_US then
      again[i] = 1
    end
  elseif before then
    score = math.max(us, before + 1)
  end
  redis.call('ZADD', key, whole(score), member)
  keep(key, ttl)
end
return again
