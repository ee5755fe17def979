//! Which limits denied something lately: only their next denial is worth an entry. A lossy memory of hashes, shared by
//! all workers; a wrong answer costs a look in vain.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

const SLOTS: usize = 1 << 14;

pub struct Denials {
    slots: Box<[AtomicU64]>,
    any: AtomicBool,
}

impl Default for Denials {
    fn default() -> Self {
        Denials { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(), any: AtomicBool::new(false) }
    }
}

impl Denials {
    #[inline]
    fn slot(&self, hash: u64) -> &AtomicU64 {
        &self.slots[hash as usize & (SLOTS - 1)]
    }

    pub fn note(&self, hash: u64) {
        self.slot(hash).store(hash, Relaxed);
        self.any.store(true, Relaxed);
    }
    pub fn has(&self, hash: u64) -> bool {
        self.any() && self.slot(hash).load(Relaxed) == hash
    }
    pub fn forget(&self, hash: u64) {
        if self.has(hash) {
            self.slot(hash).store(0, Relaxed);
        }
    }

    /// Whether there was any denial at all.
    #[inline]
    pub fn any(&self) -> bool {
        self.any.load(Relaxed)
    }
}
