//! A hash table from byte strings to values, made for what Redis promises: it grows and shrinks a bucket at a time, its
//! scan cursor survives that (every element that is there during the whole scan is seen), and a random element costs O(1).
//!
//! Entries lie densely in `Entries`, one after the other; buckets hold the position of the first entry of a chain, each
//! entry that of the next. While the table is rebuilt there are two arrays of buckets: those of the old one below
//! `moved` are empty, and the elements that belonged there are found through the new one.

use super::compact::Compact;
use foldhash::fast::RandomState;
use std::hash::{BuildHasher, Hasher};

mod entries;

use entries::{Entries, Entry};

const BUCKETS_MIN: usize = 4;
/// A table with fewer elements than buckets / this is rebuilt smaller.
const SPARSE: usize = 8;
/// A step of rebuilding passes at most this many empty buckets.
const EMPTY_PASSED_MAX: usize = 16;
/// The end of a chain. Links count from 1, so that new buckets are zeroed memory.
const END: u32 = 0;

#[derive(Clone)]
pub struct Dict<V> {
    entries: Entries<V>,
    /// A power of two of them, or none before the first insertion.
    buckets: Vec<u32>,
    /// The new buckets while the table is rebuilt; otherwise none.
    coming: Vec<u32>,
    /// So many of `buckets` have been moved to `coming`.
    moved: usize,
    hashing: RandomState,
}

impl<V> Default for Dict<V> {
    fn default() -> Dict<V> {
        Dict::new()
    }
}

impl<V> Dict<V> {
    /// What an element takes besides the heap of its key and its value.
    pub const ENTRY_BYTES: usize = size_of::<Entry<V>>() + 2 * size_of::<u32>();

    pub fn new() -> Dict<V> {
        Dict {
            entries: Entries::new(),
            buckets: Vec::new(),
            coming: Vec::new(),
            moved: 0,
            hashing: RandomState::default(),
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn clear(&mut self) {
        *self = Dict::new();
    }

    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        self.find(self.hash(key), key).map(|at| self.value(at))
    }

    #[inline]
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        let at = self.find(self.hash(key), key)?;
        Some(self.value_mut(at))
    }

