-- Where locks live on several masters, this stands before each script whose answer counts towards a quorum. A master counts
-- if it is the process that the caller has looked at (so that no process counts twice under two addresses), and if it has
-- been a member since before anything that a lock may still be built on: a master that lost what it knew would help to
-- grant a lock that others hold.
--
-- member    HASH    x:lock:member: run_id (the process that is meant), since (when its probation began, us), window (the
--                   longest ttl of any lock, ms), ready (its probation is over), floor (no fence up to it is given again)
--
-- KEYS  the last one: member
-- ARGV  the last one but the time: run id as the caller knows it
-- Both are taken out, so that the script behind finds its own.
-- Reply of a master that does not count: NEWMASTER

local member = table.remove(KEYS)
local known = table.remove(ARGV, #ARGV - 1)

local function run_id_here()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end

do
  local m = redis.call('HMGET', member, 'run_id', 'ready', 'floor')
  local run_id = run_id_here()
  if run_id ~= known or m[1] ~= run_id or not m[2] then
    return redis.error_reply('NEWMASTER it may have lost what it knew')
  end
  least_fence = tonumber(m[3])
end

