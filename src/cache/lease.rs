//! A lease: what one tracked link vouches for. Entries hold it; the link moves it on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use crate::clock::Moment;

#[derive(Default)]
pub struct Lease {
    /// The worker whose link this is.
    pub worker: u16,
    /// The number of the Redis that it leads to.
    pub remote: u32,
    /// `E`: the link's incarnation. Odd while the link is connected and tracking.
    incarnation: AtomicU64,
    /// When the newest request whose reply has come back was sent.
    proof: AtomicU64,
    /// Proofs older than this do not count.
    floor: AtomicU64,
    /// A fill was sent since the link came up, so there may be entries.
    filled: AtomicBool,
    /// Counts the first fills of all links.
    first_fills: Arc<AtomicU64>,
    /// An entry was hit since the last heartbeat.
    used: AtomicBool,
}

impl Lease {
    pub fn new(worker: u16, remote: u32, first_fills: Arc<AtomicU64>) -> Lease {
        Lease { worker, remote, first_fills, ..Lease::default() }
    }

    #[inline]
    pub fn incarnation(&self) -> u64 {
        self.incarnation.load(SeqCst)
    }

    /// Everything that was filled so far is invalid from now on.
    pub fn revoke(&self) {
        self.incarnation.fetch_add(1, SeqCst);
    }

    pub fn proof(&self) -> Moment {
        Moment(self.proof.load(SeqCst))
    }

    /// A request that was sent at `sent` has been answered, so every push from before it has been read.
    pub fn prove(&self, sent: Moment) {
        if sent > self.proof() {
            self.proof.store(sent.0, SeqCst);
        }
    }

    /// Nothing is shown until a request that is sent from now on has come back.
    pub fn fence(&self, now: Moment) {
        self.floor.fetch_max(now.0, SeqCst);
    }

    #[inline]
    pub fn holds(&self, incarnation: u64, now: Moment, freshness: Duration) -> bool {
        let proof = self.proof.load(SeqCst);
        let holds = self.incarnation.load(SeqCst) == incarnation
            && proof >= self.floor.load(SeqCst)
            && now.0.saturating_sub(proof) <= freshness.as_nanos() as u64;
        if !self.used.load(Relaxed) {
            self.used.store(true, Relaxed);
        }
        holds
    }

    pub fn mark_filled(&self) {
        // In this order: who counts first and sees it empty then, sees another count later.
        if !self.filled.load(SeqCst) && !self.filled.swap(true, SeqCst) {
            self.first_fills.fetch_add(1, SeqCst);
        }
    }
    pub fn has_filled(&self) -> bool {
        self.filled.load(SeqCst)
    }
    /// The link is gone: nothing that it filled is valid any more.
    pub fn end(&self) {
        self.revoke();
        self.filled.store(false, SeqCst);
    }
    /// Whether an entry was looked at since the last call.
    pub fn take_used(&self) -> bool {
        self.used.swap(false, Relaxed)
    }
}
