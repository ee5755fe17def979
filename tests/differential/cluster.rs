//! The transcripts before a Redis Cluster: what no cluster does, what each node says of itself, and nothing else. A
//! transcript is played twice: as it stands, and with all its keys in one slot.

use std::collections::{BTreeSet, HashSet};

use super::mask;
use super::report::{self, Difference};
use super::run::Outcome;
use super::transcript::{Action, Section, Wire};
use super::value::{Value, parse_all};
use crate::support::Redis;

/// What is sent to the one Redis in the place of a request that a cluster refuses: it is refused there too, in MULTI as well.
const REFUSED: &str = "REFUSED";

/// Requests that a cluster refuses, the beginning of its words, and why.
const REFUSALS: &[(&str, &str, &str)] = &[
    ("SELECT", "-ERR SELECT is not allowed in cluster mode", ONE_DATABASE),
    ("SWAPDB", "-ERR SWAPDB is not allowed in cluster mode", ONE_DATABASE),
    ("MOVE", "-ERR MOVE is not allowed in cluster mode", ONE_DATABASE),
    ("EXEC", "*1\r\n-ERR MOVE is not allowed in cluster mode", ONE_DATABASE),
    ("COPY", "-ERR Copying to another database is not allowed in cluster mode", ONE_DATABASE),
    ("EVAL", "-ERR SELECT is not allowed in cluster mode", ONE_DATABASE),
    ("EVAL", "-ERR Script attempted to access a non local key", UNDECLARED),
    ("EXEC", "*1\r\n-ERR Script attempted to access a non local key", UNDECLARED),
    ("EVALSHA", "-ERR Script attempted to access a non local key", UNDECLARED),
    ("FCALL", "-ERR Script attempted to access a non local key", UNDECLARED),
    ("SORT", "-ERR BY option of SORT denied in Cluster mode", PATTERN),
    ("SORT", "-ERR GET option of SORT denied in Cluster mode", PATTERN),
    ("SORT_RO", "-ERR GET option of SORT denied in Cluster mode", PATTERN),
    ("FAILOVER", "-ERR FAILOVER not allowed in cluster mode", OWN_WAY),
    ("REPLICAOF", "-ERR REPLICAOF not allowed in cluster mode", OWN_WAY),
    ("SLAVEOF", "-ERR REPLICAOF not allowed in cluster mode", OWN_WAY),
    ("READONLY .", "+OK", OF_CLUSTERS),
    ("READWRITE .", "+OK", OF_CLUSTERS),
    ("ASKING .", "+OK", OF_CLUSTERS),
    (
        "CLIENT TRACKING",
        "-ERR CLIENT TRACKING is not available",
        "a link would be told of one node's keys only",
    ),
];

const ONE_DATABASE: &str = "a cluster has one database";
const UNDECLARED: &str = "a script runs at one node, which its keys name";
const PATTERN: &str = "the pattern stands for keys of any node";
const OWN_WAY: &str = "a cluster has its own way to change who is master";
const OF_CLUSTERS: &str = "one Redis that is no cluster knows these, but refuses them";

/// One execution that concerns keys of several slots, which its node refuses. GET and SET in a transaction, or beside WATCH.
const OVER_SLOTS: &[&str] = &[
    "BITOP",
    "BLMOVE",
    "BLMPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZPOPMAX",
    "BZPOPMIN",
    "COPY",
    "EVAL",
    "EXEC",
    "GEORADIUS",
    "GEORADIUSBYMEMBER",
    "GEOSEARCHSTORE",
    "GET",
    "LCS",
    "LMOVE",
    "LMPOP",
    "MIGRATE",
    "MSET",
    "MSETNX",
    "PFCOUNT",
    "PFMERGE",
    "RENAME",
    "RENAMENX",
    "RPOPLPUSH",
    "SDIFF",
    "SDIFFSTORE",
    "SET",
    "SINTER",
    "SINTERCARD",
    "SINTERSTORE",
    "SMOVE",
    "SORT",
    "SUNION",
    "SUNIONSTORE",
    "WATCH",
    "XREAD",
    "ZDIFF",
    "ZDIFFSTORE",
    "ZINTER",
    "ZINTERCARD",
    "ZINTERSTORE",
    "ZMPOP",
    "ZRANGESTORE",
    "ZUNION",
    "ZUNIONSTORE",
];
const CROSSSLOT: &str = "-CROSSSLOT";

