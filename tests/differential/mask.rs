//! What may differ between two replies that are right: the written list, a reason for each row. Everything that no
//! row names is compared byte for byte.

use super::value::{Value, parse_all};

struct Mask {
    /// The first words of the request (a dot: nothing follows); the first row that fits counts.
    request: &'static str,
    what: What,
    reason: &'static str,
}

#[derive(Clone, Copy)]
enum What {
    /// Nothing: an exception from a wider row below.
    Nothing,
    /// The order of the elements, at every depth.
    Order,
    /// The order of the words of each text.
    OrderOfWords,
    /// The order of the pairs of the outermost array or map.
    OrderOfPairs,
    /// What stands behind the last of Redis's own commands; and the order.
    OursBehind,
    /// Every integer above zero.
    Integers,
    /// The second element: the channel.
    Channel,
    /// The third element of arrays of four: id, consumer, idle time, deliveries.
    IdleOfPending,
    /// What follows the first word of each text.
    BehindFirstWord,
    /// The text, but not the type.
    Text,
    /// Everything but the outermost type.
    Type,
    /// In text or in maps: what follows these names.
    Fields(&'static [&'static str]),
    /// INFO: every value, the statistics and the section of the daemon itself.
    InfoValues,
    /// MONITOR: time and address.
    Monitor,
}

const SEED: &str = "Redis walks hash tables in an order that depends on a random seed of each process";
const CLOCK: &str = "it tells time, or how long ago something was";
const ID: &str = "ids are counted by whoever gives them out";
const PROCESS: &str = "it describes the process: its memory, addresses, load";

/// Fields of CLIENT INFO and LIST that speak of the process and the socket, not of what the client did.
const SOCKET: &[&str] = &[
    "id",
    "addr",
    "laddr",
    "fd",
    "age",
    "idle",
    "qbuf",
    "qbuf-free",
    "argv-mem",
    "multi-mem",
    "rbs",
    "rbp",
    "obl",
    "oll",
    "omem",
    "tot-mem",
];

/// Lines of INFO whose values are compared too: clients decide by them.
const COMPARED: &[&str] = &[
    "redis_version",
    "redis_mode",
    "loading",
    "role",
    "connected_slaves",
    "maxmemory_policy",
    "cluster_enabled",
    "aof_enabled",
    "maxclients",
];

