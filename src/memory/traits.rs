//! What Redis 7.0 says of each of its commands beyond the command table: flags and categories. The first decide where
//! a command may stand (scripts, transactions, full memory); COMMAND and ACL CAT show both.

use std::sync::LazyLock;

use crate::command::{self, ROWS, Row};

/// A command of Redis 7.0, whether the engine has it or not.
#[derive(Clone, Copy)]
pub(super) struct Traits {
    pub flags: &'static str,
    /// Without `slow` and `fast`, which follow from the flags.
    pub categories: &'static str,
    pub writes: bool,
    pub denies_oom: bool,
    pub in_no_script: bool,
    pub in_no_transaction: bool,
    /// Refused in scripts that only read, as writes are.
    pub is_passed_on: bool,
    pub is_fast: bool,
}

/// `None`: later versions brought it, or it is our own.
#[inline]
pub(super) fn of(row: &Row) -> Option<&'static Traits> {
    TRAITS[usize::from(row.index())].as_ref()
}

static TRAITS: LazyLock<Vec<Option<Traits>>> = LazyLock::new(|| {
    let mut traits = vec![None; ROWS.len()];
    for &(flags, categories, names) in TABLE {
        let has = |flag: &str| flags.split(' ').any(|one| one == flag);
        for name in names.split_ascii_whitespace() {
            let row = command::lookup_name(name).unwrap_or_else(|| panic!("{name} has no row"));
            traits[usize::from(row.index())] = Some(Traits {
                flags,
                categories,
                writes: has("write"),
                denies_oom: has("denyoom"),
                in_no_script: has("noscript"),
                in_no_transaction: has("no_multi"),
                is_passed_on: has("may_replicate"),
                is_fast: has("fast"),
            });
        }
    }
    traits
});

