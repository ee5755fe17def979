//! Which reads are worth an entry: a lossy memory of the keys (by hash) that were read or written lately, shared by all
//! workers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::Moment;

/// A read fills if its key was read, or written through this daemon, within this time before.
const WINDOW: Duration = Duration::from_secs(60);
/// So long a key that is invalidated before it is read again stays out.
const COOL_DOWN: Duration = Duration::from_millis(250);
/// So many fills in a row must have been in vain.
const WASTED_MAX: u64 = 4;
const SLOTS: usize = 1 << 18;
/// Times in the sketch are in units of 2^TICK_BITS ns (about 16 ms).
const TICK_BITS: u32 = 24;

/// What to do with a read that missed.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Admission {
    /// Read it over the tracked link and store it.
    Fill,
    /// Let it pass.
    Pass,
}

/// Slots of `fingerprint:24 | wasted:4 | cooling:1 | - | tick:32`; collisions only cost a wrong guess.
pub struct Sketch {
    slots: Box<[AtomicU64]>,
}

const FINGERPRINT: u64 = 0xFFFF_FF00_0000_0000;
const WASTED_SHIFT: u32 = 36;
const WASTED: u64 = 0xF << WASTED_SHIFT;
const COOLING: u64 = 1 << 35;

fn tick(now: Moment) -> u64 {
    (now.0 >> TICK_BITS) & 0xFFFF_FFFF
}

fn ticks(time: Duration) -> u64 {
    time.as_nanos() as u64 >> TICK_BITS
}

impl Default for Sketch {
    fn default() -> Self {
        Sketch::new()
    }
}

impl Sketch {
    pub fn new() -> Sketch {
        Sketch { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect() }
    }

    #[inline]
    fn slot(&self, hash: u64) -> &AtomicU64 {
        &self.slots[hash as usize & (SLOTS - 1)]
    }

    /// Tells of a read that missed, and asks what to do with it.
    #[inline]
    pub fn admit(&self, hash: u64, now: Moment) -> Admission {
        let slot = self.slot(hash);
        let seen = slot.load(Relaxed);
        let age = tick(now).wrapping_sub(seen & 0xFFFF_FFFF) & 0xFFFF_FFFF;
        if seen & FINGERPRINT != hash & FINGERPRINT || age > ticks(WINDOW) {
            slot.store((hash & FINGERPRINT) | tick(now), Relaxed);
            return Admission::Pass;
        }
        if seen & COOLING == 0 {
            return Admission::Fill;
        }
        if age <= ticks(COOL_DOWN) {
            return Admission::Pass;
        }
        // One more attempt; if it is in vain again, the next pause follows at once.
        slot.store((hash & FINGERPRINT) | ((WASTED_MAX - 1) << WASTED_SHIFT) | tick(now), Relaxed);
        Admission::Fill
    }

    /// Tells of a write: a key that is written here is likely to be read here, so its next read fills.
    #[inline]
    pub fn written(&self, hash: u64, now: Moment) {
        let slot = self.slot(hash);
        if slot.load(Relaxed) & FINGERPRINT != hash & FINGERPRINT {
            slot.store((hash & FINGERPRINT) | tick(now), Relaxed);
        }
    }

    /// Whether this key is kept out for a while.
    pub fn is_cooling(&self, hash: u64) -> bool {
        let seen = self.slot(hash).load(Relaxed);
        seen & FINGERPRINT == hash & FINGERPRINT && seen & COOLING != 0
    }

    /// A fill was invalidated before anybody hit it.
    pub fn fill_was_wasted(&self, hash: u64, now: Moment) {
        let slot = self.slot(hash);
        let seen = slot.load(Relaxed);
        if seen & FINGERPRINT != hash & FINGERPRINT {
            return;
        }
        let wasted = ((seen & WASTED) >> WASTED_SHIFT) + 1;
        let cooling = if wasted >= WASTED_MAX { COOLING } else { 0 };
        let count = wasted.min(WASTED_MAX) << WASTED_SHIFT;
        slot.store((hash & FINGERPRINT) | count | cooling | tick(now), Relaxed);
    }

    /// A fill was of use: it starts with a clean sheet.
    pub fn fill_was_useful(&self, hash: u64, now: Moment) {
        let slot = self.slot(hash);
        let seen = slot.load(Relaxed);
        if seen & FINGERPRINT == hash & FINGERPRINT && seen & (WASTED | COOLING) != 0 {
            slot.store((hash & FINGERPRINT) | tick(now), Relaxed);
        }
    }

    /// Its reply is too large to be kept: it passes for a while.
    pub fn too_large(&self, hash: u64, now: Moment) {
        let count = WASTED_MAX << WASTED_SHIFT;
        self.slot(hash).store((hash & FINGERPRINT) | count | COOLING | tick(now), Relaxed);
    }
}
