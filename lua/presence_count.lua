#!lua flags=no-writes
-- PRESENCE.COUNT: how many users and how many connections a channel has.
--
-- KEYS  1 roster  2 connections
-- ARGV  1 time or '' (not looked at)
-- Reply {users, connections}

return { redis.call('HLEN', KEYS[1]), redis.call('ZCARD', KEYS[2]) }
