-- What the rate-limit scripts share; it stands before each of them, behind the line of flags.
--
-- The key is a HASH. A counter is one field, named by its algorithm's letter and its window: another limit keeps the
-- usage, another window is another counter. What is stored is usage, never what remains. Times are milliseconds.
--
-- s:<window>   "start count before": sliding, the window that began at start, and the count of the one before it
-- f:<window>   "start count": fixed
-- g:<window>   "time level until": gcra as a bucket that drains `limit` per ms; level counts 1/window of an event
-- l:<window>   "first next total newest": log, entries l:<window>:<number> = "time cost"; its times are microseconds
-- counters     the names of all counters, for pruning
--
-- limit x window stays below 2^53, so that all of it is exact in doubles. A stored time that is ahead of the clock (which
-- stepped back) counts as now; one that is further ahead than a window is discarded with its counter.

local EXACT_MAX = 2 ^ 53
local PRUNED_MAX = 16
-- Expiry only collects what the stored times made void: no hurry.
local TTL_MS_MIN = 10000

-- What costs most in a script is turning numbers into text and back: %d is cheaper than %.0f and as exact for whole
-- numbers, and text + 0 is cheaper than tonumber(text) where the text is known to be a number.
local function whole(number)
  return string.format('%d', number)
end

local function clock_us(injected)
  if injected ~= '' then
    return tonumber(injected)
  end
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Quotients of whole numbers, both exact where a rounded division is not.
local function div_down(a, b)
  return (a - math.fmod(a, b)) / b
end

local function div_up(a, b)
  local rest = math.fmod(a, b)
  return (a - rest) / b + (rest > 0 and 1 or 0)
end

