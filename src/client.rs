//! The typed Rust API over the shared state: user sessions, presence, locks, rate limits. Runs the scripts of `state`, so
//! that its results are those of the daemon's commands, and both may work on the same keys at the same time. Decides
//! nothing that a script decides, and caches nothing.
//!
//! A [`Client`] takes the URL of a daemon or of a Redis; the code above it is the same. Behind a daemon, the daemon sees to
//! caching and failover; straight at Redis nothing else is needed, but somebody must sweep presence: [`KeepAlive`] does.
//!
//! - [`SessionManager`]: logins that hold on every node, and end on all of them at once.
//! - [`PresenceManager`]: who is online in a channel, across workers, with events.
//! - [`DistributedLock`]: one holder at a time, with a fence and a guard that renews.
//! - [`RateLimiter`] and [`RateLimitMiddleware`]: limits that hold cluster-wide; a tower `Layer` that answers 429.
//!
//! ```no_run
//! use madcache::client::{Client, DistributedLock, SessionManager};
//!
//! # async fn example() -> Result<(), madcache::client::Error> {
//! let client = Client::open("redis://127.0.0.1:6379")?;
//! let sessions = SessionManager::new(client.clone());
//! let token = sessions.create_session("ann", "ann@example.com", "authenticated").await?;
//! assert!(sessions.validate_session(&token).await?.is_some());
//!
//! let lock = DistributedLock::new(client, "migration", 30);
//! if lock.acquire().await? {
//!     // The critical section.
//!     lock.release().await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Everything here needs a tokio runtime with time and I/O enabled. No call waits longer than `PATIENCE` for the server,
//! twice where it may be repeated.

mod elected;
mod error;
mod link;
mod lock;
mod presence;
mod rate_limit;
mod secure;
mod sessions;

pub use error::Error;
pub use lock::{DistributedLock, LockGuard, LockInfo};
pub use presence::{
    ChannelState, Joined, KeepAlive, Left, Member, PresenceEvent, PresenceEventKind, PresenceEvents,
    PresenceManager,
};
pub use rate_limit::{
    Algorithm, Caller, Decision, Limit, RateLimitMiddleware, RateLimited, RateLimiter, WhenAway,
};
pub use secure::Certificates;
pub use sessions::{Rotated, Session, SessionInfo, SessionManager, Surplus};

use std::sync::Arc;
use std::time::Duration;

use redis::aio::PubSubStream;

use crate::resp::Value;
use crate::state::Call;
use crate::state::Command;
use crate::state::Naming;
use crate::state::parse;
use crate::state::understood;
use elected::Elected;
use link::{Link, Links, Sent, Server};

/// So long a connection, or an answer, is waited for.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Between repetitions of a clean-up that was not answered, and how many there are.
const REPEAT: Duration = Duration::from_millis(200);
const REPEATS_MAX: u32 = 50;

/// A connection to a daemon or a Redis, opened when it is first needed and again when it breaks. Cheap to clone; clones
/// share the connection.
#[derive(Clone)]
pub struct Client {
    links: Arc<Links>,
    prefix: Vec<u8>,
}

impl std::fmt::Debug for Client {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("prefix", &String::from_utf8_lossy(&self.prefix))
            .finish_non_exhaustive()
    }
}

impl From<redis::Client> for Client {
    fn from(client: redis::Client) -> Client {
        Client::of(Server::At(client))
    }
}

/// Whether a request whose fate is unknown may be sent again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Once,
    /// Repeated, it changes nothing more and answers the same.
    Safe,
}

impl Client {
    /// For a URL like `redis://user:password@host:6379/0`, `rediss://` for TLS, `redis+unix:///path`, or like
    /// `redis-sentinel://host:26379,host:26379/service/0` for the master that these sentinels name. Connects to nobody yet.
    /// With TLS the system's authorities are trusted, and the certificate must be of the URL's host.
    ///
    /// # Errors
    /// [`Error::Url`] if it is no such URL.
    pub fn open(url: &str) -> Result<Client, Error> {
        secure::choose_ciphers();
        if let Some(elected) = Elected::open(url)? {
            return Ok(Client::of(Server::Elected(elected)));
        }
        redis::Client::open(url).map(Client::from).map_err(Error::Url)
    }

    fn of(server: Server) -> Client {
        Client { links: Arc::new(Links::new(server)), prefix: Vec::new() }
    }

