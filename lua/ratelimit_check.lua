-- RATELIMIT.CHECK: uses `cost` if it fits. With SHADOW uses it in any case and answers allowed. Checks that come at the
-- same time are made by one run, in order and each for itself: what it costs to begin a run is as much as a check.
--
-- KEYS  the subject's key, of each check
-- ARGV  of each check: 1 letter  2 limit  3 window in ms  4 capacity  5 cost  6 's' for SHADOW or ''  7 time in us or ''
-- Reply {allowed, limit, remaining, retry_after_ms, reset_ms}, of several checks one each; a denial writes nothing

local ARGUMENTS = 7

local function check(key, at)
  local rule = rule_at(ARGV, at)
  local c, problem = open({}, key, rule, clock_us(ARGV[at + 6]))
  if problem then
    return problem
  end
  if ARGV[at + 5] ~= 's' and not fits(c, rule) then
    return report(c, rule, false)
  end
  if rule.cost > 0 then
    c.algorithm.add(c, rule)
    save(c, rule)
  end
  return report(c, rule, true)
end

-- What goes wrong in one of them reads the same whether others came with it or not.
local function answer(key, at)
  local done, reply = pcall(check, key, at)
  if done or type(reply) == 'table' then
    return reply
  end
  return redis.error_reply('ERR ' .. tostring(reply))
end

if #KEYS == 1 then
  return answer(KEYS[1], 1)
end
local replies = {}
for number, key in ipairs(KEYS) do
  replies[number] = answer(key, (number - 1) * ARGUMENTS + 1)
end
return replies
