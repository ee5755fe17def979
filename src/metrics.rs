//! Every number that the daemon counts: its name and what it means. Each worker counts for itself (one writer, no
//! locked instructions); readers add the workers up. A number is declared in one row, and INFO, MADCACHE STATS,
//! /metrics and the status page follow from it. Renders nothing.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::clock::Moment;
use crate::command::Group;

/// A counter with one writer.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed) + n, Relaxed);
    }
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Latencies in powers of two of microseconds: bucket i counts what took less than 2^i us.
#[derive(Default)]
pub struct Latencies {
    buckets: [Counter; Latencies::BUCKETS],
    sum_us: Counter,
}

impl Latencies {
    pub const BUCKETS: usize = 26;

    #[inline]
    fn record(&self, took_ns: u64) {
        let us = took_ns / 1000;
        let bucket = (64 - us.leading_zeros()) as usize;
        self.buckets[bucket.min(Self::BUCKETS - 1)].add(1);
        self.sum_us.add(us);
    }
    /// How many took less than 2^i us and at least half of that, by i; the last holds all longer ones.
    pub fn counts(&self) -> [u64; Self::BUCKETS] {
        std::array::from_fn(|i| self.buckets[i].get())
    }
    pub fn sum_us(&self) -> u64 {
        self.sum_us.get()
    }
}

/// How a number moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows while the daemon runs.
    Counter,
    Gauge,
    /// Others add up to it, so /metrics, whose readers add up themselves, leaves it out.
    Sum,
}

/// Numbers that /metrics shows under one name, told apart by a label.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    pub name: &'static str,
    pub label: &'static str,
    pub help: &'static str,
}

pub static REFUSED: Family = Family {
    name: "refused",
    label: "reason",
    help: "Requests and connections that were refused, failed or closed by the daemon itself.",
};
pub static COMMANDS: Family =
    Family { name: "commands", label: "group", help: "Commands that clients sent, by group." };
pub static LINKS: Family = Family {
    name: "links",
    label: "kind",
    help: "Connections to L2: shared by sessions, or of one session.",
};

pub static KINDS_REACHABLE: Family = Family {
    name: "kind_reachable",
    label: "kind",
    help: "1 while the Redis where this kind of shared state lives answers, and where it needs none.",
};

/// A family and the label's value there.
pub type Member = (&'static Family, &'static str);

/// One number's declaration; `S` is what it is read from.
pub struct Row<S> {
    /// In INFO and MADCACHE STATS, its unit last.
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    /// None: a family of its own.
    pub member: Option<Member>,
    pub read: fn(&S) -> u64,
}

/// A number as read.
#[derive(Clone, Debug)]
pub struct Number {
    pub name: Cow<'static, str>,
    pub help: &'static str,
    pub kind: Kind,
    pub member: Option<Member>,
    pub value: u64,
}

impl<S> Row<S> {
    /// The number, summed over all that it is read from.
    pub fn sum<'a>(&self, sources: impl Iterator<Item = &'a S>) -> Number
    where
        S: 'a,
    {
        Number {
            name: Cow::Borrowed(self.name),
            help: self.help,
            kind: self.kind,
            member: self.member,
            value: sources.map(self.read).sum(),
        }
    }
}

macro_rules! counters {
    ($($(#[doc = $help:literal])+ $name:ident $(in $family:ident as $label:literal)?,)*) => {
        /// One worker's counters.
        #[derive(Default)]
        pub struct WorkerMetrics {
            $( $(#[doc = $help])+ pub $name: Counter, )*
            commands: [Counter; Group::ALL.len()],
            latencies: [Latencies; Group::ALL.len()],
            ticked: AtomicU64,
        }

        /// The declaration of every counter.
        pub const COUNTERS: &[Row<WorkerMetrics>] = &[$(Row {
            name: stringify!($name),
            help: concat!($($help,)+).trim_ascii_start(),
            kind: Kind::Counter,
            member: counters!(@member $($family $label)?),
            read: |metrics| metrics.$name.get(),
        },)*];
    };
    (@member) => { None };
    (@member $family:ident $label:literal) => { Some((&$family, $label)) };
}

counters! {
    /// Reads that were answered from L1.
    l1_hits,
    /// Cacheable reads that L1 had no valid entry for.
    l1_misses,
    /// Reads that followed the same read of another session.
    l1_followed,
    /// Entries that were stored.
    l1_fills,
    /// Replies that were not stored because their key changed meanwhile.
    l1_fills_refused,
    /// Keys that L2 reported as changed.
    l1_invalidations,
    /// Requests that were handed on to L2.
    forwarded,
    /// Replies of a cluster's nodes that sent a request elsewhere, or asked to try again.
    redirects,
    /// Barrier rounds.
    barriers,
    /// Barriers that were begun with their script and proved nothing, so that another one followed.
    barriers_repeated,
    /// Tracked links that did not answer a barrier in time.
    barrier_fences,
    /// LOCK commands and attempts that failed because too few masters of locks answered, or count.
    lock_no_quorum,
    /// Attempts at a lock that some masters granted, but not a majority.
    lock_split_votes,
    /// Connections that were accepted.
    clients_accepted,
    /// Requests refused: not authenticated.
    refused_noauth in REFUSED as "noauth",
    /// Requests refused: in server.deny_commands.
    refused_denied in REFUSED as "denied",
    /// Connections refused: not the Redis protocol.
    refused_malformed in REFUSED as "malformed",
    /// Connections refused: TLS failed.
    refused_tls in REFUSED as "tls",
    /// Requests refused: no more upstream links allowed.
    refused_links in REFUSED as "links",
    /// Requests that failed because L2 was away.
    refused_l2_away in REFUSED as "l2_away",
    /// Connections closed because they did not read their replies.
    closed_slow_readers in REFUSED as "slow_reader",
}

impl WorkerMetrics {
    #[inline]
    pub fn commands_of(&self, group: Group, count: u64) {
        self.commands[group as usize].add(count);
    }
    #[inline]
    pub fn latency(&self, group: Group, took_ns: u64) {
        self.latencies[group as usize].record(took_ns);
    }
    pub fn commands(&self, group: Group) -> u64 {
        self.commands[group as usize].get()
    }
    pub fn latencies(&self, group: Group) -> &Latencies {
        &self.latencies[group as usize]
    }

    /// The worker's scheduler runs: told several times a second.
    pub fn tick(&self, now: Moment) {
        self.ticked.store(now.0, Relaxed);
    }
    /// When the worker last told that it runs; zero before the first time.
    pub fn ticked(&self) -> Moment {
        Moment(self.ticked.load(Relaxed))
    }
}
