//! A Redis as all workers know it: where it is, what lives there, whether it answers, whether it is a cluster. Talks to
//! nobody.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};

use super::Cluster;
use super::leader::{Leader, Leadership};
use crate::config::{Endpoint, Kind, REDLOCK, Target};

pub struct Remote {
    /// Not that of any other in this process.
    pub number: u32,
    pub target: Target,
    /// It is a cluster, whose nodes are reached one by one.
    pub cluster: Option<Cluster>,
    /// It is one node of a cluster.
    pub is_node: bool,
    /// Which server it is now.
    pub leader: Leadership,
    /// It executes clients' commands; otherwise it is a Redis of these kinds' own.
    pub is_l2: bool,
    /// The kinds of shared state that live there.
    pub kinds: Vec<Kind>,
    /// One of the masters of locks.
    pub is_master: bool,
    /// What is written there may be in L1.
    pub is_cached: bool,
    pub is_reachable: AtomicBool,
    slots: AtomicU8,
}

/// Whether a Redis is a cluster, where the keys of one script must share a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Slots {
    Unknown,
    Plain,
    Tagged,
}

impl Slots {
    /// `None`: not known yet.
    pub fn tagged(self) -> Option<bool> {
        match self {
            Slots::Unknown => None,
            Slots::Plain => Some(false),
            Slots::Tagged => Some(true),
        }
    }
}

impl Remote {
    pub fn l2(target: Target, kinds: Vec<Kind>) -> Remote {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let slots = match target.endpoint {
            Endpoint::Memory => Slots::Plain,
            Endpoint::Cluster { .. } => Slots::Tagged,
            _ => Slots::Unknown,
        };
        Remote {
            number: NEXT.fetch_add(1, Relaxed),
            cluster: Cluster::new(&target),
            is_node: false,
            leader: Leadership::of(&target),
            target,
            is_l2: true,
            kinds,
            is_master: false,
            is_cached: true,
            is_reachable: AtomicBool::new(true),
            slots: AtomicU8::new(slots as u8),
        }
    }

    /// A Redis of these kinds' own, beside `l2`.
    pub fn own(target: Target, kinds: Vec<Kind>, l2: &Target) -> Remote {
        let is_cached = target.endpoint == l2.endpoint;
        Remote { is_l2: false, is_cached, ..Remote::l2(target, kinds) }
    }

    /// One node of a cluster.
    pub fn node(target: Target) -> Remote {
        let slots = AtomicU8::new(Slots::Tagged as u8);
        Remote { is_l2: false, is_node: true, slots, ..Remote::l2(target, Vec::new()) }
    }

    /// One of the masters of locks.
    pub fn master(target: Target, l2: &Target) -> Remote {
        Remote { is_master: true, ..Remote::own(target, vec![Kind::Lock], l2) }
    }

    /// Whether it is the master that sentinels name, which changes.
    pub fn is_elected(&self) -> bool {
        self.target.sentinels().is_some()
    }

    /// Where it is now, as people are told.
    pub fn place(&self) -> String {
        match (self.target.sentinels(), self.leader.now()) {
            (None, _) => self.target.endpoint.to_string(),
            (Some(sentinels), Leader::Known(target)) => {
                format!("{} ({})", target.endpoint, sentinels.service)
            }
            (Some(sentinels), _) => sentinels.to_string(),
        }
    }

    /// What is wrong while it does not answer.
    pub fn lack(&self) -> String {
        match self.leader.lack() {
            Some(reason) => reason.to_string(),
            None => format!("Redis at {} does not answer", self.place()),
        }
    }

    /// The key of the configuration that names it.
    pub fn setting(&self) -> &'static str {
        if self.is_master {
            return REDLOCK;
        }
        match self.kinds.first() {
            Some(kind) if !self.is_l2 => kind.url_override(),
            _ => "upstream.url",
        }
    }

    pub fn slots(&self) -> Slots {
        match self.slots.load(Relaxed) {
            1 => Slots::Plain,
            2 => Slots::Tagged,
            _ => Slots::Unknown,
        }
    }

    /// It has answered INFO, with its section `cluster`.
    pub fn heard_of_slots(&self, info: &[u8]) {
        let tagged = memchr::memmem::find(info, b"cluster_enabled:1").is_some();
        let slots = if tagged { Slots::Tagged } else { Slots::Plain };
        self.slots.store(slots as u8, Relaxed);
    }
}

/// As the log calls it.
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_l2 {
            return f.write_str("L2");
        }
        if self.is_node {
            return write!(f, "the cluster's node {}", self.target.endpoint);
        }
        if self.is_master {
            return write!(f, "the master of locks at {}", self.target.endpoint);
        }
        let kinds: Vec<&str> = self.kinds.iter().map(|kind| kind.name()).collect();
        write!(f, "the Redis of {} at {}", kinds.join(", "), self.place())
    }
}
