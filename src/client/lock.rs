//! Distributed locks. Owns what a handle holds; waiting is in `waiting`, renewing in `guard`.

mod guard;
mod waiting;

pub use guard::LockGuard;

use std::sync::Mutex;
use std::time::Duration;

use super::{Client, Error, Repeat, command, duration, random, text};
use crate::state;
use crate::state::lock::{self, Acquire, Acquired, Nonce, Waits};

/// A named lock that at most one holder has at a time, over all processes that use the same Redis.
///
/// Each successful acquire has a token of its own: two tasks that share a handle exclude each other too. The lock ends by
/// itself when its ttl has passed since it was acquired or extended. A holder that was stopped for longer than that may not
/// know: give [`fence`](Self::fence) to whatever the lock protects, and let that refuse smaller numbers than the largest it
/// has seen.
///
/// It lives in the Redis that the client's URL reaches, also through a daemon: where the daemon's configuration has locks live
/// elsewhere (`lock.redlock`, `lock.url_override`), only its LOCK commands go there.
///
/// ```no_run
/// # use madcache::client::{Client, DistributedLock, Error};
/// # async fn example(client: Client) -> Result<(), Error> {
/// let lock = DistributedLock::new(client, "migration:lock".to_string(), 30);
/// if lock.acquire().await? {
///     let fence = lock.fence();
///     // The critical section, shorter than 30 seconds.
///     lock.release().await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DistributedLock {
    client: Client,
    name: String,
    ttl: Duration,
    owner: Option<String>,
    fair: bool,
    held: Mutex<Option<Held>>,
}

/// One grant.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    token: Vec<u8>,
    nonce: Nonce,
    fence: u64,
}

/// A grant, and when the request for it was sent: its ttl counts from then at the earliest.
struct Granted {
    held: Held,
    sent: tokio::time::Instant,
}

/// What others may know of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockInfo {
    /// The label that its holder gave.
    pub owner: Option<String>,
    /// None: the holder is not one of ours (redlock, redis-py and others use the same key).
    pub fence: Option<u64>,
    /// What is left of its time; None for a foreign holder without an end.
    pub ttl: Option<Duration>,
    /// How many wait for it.
    pub waiters: u64,
}

impl DistributedLock {
    /// A handle for the lock of this name, which takes nothing yet. `client` may be a [`redis::Client`] too.
    pub fn new(client: impl Into<Client>, name: impl Into<String>, ttl_secs: u64) -> DistributedLock {
        DistributedLock {
            client: client.into(),
            name: name.into(),
            ttl: Duration::from_secs(ttl_secs),
            owner: None,
            fair: false,
            held: Mutex::default(),
        }
    }

    /// With a ttl that is no number of whole seconds.
    #[must_use]
    pub fn with_ttl(self, ttl: Duration) -> DistributedLock {
        DistributedLock { ttl, ..self }
    }

    /// The label that [`info`](Self::info) shows while this handle holds the lock.
    #[must_use]
    pub fn with_owner(self, label: impl Into<String>) -> DistributedLock {
        DistributedLock { owner: Some(label.into()), ..self }
    }

    /// Those who wait with this are served in the order in which they came.
    #[must_use]
    pub fn fair(self) -> DistributedLock {
        DistributedLock { fair: true, ..self }
    }

    /// The name, as given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes the lock if it is free. `false`: somebody has it, or waits for it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name with braces or a ttl of 0; [`Error::Unreachable`]: the lock is not taken, and if it was
    /// the grant is given back in the background.
    pub async fn acquire(&self) -> Result<bool, Error> {
        self.acquire_within(Duration::ZERO).await
    }

