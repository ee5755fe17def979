//! L1: decides whether a stored reply may be shown and whether a new one may be stored. Performs no I/O.
//!
//! An entry is valid by its stamps alone: the version stamp of its key, the incarnation of the tracked link that filled
//! it, its deadline and the proof that the link's pushes still arrive. So any number of tables may hold entries without
//! agreeing with each other: one for all workers (moka), and a small one per worker in front of it.

mod admission;
mod denials;
mod entry;
mod flight;
mod front;
mod lease;
mod life;
mod stamps;

pub use admission::{Admission, Sketch};
pub use denials::Denials;
pub use entry::{Derived, Entry, RequestId, Scope, Terms, key_of};
pub use flight::{Flight, Flights, Follower, Joined};
pub use front::FrontTable;
pub use lease::Lease;
pub use life::{Life, LifeLimits, life};
pub use stamps::{Stamps, Stripe, StripeSet};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::Moment;

/// What L1 was built with; it does not change while the daemon runs.
#[derive(Clone, Copy, Debug)]
pub struct CacheConfig {
    pub bytes_max: u64,
    pub ttl_max: Duration,
}

/// Hashes keys as they are: they are hashes already.
#[derive(Clone, Default)]
pub struct AsItIs;

#[derive(Default)]
pub struct AsItIsHasher(u64);

impl std::hash::Hasher for AsItIsHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only u64 keys are hashed as they are")
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

impl std::hash::BuildHasher for AsItIs {
    type Hasher = AsItIsHasher;
    fn build_hasher(&self) -> AsItIsHasher {
        AsItIsHasher::default()
    }
}

/// The part of L1 that all workers share.
pub struct Cache {
    pub stamps: Stamps,
    pub flights: Flights,
    pub sketch: Sketch,
    pub denials: Denials,
    store: moka::sync::Cache<u64, Entry, AsItIs>,
    evictions: Arc<AtomicU64>,
    /// Set while L2 cannot be reached: entries whose rule allows it may then be shown past their proof.
    l2_down: AtomicBool,
}

impl Cache {
    pub fn new(config: CacheConfig) -> Cache {
        let evictions = Arc::new(AtomicU64::new(0));
        let counted = evictions.clone();
        let store = moka::sync::Cache::builder()
            .max_capacity(config.bytes_max)
            .weigher(|_, entry: &Entry| entry.weight())
            .time_to_live(config.ttl_max)
            .eviction_listener(move |_, _, cause| {
                if cause == moka::notification::RemovalCause::Size {
                    counted.fetch_add(1, Relaxed);
                }
            })
            .build_with_hasher(AsItIs);
        Cache {
            stamps: Stamps::new(config.bytes_max),
            flights: Flights::default(),
            sketch: Sketch::new(),
            denials: Denials::default(),
            store,
            evictions,
            l2_down: AtomicBool::new(false),
        }
    }