    #[inline]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.find(self.hash(key), key).is_some()
    }

    /// Gives the value that the key had before.
    pub fn insert(&mut self, key: &[u8], value: V) -> Option<V> {
        let hash = self.hash(key);
        match self.find(hash, key) {
            Some(at) => Some(std::mem::replace(self.value_mut(at), value)),
            None => {
                self.add(hash, key, value);
                None
            }
        }
    }

    /// The value of the key, made by `value` if there is none. One look at the table.
    pub fn get_or_insert_with(&mut self, key: &[u8], value: impl FnOnce() -> V) -> &mut V {
        let hash = self.hash(key);
        let at = match self.find(hash, key) {
            Some(at) => at,
            None => self.add(hash, key, value()),
        };
        self.value_mut(at)
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<V> {
        let at = self.find(self.hash(key), key)?;
        Some(self.remove_at(at).1)
    }

    /// In no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &V)> {
        self.entries.iter().map(|entry| (&*entry.key, &entry.value))
    }

    // By position: elements stand at 0..len in no order. A position holds until an element is removed.

    #[inline]
    pub fn hash(&self, key: &[u8]) -> u32 {
        let mut hasher = self.hashing.build_hasher();
        hasher.write(key);
        hasher.finish() as u32
    }

    /// The position of a key, whose hash the caller knows.
    #[inline]
    pub fn find(&self, hash: u32, key: &[u8]) -> Option<usize> {
        let mut link = *self.head(hash)?;
        while link != END {
            let entry = self.entries.get(link as usize - 1);
            if entry.hash == hash && *entry.key == *key {
                return Some(link as usize - 1);
            }
            link = entry.next;
        }
        None
    }

    #[inline]
    pub fn key(&self, at: usize) -> &[u8] {
        &self.entries.get(at).key
    }

    #[inline]
    pub fn value(&self, at: usize) -> &V {
        &self.entries.get(at).value
    }

    #[inline]
    pub fn value_mut(&mut self, at: usize) -> &mut V {
        &mut self.entries.get_mut(at).value
    }

    /// Adds a key that is not there. Gives its position.
    pub fn add(&mut self, hash: u32, key: &[u8], value: V) -> usize {
        debug_assert!(self.find(hash, key).is_none(), "add is for new keys");
        self.grow_if_full();
        self.rebuild_step();
        let at = self.entries.len();
        assert!(at < u32::MAX as usize - 1, "positions have 32 bits");
        let head = self.head_mut(hash);
        let next = std::mem::replace(head, at as u32 + 1);
        self.entries.push(Entry { hash, next, key: Compact::from(key), value });
        at
    }

    /// Removes an element; the last one takes its position.
    pub fn remove_at(&mut self, at: usize) -> (Compact, V) {
        let (hash, next) = (self.entries.get(at).hash, self.entries.get(at).next);
        self.relink(hash, at as u32 + 1, next);
        let last = self.entries.len() - 1;
        if at != last {
            let hash = self.entries.get(last).hash;
            self.relink(hash, last as u32 + 1, at as u32 + 1);
        }
        let entry = self.entries.swap_remove(at);
        self.shrink_if_sparse();
        self.rebuild_step();
        (entry.key, entry.value)
    }

    // Scanning.

    /// Hands the elements of the bucket of `cursor` to `f` and gives the next cursor, 0 at the end. Begin with 0.
    /// The cursor counts with its bits reversed, so that buckets that were split or joined meanwhile are met
    /// where they are needed; an element may come twice.
    pub fn scan(&self, cursor: u64, f: &mut dyn FnMut(&[u8], &V)) -> u64 {
        if self.is_empty() {
            return 0;
        }
        if self.coming.is_empty() {
            self.visit(&self.buckets, cursor, f);
            return next_cursor(cursor, self.buckets.len() as u64 - 1);
        }
        let (small, large) = if self.buckets.len() < self.coming.len() {
            (&self.buckets, &self.coming)
        } else {
            (&self.coming, &self.buckets)
        };
        let (small_mask, large_mask) = (small.len() as u64 - 1, large.len() as u64 - 1);
        self.visit(small, cursor, f);
        let mut cursor = cursor;
        loop {
            self.visit(large, cursor, f);
            cursor = next_cursor(cursor, large_mask);
            if cursor & (small_mask ^ large_mask) == 0 {
                return cursor;
            }
        }
    }

    fn visit(&self, buckets: &[u32], cursor: u64, f: &mut dyn FnMut(&[u8], &V)) {
        let mut link = buckets[cursor as usize & (buckets.len() - 1)];
        while link != END {
            let entry = self.entries.get(link as usize - 1);
            f(&entry.key, &entry.value);
            link = entry.next;
        }
    }

    // Rebuilding.

    /// The chain that a hash belongs to; none in a table without buckets.
    #[inline]
    fn head(&self, hash: u32) -> Option<&u32> {
        let bucket = hash as usize & self.buckets.len().wrapping_sub(1);
        if bucket < self.moved {
            return self.coming.get(hash as usize & (self.coming.len() - 1));
        }
        self.buckets.get(bucket)
    }

    #[inline]
    fn head_mut(&mut self, hash: u32) -> &mut u32 {
        let bucket = hash as usize & (self.buckets.len() - 1);
        if bucket < self.moved {
            let bucket = hash as usize & (self.coming.len() - 1);
            return &mut self.coming[bucket];
        }
        &mut self.buckets[bucket]
    }

    /// Makes the link of the hash's chain that says `from` say `to`.
    fn relink(&mut self, hash: u32, from: u32, to: u32) {
        let head = self.head_mut(hash);
        if *head == from {
            *head = to;
            return;
        }
        let mut link = *head;
        loop {
            assert!(link != END, "an entry is in the chain of its hash");
            let entry = self.entries.get_mut(link as usize - 1);
            if entry.next == from {
                entry.next = to;
                return;
            }
            link = entry.next;
        }
    }

    fn grow_if_full(&mut self) {
        if self.buckets.is_empty() {
            self.buckets = vec![END; BUCKETS_MIN];
        } else if self.coming.is_empty() && self.entries.len() >= self.buckets.len() {
            self.coming = vec![END; self.buckets.len() * 2];
        }
    }

    fn shrink_if_sparse(&mut self) {
        let (len, buckets) = (self.entries.len(), self.buckets.len());
        if self.coming.is_empty() && buckets > BUCKETS_MIN && len * SPARSE < buckets {
            self.coming = vec![END; (2 * len).next_power_of_two().max(BUCKETS_MIN)];
        }
    }

    /// Moves one bucket, if there is something to move. Every change does a step; `upkeep` may do more.
    #[inline]
    pub fn rebuild_step(&mut self) {
        if !self.coming.is_empty() {
            self.move_a_bucket();
        }
    }

    /// Whether steps are left to do.
    pub fn is_rebuilding(&self) -> bool {
        !self.coming.is_empty()
    }

    fn move_a_bucket(&mut self) {
        let end = self.buckets.len().min(self.moved + EMPTY_PASSED_MAX);
        while self.moved < end {
            let mut link = std::mem::replace(&mut self.buckets[self.moved], END);
            self.moved += 1;
            if link == END {
                continue;
            }
            let mask = self.coming.len() - 1;
            while link != END {
                let entry = self.entries.get_mut(link as usize - 1);
                let head = &mut self.coming[entry.hash as usize & mask];
                let next = std::mem::replace(&mut entry.next, *head);
                *head = link;
                link = next;
            }
            break;
        }
        if self.moved == self.buckets.len() {
            self.buckets = std::mem::take(&mut self.coming);
            self.moved = 0;
        }
    }
}

/// One more, counted from the high bits of the mask down.
fn next_cursor(cursor: u64, mask: u64) -> u64 {
    (cursor | !mask).reverse_bits().wrapping_add(1).reverse_bits()
}

#[cfg(test)]
mod tests;
