//! Where each kind of shared state lives, as the configuration said at start.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{Masters, Remote};
use crate::config::{Endpoint, Kind, Residence, Residences};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Where the cache's keys are.
    Shared,
    /// In the Redis of this number in `Places::own`.
    Own(usize),
    /// On `Places::masters`, of which a majority decides.
    Masters,
    /// In the engine beside L2.
    Beside,
    /// It is disabled.
    Nowhere,
}

pub struct Places {
    pub l2: Arc<Remote>,
    /// Each Redis that is not L2; kinds with the same URL share one.
    pub own: Vec<Arc<Remote>>,
    /// Those among `own` that are masters of locks.
    pub masters: Option<Masters>,
    kinds: [Place; Kind::ALL.len()],
}

impl Places {
    pub fn new(residences: Residences) -> Places {
        let kinds_of = |residence: &Residence| -> Vec<Kind> {
            Kind::ALL.into_iter().filter(|kind| residences.of(*kind) == residence).collect()
        };
        let l2 = &residences.upstream;
        let mut own: Vec<Arc<Remote>> = Vec::new();
        let mut masters = None;
        let kinds = Kind::ALL.map(|kind| match residences.of(kind) {
            Residence::Shared => Place::Shared,
            Residence::Memory => Place::Beside,
            Residence::Nowhere => Place::Nowhere,
            residence @ Residence::Own(target) => Place::Own(
                own.iter().position(|remote| !remote.is_master && remote.target == *target).unwrap_or_else(
                    || {
                        own.push(Arc::new(Remote::own(target.clone(), kinds_of(residence), l2)));
                        own.len() - 1
                    },
                ),
            ),
            Residence::Masters(targets) => {
                let first = own.len();
                own.extend(targets.iter().map(|target| Arc::new(Remote::master(target.clone(), l2))));
                masters = Some(Masters::new(first..own.len()));
                Place::Masters
            }
        });
        let l2 = Arc::new(Remote::l2(l2.clone(), kinds_of(&Residence::Shared)));
        Places { l2, own, masters, kinds }
    }

    pub fn of(&self, kind: Kind) -> Place {
        self.kinds[kind as usize]
    }

    /// Whether its commands are executed elsewhere than clients' other commands.
    pub fn is_apart(&self, kind: Kind) -> bool {
        matches!(self.of(kind), Place::Own(_) | Place::Masters | Place::Beside)
    }

    /// The Redis where it lives, if it lives in one alone.
    pub fn remote(&self, kind: Kind) -> Option<&Arc<Remote>> {
        match self.of(kind) {
            Place::Shared => Some(&self.l2).filter(|l2| l2.target.endpoint != Endpoint::Memory),
            Place::Own(at) => self.own.get(at),
            Place::Masters | Place::Beside | Place::Nowhere => None,
        }
    }

    /// Whether what executes its commands can be reached; a disabled kind needs nothing.
    pub fn answers(&self, kind: Kind) -> bool {
        if let (Place::Masters, Some(masters)) = (self.of(kind), &self.masters) {
            let reachable = |at: &usize| self.own[*at].is_reachable.load(Relaxed);
            return masters.places().filter(reachable).count() >= masters.quorum().needed();
        }
        self.remote(kind).is_none_or(|remote| remote.is_reachable.load(Relaxed))
    }

    /// Whether an engine in this process executes its commands.
    pub fn is_in_process(&self, kind: Kind) -> bool {
        !matches!(self.of(kind), Place::Nowhere | Place::Masters) && self.remote(kind).is_none()
    }

    /// The kinds that live in the engine beside L2.
    pub fn beside(&self) -> Vec<Kind> {
        Kind::ALL.into_iter().filter(|kind| self.of(*kind) == Place::Beside).collect()
    }
}
