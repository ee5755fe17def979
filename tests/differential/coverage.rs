//! Which commands the transcripts must cover, and the written list of what they cannot: a command needs a transcript
//! that succeeds and one that fails, as Redis itself answers them.

use std::collections::{BTreeMap, BTreeSet};

use super::run::Outcome;
use super::value::{Value, parse_all};
use crate::support::Redis;

/// The reads that L1 may answer; each must have been a hit in some transcript, in both protocols.
pub const CACHED: &[&str] = &[
    "GET",
    "STRLEN",
    "GETRANGE",
    "SUBSTR",
    "GETBIT",
    "BITCOUNT",
    "BITPOS",
    "BITFIELD_RO",
    "HGET",
    "HMGET",
    "HGETALL",
    "HKEYS",
    "HVALS",
    "HLEN",
    "HEXISTS",
    "HSTRLEN",
    "LRANGE",
    "LINDEX",
    "LLEN",
    "LPOS",
    "SMEMBERS",
    "SISMEMBER",
    "SMISMEMBER",
    "SCARD",
    "ZSCORE",
    "ZMSCORE",
    "ZRANGE",
    "ZRANGEBYSCORE",
    "ZRANGEBYLEX",
    "ZREVRANGE",
    "ZREVRANGEBYSCORE",
    "ZREVRANGEBYLEX",
    "ZRANK",
    "ZREVRANK",
    "ZCARD",
    "ZCOUNT",
    "ZLEXCOUNT",
    "GEOPOS",
    "GEODIST",
    "GEOHASH",
    "GEOSEARCH",
    "TYPE",
    "XLEN",
    "XRANGE",
    "XREVRANGE",
    "MGET",
    "EXISTS",
];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Success,
    Error,
}

/// What has no transcript: command, which of the two, why none can be written.
const EXEMPT: &[(&str, Kind, &str)] =
    &[("quit", Kind::Error, "takes any arguments and asks for no right: it has no error")];

/// Every command and `container|subcommand` of redis-server.
pub fn command_list() -> BTreeSet<String> {
    let redis = Redis::start();
    let reply = redis.client().call(&["COMMAND", "LIST"]);
    let frames = parse_all(&reply).expect("whole frames");
    let [Value::Aggregate(_, names)] = &frames[..] else { panic!("COMMAND LIST: {}", reply.escape_ascii()) };
    names.iter().map(|name| name.text()).collect()
}

/// Fails for commands without transcripts, and for exemptions that have become needless.
pub fn check<'a>(list: &BTreeSet<String>, outcomes: impl Iterator<Item = &'a Outcome>) {
    let mut seen: BTreeMap<String, BTreeSet<Kind>> = BTreeMap::new();
    for outcome in outcomes.filter(|outcome| outcome.failure.is_none()) {
        let Some(kind) = kind(&outcome.reply) else { continue };
        let name = outcome.name().to_ascii_lowercase();
        if let Some(word) = outcome.words.get(1) {
            let with_subcommand = format!("{name}|{}", word.to_ascii_lowercase());
            seen.entry(with_subcommand).or_default().insert(kind);
        }
        seen.entry(name).or_default().insert(kind);
    }
    let mut wrong = Vec::new();
    for name in list {
        for kind in [Kind::Success, Kind::Error] {
            let covered = seen.get(name).is_some_and(|kinds| kinds.contains(&kind));
            match EXEMPT.iter().find(|row| row.0 == name && row.1 == kind) {
                None if !covered => wrong.push(format!("{name}: no {kind:?} transcript")),
                Some(_) if covered => {
                    wrong.push(format!("{name}: has a {kind:?} transcript; its exemption can go"))
                }
                _ => {}
            }
        }
    }
    for row in EXEMPT.iter().filter(|row| !list.contains(row.0)) {
        wrong.push(format!("{}: exempt, but Redis has no such command", row.0));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A reply without frames (CLIENT REPLY OFF) is a success too; QUEUED says nothing of the command.
fn kind(reply: &[u8]) -> Option<Kind> {
    match reply.first() {
        Some(b'-' | b'!') => Some(Kind::Error),
        _ if reply == b"+QUEUED\r\n" => None,
        _ => Some(Kind::Success),
    }
}
