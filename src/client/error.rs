//! What can go wrong in a call, and what to do about it.

use std::sync::Arc;

use redis::RedisError;

use crate::state::Fault;
use crate::state::UNEXPECTED;

/// Why a call of the typed API failed. Each says what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL is none. Nothing was tried.
    #[error("not a Redis URL ({0}): give one like redis://user:password@host:6379/0")]
    Url(#[source] RedisError),

    /// No connection, or it broke, or no answer came in time. A write may have happened all the same.
    #[error(
        "the server is not reachable ({0}): see that it runs and that the URL is right, then try again; what was asked may have happened"
    )]
    Unreachable(#[source] Arc<dyn std::error::Error + Send + Sync>),

    /// The request was not sent: an argument cannot be.
    #[error("wrong argument ({0}): correct the call")]
    Invalid(Fault),

    /// The lock ran out, was forced, or is somebody else's.
    #[error(
        "the lock is lost: stop what it protects, undo or fence off what was begun, and acquire it again"
    )]
    LockLost,

    /// `release` or `extend` of a lock that this handle did not acquire.
    #[error("this handle holds no lock: call acquire first, and go on only if it answers true")]
    NotHeld,

    /// The user session has ended, or never was.
    #[error("no such session: let the user log in again")]
    NoSession,

    /// The session was changed since it was read.
    #[error("the session was changed meanwhile: validate it again and repeat the change on what it says now")]
    Stale,

    /// The user has as many sessions as allowed.
    #[error("the user has as many sessions as allowed: destroy one of them, or create with Surplus::Evict")]
    TooManySessions,

    /// The server refuses: rights, memory, a key of another type.
    #[error("the server refuses ({0}): it says what must change there")]
    Refused(String),

    /// The server answers what no script of ours does.
    #[error(
        "unexpected answer ({0}): see that the URL leads to a daemon of this version, or to Redis 7 or later"
    )]
    Unexpected(Fault),
}

impl Error {
    /// Whether the same call can succeed a little later without any change.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Error::Unreachable(_))
    }

    pub(super) fn unexpected() -> Error {
        Error::Unexpected(UNEXPECTED.into())
    }

    /// A request went out, and its connection broke.
    pub(super) fn unknown_fate() -> Error {
        Error::away("the connection broke before an answer came")
    }

    pub(super) fn away(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Unreachable(Arc::from(reason.into()))
    }

    /// Of a failure that the redis crate reports.
    pub(super) fn of(error: RedisError) -> Error {
        let Some(code) = error.code() else { return Error::away(error) };
        match code {
            "LOCKLOST" => Error::LockLost,
            "NOSESSION" => Error::NoSession,
            "STALE" => Error::Stale,
            "MAXSESSIONS" => Error::TooManySessions,
            "LOADING" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" => Error::away(error),
            _ => Error::Refused(format!("{code} {}", error.detail().unwrap_or_default())),
        }
    }
}
