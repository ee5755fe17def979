//! A client connection as the engine knows it. Changed by the engine; the session sets `db` and `resp3`.

use std::collections::BTreeSet;

/// State of one connection.
#[derive(Default)]
pub struct Caller {
    pub id: u64,
    /// The selected database.
    pub db: u32,
    /// To be changed with `Engine::speak` where there may be subscriptions.
    pub resp3: bool,
    pub(super) queue: Option<Box<Queue>>,
    pub(super) watched: Vec<Watched>,
    pub(super) subscribed: Subscribed,
}

/// The commands between MULTI and EXEC.
#[derive(Default)]
pub(super) struct Queue {
    pub requests: Vec<Vec<Vec<u8>>>,
    /// One was refused: EXEC will be too.
    pub is_broken: bool,
    pub denies_oom: bool,
}

/// A watched key, with its version at WATCH.
pub(super) struct Watched {
    pub db: u32,
    pub key: Vec<u8>,
    pub version: u64,
}

/// What a caller listens to.
#[derive(Default)]
pub(super) struct Subscribed {
    pub channels: BTreeSet<Vec<u8>>,
    pub patterns: BTreeSet<Vec<u8>>,
    pub shard_channels: BTreeSet<Vec<u8>>,
}

impl Subscribed {
    /// What confirmations count: channels and patterns together, shard channels on their own.
    pub fn len(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.shard_channels.is_empty()
    }
}

impl Caller {
    /// A caller that no engine knows, for handlers alone.
    pub fn speaking(resp3: bool) -> Caller {
        Caller { resp3, ..Caller::default() }
    }

    /// Between MULTI and EXEC.
    pub fn is_in_transaction(&self) -> bool {
        self.queue.is_some()
    }

    /// A command that was to stand in its transaction was refused by the session: EXEC will be too.
    pub fn break_transaction(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.is_broken = true;
        }
    }

    /// Whether it listens to a channel; in RESP2 few commands are allowed then.
    pub fn is_subscriber(&self) -> bool {
        !self.subscribed.is_empty()
    }

    pub fn channels(&self) -> usize {
        self.subscribed.channels.len()
    }

    pub fn patterns(&self) -> usize {
        self.subscribed.patterns.len()
    }

    pub fn shard_channels(&self) -> usize {
        self.subscribed.shard_channels.len()
    }

    /// How many commands are queued, as CLIENT LIST shows it; -1 outside of a transaction.
    pub fn queued(&self) -> i64 {
        self.queue.as_ref().map_or(-1, |queue| queue.requests.len() as i64)
    }

    pub fn watched_keys(&self) -> usize {
        self.watched.len()
    }
}
