//! Why a node of a cluster says nothing of use, in words that tell what can be done. Asks nobody.

use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::config::{Address, Target};
use crate::l2::{dial, words};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// It is a Redis by itself, as it says in these words.
    NoCluster(String),
    /// It lets us not ask.
    Refused(String),
    Away(String),
}

impl Silence {
    pub(super) fn of(error: RedisError, target: &Target) -> Silence {
        match words(&error) {
            Some(words) if words.contains("cluster support disabled") => Silence::NoCluster(words),
            // That passes by itself.
            Some(words) if error.kind() == ErrorKind::Server(ServerErrorKind::BusyLoading) => {
                Silence::Away(words)
            }
            Some(words) => Silence::Refused(words),
            None => Silence::Away(dial::explained(error, target).to_string()),
        }
    }

    pub(super) fn late(patience: Duration, target: &Target) -> Silence {
        let question = if target.tls.is_some() { "; does it speak TLS on this port?" } else { "" };
        Silence::Away(format!("no answer within {patience:?}{question}"))
    }

    /// It lasts until somebody corrects the configuration.
    pub(super) fn is_hopeless(&self) -> bool {
        !matches!(self, Silence::Away(_))
    }

    fn rank(&self) -> u8 {
        match self {
            Silence::NoCluster(_) => 0,
            Silence::Refused(_) => 1,
            Silence::Away(_) => 2,
        }
    }
}

/// What can be corrected first.
pub(super) fn foremost(silences: &[(Address, Silence)]) -> Option<&(Address, Silence)> {
    silences.iter().min_by_key(|(_, silence)| silence.rank())
}

pub(super) fn reason((address, silence): &(Address, Silence), target: &Target) -> String {
    match silence {
        Silence::NoCluster(words) => {
            let redis = if target.tls.is_some() { "rediss" } else { "redis" };
            format!(
                "the Redis at {address} is no cluster ({words}): write {redis}:// instead of {redis}-cluster://"
            )
        }
        Silence::Refused(words) => format!("the node at {address} refuses to be asked: {words}"),
        Silence::Away(reason) => {
            format!("no node answers, the one at {address} for this reason: {reason}")
        }
    }
}
