-- RATELIMIT.REFUND: gives back what was used, as far as it still counts.
--
-- KEYS  1 the subject's key
-- ARGV  1 letter  2 limit  3 window in ms  4 capacity  5 how much  6 time in us or ''
-- Reply how much was given back

local rule = rule_at(ARGV, 1)
local c, problem = open({}, KEYS[1], rule, clock_us(ARGV[6]))
if problem then
  return problem
end
local given = c.algorithm.take(c, rule)
if given > 0 then
  save(c, rule)
end
return given
