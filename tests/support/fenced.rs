//! What locks with fences protect, and what their holders remember of them.

use std::time::Instant;

/// What guards itself by fences: it refuses those smaller than the largest that it has seen.
#[derive(Default)]
pub struct Resource {
    pub largest: u64,
    pub writes: usize,
    pub refusals: usize,
}

impl Resource {
    /// Whether a write with this fence was accepted.
    pub fn write(&mut self, fence: u64) -> bool {
        let accepted = fence >= self.largest;
        self.largest = self.largest.max(fence);
        self.writes += usize::from(accepted);
        self.refusals += usize::from(!accepted);
        accepted
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Grant {
    pub fence: u64,
    pub asked: Instant,
    pub told: Instant,
    /// When its holder no longer believed in it.
    pub over: Instant,
}