const MASKS: &[Mask] = &[
    row("HELLO", What::Fields(&["id"]), ID),
    row("EXEC", What::Fields(SOCKET), "HELLO or CLIENT INFO may have been queued"),
    row("CLIENT ID", What::Integers, ID),
    row("CLIENT GETREDIR", What::Integers, ID),
    row("CLIENT INFO", What::Fields(SOCKET), PROCESS),
    row("CLIENT LIST", What::Fields(SOCKET), PROCESS),
    row(
        "ACL LOG",
        What::Fields(&[
            "entry-id",
            "timestamp-created",
            "timestamp-last-updated",
            "age-seconds",
            "client-info",
        ]),
        CLOCK,
    ),
    row("ACL GENPASS", What::Text, "it is random"),
    row("ACL LIST", What::OrderOfWords, SEED),
    row("ACL GETUSER", What::OrderOfWords, SEED),
    row("ACL CAT", What::Order, SEED),
    row("TIME", What::Type, CLOCK),
    row("LASTSAVE", What::Integers, CLOCK),
    row("TTL", What::Integers, CLOCK),
    row("PTTL", What::Integers, CLOCK),
    row("OBJECT IDLETIME", What::Type, "a second may just have ended, and 0 become 1"),
    row("INFO KEYSPACE", What::Nothing, ""),
    row("INFO", What::InfoValues, "its values are the process's; their names and the sections are compared"),
    row("MONITOR", What::Monitor, CLOCK),
    row("SMEMBERS", What::Order, SEED),
    row("SUNION", What::Order, SEED),
    row("SINTER", What::Order, SEED),
    row("SDIFF", What::Order, SEED),
    row("SSCAN", What::Order, SEED),
    row("SCAN", What::Order, SEED),
    row("KEYS", What::Order, SEED),
    row("PUBSUB CHANNELS", What::Order, SEED),
    row("PUBSUB SHARDCHANNELS", What::Order, SEED),
    row("UNSUBSCRIBE .", What::Channel, SEED),
    row("SUNSUBSCRIBE .", What::Channel, SEED),
    row("CONFIG GET", What::OrderOfPairs, SEED),
    row("COMMAND .", What::Order, SEED),
    row("COMMAND LIST", What::Order, SEED),
    row("COMMAND INFO", What::Order, SEED),
    row(
        "COMMAND DOCS .",
        What::OursBehind,
        "redis-cli takes its help from it: the daemon's own commands stand there too",
    ),
    row("COMMAND DOCS", What::Order, SEED),
    row("FUNCTION LIST", What::Order, SEED),
    row("XADD S *", What::Text, "an id that Redis makes is the time"),
    row("XPENDING", What::IdleOfPending, CLOCK),
    row("XINFO", What::Fields(&["idle", "seen-time"]), CLOCK),
    row("SLOWLOG GET", What::Type, CLOCK),
    row("SLOWLOG LEN", What::Integers, CLOCK),
    row("LATENCY HISTOGRAM", What::Type, CLOCK),
    row("LATENCY RESET", What::Integers, CLOCK),
    row("LATENCY GRAPH", What::Text, CLOCK),
    row("LATENCY DOCTOR", What::Text, PROCESS),
    row("MEMORY STATS", What::Type, PROCESS),
    row("MEMORY DOCTOR", What::Text, PROCESS),
    row("MEMORY MALLOC-STATS", What::Text, PROCESS),
    row("DEBUG OBJECT", What::Text, PROCESS),
    row("ROLE", What::Integers, "the offset counts what the servers told each other, too"),
    row("PSYNC", What::BehindFirstWord, "a replication id is random"),
    row("CLUSTER INFO", What::InfoValues, "a cluster is up only some time after its start"),
    row("CLUSTER MYID", What::Text, "node ids are random"),
    row("CLUSTER NODES", What::Text, "node ids are random, and it holds ports and times"),
    row("CLUSTER SLOTS", What::Type, "node ids are random, and it holds the port"),
    row("CLUSTER SHARDS", What::Type, "node ids are random, and it holds the port"),
];

const fn row(request: &'static str, what: What, reason: &'static str) -> Mask {
    Mask { request, what, reason }
}

impl Mask {
    fn fits(&self, words: &[String]) -> bool {
        let mut given = words.iter().map(String::as_str).chain(["."]);
        self.request.split(' ').all(|word| given.next() == Some(word))
    }
}

/// The rows that no request of these needs.
pub fn needless<'a>(requests: impl Iterator<Item = &'a [String]>) -> Vec<&'static str> {
    let mut rows: Vec<&Mask> = MASKS.iter().collect();
    for words in requests {
        if let Some(first) = MASKS.iter().find(|mask| mask.fits(words)) {
            rows.retain(|mask| mask.request != first.request);
        }
    }
    rows.iter().map(|mask| mask.request).collect()
}

/// Whether the replies to this request say the same.
pub fn equal(words: &[String], redis: &[u8], daemon: &[u8]) -> bool {
    if redis == daemon {
        return true;
    }
    let Some(mask) = MASKS.iter().find(|mask| mask.fits(words)) else { return false };
    assert!(matches!(mask.what, What::Nothing) || !mask.reason.is_empty(), "{}: no reason", mask.request);
    let (Some(mut redis), Some(mut daemon)) = (parse_all(redis), parse_all(daemon)) else { return false };
    redis.iter_mut().chain(&mut daemon).for_each(|frame| apply(mask.what, frame));
    redis == daemon
}