    /// The same by TLS, with other authorities, or with a certificate of this client's own.
    ///
    /// # Errors
    /// [`Error::Url`] if it is no `rediss://` URL, or if these are no certificates.
    pub fn open_with(url: &str, certificates: &Certificates) -> Result<Client, Error> {
        secure::choose_ciphers();
        redis::Client::build_with_tls(url, certificates.into()).map(Client::from).map_err(Error::Url)
    }

    /// The same connection, with this text before all keys and channels. It must be the daemon's `prefix` of the kind where
    /// both work on the same keys.
    #[must_use]
    pub fn with_prefix(&self, prefix: impl Into<Vec<u8>>) -> Client {
        Client { links: self.links.clone(), prefix: prefix.into() }
    }

    /// Asks the server for a sign of life.
    ///
    /// # Errors
    /// [`Error::Unreachable`], or what the server says instead.
    pub async fn ping(&self) -> Result<(), Error> {
        self.send(&crate::resp::encode_request(&[b"PING"]), Repeat::Safe).await.map(drop)
    }

    /// How keys are named on this server.
    async fn naming(&self) -> Result<Naming, Error> {
        let Link { tagged, .. } = self.links.link().await?;
        Ok(Naming { prefix: self.prefix.clone(), tagged })
    }

    /// Runs a script: EVALSHA, and where the server does not know it, EVAL. The reply as a frame, for the parsers of
    /// `state`; an error reply is an `Err`.
    async fn run(&self, call: &Call, repeat: Repeat) -> Result<Vec<u8>, Error> {
        let repeat = if call.script.writes() { repeat } else { Repeat::Safe };
        match self.send(&call.evalsha(), repeat).await? {
            Sent::Answered(frame) => Ok(frame),
            Sent::NoScript => match self.send(&call.eval(), repeat).await? {
                Sent::Answered(frame) => Ok(frame),
                Sent::NoScript => Err(Error::Unexpected("NOSCRIPT to EVAL".into())),
            },
        }
    }

    /// The same, understood.
    async fn ask(&self, call: &Call, repeat: Repeat) -> Result<Value, Error> {
        understood(&self.run(call, repeat).await?).map_err(Error::Unexpected)
    }

    /// The same, for a script that answers a number.
    async fn number(&self, call: &Call, repeat: Repeat) -> Result<i64, Error> {
        self.ask(call, repeat).await?.int().ok_or_else(Error::unexpected)
    }

    async fn send(&self, request: &[u8], repeat: Repeat) -> Result<Sent, Error> {
        let command = link::command_of(request);
        let link = self.links.link().await?;
        match link.send(&command).await {
            Err(error) if link::is_broken(&error) => self.links.forget(&link).await,
            outcome => return outcome.map_err(Error::of),
        }
        if repeat == Repeat::Once {
            return Err(Error::unknown_fate());
        }
        let link = self.links.link().await?;
        let outcome = link.send(&command).await;
        if outcome.as_ref().is_err_and(link::is_broken) {
            self.links.forget(&link).await;
        }
        outcome.map_err(Error::of)
    }

    /// Runs a call that may be repeated until the server has answered it, while the caller goes on. Outside of a runtime
    /// nothing is done: what it would clean up ends with its time.
    fn run_aside(&self, calls: Vec<Call>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let client = self.clone();
        runtime.spawn(async move {
            for call in calls {
                for _ in 0..REPEATS_MAX {
                    match client.run(&call, Repeat::Safe).await {
                        Err(Error::Unreachable(_)) => tokio::time::sleep(REPEAT).await,
                        _ => break,
                    }
                }
            }
        });
    }

    /// The messages of a channel from now on, over a connection of its own.
    async fn subscribe(&self, channel: &[u8]) -> Result<PubSubStream, Error> {
        self.links.subscribe(channel).await
    }
}

/// The command that these words are, checked as the daemon checks it.
fn command(words: &[&[u8]]) -> Result<Command, Error> {
    parse(words).map_err(Error::Invalid)
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let filled = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    assert_eq!(filled, Ok(N), "the kernel gives random bytes at once and whole, up to 256 of them");
    bytes
}

/// Whole milliseconds, at least one.
fn millis(time: Duration) -> String {
    time.as_millis().max(1).to_string()
}

/// A number of milliseconds that is not negative.
fn duration(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
