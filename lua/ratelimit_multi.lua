-- RATELIMIT.MULTI: uses all of its costs, or none of them if one does not fit.
--
-- KEYS  the subjects' keys, some perhaps more than once
-- ARGV  for each: letter, limit, window in ms, capacity, cost; then the time in us or ''
-- Reply {allowed, index of the first denial or -1, {five fields}..}

local now_us = clock_us(ARGV[#ARGV])
local hashes, items, before, denied = {}, {}, {}, -1
for i, key in ipairs(KEYS) do
  local rule = rule_at(ARGV, 5 * i - 4)
  local c, problem = open(hashes, key, rule, now_us)
  if problem then
    return problem
  end
  items[i] = { c = c, rule = rule }
  local allowed = fits(c, rule)
  before[i] = report(c, rule, allowed)
  if allowed then
    c.algorithm.add(c, rule)
  elseif denied < 0 then
    denied = i - 1
  end
end
if denied >= 0 then
  return { 0, denied, before }
end
local after, saved = {}, {}
for i, item in ipairs(items) do
  if item.rule.cost > 0 and not saved[item.c] then
    saved[item.c] = true
    save(item.c, item.rule)
  end
end
for i, item in ipairs(items) do
  after[i] = report(item.c, item.rule, true)
end
return { 1, -1, after }
