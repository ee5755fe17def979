//! The daemon's numbers, read at this moment: as INFO madcache and MADCACHE STATS show them, and for the admin server.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Worker;
use crate::cache::Cache;
use crate::clock::Moment;
use crate::command::Group;
use crate::config::Kind as StateKind;
use crate::metrics::{COMMANDS, COUNTERS, KINDS_REACHABLE, Kind, LINKS, Member, Number, REFUSED, Row};
use crate::shared::Shared;
use crate::upstream::Purpose;

const fn gauge(name: &'static str, read: fn(&Shared) -> u64, help: &'static str) -> Row<Shared> {
    Row { name, help, kind: Kind::Gauge, member: None, read }
}

const fn counter(name: &'static str, read: fn(&Shared) -> u64, help: &'static str) -> Row<Shared> {
    Row { name, help, kind: Kind::Counter, member: None, read }
}

const fn member(row: Row<Shared>, of: Member) -> Row<Shared> {
    Row { member: Some(of), ..row }
}

fn answers(shared: &Shared, kind: StateKind) -> u64 {
    u64::from(shared.places.answers(kind))
}

const fn reachable(name: &'static str, kind: StateKind, read: fn(&Shared) -> u64) -> Row<Shared> {
    member(gauge(name, read, KINDS_REACHABLE.help), (&KINDS_REACHABLE, kind.name()))
}

/// Numbers that belong to no single worker.
const STATES: &[Row<Shared>] = &[
    counter("l1_evictions", |s| of_cache(s, Cache::evictions), "Entries that L1 gave up for others."),
    gauge("l1_entries", |s| of_cache(s, Cache::entry_count), "Entries in L1, valid or not."),
    gauge("l1_bytes", |s| of_cache(s, Cache::weight_bytes), "Memory of the entries in L1."),
    gauge(
        "staleness_ms",
        |s| s.staleness(Moment::now()).as_millis() as u64,
        "Age of the oldest proof that invalidations still arrive; entries without one that is younger than \
         cache.max_staleness_ms are not shown.",
    ),
    member(
        counter(
            "refused_clients_max",
            |s| s.refused_clients.load(Relaxed),
            "Connections refused: server.clients_max.",
        ),
        (&REFUSED, "clients_max"),
    ),
    gauge("clients", |s| s.clients.load(Relaxed) as u64, "Client connections."),
    gauge("monitors", |s| s.monitors.load(Relaxed) as u64, "Clients in MONITOR, which bypass L1 for all."),
    Row { kind: Kind::Sum, ..gauge("links", |s| links_shared(s) + links_pinned(s), "Connections to L2.") },
    member(gauge("links_shared", links_shared, "Connections to L2 that sessions share."), (&LINKS, "shared")),
    member(gauge("links_pinned", links_pinned, "Connections to L2 of one session each."), (&LINKS, "pinned")),
    gauge(
        "buffered_bytes",
        |s| s.buffered_bytes.load(Relaxed),
        "Unsent and unparsed bytes of all connections.",
    ),
    gauge("l2_reachable", |s| u64::from(s.l2.is_reachable.load(Relaxed)), "1 while L2 answers."),
    counter(
        "failovers",
        |s| {
            let all = std::iter::once(&s.l2).chain(&s.places.own);
            all.map(|remote| remote.leader.failovers.load(Relaxed)).sum()
        },
        "Masters, named by sentinels, that took over from another one.",
    ),
    reachable("lock_reachable", StateKind::Lock, |s| answers(s, StateKind::Lock)),
    reachable("session_reachable", StateKind::Session, |s| answers(s, StateKind::Session)),
    reachable("presence_reachable", StateKind::Presence, |s| answers(s, StateKind::Presence)),
    reachable("ratelimit_reachable", StateKind::Ratelimit, |s| answers(s, StateKind::Ratelimit)),
    gauge(
        "lock_masters",
        |s| s.places.masters.as_ref().map_or(0, |masters| masters.ready()),
        "Masters of lock.redlock whose votes count.",
    ),
    gauge(
        "tracking_alive",
        |s| u64::from(s.tracking_is_alive(Moment::now())),
        "1 while every link that filled entries proves that invalidations arrive, or where there is none.",
    ),
    gauge("workers", |s| s.metrics.len() as u64, "Threads that serve clients."),
    gauge("uptime_seconds", |s| Moment::now().since(s.started).as_secs(), "Time since the daemon started."),
];

