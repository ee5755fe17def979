//! Which server a Redis is at this moment: always the same one, or the master that sentinels name; or none, where nobody leads,
//! no node of a cluster is known, or a node belongs to its cluster no more. Whoever opens a link asks here; `l2` alone decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::watch;

use crate::config::{Address, Endpoint, Target};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leader {
    /// It is being asked for, or links are moving to it. Whoever opens a link waits.
    Soon,
    /// It can be connected to.
    Known(Arc<Target>),
    /// There is none, or none that may be used, and why.
    Nobody(Arc<str>),
}

pub struct Leadership {
    leader: watch::Sender<Leader>,
    /// Moves on when somebody has a reason to doubt that the leader still leads.
    doubts: watch::Sender<u64>,
    /// How often another one took over.
    pub failovers: AtomicU64,
}

impl Leadership {
    pub fn of(target: &Target) -> Leadership {
        let leader = match target.endpoint {
            Endpoint::Sentinel(_) | Endpoint::Cluster { .. } => Leader::Soon,
            _ => Leader::Known(Arc::new(target.clone())),
        };
        Leadership {
            leader: watch::Sender::new(leader),
            doubts: watch::Sender::new(0),
            failovers: AtomicU64::new(0),
        }
    }

    pub fn now(&self) -> Leader {
        self.leader.borrow().clone()
    }

    pub fn set(&self, leader: Leader) {
        self.leader.send_if_modified(|now| {
            let differs = *now != leader;
            *now = leader;
            differs
        });
    }

    pub fn changes(&self) -> watch::Receiver<Leader> {
        self.leader.subscribe()
    }

    /// The server, as soon as it is settled whether there is one; otherwise why there is none.
    pub async fn settled(&self) -> Result<Arc<Target>, Arc<str>> {
        let mut changes = self.leader.subscribe();
        let leader = changes.wait_for(|leader| *leader != Leader::Soon).await.map(|leader| leader.clone());
        match leader {
            Ok(Leader::Known(target)) => Ok(target),
            Ok(Leader::Nobody(reason)) => Err(reason),
            // The sender is in `self`.
            Ok(Leader::Soon) | Err(_) => Err("it is not known where it is".into()),
        }
    }

    /// Why there is none, if that is settled.
    pub fn lack(&self) -> Option<Arc<str>> {
        match &*self.leader.borrow() {
            Leader::Nobody(reason) => Some(reason.clone()),
            Leader::Soon | Leader::Known(_) => None,
        }
    }

    /// The address of who leads, if anybody.
    pub fn master(&self) -> Option<String> {
        match &*self.leader.borrow() {
            Leader::Known(target) => Some(target.endpoint.to_string()),
            Leader::Soon | Leader::Nobody(_) => None,
        }
    }

    pub fn is_at(&self, address: &Address) -> bool {
        match &*self.leader.borrow() {
            Leader::Known(target) => {
                matches!(&target.endpoint, Endpoint::Tcp { host, port } if *host == address.host && *port == address.port)
            }
            _ => false,
        }
    }

    /// Somebody saw what a leader does not do: it is looked at once.
    pub fn doubt(&self) {
        self.doubts.send_modify(|count| *count += 1);
    }

    pub fn doubts(&self) -> watch::Receiver<u64> {
        self.doubts.subscribe()
    }

    pub fn count_failover(&self) {
        self.failovers.fetch_add(1, Relaxed);
    }
}
