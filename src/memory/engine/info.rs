//! INFO: the sections and fields that clients and dashboards look at.

use std::fmt::Write;

use super::super::context::{Argv, Outcome};
use super::super::script::REDIS_VERSION;
use super::calls::Call;
use super::dispatch::Turn;
use super::{Core, Inner};

pub(super) const CALLS: &[(&str, Call)] = &[("INFO", info)];

fn info(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Outcome {
    let text = text(&mut turn.core.borrow_mut(), turn.inner, &argv[1..], turn.now_us);
    turn.reply().verbatim(text.as_bytes());
    Ok(())
}

type Section = fn(&mut Core, &Inner, u64) -> String;

const SECTIONS: &[(&str, Section)] = &[
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", |core, _, _| {
        lines(&[("loading", 0), ("rdb_changes_since_last_save", core.keyspace.changes()), ("aof_enabled", 0)])
    }),
    ("Stats", stats),
    ("Replication", replication),
    ("CPU", |_, _, _| String::new()),
    ("Modules", |_, _, _| String::new()),
    ("Errorstats", |_, _, _| String::new()),
    ("Cluster", |_, _, _| lines(&[("cluster_enabled", 0)])),
    ("Keyspace", keyspace),
];

/// The sections asked for, in their own order; none, `default`, `all` and `everything` mean all.
pub(super) fn text(core: &mut Core, inner: &Inner, asked: &[&[u8]], now_us: u64) -> String {
    core.note_peak();
    let all = [&b"default"[..], b"all", b"everything"];
    let is_all =
        asked.is_empty() || asked.iter().any(|word| all.iter().any(|all| word.eq_ignore_ascii_case(all)));
    let mut text = String::new();
    for (name, section) in SECTIONS {
        if is_all || asked.iter().any(|word| word.eq_ignore_ascii_case(name.as_bytes())) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            text.push_str(&format!("# {name}\r\n{}", section(core, inner, now_us)));
        }
    }
    text
}

fn lines(numbers: &[(&str, u64)]) -> String {
    numbers.iter().map(|(name, number)| format!("{name}:{number}\r\n")).collect()
}

fn server(_: &mut Core, inner: &Inner, now_us: u64) -> String {
    let up = inner.started.elapsed().as_secs();
    format!(
        "redis_version:{REDIS_VERSION}\r\nredis_git_sha1:00000000\r\nredis_git_dirty:0\r\nredis_mode:standalone\r\n\
         madcache_version:{}\r\nos:{}\r\narch_bits:{}\r\nmultiplexing_api:epoll\r\nprocess_id:{}\r\n\
         uptime_in_seconds:{up}\r\nuptime_in_days:{}\r\nhz:10\r\nconfigured_hz:10\r\nserver_time_usec:{now_us}\r\n\
         executable:\r\nconfig_file:\r\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        usize::BITS,
        std::process::id(),
        up / 86_400,
    )
}

fn clients(core: &mut Core, _: &Inner, _: u64) -> String {
    lines(&[
        ("connected_clients", core.counters.callers as u64),
        ("cluster_connections", 0),
        ("maxclients", 10_000),
        ("blocked_clients", core.waiters.len() as u64),
        ("tracking_clients", 0),
    ])
}

fn memory(core: &mut Core, _: &Inner, _: u64) -> String {
    let used = core.used_bytes();
    let lua = core.host.as_ref().map_or(0, |host| host.memory_bytes());
    let scripts = core.host.as_ref().map_or(0, |host| host.len());
    let settings = core.keyspace.settings();
    format!(
        "used_memory:{used}\r\nused_memory_human:{}\r\nused_memory_peak:{}\r\nused_memory_peak_human:{}\r\n\
         used_memory_dataset:{}\r\nused_memory_lua:{lua}\r\nused_memory_vm_eval:{lua}\r\n\
         number_of_cached_scripts:{scripts}\r\nmaxmemory:{}\r\nmaxmemory_human:{}\r\nmaxmemory_policy:{}\r\n\
         mem_fragmentation_ratio:1.00\r\nmem_allocator:mimalloc\r\n",
        human(used),
        core.counters.peak_bytes,
        human(core.counters.peak_bytes),
        core.keyspace.bytes(),
        settings.bytes_max,
        human(settings.bytes_max as usize),
        settings.policy.name(),
    )
}

/// `512B`, `1.50K`, `2.00M`, as Redis writes sizes.
fn human(bytes: usize) -> String {
    let units = [(1_usize << 40, 'T'), (1 << 30, 'G'), (1 << 20, 'M'), (1 << 10, 'K')];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, letter)) => format!("{:.2}{letter}", bytes as f64 / *unit as f64),
        None => format!("{bytes}B"),
    }
}

fn stats(core: &mut Core, _: &Inner, _: u64) -> String {
    let keys = &core.keyspace.stats;
    lines(&[
        ("total_connections_received", core.counters.connections),
        ("total_commands_processed", core.counters.commands),
        ("instantaneous_ops_per_sec", 0),
        ("expired_keys", keys.expired),
        ("evicted_keys", keys.evicted),
        ("keyspace_hits", keys.hits),
        ("keyspace_misses", keys.misses),
        ("pubsub_channels", core.registry.channels() as u64),
        ("pubsub_patterns", core.registry.patterns() as u64),
        ("pubsubshard_channels", core.registry.shards() as u64),
        ("total_error_replies", core.counters.errors),
    ])
}

fn replication(_: &mut Core, _: &Inner, _: u64) -> String {
    "role:master\r\nconnected_slaves:0\r\nmaster_failover_state:no-failover\r\n\
     master_replid:0000000000000000000000000000000000000000\r\nmaster_repl_offset:0\r\n"
        .to_owned()
}

fn keyspace(core: &mut Core, _: &Inner, _: u64) -> String {
    let mut text = String::new();
    for db in 0..core.keyspace.databases() {
        let (keys, volatile) = (core.keyspace.len(db), core.keyspace.volatile_len(db));
        if keys > 0 {
            let _ = write!(text, "db{db}:keys={keys},expires={volatile},avg_ttl=0\r\n");
        }
    }
    text
}

impl Core {
    /// Keys, values and scripts.
    pub fn used_bytes(&self) -> usize {
        self.keyspace.bytes() + self.host.as_ref().map_or(0, |host| host.memory_bytes())
    }

    pub fn note_peak(&mut self) {
        self.counters.peak_bytes = self.counters.peak_bytes.max(self.used_bytes());
    }
}