local function numbers(text)
  local found = {}
  for word in text and string.gmatch(text, '%d+') or function() end do
    found[#found + 1] = word + 0
  end
  return found
end

-- Five arguments from `at` on: letter, limit, window, capacity (limit, or the burst of gcra), cost.
local function rule_at(args, at)
  return {
    letter = args[at], limit = args[at + 1] + 0, window = args[at + 2] + 0, capacity = args[at + 3] + 0,
    cost = args[at + 4] + 0, name = args[at] .. ':' .. args[at + 2],
  }
end

-- Takes a stored time into account: `c.lag` is how far the clock must go before it moves on. False: discard the counter.
local function catch_up(c, stored)
  if stored > c.now + c.window then
    return false
  end
  if stored > c.now then
    c.lag = stored - c.now
    c.now = stored
  end
  return true
end

local function window_start(c)
  return c.now - math.fmod(c.now, c.window)
end

-- Per algorithm: what is stored into `c` (load), whether a cost fits (fits), when it will (wait, only where it does not),
-- how much is left (left), when all of it will be (reset), use and give back (add, take), the field's text (text), how
-- long it means something from now on (lasts), and whether another counter's text no longer does (stale).
-- Built when they are asked for: a run needs one of them.
local builders, built = {}, {}
local function algorithm(letter)
  if not built[letter] then
    built[letter] = builders[letter]()
  end
  return built[letter]
end

builders.s = function()
  -- In units of 1/window: what the last window still counts for.
  local function carried(c)
    return c.before * (c.start + c.window - c.now)
  end
  return {
    load = function(c, text)
      local start, count, before = string.match(text or '', '^(%d+) (%d+) (%d+)$')
      start = start and start + 0
      local believed = start and catch_up(c, start)
      c.start, c.count, c.before = window_start(c), 0, 0
      if believed and start == c.start then
        c.count, c.before = count + 0, before + 0
      elseif believed and start == c.start - c.window then
        c.before = count + 0
      end
      c.rolled = not (believed and start == c.start)
    end,
    fits = function(c, rule)
      return (rule.limit - c.count - rule.cost) * c.window >= carried(c)
    end,
    wait = function(c, rule)
      local room = (rule.limit - c.count - rule.cost) * c.window
      local elapsed = c.now - c.start
      if room >= 0 then
        return c.window - div_down(room, c.before) - elapsed
      end
      local later = 0
      if c.count > 0 then
        later = math.max(0, c.window - div_down((rule.limit - rule.cost) * c.window, c.count))
      end
      return c.window - elapsed + later
    end,
    left = function(c, rule)
      local units = (rule.limit - c.count) * c.window - carried(c)
      return units > 0 and div_down(units, c.window) or 0
    end,
    reset = function(c)
      if c.count > 0 then
        return c.start + 2 * c.window - c.now
      end
      return c.before > 0 and c.start + c.window - c.now or 0
    end,
    add = function(c, rule)
      c.count = math.min(c.count + rule.cost, math.floor(EXACT_MAX / c.window))
    end,
    take = function(c, rule)
      local now = math.min(rule.cost, c.count)
      local earlier = math.min(rule.cost - now, c.before)
      c.count, c.before = c.count - now, c.before - earlier
      return now + earlier
    end,
    text = function(c)
      return string.format('%d %d %d', c.start, c.count, c.before)
    end,
    lasts = function(c)
      return c.rolled and c.start + 2 * c.window - c.now
    end,
    stale = function(stored, window, now)
      return #stored < 3 or stored[1] + 2 * window <= now
    end,
  }
end

builders.f = function()
  return {
    load = function(c, text)
      local stored = numbers(text)
      local believed = #stored == 2 and catch_up(c, stored[1])
      c.start = window_start(c)
      c.rolled = not (believed and stored[1] == c.start)
      c.count = c.rolled and 0 or stored[2]
    end,
    fits = function(c, rule)
      return c.count + rule.cost <= rule.limit
    end,
    wait = function(c)
      return c.start + c.window - c.now
    end,
    left = function(c, rule)
      return math.max(0, rule.limit - c.count)
    end,
    reset = function(c)
      return c.count > 0 and c.start + c.window - c.now or 0
    end,
    add = function(c, rule)
      c.count = math.min(c.count + rule.cost, EXACT_MAX)
    end,
    take = function(c, rule)
      local given = math.min(rule.cost, c.count)
      c.count = c.count - given
      return given
    end,
    text = function(c)
      return string.format('%d %d', c.start, c.count)
    end,
    lasts = function(c)
      return c.rolled and c.start + 2 * c.window - c.now
    end,
    stale = function(stored, window, now)
      return #stored < 2 or stored[1] + window <= now
    end,
  }
end

builders.g = function()
  -- Longer than it takes to drain: a slower plan may follow.
  local function lasts(c, rule)
    return math.max(div_up(c.level, rule.limit), 2 * c.window)
  end
  return {
    load = function(c, text, rule)
      local stored = numbers(text)
      c.level = 0
      -- Behind `until` it counts for nothing under any limit: it may have been pruned, or have expired.
      if #stored == 3 and catch_up(c, stored[1]) and c.now < stored[3] then
        c.level = math.max(0, stored[2] - rule.limit * (c.now - stored[1]))
        c.forgotten_in = stored[3] - c.now
      end
    end,
    fits = function(c, rule)
      return c.level + rule.cost * c.window <= rule.capacity * c.window
    end,
    wait = function(c, rule)
      local wait = div_up(c.level + (rule.cost - rule.capacity) * c.window, rule.limit)
      return math.min(wait, c.forgotten_in or wait)
    end,
    left = function(c, rule)
      return div_down(math.max(0, rule.capacity * c.window - c.level), c.window)
    end,
    reset = function(c, rule)
      local reset = div_up(c.level, rule.limit)
      return math.min(reset, c.forgotten_in or reset)
    end,
    add = function(c, rule)
      c.forgotten_in = nil
      c.level = math.min(c.level + rule.cost * c.window, EXACT_MAX)
    end,
    take = function(c, rule)
      c.forgotten_in = nil
      local given = math.min(rule.cost * c.window, c.level)
      c.level = c.level - given
      return div_up(given, c.window)
    end,
    text = function(c, rule)
      return string.format('%d %d %d', c.now, c.level, c.now + lasts(c, rule))
    end,
    lasts = lasts,
    stale = function(stored, _, now)
      return #stored < 3 or stored[3] <= now
    end,
  }
end

local function delete_entries(key, name, first, next)
  if next <= first or next > EXACT_MAX then
    return
  end
  -- A damaged log may say that it has more than there is.
  next = math.min(next, first + redis.call('HLEN', key))
  for from = first, next - 1, 500 do
    local names = {}
    for number = from, math.min(from + 499, next - 1) do
      names[#names + 1] = name .. ':' .. whole(number)
    end
    redis.call('HDEL', key, unpack(names))
  end
end

builders.l = function()
  local function entry_name(c, number)
    return c.name .. ':' .. whole(number)
  end

  -- Nil where there is none: somebody has damaged the log.
  local function entry(c, number)
    local stored = numbers(redis.call('HGET', c.hash.key, entry_name(c, number)))
    return stored[1], stored[2]
  end
  return {
    load = function(c, text)
      local stored = numbers(text)
      if #stored < 4 or stored[1] > stored[2] or stored[2] >= EXACT_MAX then
        stored = { 0, 0, 0, 0 }
      end
      c.first, c.next, c.total, c.newest = stored[1], stored[2], stored[3], stored[4]
      c.kept_from, c.added, c.span = c.first, 0, c.window * 1000
      if c.newest > c.now_us + c.span then
        c.first, c.total = c.next, 0
      elseif c.newest > c.now_us then
        c.lag = div_up(c.newest - c.now_us, 1000)
        c.now_us = c.newest
      end
      while c.first < c.next do
        local time, cost = entry(c, c.first)
        if not cost then
          c.first, c.next, c.kept_from, c.total = 0, 0, 0, 0
        elseif time + c.span > c.now_us then
          break
        else
          c.first, c.total = c.first + 1, c.total - cost
        end
      end
      -- It is capped, the costs of the entries are not.
      c.total = c.first < c.next and math.max(0, c.total) or 0
    end,
    fits = function(c, rule)
      return c.total + rule.cost <= rule.limit
    end,
    wait = function(c, rule)
      local needed, number = c.total + rule.cost - rule.limit, c.first
      while number < c.next do
        local time, cost = entry(c, number)
        if not cost then
          break
        end
        needed = needed - cost
        if needed <= 0 then
          return div_up(time + c.span - c.now_us, 1000)
        end
        number = number + 1
      end
      return c.window
    end,
    left = function(c, rule)
      return math.max(0, rule.limit - c.total)
    end,
    reset = function(c)
      return c.total > 0 and div_up(c.newest + c.span - c.now_us, 1000) or 0
    end,
    add = function(c, rule)
      c.total, c.added, c.newest = math.min(c.total + rule.cost, EXACT_MAX), c.added + rule.cost, c.now_us
      -- Only SHADOW gets above the limit: it grows the newest entry, so that the log does not grow without bound.
      c.grows = c.total > rule.limit and c.first < c.next
    end,
    -- Newest first: they are what the refunded call used.
    take = function(c, rule)
      local given = 0
      while given < rule.cost and c.next > c.first do
        local time, cost = entry(c, c.next - 1)
        if not cost then
          break
        end
        local part = math.min(cost, rule.cost - given)
        given = given + part
        if part == cost then
          redis.call('HDEL', c.hash.key, entry_name(c, c.next - 1))
          c.next = c.next - 1
        else
          redis.call('HSET', c.hash.key, entry_name(c, c.next - 1), whole(time) .. ' ' .. whole(cost - part))
        end
      end
      c.total = c.total - given
      if c.next > c.first then
        c.newest = entry(c, c.next - 1) or c.newest
      end
      return given
    end,
    text = function(c)
      delete_entries(c.hash.key, c.name, c.kept_from, c.first)
      if c.added > 0 then
        local number, cost = c.next, c.added
        if c.grows then
          local _, before = entry(c, c.next - 1)
          number, cost = c.next - 1, cost + (before or 0)
        end
        redis.call('HSET', c.hash.key, entry_name(c, number), whole(c.now_us) .. ' ' .. whole(cost))
        c.next = number + 1
      end
      return whole(c.first) .. ' ' .. whole(c.next) .. ' ' .. whole(c.total) .. ' ' .. whole(c.newest)
    end,
    lasts = function(c)
      return 2 * c.window
    end,
    stale = function(stored, window, now)
      return #stored < 4 or stored[4] + window * 1000 <= now * 1000
    end,
  }
end

-- The counter of a rule, or nil and an error. `hashes` holds what this run has read: the second counter of a key, or the
-- same counter again, sees what the first one did.
local function open(hashes, key, rule, now_us)
  local name = rule.name
  local hash = hashes[key]
  if hash and hash.opened[name] then
    return hash.opened[name]
  end
  local found = redis.pcall('HMGET', key, 'counters', name)
  if found.err then
    return nil, redis.error_reply(found.err)
  end
  if not hash then
    hash = { key = key, counters = found[1] or '', opened = {} }
    hashes[key] = hash
  end
  local c = {
    hash = hash, name = name, window = rule.window, lag = 0, now_us = now_us, now = math.floor(now_us / 1000),
    algorithm = algorithm(rule.letter),
  }
  c.algorithm.load(c, found[2], rule)
  hash.opened[name] = c
  return c
end

-- Removes counters whose usage is long past, of the first few on the list; the others of these go to its end. Answers
-- whether the list changed.
local function prune(c)
  local past, looked_at, rest, seen = {}, {}, {}, 0
  for name in string.gmatch(c.hash.counters, '%S+') do
    seen = seen + 1
    local list = seen > PRUNED_MAX and rest or looked_at
    if list == looked_at and not c.hash.opened[name] then
      local stored = numbers(redis.call('HGET', c.hash.key, name))
      local letter, window = string.sub(name, 1, 1), tonumber(string.sub(name, 3))
      if algorithm(letter).stale(stored, window, c.now) then
        list = past
        if letter == 'l' then
          delete_entries(c.hash.key, name, stored[1] or 0, stored[2] or 0)
        end
      end
    end
    list[#list + 1] = name
  end
  if #past > 0 then
    redis.call('HDEL', c.hash.key, unpack(past))
  end
  for _, name in ipairs(looked_at) do
    rest[#rest + 1] = name
  end
  c.hash.counters = table.concat(rest, ' ')
  return #past > 0 or seen > PRUNED_MAX
end

local function save(c, rule)
  local hash = c.hash
  local alone = hash.counters == c.name
  local known = alone or string.find(' ' .. hash.counters .. ' ', ' ' .. c.name .. ' ', 1, true)
  local pruned = not alone and prune(c)
  if not known then
    hash.counters = hash.counters == '' and c.name or hash.counters .. ' ' .. c.name
  end
  local text = c.algorithm.text(c, rule)
  if known and not pruned then
    redis.call('HSET', hash.key, c.name, text)
  else
    redis.call('HSET', hash.key, c.name, text, 'counters', hash.counters)
  end
  local lasts = c.algorithm.lasts(c, rule)
  if lasts then
    local ttl = math.max(lasts + c.lag, TTL_MS_MIN)
    if redis.call('PTTL', hash.key) < ttl then
      redis.call('PEXPIRE', hash.key, whole(ttl))
    end
  end
end

-- The five fields as they are now. -2: a cost that never fits.
local function report(c, rule, allowed)
  local retry = -1
  if not allowed then
    retry = rule.cost > rule.capacity and -2 or c.algorithm.wait(c, rule) + c.lag
  end
  local reset = c.algorithm.reset(c, rule)
  return {
    allowed and 1 or 0, rule.capacity, c.algorithm.left(c, rule), retry, reset > 0 and reset + c.lag or 0,
  }
end

local function fits(c, rule)
  return rule.cost <= rule.capacity and c.algorithm.fits(c, rule)
end