    /// Brings into the processor's caches what `lookup` of these requests will read, unless only moka has the entry. The loads
    /// of one step do not depend on each other, so that the processor waits for all of them at once.
    #[inline]
    pub fn prefetch(&self, front: &FrontTable, ids: &[RequestId<'_>]) {
        let mut seen = 0;
        for id in ids {
            seen ^= self.stamps.prefetch(id.stripe) ^ front.prefetch(id.hash);
        }
        for id in ids {
            seen ^= front.prefetch_entry(id.hash);
        }
        // Without a use of what they give the loads would be left out.
        std::hint::black_box(seen);
    }

    /// Hands the entry of this request to `show`, if it may be shown at `now`.
    #[inline]
    pub fn lookup<R>(
        &self,
        front: &mut FrontTable,
        id: &RequestId<'_>,
        now: Moment,
        freshness: Duration,
        show: impl FnOnce(&Entry) -> R,
    ) -> Option<R> {
        if !self.stamps.is_claimed(id.stripe) {
            return None;
        }
        self.find(front, id, now, freshness, show)
    }

    /// The same where the stripe of the request is not known.
    #[inline]
    pub fn find<R>(
        &self,
        front: &mut FrontTable,
        id: &RequestId<'_>,
        now: Moment,
        freshness: Duration,
        show: impl FnOnce(&Entry) -> R,
    ) -> Option<R> {
        if let Some(entry) = front.get(id) {
            if self.is_valid(entry, now, freshness) {
                let shown = show(entry);
                if front.sample() {
                    self.store.get(&id.hash);
                }
                return Some(shown);
            }
            front.forget(id);
        }
        let entry = self.store.get(&id.hash).filter(|entry| entry.answers(id))?;
        if self.is_valid(&entry, now, freshness) {
            front.put(&entry);
            return Some(show(&entry));
        }
        self.drop_invalid(id.hash, &entry, now);
        None
    }

    /// Whether the entry may be shown at `now`; checked again at every use.
    #[inline]
    pub fn is_valid(&self, entry: &Entry, now: Moment, freshness: Duration) -> bool {
        if now >= entry.terms.deadline || !self.is_unchanged(entry) {
            return false;
        }
        let vouched = entry.terms.lease.holds(entry.terms.incarnation, now, freshness)
            || self.may_serve_stale(entry, now);
        // Once more, behind the proof: its link may have read a push between the two.
        vouched && self.is_unchanged(entry)
    }

    /// Whether no push and no write has ended the entry. To be looked at after a proof that it is held against: who
    /// reads a push moves the stamp before it moves the proof.
    #[inline]
    pub fn is_unchanged(&self, entry: &Entry) -> bool {
        self.stamps.get(entry.stripe) == entry.terms.stamp
    }

    fn may_serve_stale(&self, entry: &Entry, now: Moment) -> bool {
        entry.terms.stale_ms_max != 0
            && self.is_l2_down()
            && now.since(entry.terms.lease.proof())
                <= Duration::from_millis(u64::from(entry.terms.stale_ms_max))
    }

    /// Called by the health check; ends or begins serve-stale.
    pub fn set_l2_down(&self, down: bool) {
        self.l2_down.store(down, Relaxed);
    }

    /// Whether entries may be shown that nobody vouches for.
    #[inline]
    pub fn is_l2_down(&self) -> bool {
        self.l2_down.load(Relaxed)
    }

    fn drop_invalid(&self, hash: u64, entry: &Entry, now: Moment) {
        self.note_waste(entry, now);
        self.store.invalidate(&hash);
    }

    /// An entry was invalidated: had anybody hit it?
    fn note_waste(&self, entry: &Entry, now: Moment) {
        if now < entry.terms.deadline && !entry.was_hit() {
            self.sketch.fill_was_wasted(entry.key_hash, now);
        }
    }

    /// Stores an entry whose stamps were read before its request was sent; refuses it if they moved since.
    pub fn fill(&self, front: &mut FrontTable, entry: Entry, now: Moment) -> bool {
        if self.stamps.get(entry.stripe) != entry.terms.stamp
            || entry.terms.lease.incarnation() != entry.terms.incarnation
        {
            return false;
        }
        if let Some(old) = self.store.get(&entry.hash).filter(|old| old.terms.stamp != entry.terms.stamp) {
            self.note_waste(&old, now);
        }
        self.store.insert(entry.hash, entry.clone());
        front.put(&entry);
        true
    }

    /// Makes every entry whose key matches invalid; returns how many there were.
    pub fn invalidate_where(&self, matches: impl Fn(&[u8]) -> bool) -> u64 {
        let mut count = 0;
        for (hash, entry) in self.store.iter() {
            if matches(entry.key()) {
                self.stamps.bump(entry.stripe);
                self.store.invalidate(hash.as_ref());
                count += 1;
            }
        }
        count
    }

    /// Drops every entry. Fills under way are refused only where the caller revokes the leases first.
    pub fn clear(&self) {
        self.store.invalidate_all();
    }

    /// The entries of a key, valid or not.
    pub fn entries_of(&self, key: &[u8]) -> Vec<Entry> {
        self.store.iter().map(|(_, entry)| entry).filter(|entry| entry.key() == key).collect()
    }

    pub fn entry_count(&self) -> u64 {
        self.store.entry_count()
    }
    pub fn weight_bytes(&self) -> u64 {
        self.store.weighted_size()
    }
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Relaxed)
    }
    /// Lets moka do what it put off (evictions, counts).
    pub fn upkeep(&self) {
        self.store.run_pending_tasks();
    }
}
