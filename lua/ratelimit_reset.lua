#!lua flags=allow-oom
-- RATELIMIT.RESET: forgets all usage of a subject.
--
-- KEYS  1 the subject's key
-- ARGV  1 time, not used
-- Reply 1 if there was any

return redis.call('DEL', KEYS[1])
