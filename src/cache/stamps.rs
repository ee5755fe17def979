//! Version stamps: a counter per stripe of keys. Moving a stamp on invalidates whatever was read before.
//!
//! The lowest bit of a counter is no part of the version: it says that a fill was begun under it. Where it is not set
//! there is no entry and no flight to look for, which spares reads of keys that are not in L1 every other look-up.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst};

/// Which counter a key belongs to.
pub type Stripe = u32;

/// What an entry weighs typically, and how many stripes there are for each such entry. More stripes would share less,
/// but a hit looks at one of them: the table must not outgrow the processor's caches.
const ENTRY_BYTES: u64 = 1024;
const STRIPES_PER_ENTRY: u64 = 16;

/// The bit of a counter that is no part of the version.
const CLAIMED: u32 = 1;

fn next(counter: u32) -> u32 {
    (counter | CLAIMED).wrapping_add(1)
}

pub struct Stamps {
    counters: Box<[AtomicU32]>,
}

impl Stamps {
    /// At least 2^20 stripes and 16 for each typical entry that fits into `bytes_max`. Untouched ones take no memory.
    pub fn new(bytes_max: u64) -> Stamps {
        let wanted = (bytes_max / ENTRY_BYTES * STRIPES_PER_ENTRY).next_power_of_two();
        let count = wanted.clamp(1 << 20, 1 << 26) as usize;
        let zeroed: Vec<u32> = vec![0; count];
        Stamps { counters: zeroed.into_iter().map(AtomicU32::new).collect() }
    }

    /// The stripe of a key with this hash.
    #[inline]
    pub fn stripe(&self, hash: u64) -> Stripe {
        (hash as usize & (self.counters.len() - 1)) as Stripe
    }

    #[inline]
    pub fn get(&self, stripe: Stripe) -> u32 {
        self.counters[stripe as usize].load(SeqCst) & !CLAIMED
    }

    /// Reads a stripe's counter, so that it is near when it is asked for. What it gives means nothing.
    #[inline]
    pub fn prefetch(&self, stripe: Stripe) -> u64 {
        u64::from(self.counters[stripe as usize].load(Relaxed))
    }

    /// Whether a fill was begun under the present stamp, so that there may be an entry or a flight.
    #[inline]
    pub fn is_claimed(&self, stripe: Stripe) -> bool {
        self.counters[stripe as usize].load(SeqCst) & CLAIMED != 0
    }

    /// The stamp under which a fill begins. To be called before its request is sent.
    #[inline]
    pub fn claim(&self, stripe: Stripe) -> u32 {
        self.counters[stripe as usize].fetch_or(CLAIMED, SeqCst) & !CLAIMED
    }

    /// Moves the stamp on; nothing is claimed under the new one. Where nothing is under the present one either, nothing was
    /// read under it: what a fill reads that begins from here on is read later, and the counter is only looked at.
    #[inline]
    pub fn bump(&self, stripe: Stripe) {
        let counter = &self.counters[stripe as usize];
        let mut seen = counter.load(SeqCst);
        while seen & CLAIMED != 0 {
            match counter.compare_exchange_weak(seen, next(seen), SeqCst, SeqCst) {
                Ok(_) => return,
                Err(other) => seen = other,
            }
        }
    }

    pub fn bump_set(&self, set: &StripeSet) {
        for &stripe in set.stripes() {
            self.bump(stripe);
        }
    }
}

/// The stripes of the keys that a request names.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum StripeSet {
    #[default]
    None,
    One([Stripe; 1]),
    Many(Box<[Stripe]>),
    /// More than could be kept, or not to be told from the arguments.
    Unknown,
}

impl StripeSet {
    /// More keys than this count as unknown.
    pub const KEYS_MAX: usize = 64;

    pub fn stripes(&self) -> &[Stripe] {
        match self {
            StripeSet::One(one) => one,
            StripeSet::Many(many) => many,
            StripeSet::None | StripeSet::Unknown => &[],
        }
    }

    pub fn is_unknown(&self) -> bool {
        *self == StripeSet::Unknown
    }

    pub fn from_slice(stripes: &[Stripe]) -> StripeSet {
        match stripes {
            [] => StripeSet::None,
            [one] => StripeSet::One([*one]),
            many if many.len() <= Self::KEYS_MAX => StripeSet::Many(many.into()),
            _ => StripeSet::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_does_not_move_the_stamp_and_a_bump_ends_it() {
        let stamps = Stamps::new(0);
        let first = stamps.get(7);
        assert!(!stamps.is_claimed(7));
        assert_eq!(stamps.claim(7), first);
        assert_eq!(stamps.claim(7), first, "a second claim");
        assert_eq!(stamps.get(7), first);
        assert!(stamps.is_claimed(7));
        stamps.bump(7);
        assert_ne!(stamps.get(7), first);
        assert!(!stamps.is_claimed(7));
        let second = stamps.get(7);
        stamps.bump(7);
        assert_eq!(stamps.get(7), second, "a bump without a claim");
        assert_eq!(stamps.claim(7), second);
        stamps.bump(7);
        assert_ne!(stamps.get(7), second, "a bump behind a claim");
        assert!(!stamps.is_claimed(8) && stamps.get(8) == first, "its neighbour");
    }

    #[test]
    fn the_last_stamp_is_followed_by_the_first() {
        assert_eq!(next(u32::MAX), 0);
        assert_eq!(next(u32::MAX - 1), 0);
        assert_eq!(next(0), 2);
        assert_eq!(next(1), 2);
    }
}
