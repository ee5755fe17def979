//! Every kind of write, as a table: what is there before, what is read, what is written. `%` stands for a prefix of
//! the case's own. Used with the pushes withheld (own writes) and straight at Redis (pushes only).

/// One row: commands to begin with, reads that L1 answers, the write.
pub struct Write {
    pub before: &'static [&'static str],
    pub reads: &'static [&'static str],
    pub write: &'static str,
}

const fn row(before: &'static [&'static str], reads: &'static [&'static str], write: &'static str) -> Write {
    Write { before, reads, write }
}

const A: &[&str] = &["SET %a 5"];
const READ_A: &[&str] = &["GET %a", "STRLEN %a", "TYPE %a", "MGET %a %x"];
const AB: &[&str] = &["SET %a 5", "SET %b 77"];
const READ_AB: &[&str] = &["GET %a", "GET %b", "MGET %a %b", "EXISTS %a"];
const LIST: &[&str] = &["RPUSH %l 3 1 2"];
const READ_LIST: &[&str] =
    &["LRANGE %l 0 -1", "LLEN %l", "LINDEX %l 0", "GET %d", "LRANGE %e 0 -1", "LRANGE %d 0 -1"];
const LISTS: &[&str] = &["RPUSH %l 3 1 2", "RPUSH %e 9"];
const READ_LISTS: &[&str] = &["LRANGE %l 0 -1", "LRANGE %e 0 -1", "LLEN %e"];
const SETS: &[&str] = &["SADD %s 1 2 3", "SADD %t 3 4"];
const READ_SETS: &[&str] = &["SMEMBERS %s", "SCARD %s", "SISMEMBER %s 1", "SMEMBERS %t", "SCARD %d"];
const HASH: &[&str] = &["HSET %h f 1 g 2"];
const READ_HASH: &[&str] = &["HGETALL %h", "HGET %h f", "HLEN %h", "HMGET %h f n"];
const ZSETS: &[&str] = &["ZADD %z 1 a 2 b 3 c", "ZADD %y 5 a"];
const READ_ZSETS: &[&str] = &["ZRANGE %z 0 -1 WITHSCORES", "ZCARD %z", "ZSCORE %z a", "ZCARD %d"];
const GEO: &[&str] = &["GEOADD %g 0.1 0.1 here"];
const READ_GEO: &[&str] = &["GEOPOS %g here", "ZCARD %g", "ZCARD %d"];
const STREAM: &[&str] = &["XADD %x 1-1 f 1", "XADD %x 2-1 f 2"];
const READ_STREAM: &[&str] = &["XLEN %x", "XRANGE %x - +", "TYPE %m"];

