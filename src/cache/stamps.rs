//! Version stamps: a counter per stripe of keys. Moving a stamp on invalidates whatever was read before.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Which counter a key belongs to.
pub type Stripe = u32;

/// What an entry weighs typically, and how many stripes there are for each such entry. More stripes would share less,
/// but a hit looks at one of them: the table must not outgrow the processor's caches.
const ENTRY_BYTES: u64 = 1024;
const STRIPES_PER_ENTRY: u64 = 16;

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
        self.counters[stripe as usize].load(SeqCst)
    }

    #[inline]
    pub fn bump(&self, stripe: Stripe) {
        self.counters[stripe as usize].fetch_add(1, SeqCst);
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