/// Requests whose replies each node, or the daemon, gives of itself, and why. That one fails and the other does not is not
/// among this.
const ITS_OWN: &[(&str, &str)] = &[
    ("INFO", "a node tells of itself; its mode is another one"),
    ("HELLO", "it names the mode, which is cluster"),
    ("EXEC", "INFO, HELLO and CLIENT INFO may have been queued"),
    ("SCAN", "it goes from node to node, and its cursor says to which"),
    ("DEBUG", "a node tells of itself"),
    ("MEMORY", "a node tells of itself"),
    ("ACL LOG", "a node tells of itself"),
    ("XADD {T}S *", "an id that Redis makes is the time"),
];

/// Sections that say something else before a cluster, and why. By title; the same in one slot has a title of its own.
const OTHERWISE: &[(&str, &str)] = &[
    ("commands that fail only for want of a right", MULTI_WAITS),
    ("commands that fail only for want of a right, in one slot", MULTI_WAITS),
    (
        "a long pipeline of hits, misses, writes and errors",
        "a script that fails at its second key has written the first",
    ),
    ("SCRIPT KILL of a script that loops", ONE_NODE_BUSY),
    ("SCRIPT KILL of a script that loops, in one slot", ONE_NODE_BUSY),
    ("DEBUG", "DEBUG POPULATE and RELOAD are about one node"),
];

const MULTI_WAITS: &str =
    "MULTI is sent with the first command behind it that has a key: Redis's refusal comes later";
const ONE_NODE_BUSY: &str = "the other nodes go on";

/// Sections, by their titles (with a star: in one slot too), that are not played, as they would wait for what never comes or change the
/// cluster, and why.
const NOT_PLAYED: &[(&str, &str)] = &[
    ("MONITOR*", "it shows what one node does"),
    ("CLUSTER on a server that is none*", "it would take the cluster apart"),
    ("keyspace events*", "each node tells of its own keys"),
    ("in RESP3, with pushes*", TRACKING),
    ("reads before it was on*", TRACKING),
    ("BCAST and prefixes*", TRACKING),
    ("OPTIN, OPTOUT, NOLOOP, CACHING*", TRACKING),
    ("in a transaction and in a pipeline*", TRACKING),
    ("a transaction's own writes*", TRACKING),
    ("SUBSCRIBE and UNSUBSCRIBE with several answers*", ONE_LINK),
    ("pub/sub inside*", ONE_LINK),
    ("a push inside the reply of EXEC*", ONE_LINK),
    ("redirected to a RESP2 subscriber*", TRACKING),
    ("another client wakes them", "its waiter has keys in several slots"),
    (
        "the value written before the wake-up is seen behind it, in one slot",
        "its waiter says raw bytes, without a tag",
    ),
];

const TRACKING: &str = "CLIENT TRACKING is refused";
const ONE_LINK: &str =
    "subscriptions, transactions and shard channels of one connection share a node: the first one's";

/// Commands of the whole that a transaction executes at its own node alone. Where one has a transaction to itself, all three
/// lines are left out.
const LEFT_OUT: &[&str] = &["FLUSHALL", "FLUSHDB"];

/// Rows of the lists above that were needed.
#[derive(Default)]
pub struct Allowed {
    needed: BTreeSet<String>,
}

/// The first words of the request; a dot: nothing follows.
fn fits(row: &str, words: &[String]) -> bool {
    let mut given = words.iter().map(String::as_str).chain(["."]);
    row.split(' ').all(|word| given.next() == Some(word))
}