/// Writes whose keys stand in the request.
pub const WRITES: &[Write] = &[
    row(A, READ_A, "SET %a changed"),
    row(A, READ_A, "SET %a changed GET"),
    row(A, READ_A, "SETEX %a 1000 changed"),
    row(A, READ_A, "PSETEX %a 100000 changed"),
    row(&[], READ_A, "SETNX %a new"),
    row(&[], READ_AB, "MSETNX %a new %b other"),
    row(AB, READ_AB, "MSET %b x %a y"),
    row(A, READ_A, "GETSET %a changed"),
    row(A, READ_A, "GETDEL %a"),
    row(A, READ_A, "GETEX %a PXAT 1"),
    row(A, READ_A, "APPEND %a more"),
    row(A, READ_A, "INCR %a"),
    row(A, READ_A, "INCRBY %a 100"),
    row(A, READ_A, "DECR %a"),
    row(A, READ_A, "DECRBY %a 100"),
    row(A, READ_A, "INCRBYFLOAT %a 0.5"),
    row(A, READ_A, "SETRANGE %a 3 x"),
    row(A, READ_A, "SETBIT %a 1 1"),
    row(A, READ_A, "BITFIELD %a SET u8 0 65"),
    row(AB, READ_AB, "BITOP NOT %b %a"),
    row(&[], READ_A, "PFADD %a x"),
    row(&["PFADD %a x"], &["STRLEN %b", "TYPE %b"], "PFMERGE %b %a"),
    row(AB, READ_AB, "DEL %b %a"),
    row(AB, READ_AB, "UNLINK %a %b"),
    row(A, READ_A, "EXPIRE %a -1"),
    row(A, READ_A, "EXPIREAT %a 1"),
    row(A, READ_A, "PEXPIRE %a -1"),
    row(A, READ_A, "PEXPIREAT %a 1"),
    row(AB, READ_AB, "RENAME %a %b"),
    row(A, READ_AB, "RENAMENX %a %b"),
    row(AB, &["GET %b", "MGET %a %b"], "COPY %a %b REPLACE"),
    row(A, READ_A, "MOVE %a 9"),
    row(&["SET %a 5", "RPUSH %l 3 1 2"], &["LRANGE %d 0 -1", "EXISTS %d"], "SORT %l STORE %d"),
    row(LIST, READ_LIST, "LPUSH %l new"),
    row(LIST, READ_LIST, "RPUSH %l new"),
    row(LIST, READ_LIST, "LPUSHX %l new"),
    row(LIST, READ_LIST, "RPUSHX %l new"),
    row(LIST, READ_LIST, "LINSERT %l BEFORE 1 new"),
    row(LIST, READ_LIST, "LSET %l 0 new"),
    row(LIST, READ_LIST, "LREM %l 0 3"),
    row(LIST, READ_LIST, "LTRIM %l 1 -1"),
    row(LIST, READ_LIST, "LPOP %l"),
    row(LIST, READ_LIST, "RPOP %l 2"),
    row(LIST, READ_LIST, "LMPOP 2 %l %d LEFT"),
    row(LISTS, READ_LISTS, "LMOVE %l %e LEFT RIGHT"),
    row(LISTS, READ_LISTS, "RPOPLPUSH %l %e"),
    row(LIST, READ_LIST, "BLPOP %d %l 1"),
    row(LIST, READ_LIST, "BRPOP %l 1"),
    row(LIST, READ_LIST, "BLMPOP 1 2 %d %l LEFT"),
    row(LISTS, READ_LISTS, "BLMOVE %l %e LEFT RIGHT 1"),
    row(LISTS, READ_LISTS, "BRPOPLPUSH %l %e 1"),
    row(SETS, READ_SETS, "SADD %s 9"),
    row(SETS, READ_SETS, "SREM %s 1"),
    row(SETS, READ_SETS, "SPOP %s 1"),
    row(SETS, READ_SETS, "SMOVE %s %t 1"),
    row(SETS, READ_SETS, "SINTERSTORE %d %s %t"),
    row(SETS, READ_SETS, "SUNIONSTORE %d %s %t"),
    row(SETS, READ_SETS, "SDIFFSTORE %d %s %t"),
    row(HASH, READ_HASH, "HSET %h n 3"),
    row(HASH, READ_HASH, "HMSET %h f 9"),
    row(HASH, READ_HASH, "HSETNX %h n 3"),
    row(HASH, READ_HASH, "HINCRBY %h f 2"),
    row(HASH, READ_HASH, "HINCRBYFLOAT %h f 0.5"),
    row(HASH, READ_HASH, "HDEL %h f"),
    row(ZSETS, READ_ZSETS, "ZADD %z 9 a"),
    row(ZSETS, READ_ZSETS, "ZINCRBY %z 4 a"),
    row(ZSETS, READ_ZSETS, "ZREM %z a"),
    row(ZSETS, READ_ZSETS, "ZPOPMIN %z"),
    row(ZSETS, READ_ZSETS, "ZPOPMAX %z"),
    row(ZSETS, READ_ZSETS, "ZMPOP 2 %d %z MIN"),
    row(ZSETS, READ_ZSETS, "BZPOPMIN %d %z 1"),
    row(ZSETS, READ_ZSETS, "BZPOPMAX %z 1"),
    row(ZSETS, READ_ZSETS, "BZMPOP 1 2 %d %z MAX"),
    row(ZSETS, READ_ZSETS, "ZREMRANGEBYRANK %z 0 0"),
    row(ZSETS, READ_ZSETS, "ZREMRANGEBYSCORE %z 1 1"),
    row(ZSETS, READ_ZSETS, "ZREMRANGEBYLEX %z - +"),
    row(ZSETS, READ_ZSETS, "ZRANGESTORE %d %z 0 -1"),
    row(ZSETS, READ_ZSETS, "ZUNIONSTORE %d 2 %z %y"),
    row(ZSETS, READ_ZSETS, "ZINTERSTORE %d 2 %z %y"),
    row(ZSETS, READ_ZSETS, "ZDIFFSTORE %d 2 %z %y"),
    row(GEO, READ_GEO, "GEOADD %g 0.2 0.2 here"),
    row(GEO, READ_GEO, "GEORADIUS %g 0 0 100 km STORE %d"),
    row(GEO, READ_GEO, "GEORADIUSBYMEMBER %g here 10 km STOREDIST %d"),
    row(GEO, READ_GEO, "GEOSEARCHSTORE %d %g FROMLONLAT 0 0 BYRADIUS 100 km"),
    row(STREAM, READ_STREAM, "XADD %x * f 3"),
    row(STREAM, READ_STREAM, "XDEL %x 1-1"),
    row(STREAM, READ_STREAM, "XTRIM %x MAXLEN 1"),
    row(STREAM, READ_STREAM, "XGROUP CREATE %m g $ MKSTREAM"),
];

/// The command as words, `%` replaced.
pub fn fill_in(line: &str, prefix: &str) -> Vec<String> {
    line.split(' ').map(|word| word.replace('%', prefix)).collect()
}

/// A write of more keys than are named one by one.
pub fn mset_of(keys: usize, prefix: &str, value: &str) -> Vec<String> {
    let pairs = (0..keys).flat_map(|i| [format!("{prefix}{i}"), value.to_string()]);
    std::iter::once("MSET".to_string()).chain(pairs).collect()
}
