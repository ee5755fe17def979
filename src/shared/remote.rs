//! A Redis as all workers know it: where it is, whether it answers, whether it is a cluster. Talks to nobody.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

use crate::config::{Endpoint, Target};

pub struct Remote {
    pub target: Target,
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
    pub fn new(target: Target) -> Remote {
        let slots = if target.endpoint == Endpoint::Memory { Slots::Plain } else { Slots::Unknown };
        Remote { target, is_reachable: AtomicBool::new(true), slots: AtomicU8::new(slots as u8) }
    }

    /// The key of the configuration that names it.
    pub fn setting(&self) -> &'static str {
        "upstream.url"
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
        f.write_str("L2")
    }
}
