//! Cheap random numbers for sampling: SplitMix64. Not for secrets.

use foldhash::fast::RandomState;
use std::hash::BuildHasher;

#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Seeded from the process and this call.
    pub fn new() -> Random {
        Random(RandomState::default().hash_one(0u64))
    }

    /// The same numbers each time.
    pub fn seeded(seed: u64) -> Random {
        Random(seed)
    }

    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Evenly from `0..bound`; 0 where `bound` is 0.
    #[inline]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }
}

impl Default for Random {
    fn default() -> Random {
        Random::new()
    }
}