/// The sections that are played, and of them what is.
pub fn playable(sections: &[Section], allowed: &mut Allowed) -> Vec<Section> {
    let mut played = sections.to_vec();
    played.retain(|section| {
        let is_meant = |title: &str| match title.strip_suffix('*') {
            Some(start) => section.title.starts_with(start),
            None => section.title == title,
        };
        let row = NOT_PLAYED.iter().find(|row| is_meant(row.0));
        row.inspect(|row| allowed.need(row.0)).is_none()
    });
    for section in &mut played {
        section.steps.retain(|step| {
            let Action::Send(requests) = &step.action else { return true };
            let words: Vec<String> =
                requests.iter().filter_map(|request| request.words().into_iter().next()).collect();
            let [multi, alone, exec] = &words[..] else { return true };
            let row = LEFT_OUT.iter().find(|row| multi == "MULTI" && *row == alone && exec == "EXEC");
            row.inspect(|row| allowed.need(row)).is_none()
        });
    }
    played
}

/// The row that allows this refusal.
fn refusal(outcome: &Outcome) -> Option<String> {
    let says = |start: &str| outcome.reply.starts_with(start.as_bytes());
    if says(CROSSSLOT) {
        return OVER_SLOTS.iter().find(|name| outcome.name() == **name).map(|name| name.to_string());
    }
    let row = REFUSALS.iter().find(|row| fits(row.0, &outcome.words) && says(row.1))?;
    Some(format!("{} {}", row.0, row.1))
}

/// The section for the one Redis: without what the cluster refused.
pub fn without_refused(section: &Section, outcomes: &[Outcome], allowed: &mut Allowed) -> Section {
    let mut refused = HashSet::new();
    for (at, outcome) in outcomes.iter().enumerate() {
        let Some(row) = refusal(outcome) else { continue };
        allowed.need(&row);
        refused.insert(outcome.line);
        if outcome.name() == "EXEC" {
            // What failed when it was executed takes its transaction with it.
            let mine = outcomes[..at].iter().rev().filter(|before| before.client == outcome.client);
            let mut before_multi = false;
            for before in
                mine.take_while(|before| !std::mem::replace(&mut before_multi, before.name() == "MULTI"))
            {
                refused.insert(before.line);
            }
        }
    }
    let mut section = section.clone();
    for step in &mut section.steps {
        let Action::Send(requests) = &mut step.action else { continue };
        for request in requests.iter_mut().filter(|request| refused.contains(&request.line)) {
            request.args = vec![REFUSED.into()];
            request.wire = Wire::Array;
            request.frames = 1;
        }
    }
    section
}

impl Allowed {
    fn need(&mut self, row: &str) {
        self.needed.insert(row.to_owned());
    }

    /// What either needed.
    pub fn and(&mut self, other: Allowed) {
        self.needed.extend(other.needed);
    }

    /// Collects every difference that no row allows.
    pub fn compare(
        &mut self,
        section: &Section,
        protocol: u8,
        redis: &[Outcome],
        daemon: &[Outcome],
        all: &mut Vec<Difference>,
    ) {
        let mut redis: Vec<Outcome> = redis.to_vec();
        let lines: HashSet<usize> =
            redis.iter().filter(|one| one.name() == REFUSED).map(|one| one.line).collect();
        // A read that is refused is not repeated to the one Redis.
        let repeated = |one: &&Outcome| one.time > 1 && lines.contains(&one.line);
        let daemon: Vec<Outcome> = daemon.iter().filter(|one| !repeated(one)).cloned().collect();
        for (ours, theirs) in redis.iter_mut().zip(&daemon) {
            if ours.name() == REFUSED {
                ours.reply = theirs.reply.clone();
                continue;
            }
            let same = mask::equal(&ours.words, &ours.reply, &theirs.reply);
            let row = ITS_OWN.iter().find(|row| fits(row.0, &ours.words));
            let is_error = |reply: &[u8]| reply.starts_with(b"-");
            if let Some(row) = row
                && !same
                && is_error(&ours.reply) == is_error(&theirs.reply)
            {
                self.need(row.0);
                ours.reply = theirs.reply.clone();
            }
        }
        let mut here = Vec::new();
        report::compare(section, protocol, &redis, &daemon, &mut here);
        match OTHERWISE.iter().find(|row| row.0 == section.title) {
            Some(row) if !here.is_empty() => self.need(row.0),
            _ => all.extend(here),
        }
    }

