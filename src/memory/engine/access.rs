//! What commands do with each of their keys, as COMMAND GETKEYSANDFLAGS and COMMAND INFO of Redis 7.0 say it.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::command::{self, Row};

/// The flags of the first key, and of all others.
#[derive(Clone, Copy)]
pub(super) struct Access {
    pub first: &'static str,
    pub others: &'static str,
}

impl Access {
    pub fn of_key(&self, place: usize) -> &'static str {
        if place == 0 { self.first } else { self.others }
    }
}

pub(super) fn of(row: &Row) -> Access {
    ACCESS.get(&row.index()).copied().unwrap_or(Access { first: "RO access", others: "RO access" })
}

/// What this request of the command does: without GET, SET does not look at what was there; BITFIELD may only read.
pub(super) fn of_request(row: &Row, request: &[&[u8]]) -> Access {
    let same = |flags| Access { first: flags, others: flags };
    match row.name {
        "SET" if !request[3..].iter().any(|word| word.eq_ignore_ascii_case(b"get")) => same("OW update"),
        "BITFIELD" if only_reads(&request[2..]) => same("RO access"),
        _ => of(row),
    }
}

/// Whether these parts of a BITFIELD are GETs, and OVERFLOWs without effect.
fn only_reads(parts: &[&[u8]]) -> bool {
    let mut at = 0;
    while let Some(word) = parts.get(at) {
        let values = match word.to_ascii_lowercase().as_slice() {
            b"get" => 2,
            b"overflow" => 1,
            _ => return false,
        };
        at += 1 + values;
    }
    at == parts.len()
}

static ACCESS: LazyLock<HashMap<u16, Access>> = LazyLock::new(|| {
    let rows = TABLE.iter().flat_map(|&(first, others, names)| {
        names.split_ascii_whitespace().map(move |name| (name, Access { first, others }))
    });
    let known = rows.map(|(name, access)| {
        let row = command::lookup_name(name).unwrap_or_else(|| panic!("{name} has no row"));
        (row.index(), access)
    });
    known.collect()
});

/// What is not named here reads: `RO access`.
#[rustfmt::skip]
const TABLE: &[(&str, &str, &str)] = &[
    ("OW insert", "OW insert", "MSETNX SETNX"),
    ("OW update", "OW update", "MSET PSETEX SETEX"),
    ("OW update", "RO access", "BITOP SDIFFSTORE SUNIONSTORE ZDIFFSTORE ZINTERSTORE ZRANGESTORE ZUNIONSTORE"),
    ("RM delete", "RM delete", "DEL UNLINK"),
    (
        "RO",
        "RO",
        "EXISTS HEXISTS HLEN HSTRLEN LLEN MEMORY|USAGE OBJECT|ENCODING OBJECT|FREQ OBJECT|IDLETIME OBJECT|REFCOUNT \
         SCARD SISMEMBER STRLEN TOUCH TYPE WATCH ZCARD",
    ),
    ("RO access", "OW update", "COPY SORT"),
    ("RW access", "RW access", "PFCOUNT PFDEBUG"),
    (
        "RW access delete",
        "RW access delete",
        "BLMPOP BLPOP BRPOP BZMPOP BZPOPMAX BZPOPMIN GETDEL LMPOP LPOP RPOP SPOP ZMPOP ZPOPMAX ZPOPMIN",
    ),
    ("RW access delete", "OW insert", "RENAMENX"),
    ("RW access delete", "OW update", "RENAME"),
    ("RW access delete", "RW insert", "BLMOVE BRPOPLPUSH LMOVE RPOPLPUSH SMOVE"),
    ("RW access insert", "RO access", "PFMERGE"),
    (
        "RW access update",
        "RW access update",
        "BITFIELD DECR DECRBY EVAL EVALSHA GETEX GETSET HINCRBY HINCRBYFLOAT INCR INCRBY INCRBYFLOAT MOVE SET \
         SETBIT ZINCRBY",
    ),
    ("RW delete", "RW delete", "HDEL LREM LTRIM SREM ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE"),
    ("RW insert", "RW insert", "APPEND HSETNX LINSERT LPUSH LPUSHX PFADD RPUSH RPUSHX SADD"),
    (
        "RW update",
        "RW update",
        "EXPIRE EXPIREAT HMSET HSET LSET PERSIST PEXPIRE PEXPIREAT SETRANGE ZADD",
    ),
    ("RW update", "RO access", "SINTERSTORE"),
];