/// Flags, categories, and the commands that have just these.
#[rustfmt::skip]
const TABLE: &[(&str, &str, &str)] = &[
    (
        "",
        "",
        "ACL CLIENT CLUSTER CONFIG FUNCTION LATENCY MEMORY MEMORY|DOCTOR MEMORY|MALLOC-STATS \
         MEMORY|PURGE MEMORY|STATS MODULE OBJECT PUBSUB SCRIPT SLOWLOG XGROUP XINFO",
    ),
    ("admin", "hyperloglog admin dangerous", "PFSELFTEST"),
    ("admin loading stale", "admin dangerous", "SLOWLOG|GET SLOWLOG|LEN SLOWLOG|RESET"),
    ("admin noscript", "admin dangerous", "MODULE|LIST"),
    (
        "admin noscript loading stale",
        "admin dangerous",
        "ACL|DELUSER ACL|DRYRUN ACL|GETUSER ACL|LIST ACL|LOAD ACL|LOG ACL|SAVE ACL|SETUSER ACL|USERS \
         CONFIG|GET CONFIG|RESETSTAT CONFIG|REWRITE CONFIG|SET DEBUG LATENCY|DOCTOR LATENCY|GRAPH \
         LATENCY|HISTOGRAM LATENCY|HISTORY LATENCY|LATEST LATENCY|RESET MONITOR",
    ),
    (
        "admin noscript loading stale",
        "admin dangerous connection",
        "CLIENT|KILL CLIENT|LIST CLIENT|NO-EVICT CLIENT|PAUSE CLIENT|UNBLOCK CLIENT|UNPAUSE",
    ),
    ("admin noscript loading stale allow_busy", "admin dangerous", "REPLCONF"),
    ("admin noscript loading stale no_multi allow_busy", "admin dangerous", "SHUTDOWN"),
    (
        "admin noscript no_async_loading",
        "admin dangerous",
        "BGREWRITEAOF BGSAVE MODULE|LOAD MODULE|LOADEX MODULE|UNLOAD",
    ),
    ("admin noscript no_async_loading no_multi", "admin dangerous", "PSYNC SAVE SYNC"),
    ("admin noscript stale", "admin dangerous", "CLUSTER|RESET FAILOVER"),
    ("admin noscript stale no_async_loading", "admin dangerous", "REPLICAOF SLAVEOF"),
    ("admin stale", "admin dangerous", "CLUSTER|COUNT-FAILURE-REPORTS CLUSTER|REPLICAS CLUSTER|SLAVES"),
    (
        "admin stale no_async_loading",
        "admin dangerous",
        "CLUSTER|ADDSLOTS CLUSTER|ADDSLOTSRANGE CLUSTER|BUMPEPOCH CLUSTER|DELSLOTS \
         CLUSTER|DELSLOTSRANGE CLUSTER|FAILOVER CLUSTER|FLUSHSLOTS CLUSTER|FORGET CLUSTER|MEET \
         CLUSTER|REPLICATE CLUSTER|SAVECONFIG CLUSTER|SET-CONFIG-EPOCH CLUSTER|SETSLOT",
    ),
    ("fast", "connection", "ASKING PING"),
    (
        "loading stale",
        "",
        "ACL|HELP CLUSTER|HELP CONFIG|HELP LATENCY|HELP MEMORY|HELP MODULE|HELP PUBSUB|HELP \
         SLOWLOG|HELP",
    ),
    (
        "loading stale",
        "connection",
        "CLIENT|HELP COMMAND COMMAND|COUNT COMMAND|DOCS COMMAND|GETKEYS COMMAND|GETKEYSANDFLAGS \
         COMMAND|HELP COMMAND|INFO COMMAND|LIST",
    ),
    ("loading stale", "dangerous", "INFO"),
    ("loading stale", "keyspace", "OBJECT|HELP"),
    ("loading stale", "scripting", "FUNCTION|HELP SCRIPT|HELP"),
    ("loading stale", "stream", "XGROUP|HELP XINFO|HELP"),
    ("loading stale fast", "", "TIME"),
    ("loading stale fast", "admin dangerous", "LASTSAVE"),
    ("loading stale fast", "connection", "ECHO READONLY READWRITE SELECT"),
    ("noscript", "connection", "WAIT"),
    ("noscript", "scripting", "FUNCTION|DUMP FUNCTION|LIST SCRIPT|DEBUG SCRIPT|EXISTS SCRIPT|FLUSH"),
    ("noscript allow_busy", "scripting", "FUNCTION|KILL FUNCTION|STATS SCRIPT|KILL"),
    ("noscript loading stale", "", "ACL|CAT ACL|GENPASS ACL|WHOAMI"),
    (
        "noscript loading stale",
        "connection",
        "CLIENT|CACHING CLIENT|GETNAME CLIENT|GETREDIR CLIENT|ID CLIENT|INFO CLIENT|REPLY \
         CLIENT|SETNAME CLIENT|TRACKING CLIENT|TRACKINGINFO",
    ),
    ("noscript loading stale fast", "admin dangerous", "ROLE"),
    ("noscript loading stale fast allow_busy", "transaction", "DISCARD MULTI UNWATCH WATCH"),
    ("noscript loading stale fast no_auth allow_busy", "connection", "AUTH HELLO QUIT RESET"),
    ("noscript loading stale skip_slowlog", "transaction", "EXEC"),
    ("noscript stale", "scripting", "SCRIPT|LOAD"),
    ("noscript stale skip_monitor no_mandatory_keys movablekeys", "scripting", "EVAL EVALSHA FCALL"),
    (
        "pubsub loading stale",
        "pubsub",
        "PUBSUB|CHANNELS PUBSUB|NUMPAT PUBSUB|NUMSUB PUBSUB|SHARDCHANNELS PUBSUB|SHARDNUMSUB",
    ),
    ("pubsub loading stale fast may_replicate", "pubsub", "PUBLISH SPUBLISH"),
    (
        "pubsub noscript loading stale",
        "pubsub",
        "PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE UNSUBSCRIBE",
    ),
    (
        "readonly",
        "keyspace read",
        "DUMP OBJECT|ENCODING OBJECT|FREQ OBJECT|IDLETIME OBJECT|REFCOUNT RANDOMKEY SCAN",
    ),
    ("readonly", "keyspace read dangerous", "KEYS"),
    ("readonly", "read", "MEMORY|USAGE"),
    ("readonly", "read bitmap", "BITCOUNT BITPOS"),
    ("readonly", "read geo", "GEODIST GEOHASH GEOPOS GEORADIUS_RO GEORADIUSBYMEMBER_RO GEOSEARCH"),
    ("readonly", "read hash", "HGETALL HKEYS HRANDFIELD HSCAN HVALS"),
    ("readonly", "read list", "LINDEX LPOS LRANGE"),
    ("readonly", "read set", "SDIFF SINTER SMEMBERS SRANDMEMBER SSCAN SUNION"),
    (
        "readonly",
        "read sortedset",
        "ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZSCAN",
    ),
    ("readonly", "read stream", "XINFO|CONSUMERS XINFO|GROUPS XINFO|STREAM XPENDING XRANGE XREVRANGE"),
    ("readonly", "read string", "GETRANGE LCS SUBSTR"),
    ("readonly blocking movablekeys", "read stream blocking", "XREAD"),
    ("readonly fast", "keyspace read", "DBSIZE EXISTS EXPIRETIME PEXPIRETIME PTTL TOUCH TTL TYPE"),
    ("readonly fast", "read", "LOLWUT"),
    ("readonly fast", "read bitmap", "BITFIELD_RO GETBIT"),
    ("readonly fast", "read hash", "HEXISTS HGET HLEN HMGET HSTRLEN"),
    ("readonly fast", "read list", "LLEN"),
    ("readonly fast", "read set", "SCARD SISMEMBER SMISMEMBER"),
    ("readonly fast", "read sortedset", "ZCARD ZCOUNT ZLEXCOUNT ZMSCORE ZRANK ZREVRANK ZSCORE"),
    ("readonly fast", "read stream", "XLEN"),
    ("readonly fast", "read string", "GET MGET STRLEN"),
    ("readonly may_replicate", "read hyperloglog", "PFCOUNT"),
    ("readonly movablekeys", "read set", "SINTERCARD"),
    ("readonly movablekeys", "read set sortedset list dangerous", "SORT_RO"),
    ("readonly movablekeys", "read sortedset", "ZDIFF ZINTER ZINTERCARD ZUNION"),
    (
        "readonly noscript stale skip_monitor no_mandatory_keys movablekeys",
        "scripting",
        "EVAL_RO EVALSHA_RO FCALL_RO",
    ),
    (
        "stale",
        "",
        "CLUSTER|COUNTKEYSINSLOT CLUSTER|GETKEYSINSLOT CLUSTER|INFO CLUSTER|KEYSLOT CLUSTER|LINKS \
         CLUSTER|MYID CLUSTER|NODES CLUSTER|SHARDS CLUSTER|SLOTS",
    ),
    ("write", "keyspace write", "DEL RENAME"),
    ("write", "keyspace write dangerous", "FLUSHALL FLUSHDB"),
    ("write", "write list", "LREM LTRIM"),
    ("write", "write sortedset", "ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE"),
    ("write", "write stream", "XGROUP|DELCONSUMER XGROUP|DESTROY XGROUP|SETID XTRIM"),
    ("write blocking movablekeys", "write list blocking", "BLMPOP"),
    ("write blocking movablekeys", "write sortedset blocking", "BZMPOP"),
    ("write blocking movablekeys", "write stream blocking", "XREADGROUP"),
    ("write denyoom", "keyspace write", "COPY"),
    ("write denyoom", "keyspace write dangerous", "RESTORE"),
    ("write denyoom", "write bitmap", "BITFIELD BITOP SETBIT"),
    ("write denyoom", "write geo", "GEOADD GEOSEARCHSTORE"),
    ("write denyoom", "write hyperloglog", "PFMERGE"),
    ("write denyoom", "write list", "LINSERT LMOVE LSET RPOPLPUSH"),
    ("write denyoom", "write set", "SDIFFSTORE SINTERSTORE SUNIONSTORE"),
    ("write denyoom", "write sortedset", "ZRANGESTORE"),
    ("write denyoom", "write stream", "XGROUP|CREATE XGROUP|CREATECONSUMER"),
    ("write denyoom", "write string", "MSET MSETNX PSETEX SET SETEX SETRANGE"),
    ("write denyoom admin", "write hyperloglog admin dangerous", "PFDEBUG"),
    ("write denyoom asking", "keyspace write dangerous", "RESTORE-ASKING"),
    ("write denyoom fast", "write hash", "HINCRBY HINCRBYFLOAT HMSET HSET HSETNX"),
    ("write denyoom fast", "write hyperloglog", "PFADD"),
    ("write denyoom fast", "write list", "LPUSH LPUSHX RPUSH RPUSHX"),
    ("write denyoom fast", "write set", "SADD"),
    ("write denyoom fast", "write sortedset", "ZADD ZINCRBY"),
    ("write denyoom fast", "write stream", "XADD XSETID"),
    ("write denyoom fast", "write string", "APPEND DECR DECRBY GETSET INCR INCRBY INCRBYFLOAT SETNX"),
    ("write denyoom movablekeys", "write geo", "GEORADIUS GEORADIUSBYMEMBER"),
    ("write denyoom movablekeys", "write set sortedset list dangerous", "SORT"),
    ("write denyoom movablekeys", "write sortedset", "ZDIFFSTORE ZINTERSTORE ZUNIONSTORE"),
    ("write denyoom noscript", "write scripting", "FUNCTION|LOAD FUNCTION|RESTORE"),
    ("write denyoom noscript blocking", "write list blocking", "BLMOVE BRPOPLPUSH"),
    ("write fast", "keyspace write", "EXPIRE EXPIREAT MOVE PERSIST PEXPIRE PEXPIREAT RENAMENX UNLINK"),
    ("write fast", "keyspace write dangerous", "SWAPDB"),
    ("write fast", "write hash", "HDEL"),
    ("write fast", "write list", "LPOP RPOP"),
    ("write fast", "write set", "SMOVE SPOP SREM"),
    ("write fast", "write sortedset", "ZPOPMAX ZPOPMIN ZREM"),
    ("write fast", "write stream", "XACK XAUTOCLAIM XCLAIM XDEL"),
    ("write fast", "write string", "GETDEL GETEX"),
    ("write movablekeys", "keyspace write dangerous", "MIGRATE"),
    ("write movablekeys", "write list", "LMPOP"),
    ("write movablekeys", "write sortedset", "ZMPOP"),
    ("write noscript", "write scripting", "FUNCTION|DELETE FUNCTION|FLUSH"),
    ("write noscript blocking", "write list blocking", "BLPOP BRPOP"),
    ("write noscript blocking fast", "write sortedset blocking", "BZPOPMAX BZPOPMIN"),
];
