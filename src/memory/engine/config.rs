//! CONFIG: the parameters that the engine has, and those that clients look at. What cannot be changed says so.

use super::super::context::{Argv, Fault, Outcome};
use super::super::eviction::Policy;
use super::super::glob;
use super::calls::Call;
use super::dispatch::Turn;
use super::{Core, Counters};

pub(super) const CALLS: &[(&str, Call)] = &[
    ("CONFIG|GET", get),
    ("CONFIG|SET", set),
    ("CONFIG|RESETSTAT", reset_stat),
    ("CONFIG|REWRITE", |_, _| Err(Fault::of("ERR The server is running without a config file"))),
    ("CONFIG|HELP", help),
];

/// Parameters that are kept for those who ask, without effect here.
pub(super) struct Parameters {
    kept: Vec<(&'static str, String)>,
}

/// Accepted from clients that set them at their start; nothing depends on them.
const KEPT: &[(&str, &str)] = &[
    ("notify-keyspace-events", ""),
    ("slowlog-log-slower-than", "10000"),
    ("slowlog-max-len", "128"),
    ("latency-monitor-threshold", "0"),
    ("timeout", "0"),
    ("tcp-keepalive", "300"),
    ("maxmemory-samples", "5"),
    ("save", ""),
    ("appendonly", "no"),
];

/// What holds here and cannot be changed while it runs.
const FIXED: &[(&str, &str)] = &[
    ("lua-time-limit", "5000"),
    ("busy-reply-threshold", "5000"),
    ("hash-max-listpack-entries", "512"),
    ("hash-max-listpack-value", "64"),
    ("list-max-listpack-size", "-2"),
    ("set-max-intset-entries", "512"),
    ("zset-max-listpack-entries", "128"),
    ("zset-max-listpack-value", "64"),
    ("hll-sparse-max-bytes", "3000"),
    ("lfu-log-factor", "10"),
    ("lfu-decay-time", "1"),
    ("appendfsync", "everysec"),
    ("requirepass", ""),
    ("maxclients", "10000"),
    ("cluster-enabled", "no"),
    ("io-threads", "1"),
    ("proto-max-bulk-len", "536870912"),
    ("rdbcompression", "no"),
    ("dbfilename", "dump.rdb"),
];

impl Default for Parameters {
    fn default() -> Parameters {
        Parameters { kept: KEPT.iter().map(|(name, value)| (*name, value.to_string())).collect() }
    }
}

fn all(core: &Core) -> Vec<(&'static str, String)> {
    let settings = core.keyspace.settings();
    let mut all = vec![
        ("maxmemory", settings.bytes_max.to_string()),
        ("maxmemory-policy", settings.policy.name().to_owned()),
        ("databases", settings.databases.to_string()),
    ];
    all.extend(core.parameters.kept.iter().cloned());
    all.extend(FIXED.iter().map(|(name, value)| (*name, value.to_string())));
    all
}

fn get(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Outcome {
    let all = all(&turn.core.borrow());
    let patterns: Vec<Vec<u8>> = argv[2..].iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
    let fits = |name: &str| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes()));
    let found: Vec<_> = all.iter().filter(|(name, _)| fits(name)).collect();
    let mut reply = turn.reply();
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    Ok(())
}

enum Change {
    BytesMax(u64),
    Policy(Policy),
    Keep(usize, String),
}

/// All or nothing.
fn set(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Outcome {
    if argv.len() % 2 == 1 {
        return Err(Fault::SYNTAX);
    }
    let core = &mut *turn.core.borrow_mut();
    let mut changes = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for pair in argv[2..].chunks(2) {
        let written = String::from_utf8_lossy(pair[0]).into_owned();
        let name = written.to_ascii_lowercase();
        let failed = |why: &str| {
            let text = format!("ERR CONFIG SET failed (possibly related to argument '{written}') - {why}");
            Err(Fault::with(text))
        };
        if seen.contains(&name) {
            return failed("duplicate parameter");
        }
        let value = String::from_utf8_lossy(pair[1]).into_owned();
        let kept = core.parameters.kept.iter().position(|(own, _)| *own == name);
        changes.push(match (name.as_str(), kept) {
            ("maxmemory", _) => match memory_bytes(&value) {
                Some(bytes) => Change::BytesMax(bytes),
                None => return failed("argument must be a memory value"),
            },
            ("maxmemory-policy", _) => match Policy::named(&value.to_ascii_lowercase()) {
                Some(policy) => Change::Policy(policy),
                None => return failed(&policies()),
            },
            (_, Some(at)) => Change::Keep(at, value),
            _ if all(core).iter().any(|(own, _)| *own == name) => {
                return failed("can't set immutable config");
            }
            _ => {
                return Err(Fault::with(format!(
                    "ERR Unknown option or number of arguments for CONFIG SET - '{written}'"
                )));
            }
        });
        seen.push(name);
    }
    let now_ms = turn.now_us / 1000;
    for change in changes {
        match change {
            Change::BytesMax(bytes) => core.keyspace.set_bytes_max(bytes),
            Change::Policy(policy) => core.keyspace.set_policy(policy, now_ms),
            Change::Keep(at, value) => core.parameters.kept[at].1 = value,
        }
    }
    if core.keyspace.is_over_limit() {
        // What cannot be evicted is refused when it comes.
        let _ = core.keyspace.make_room(now_ms);
    }
    turn.reply().ok();
    Ok(())
}

fn policies() -> String {
    const ORDER: [&str; 8] = [
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "noeviction",
    ];
    format!("argument(s) must be one of the following: {}", ORDER.join(", "))
}

/// `100`, `100b`, `1k` (thousand), `1kb` (1024), `2m`, `2mb`, `1g`, `1gb`.
fn memory_bytes(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn reset_stat(turn: &mut Turn<'_>, _: &Argv<'_>) -> Outcome {
    let core = &mut *turn.core.borrow_mut();
    core.keyspace.stats = Default::default();
    let Counters { callers, active_expiry_off, .. } = core.counters;
    core.counters = Counters { callers, active_expiry_off, ..Counters::default() };
    turn.reply().ok();
    Ok(())
}

fn help(turn: &mut Turn<'_>, _: &Argv<'_>) -> Outcome {
    turn.reply().help(&[
        "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "GET <pattern> [<pattern> ...]",
        "    The parameters that fit, and their values.",
        "SET <parameter> <value> [<parameter> <value> ...]",
        "    Change parameters, all of them or none.",
        "RESETSTAT",
        "    Begin the counters of INFO again.",
        "REWRITE",
        "    Refused: the daemon's configuration file is its own.",
        "HELP",
        "    This text.",
    ]);
    Ok(())
}
