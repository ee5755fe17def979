-- RATELIMIT.PEEK: what CHECK would answer, but that nothing is used.
--
-- KEYS  1 the subject's key
-- ARGV  1 letter  2 limit  3 window in ms  4 capacity  5 cost  6 's' for SHADOW or ''  7 time in us or ''
-- Reply {allowed, limit, remaining, retry_after_ms, reset_ms}

local rule = rule_at(ARGV, 1)
local c, problem = open({}, KEYS[1], rule, clock_us(ARGV[7]))
if problem then
  return problem
end
return report(c, rule, ARGV[6] == 's' or fits(c, rule))
