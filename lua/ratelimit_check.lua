-- RATELIMIT.CHECK: uses `cost` if it fits. With SHADOW uses it in any case and answers allowed.
--
-- KEYS  1 the subject's key
-- ARGV  1 letter  2 limit  3 window in ms  4 capacity  5 cost  6 's' for SHADOW or ''  7 time in us or ''
-- Reply {allowed, limit, remaining, retry_after_ms, reset_ms}; a denial writes nothing

local rule = rule_at(ARGV, 1)
local c, problem = open({}, KEYS[1], rule, clock_us(ARGV[7]))
if problem then
  return problem
end
if ARGV[6] ~= 's' and not fits(c, rule) then
  return report(c, rule, false)
end
if rule.cost > 0 then
  c.algorithm.add(c, rule)
  save(c, rule)
end
return report(c, rule, true)
