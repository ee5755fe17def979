#!lua flags=no-writes
-- The hints of a connection (for LEAVEALL) or of a user (for CHANNELS).
--
-- KEYS  1 connection or user
-- ARGV  1 time or '' (not looked at)
-- Reply {member..}, those written first before the others

return redis.call('ZRANGE', KEYS[1], 0, -1)