/// An error is never masked: it would hide that one side failed.
fn apply(what: What, frame: &mut Value) {
    if matches!(frame, Value::Line(b'-', _) | Value::Bulk(b'!', _)) {
        return;
    }
    match what {
        What::Nothing => {}
        What::Order => frame.walk(&mut |value| {
            if let Value::Aggregate(_, items) = value {
                items.sort();
            }
        }),
        What::OrderOfWords => frame.walk(&mut |value| {
            edit_text(value, |text| {
                let mut words: Vec<&str> = text.split(' ').collect();
                words.sort_unstable();
                words.join(" ")
            });
        }),
        What::OrderOfPairs => {
            if let Value::Aggregate(_, items) = frame {
                let mut pairs: Vec<Vec<Value>> = items.chunks(2).map(<[Value]>::to_vec).collect();
                pairs.sort();
                *items = pairs.concat();
            }
        }
        What::OursBehind => {
            if let Value::Aggregate(_, items) = frame {
                let ours = items.iter().position(|item| item.payload() == b"lock.acquire");
                items.truncate(ours.unwrap_or(items.len()));
            }
            apply(What::Order, frame);
        }
        What::Integers => frame.walk(&mut mask_integer),
        What::Channel => {
            if let Value::Aggregate(_, items) = frame
                && let Some(channel) = items.get_mut(1)
            {
                apply(What::Text, channel);
            }
        }
        What::IdleOfPending => frame.walk(&mut |value| {
            if let Value::Aggregate(_, items) = value
                && let [Value::Bulk(..), Value::Bulk(..), idle @ Value::Line(b':', _), Value::Line(b':', _)] =
                    &mut items[..]
            {
                *idle = Value::Line(b':', b"N".to_vec());
            }
        }),
        What::BehindFirstWord => {
            frame.walk(&mut |value| edit_text(value, |text| text.split(' ').next().unwrap_or("").into()));
        }
        What::Text => frame.walk(&mut |value| {
            if let Value::Line(_, text) | Value::Bulk(_, text) = value {
                *text = b"masked".to_vec();
            }
        }),
        What::Type => match frame {
            Value::Line(_, text) | Value::Bulk(_, text) => text.clear(),
            Value::Aggregate(_, items) => items.clear(),
        },
        What::Fields(names) => mask_fields(frame, names),
        What::InfoValues => edit_text(frame, info_names),
        What::Monitor => edit_text(frame, |line| match (line.find(" ["), line.find("] ")) {
            (Some(_), Some(end)) => line[end + 2..].to_string(),
            _ => line.to_string(),
        }),
    }
}

fn mask_integer(value: &mut Value) {
    if let Value::Line(b':', digits) = value
        && digits != b"0"
        && !digits.starts_with(b"-")
    {
        *digits = b"N".to_vec();
    }
}

fn edit_text(frame: &mut Value, edit: impl Fn(&str) -> String) {
    if let Value::Line(_, text) | Value::Bulk(_, text) = frame {
        *text = edit(&String::from_utf8_lossy(text)).into_bytes();
    }
}

/// `name=value` in a text, and the value after a name in an array or map.
fn mask_fields(frame: &mut Value, names: &[&str]) {
    let masked = |word: &str| match word.split_once('=') {
        Some((name, _)) if names.contains(&name) => format!("{name}=masked"),
        _ => word.to_string(),
    };
    edit_text(frame, |text| {
        let text = text.strip_prefix("txt:").unwrap_or(text);
        let lines: Vec<String> =
            text.lines().map(|line| line.split(' ').map(masked).collect::<Vec<_>>().join(" ")).collect();
        lines.join("\n")
    });
    if let Value::Aggregate(_, items) = frame {
        for at in 0..items.len() {
            if at > 0 && names.contains(&items[at - 1].text().as_str()) {
                items[at] = Value::Line(b'+', b"masked".to_vec());
            } else {
                mask_fields(&mut items[at], names);
            }
        }
    }
}

/// The titles and the names before the colons, without the sections whose lines are themselves statistics.
fn info_names(text: &str) -> String {
    let (mut kept, mut skipping) = (String::new(), false);
    for line in text.lines() {
        if line.starts_with('#') {
            let counts = ["# Commandstats", "# Errorstats", "# Latencystats", "# Keyspace"].contains(&line);
            skipping = line == "# Madcache" || counts;
        }
        // Redis writes some lines only in some states of the process.
        let sometimes =
            line.starts_with("allocator_") || line.starts_with("mem_") || line.starts_with("slave");
        if !skipping && !sometimes && !line.is_empty() {
            let name = line.split(':').next().unwrap_or_default();
            kept += if COMPARED.contains(&name) { line } else { name };
            kept.push('\n');
        }
    }
    kept
}
