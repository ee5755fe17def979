-- PRESENCE.LEAVEALL in a transaction: reads what the connection may have joined and takes it out, in one piece. Elsewhere
-- the daemon runs presence_leave for each. The keys of channels cannot be declared: in a cluster those in other slots fail
-- at the first look, before anything is written.
--
-- KEYS  1 connection (its hints)
-- ARGV  1 prefix of keys and channels  2 connection  3 and 4 the braces of a hash tag, or ''  5 time or ''
-- Reply how many entries were taken out

local SAFE_US = 5000000 -- as in presence_hints_shared
local prefix, connection, brace, closing = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local function escaped(id)
  local text = string.gsub(id, '[:%%{}]', function(byte)
    return string.format('%%%02X', string.byte(byte))
  end)
  return text
end

local us = clock(ARGV[5])
local hints, entries = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), {}
for i = 1, #hints, 2 do
  local length, rest = string.match(hints[i], '^(%d+):(.*)$')
  local user, channel = string.sub(rest, 1, tonumber(length)), string.sub(rest, tonumber(length) + 1)
  local primary = prefix .. 'presence:channel:' .. brace .. channel .. closing
  local companion = prefix .. 'x:presence:{' .. channel .. '}:'
  local keys = {
    users = primary .. ':users', user = primary .. ':user:' .. escaped(user), connections = companion .. 'connections',
    entries = companion .. 'entries', roster = companion .. 'roster',
  }
  local member = length .. ':' .. user .. connection
  entries[#entries + 1] = {
    keys = keys, user = user, member = member, channel = prefix .. 'events:presence:' .. channel, hint = hints[i],
    hinted = tonumber(hints[i + 1]), is_there = entry(keys, member) ~= nil,
  }
end

local removed, events = 0, {}
for _, e in ipairs(entries) do
  if e.is_there then
    removed = removed + 1
    local s = look(e.keys, us)
    if remove(e.keys, s, e.user, e.member) then
      events[#events + 1] = { e.channel, event(s, 'leave', e.user, 'client') }
    end
    remember(e.keys, s)
    keep(e.keys, s)
  end
  -- A JOIN writes its hint first: one so new may announce an entry that is still to come.
  if e.hinted <= us - SAFE_US then
    redis.call('ZREM', KEYS[1], e.hint)
  end
end
for _, message in ipairs(events) do
  redis.pcall('PUBLISH', message[1], message[2])
end
return removed
