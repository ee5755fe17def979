-- A sweeper's first question: in which channels has the time come to look.
--
-- KEYS  1 due
-- ARGV  1 most channels to name  2 time or ''
-- Reply {channel, score, channel, score..}, the longest due first

return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', whole(clock(ARGV[2])), 'WITHSCORES', 'LIMIT', 0, ARGV[1])
