//! A worker's own small table in front of moka. It needs no synchronisation: an entry's stamps say whether it is valid.

use super::{Entry, RequestId};

/// Entries above this size are found through moka only, so that the table keeps little memory alive.
const ENTRY_BYTES_MAX: u32 = 2048;
/// Sets of four: a request has four places where it may stand, all in one line of the processor's caches.
const SETS: usize = 8192;
const WAYS: usize = 4;
/// Every so many hits moka is told of one, so that its frequency sketch stays right.
const SAMPLE_EVERY: u32 = 256;

/// The hash stands beside the entry, so that a foreign one is told apart without a look at its memory.
type Place = (u64, Option<Entry>);

/// The one put last stands first.
#[derive(Clone, Default)]
#[repr(align(64))]
struct Set([Place; WAYS]);

pub struct FrontTable {
    sets: Box<[Set]>,
    hits: u32,
}

impl Default for FrontTable {
    fn default() -> Self {
        FrontTable { sets: vec![Set::default(); SETS].into(), hits: 0 }
    }
}

impl FrontTable {
    #[inline]
    fn set(hash: u64) -> usize {
        (hash >> 40) as usize & (SETS - 1)
    }

    #[inline]
    pub fn get(&self, id: &RequestId<'_>) -> Option<&Entry> {
        let set = &self.sets[Self::set(id.hash)];
        let place = set.0.iter().find(|place| place.0 == id.hash)?;
        place.1.as_ref().filter(|entry| entry.answers(id))
    }

    /// Reads the set where an entry with this hash may stand. What it gives means nothing.
    #[inline]
    pub fn prefetch(&self, hash: u64) -> u64 {
        self.sets[Self::set(hash)].0[0].0
    }

    /// The same of the entry, if it is here.
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) -> u64 {
        let set = &self.sets[Self::set(hash)];
        set.0
            .iter()
            .find(|place| place.0 == hash)
            .and_then(|place| place.1.as_ref())
            .map_or(0, Entry::prefetch)
    }

    pub fn put(&mut self, entry: &Entry) {
        if entry.weight() > ENTRY_BYTES_MAX {
            return;
        }
        let set = &mut self.sets[Self::set(entry.hash)].0;
        let at = set.iter().position(|place| place.0 == entry.hash).unwrap_or(WAYS - 1);
        set[..=at].rotate_right(1);
        set[0] = (entry.hash, Some(entry.clone()));
    }

    pub fn forget(&mut self, id: &RequestId<'_>) {
        for place in &mut self.sets[Self::set(id.hash)].0 {
            if place.0 == id.hash {
                *place = Place::default();
            }
        }
    }

    /// Drops everything, so that replaced and evicted entries give their memory back.
    pub fn clear(&mut self) {
        self.sets.fill(Default::default());
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.sets.iter().flat_map(|set| &set.0).filter_map(|(_, entry)| entry.as_ref())
    }

    #[inline]
    pub fn sample(&mut self) -> bool {
        self.hits = self.hits.wrapping_add(1);
        self.hits.is_multiple_of(SAMPLE_EVERY)
    }
}
