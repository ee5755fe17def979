#!lua flags=no-writes
-- PRESENCE.CHANNELS in a transaction: reads where the user may be and looks whether that is so, in one piece. Elsewhere the
-- daemon runs presence_present for each. The keys of channels cannot be declared: in a cluster those in other slots fail.
--
-- KEYS  1 user (its hints)
-- ARGV  1 prefix of keys  2 user  3 time or '' (not looked at)
-- Reply {channel..}

local found = {}
for _, channel in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if redis.call('HEXISTS', ARGV[1] .. 'x:presence:{' .. channel .. '}:roster', ARGV[2]) == 1 then
    found[#found + 1] = channel
  end
end
return found
