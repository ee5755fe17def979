//! The masters of locks as all workers know them: which process each is, and whether it may vote. Talks to nobody.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::state::lock::votes::Quorum;

pub struct Masters {
    /// Their places in `Places::own`.
    places: Range<usize>,
    voters: Mutex<Vec<Voter>>,
    /// A master was met that is not as it is known: somebody should look.
    pub changed: Notify,
}

/// Whether a master may vote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Voter {
    /// Nobody has looked at it yet.
    #[default]
    Unknown,
    /// The process with this run id.
    Known { run_id: Arc<[u8]>, is_ready: bool },
    /// It is no independent master.
    Unfit,
}

impl Masters {
    pub fn new(places: Range<usize>) -> Masters {
        let voters = Mutex::new(vec![Voter::Unknown; places.len()]);
        Masters { places, voters, changed: Notify::new() }
    }

    pub fn places(&self) -> Range<usize> {
        self.places.clone()
    }

    pub fn quorum(&self) -> Quorum {
        Quorum::of(self.places.len())
    }

    /// In the order of their places.
    pub fn voters(&self) -> Vec<Voter> {
        self.lock().clone()
    }

    pub fn set_voters(&self, voters: Vec<Voter>) {
        debug_assert_eq!(voters.len(), self.places.len(), "one for each master");
        *self.lock() = voters;
    }

    /// How many masters' votes count, as far as is known.
    pub fn ready(&self) -> u64 {
        let is_ready = |voter: &&Voter| matches!(voter, Voter::Known { is_ready: true, .. });
        self.lock().iter().filter(is_ready).count() as u64
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Voter>> {
        self.voters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
