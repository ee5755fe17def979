//! What counts as a change of a watched key: each write, to each kind of value, the first and the second time.

use super::both::Both;

/// How `k` is before.
const VALUES: &[&str] = &[
    "DEL k",
    "SET k 7",
    "SET k abcdefgh",
    "SET k 3 EX 1000",
    "RPUSH k a b a c",
    "SADD k a b 3",
    "HSET k f 1 g b",
    "ZADD k 1 a 2 b 3 c",
    "PFADD k a b",
];

/// `o` is a string and `l`, `s`, `h`, `z`, `p` are of the other types; `none` is not there.
const OTHERS: &[&str] =
    &["SET o 7", "RPUSH l a b", "SADD s a b", "HSET h f v", "ZADD z 1 a 2 b", "PFADD p x y", "DEL none"];

const WRITES: &[&str] = &[
    "APPEND k x",
    "BITFIELD k",
    "BITFIELD k GET u8 0",
    "BITFIELD k INCRBY u8 0 0",
    "BITFIELD k INCRBY u8 0 1",
    "BITFIELD k OVERFLOW FAIL INCRBY u2 0 3",
    "BITFIELD k OVERFLOW FAIL INCRBY u2 0 7",
    "BITFIELD k OVERFLOW FAIL INCRBY u2 800 7",
    "BITFIELD k OVERFLOW FAIL INCRBY u2 0 7 GET u8 0 INCRBY u2 0 0",
    "BITFIELD k SET u8 0 353",
    "BITFIELD k INCRBY u8 0 256",
    "BITFIELD k SET i8 0 -1 SET i8 0 97",
    "BITFIELD k OVERFLOW SAT INCRBY u8 0 255",
    "BITFIELD k SET u8 0 97",
    "BITFIELD k SET u8 800 0",
    "BITOP AND k k k",
    "BITOP NOT k o",
    "BITOP OR k none none",
    "COPY k none",
    "COPY none k REPLACE",
    "COPY o k",
    "COPY o k REPLACE",
    "DECR k",
    "DECRBY k 0",
    "DEL k",
    "DEL none",
    "EXPIRE k -1",
    "EXPIRE k 100",
    "EXPIRE k 100 GT",
    "EXPIRE k 100 LT",
    "EXPIRE k 100 NX",
    "EXPIRE k 100 XX",
    "EXPIREAT k 1",
    "GET k",
    "GETDEL k",
    "GETEX k",
    "GETEX k EX 100",
    "GETEX k EXAT 1",
    "GETEX k PERSIST",
    "GETSET k 7",
    "HDEL k f",
    "HDEL k none",
    "HGETALL k",
    "HINCRBY k f 0",
    "HINCRBYFLOAT k f 0",
    "HMSET k f 1",
    "HSET k f 1",
    "HSETNX k f 2",
    "INCR k",
    "INCRBY k 0",
    "INCRBYFLOAT k 0",
    "LINSERT k BEFORE a x",
    "LINSERT k BEFORE none x",
    "LMOVE k k LEFT LEFT",
    "LMOVE k l LEFT RIGHT",
    "LMOVE l k LEFT RIGHT",
    "LMOVE none k LEFT RIGHT",
    "LMPOP 2 none k LEFT",
    "LPOP k",
    "LPOP k 0",
    "LPUSH k a",
    "LPUSHX k a",
    "LREM k 0 a",
    "LREM k 0 none",
    "LSET k 0 a",
    "LSET k 9 a",
    "LTRIM k 0 -1",
    "LTRIM k 5 1",
    "MOVE k 1",
    "MSET k 7 none 1",
    "MSETNX k 7 none 1",
    "PERSIST k",
    "PEXPIRE k 0",
    "PEXPIREAT k 99999999999999",
    "PFADD k",
    "PFADD k a",
    "PFCOUNT k",
    "PFCOUNT k p",
    "PFMERGE k",
    "PFMERGE k p",
    "PFMERGE none k",
    "PSETEX k 100000 7",
    "RENAME k k",
    "RENAME k none",
    "RENAME none k",
    "RENAME o k",
    "RENAMENX k k",
    "RENAMENX k o",
    "RENAMENX o k",
    "RPOP k",
    "RPOPLPUSH k k",
    "RPOPLPUSH none k",
    "RPUSH k a",
    "RPUSHX k a",
    "SADD k a",
    "SADD k a new",
    "SDIFFSTORE k k none",
    "SDIFFSTORE k none none",
    "SDIFFSTORE k s s",
    "SET k 7",
    "SET k 7 KEEPTTL",
    "SET k 7 NX",
    "SET k 7 XX",
    "SET k 7 XX GET",
    "SETBIT k 0 0",
    "SETBIT k 1 1",
    "SETBIT k 800 0",
    "SETEX k 100 7",
    "SETNX k 7",
    "SETRANGE k 0 a",
    "SETRANGE k 5 x",
    "APPEND k ''",
    "SETRANGE k 5 ''",
    "SINTERSTORE k k none",
    "SINTERSTORE k k s",
    "SMOVE k k a",
    "SMOVE k s a",
    "SMOVE k s none",
    "SMOVE s k a",
    "SMOVE s k none",
    "SORT k ALPHA",
    "SORT k ALPHA STORE k",
    "SORT none STORE k",
    "SPOP k 0",
    "SREM k a",
    "SREM k none",
    "SUNIONSTORE k none none",
    "SUNIONSTORE k s",
    "SWAPDB 0 1",
    "FLUSHALL",
    "FLUSHDB",
    "TOUCH k",
    "TYPE k",
    "UNLINK k",
    "ZADD k 1 a",
    "ZADD k CH 5 a",
    "ZADD k GT 0 a",
    "ZADD k INCR 0 a",
    "ZADD k NX 9 a",
    "ZADD k XX 9 new",
    "ZDIFFSTORE k 2 k none",
    "ZDIFFSTORE k 1 none",
    "ZINCRBY k 0 a",
    "ZINTERSTORE k 2 k none",
    "ZINTERSTORE k 1 k",
    "ZMPOP 2 none k MIN",
    "ZPOPMAX k 0",
    "ZPOPMIN k",
    "ZRANGESTORE k k 0 -1",
    "ZRANGESTORE k none 0 -1",
    "ZREM k a",
    "ZREM k none",
    "ZREMRANGEBYLEX k - (a",
    "ZREMRANGEBYRANK k 0 0",
    "ZREMRANGEBYSCORE k 8 9",
    "ZUNIONSTORE k 1 k",
    "ZUNIONSTORE k 1 none",
    "EVAL return{redis.call('get',KEYS[1])} 1 k",
    "EVAL return{redis.pcall('append',KEYS[1],'')} 1 k",
];

/// The word `''` is an empty one.
fn say(both: &mut Both, request: &str) {
    let words: Vec<&[u8]> =
        request.split(' ').map(|word| if word == "''" { "" } else { word }.as_bytes()).collect();
    both.tell("a", &words);
}

#[test]
fn a_watched_key_is_changed_by_what_changes_it_in_redis() {
    let mut both = Both::start(false);
    for (write, value) in WRITES.iter().flat_map(|write| VALUES.iter().map(move |value| (write, value))) {
        for times_before in 0..2 {
            both.say("FLUSHALL");
            OTHERS.iter().for_each(|other| both.say(other));
            both.say(value);
            (0..times_before).for_each(|_| say(&mut both, write));
            both.say("WATCH k");
            say(&mut both, write);
            both.say("MULTI");
            // Names the case in a difference of EXEC's replies.
            both.tell("a", &[b"ECHO", format!("{value}; {write}; {times_before} times before").as_bytes()]);
            both.say("EXEC");
            both.say("EXISTS k");
        }
    }
    both.finish();
}