    /// Waits for the lock that long at most. A call that is dropped while it waits leaves the line.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_within(&self, wait: Duration) -> Result<bool, Error> {
        Ok(self.keep(waiting::acquire(self, wait).await?))
    }

    /// As [`acquire`](Self::acquire), with a guard that renews the lock until it is dropped. `None`: not free.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub async fn guard(&self) -> Result<Option<LockGuard>, Error> {
        self.guard_within(Duration::ZERO).await
    }

    /// As [`acquire_within`](Self::acquire_within), with a guard.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub async fn guard_within(&self, wait: Duration) -> Result<Option<LockGuard>, Error> {
        let granted = waiting::acquire(self, wait).await?;
        Ok(granted.map(|granted| LockGuard::new(self, granted)))
    }

    /// Gives the lock back. After an [`Error::Unreachable`] it may be called again.
    ///
    /// # Errors
    /// [`Error::NotHeld`] without an acquire before; [`Error::LockLost`] if it ran out or was forced meanwhile.
    pub async fn release(&self) -> Result<(), Error> {
        let held = self.holding()?;
        let outcome = release(&self.client, &self.name, &held).await;
        if matches!(outcome, Ok(()) | Err(Error::LockLost)) {
            self.forget(&held);
        }
        outcome
    }

    /// Gives the lock its whole ttl anew, and answers what is left now.
    ///
    /// # Errors
    /// [`Error::NotHeld`] and [`Error::LockLost`] as [`release`](Self::release).
    pub async fn extend(&self) -> Result<Duration, Error> {
        let held = self.holding()?;
        let outcome = extend(&self.client, &self.name, &held, self.ttl).await;
        if matches!(outcome, Err(Error::LockLost)) {
            self.forget(&held);
        }
        outcome
    }

    /// Whether this handle still has the lock, by the server's word.
    ///
    /// # Errors
    /// [`Error::Unreachable`]: then nobody knows.
    pub async fn is_held(&self) -> Result<bool, Error> {
        let Ok(held) = self.holding() else { return Ok(false) };
        let command = command(&[b"LOCK.CHECK", self.name.as_bytes(), &held.token])?;
        let state::Command::Lock(lock::Command::Check(check)) = command else { unreachable!("LOCK.CHECK") };
        let naming = self.client.naming().await?;
        let value = self.client.ask(&check.call(&naming), Repeat::Safe).await?;
        let found = value.elements().and_then(|found| found.first()?.int()).ok_or_else(Error::unexpected)?;
        Ok(found == 1)
    }

    /// The number of this handle's grant: larger than that of any grant before. None if it holds nothing.
    #[must_use]
    pub fn fence(&self) -> Option<u64> {
        self.holding().ok().map(|held| held.fence)
    }

    /// Who holds the lock; None: nobody.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn info(&self) -> Result<Option<LockInfo>, Error> {
        let command = command(&[b"LOCK.INFO", self.name.as_bytes()])?;
        let state::Command::Lock(lock::Command::Info(info)) = command else { unreachable!("LOCK.INFO") };
        let naming = self.client.naming().await?;
        let value = self.client.ask(&info.call(&naming), Repeat::Safe).await?;
        let Some([owner, fence, ttl, waiters]) = value.elements() else { return Ok(None) };
        let number = |value: &crate::resp::Value| value.int().and_then(|value| u64::try_from(value).ok());
        Ok(Some(LockInfo {
            owner: owner.text().map(text),
            fence: number(fence),
            ttl: number(ttl).map(Duration::from_millis),
            waiters: number(waiters).unwrap_or(0),
        }))
    }

    /// Takes the lock away from whoever holds it; `false` if nobody did. For operators: its holder finds out when it extends.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn force(&self) -> Result<bool, Error> {
        let command = command(&[b"LOCK.FORCE", self.name.as_bytes()])?;
        let state::Command::Lock(lock::Command::Force(force)) = command else { unreachable!("LOCK.FORCE") };
        let naming = self.client.naming().await?;
        Ok(self.client.number(&force.call(&naming), Repeat::Once).await? == 1)
    }

    fn keep(&self, granted: Option<Granted>) -> bool {
        let is_granted = granted.is_some();
        if let Some(Granted { held, .. }) = granted {
            *self.slot() = Some(held);
        }
        is_granted
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Held>> {
        self.held.lock().expect("nobody panics while a grant is noted")
    }

    fn holding(&self) -> Result<Held, Error> {
        self.slot().clone().ok_or(Error::NotHeld)
    }

    fn forget(&self, ended: &Held) {
        self.slot().take_if(|held| held == ended);
    }

    fn request(&self, wait: Duration) -> Result<Acquire, Error> {
        let (ttl, wait) = (self.ttl.as_millis().to_string(), wait.as_millis().to_string());
        let mut words = vec![b"LOCK.ACQUIRE", self.name.as_bytes(), ttl.as_bytes(), b"WAIT", wait.as_bytes()];
        words.extend(self.fair.then_some(&b"FAIR"[..]));
        if let Some(owner) = &self.owner {
            words.extend([&b"OWNER"[..], owner.as_bytes()]);
        }
        match command(&words)? {
            state::Command::Lock(lock::Command::Acquire(acquire)) => Ok(acquire),
            _ => unreachable!("LOCK.ACQUIRE"),
        }
    }
}

async fn release(client: &Client, name: &str, held: &Held) -> Result<(), Error> {
    let release = lock::Release { name: name.into(), token: held.token.clone() };
    let naming = client.naming().await?;
    client.number(&release.call(&naming), Repeat::Safe).await.map(drop)
}

async fn extend(client: &Client, name: &str, held: &Held, ttl: Duration) -> Result<Duration, Error> {
    let ttl_ms = ttl.as_millis().try_into().unwrap_or(u64::MAX);
    let extend = lock::Extend { name: name.into(), token: held.token.clone(), ttl_ms };
    let naming = client.naming().await?;
    client.number(&extend.call(&naming), Repeat::Safe).await.map(duration)
}
