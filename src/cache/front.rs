//! A worker's own small table in front of moka. It needs no synchronisation: an entry's stamps say whether it is valid.

use super::{Entry, RequestId};

/// Entries above this size are found through moka only, so that the table keeps little memory alive.
const ENTRY_BYTES_MAX: u32 = 2048;
/// Sets of two: a request has two places where it may stand.
const SETS: usize = 16384;
/// Every so many hits moka is told of one, so that its frequency sketch stays right.
const SAMPLE_EVERY: u32 = 256;

/// The hash stands beside the entry, so that a foreign one is told apart without a look at its memory.
type Place = (u64, Option<Entry>);

pub struct FrontTable {
    sets: Box<[[Place; 2]]>,
    hits: u32,
}

impl Default for FrontTable {
    fn default() -> Self {
        FrontTable { sets: (0..SETS).map(|_| Default::default()).collect(), hits: 0 }
    }
}

impl FrontTable {
    #[inline]
    fn set(hash: u64) -> usize {
        (hash >> 40) as usize & (SETS - 1)
    }

    #[inline]
    pub fn get(&self, id: &RequestId<'_>) -> Option<&Entry> {
        let [first, second] = &self.sets[Self::set(id.hash)];
        let place = if first.0 == id.hash { first } else { second };
        if place.0 != id.hash {
            return None;
        }
        place.1.as_ref().filter(|entry| entry.answers(id))
    }

    pub fn put(&mut self, entry: &Entry) {
        if entry.weight() > ENTRY_BYTES_MAX {
            return;
        }
        let [first, second] = &mut self.sets[Self::set(entry.hash)];
        if first.0 != entry.hash && second.0 != entry.hash {
            std::mem::swap(first, second);
        }
        let place = if second.0 == entry.hash { second } else { first };
        *place = (entry.hash, Some(entry.clone()));
    }

    pub fn forget(&mut self, id: &RequestId<'_>) {
        for place in &mut self.sets[Self::set(id.hash)] {
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
        self.sets.iter().flatten().filter_map(|(_, entry)| entry.as_ref())
    }

    #[inline]
    pub fn sample(&mut self) -> bool {
        self.hits = self.hits.wrapping_add(1);
        self.hits.is_multiple_of(SAMPLE_EVERY)
    }
}
