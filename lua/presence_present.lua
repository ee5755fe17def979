#!lua flags=no-writes
-- One step of PRESENCE.CHANNELS: whether a user who is hinted to be in a channel is in it.
--
-- KEYS  1 roster
-- ARGV  1 user  2 time or '' (not looked at)
-- Reply 1 or 0

return redis.call('HEXISTS', KEYS[1], ARGV[1])