fn of_cache(shared: &Shared, read: fn(&Cache) -> u64) -> u64 {
    shared.cache.as_deref().map_or(0, read)
}

fn links_shared(shared: &Shared) -> u64 {
    shared.link_count(Purpose::Plain).load(Relaxed) as u64
}

fn links_pinned(shared: &Shared) -> u64 {
    shared.link_count(Purpose::Pinned).load(Relaxed) as u64
}

/// Idle links are proven once a second, whatever `cache.max_staleness_ms` says.
const PROOF_PACE_MAX: Duration = Duration::from_secs(1);
/// So many proofs in a row must be missing before tracking counts as lost: one may be late.
const PROOFS_MISSED_MAX: u32 = 3;

impl Shared {
    /// Every number: the workers' counters added up, and what is so at this moment.
    pub fn numbers(&self) -> Vec<Number> {
        if let Some(cache) = &self.cache {
            cache.upkeep();
        }
        let workers = || self.metrics.iter().map(|metrics| &**metrics);
        let commands = Group::ALL.into_iter().map(|group| Number {
            name: Cow::Owned(format!("commands_{}", group.name())),
            help: COMMANDS.help,
            kind: Kind::Counter,
            member: Some((&COMMANDS, group.name())),
            value: workers().map(|metrics| metrics.commands(group)).sum(),
        });
        let counters = COUNTERS.iter().map(|row| row.sum(workers()));
        let states = STATES.iter().map(|row| row.sum(std::iter::once(self)));
        counters.chain(commands).chain(states).collect()
    }

    /// How long ago the oldest proof was that a link's invalidations still arrive; zero where L1 is empty.
    pub fn staleness(&self, now: Moment) -> Duration {
        let filled = self.leases().into_iter().filter(|lease| lease.has_filled());
        // A link that has not answered yet has no entries to be stale.
        let proofs = filled.map(|lease| lease.proof()).filter(|&proof| proof != Moment(0));
        proofs.map(|proof| now.since(proof)).max().unwrap_or_default()
    }

    /// Whether L1 may count on hearing of changes.
    pub fn tracking_is_alive(&self, now: Moment) -> bool {
        let allowed = Duration::from_millis(self.live.load().config.cache.max_staleness_ms);
        self.staleness(now) <= allowed.max(PROOF_PACE_MAX) * PROOFS_MISSED_MAX
    }
}

impl Worker {
    pub fn stats(&self) -> Vec<(String, u64)> {
        let numbers = self.shared.numbers().into_iter();
        numbers.map(|number| (number.name.into_owned(), number.value)).collect()
    }

    /// The section `# Madcache`.
    pub fn info_text(&self) -> String {
        let mut text = format!("# Madcache\r\nversion:{}\r\n", env!("CARGO_PKG_VERSION"));
        if let Some(sentinels) = self.shared.l2.target.sentinels() {
            let master = self.shared.l2.leader.master().unwrap_or_else(|| "none".into());
            text.push_str(&format!("service:{}\r\nmaster:{master}\r\n", sentinels.service));
        }
        for (name, value) in self.stats() {
            text.push_str(&format!("{name}:{value}\r\n"));
        }
        text
    }

    /// L2's INFO with our section behind it; an error passes as it is.
    pub fn append_info(self: &Rc<Self>, frame: &[u8], out: &mut Vec<u8>) {
        let Some(theirs) =
            crate::resp::bulk_text(frame).filter(|_| matches!(frame.first(), Some(b'$' | b'=')))
        else {
            return out.extend_from_slice(frame);
        };
        let mut text = theirs.to_vec();
        if !text.is_empty() {
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(self.info_text().as_bytes());
        crate::resp::verbatim(out, &text, frame[0] == b'=');
    }
}