    /// The rows that no transcript needed.
    pub fn needless(&self) -> Vec<String> {
        let refusals = REFUSALS.iter().map(|row| format!("{} {}", row.0, row.1));
        let others = ITS_OWN.iter().chain(OTHERWISE).chain(NOT_PLAYED).map(|row| row.0.to_owned());
        let names = OVER_SLOTS.iter().chain(LEFT_OUT).map(|name| name.to_string());
        refusals.chain(others).chain(names).filter(|row| !self.needed.contains(row)).collect()
    }
}

const IN_ONE_SLOT: &str = ", in one slot";

/// The sections with a tag at each key, and at its name in scripts.
pub fn in_one_slot(sections: &[Section]) -> Vec<Section> {
    let redis = Redis::start();
    let mut client = redis.client();
    let mut tagged = sections.to_vec();
    for section in &mut tagged {
        section.title += IN_ONE_SLOT;
        let mut requests: Vec<_> = (section.steps.iter_mut())
            .filter_map(|step| match &mut step.action {
                Action::Send(requests) => Some(requests),
                _ => None,
            })
            .flatten()
            .filter(|request| matches!(request.wire, Wire::Array))
            .collect();
        let mut names: HashSet<Vec<u8>> = HashSet::new();
        for request in &mut requests {
            let keys = match request.words()[0].as_str() {
                // Redis does not count channels among keys.
                "SPUBLISH" => request.args.iter().skip(1).take(1).cloned().collect(),
                "SSUBSCRIBE" | "SUNSUBSCRIBE" => request.args[1..].to_vec(),
                _ => {
                    let asked: Vec<&[u8]> = [&b"COMMAND"[..], b"GETKEYS"]
                        .into_iter()
                        .chain(request.args.iter().map(Vec::as_slice))
                        .collect();
                    keys_named(&client.call(&asked))
                }
            };
            let mut left = keys.as_slice();
            for arg in request.args.iter_mut().skip(1) {
                if let Some(at) = left.iter().position(|key| key == arg) {
                    // Keys stand in their order, with few exceptions.
                    left = if at == 0 { &left[1..] } else { left };
                    *arg = [b"{t}", arg.as_slice()].concat();
                }
            }
            names.extend(keys);
        }
        for request in requests.iter_mut().filter(|request| request.words()[0].starts_with("EVAL")) {
            let Some(script) = request.args.get_mut(1) else { continue };
            for name in &names {
                let (plain, tagged) = ([b"'", &name[..], b"'"].concat(), [b"'{t}", &name[..], b"'"].concat());
                *script = replace(script, &plain, &tagged);
            }
            let is_tagged = script.windows(4).any(|four| four == b"'{t}");
            if is_tagged && request.args.get(2).is_some_and(|keys| keys == b"0") {
                // To the node of the keys that it names.
                request.args.splice(2..3, [b"1".to_vec(), b"{t}".to_vec()]);
            }
        }
    }
    tagged
}

fn keys_named(reply: &[u8]) -> Vec<Vec<u8>> {
    match &parse_all(reply).unwrap_or_default()[..] {
        [Value::Aggregate(_, keys)] => keys.iter().map(|key| key.payload().to_vec()).collect(),
        _ => Vec::new(),
    }
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < text.len() {
        if text[at..].starts_with(from) {
            out.extend_from_slice(to);
            at += from.len();
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    out
}

/// DEBUG DIGEST of a Redis that has all keys of these: it begins with a number for the database and adds a digest of each key
/// by XOR.
pub fn one_digest(nodes: &[String]) -> String {
    const OF_DATABASE: &str = "aa3098f3aae94baac14e3b8b8dcae989af93f6a2";
    const EMPTY: &str = "0000000000000000000000000000000000000000";
    let bytes = |hex: &str| -> Vec<u8> {
        let digits = hex.trim_start_matches('+').as_bytes().chunks(2);
        digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
    };
    let filled: Vec<&String> = nodes.iter().filter(|node| node.trim_start_matches('+') != EMPTY).collect();
    let mut sum = bytes(if filled.is_empty() { EMPTY } else { OF_DATABASE });
    for node in filled {
        let of_keys = bytes(node).into_iter().zip(bytes(OF_DATABASE));
        sum.iter_mut().zip(of_keys).for_each(|(byte, (node, database))| *byte ^= node ^ database);
    }
    let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("+{hex}")
}
