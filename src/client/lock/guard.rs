//! A grant that is renewed as long as somebody keeps its guard, and the news that it was lost.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Client, DistributedLock, Error, Granted, Held, extend, lock, release};
use crate::client::Repeat;

/// A lock that is held: extended three times within its ttl by a task, and released on drop.
///
/// The lock is lost if it was forced, or if no extension succeeded within the ttl. Work under a guard watches
/// [`lost`](Self::lost) and stops:
///
/// ```no_run
/// # use madcache::client::{Client, DistributedLock, Error};
/// # async fn work(fence: u64) {}
/// # async fn example(client: Client) -> Result<(), Error> {
/// let lock = DistributedLock::new(client, "nightly-report", 10);
/// if let Some(guard) = lock.guard().await? {
///     tokio::select! {
///         () = work(guard.fence()) => guard.release().await?,
///         () = guard.lost() => eprintln!("somebody else may hold it now: stopped"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LockGuard {
    client: Client,
    name: String,
    held: Held,
    /// When the lock may have ended unless a later extension succeeds.
    standing: watch::Receiver<Standing>,
    renewal: JoinHandle<()>,
    /// Released, or known to be lost: nothing is to be given back.
    over: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    HeldUntil(Instant),
    Lost,
}

impl LockGuard {
    pub(super) fn new(lock: &DistributedLock, granted: Granted) -> LockGuard {
        let Granted { held, sent } = granted;
        let (tell, standing) = watch::channel(Standing::HeldUntil(sent + lock.ttl));
        let renewal = Renewal {
            client: lock.client.clone(),
            name: lock.name.clone(),
            held: held.clone(),
            ttl: lock.ttl,
            proven: sent,
            tell,
        };
        LockGuard {
            client: lock.client.clone(),
            name: lock.name.clone(),
            held,
            standing,
            renewal: tokio::spawn(renewal.run()),
            over: false,
        }
    }

    /// The number of this grant: larger than that of any grant before. What the lock protects should refuse smaller ones
    /// than it has seen.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.held.fence
    }

    /// Whether the lock is known to be lost, or may be by now. Looks at the clock itself, so it is right even where the
    /// renewing task could not run.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match *self.standing.borrow() {
            Standing::Lost => true,
            Standing::HeldUntil(end) => Instant::now() >= end,
        }
    }

    /// Comes back when the lock is lost: no later than it can have ended. Never, as long as it is held.
    pub async fn lost(&self) {
        let mut standing = self.standing.clone();
        // Its sender goes only when it has told of the loss, or with the runtime.
        let _ = standing.wait_for(|standing| *standing == Standing::Lost).await;
    }

    /// Gives the lock back and waits for the answer.
    ///
    /// # Errors
    /// [`Error::LockLost`] if it had ended before; [`Error::Unreachable`]: then it is tried on in the background.
    pub async fn release(mut self) -> Result<(), Error> {
        self.renewal.abort();
        let outcome = release(&self.client, &self.name, &self.held).await;
        self.over = matches!(outcome, Ok(()) | Err(Error::LockLost));
        outcome
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.renewal.abort();
        if self.over || *self.standing.borrow() == Standing::Lost {
            return;
        }
        let (client, name, nonce) = (self.client.clone(), self.name.clone(), self.held.nonce);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            // Without a connection it ends with its ttl.
            if let Ok(naming) = client.naming().await {
                client.run_aside(vec![lock::cancel(&naming, name.as_bytes(), &nonce)]);
            }
        });
    }
}

struct Renewal {
    client: Client,
    name: String,
    held: Held,
    ttl: Duration,
    /// When the last request was sent that succeeded.
    proven: Instant,
    tell: watch::Sender<Standing>,
}

impl Renewal {
    async fn run(mut self) {
        let pace = self.ttl / lock::RENEWALS_PER_TTL;
        loop {
            let end = self.proven + self.ttl;
            tokio::time::sleep_until((Instant::now() + pace).min(end)).await;
            let sent = Instant::now();
            let extension = extend(&self.client, &self.name, &self.held, self.ttl);
            match tokio::time::timeout_at(end, extension).await {
                Ok(Ok(_)) => {
                    self.proven = sent;
                    self.tell.send_replace(Standing::HeldUntil(sent + self.ttl));
                }
                Ok(Err(Error::LockLost)) | Err(_) => break,
                // There is time to try again, or there is not.
                Ok(Err(_)) if Instant::now() >= end => break,
                Ok(Err(_)) => tokio::time::sleep(pace / 4).await,
            }
        }
        self.tell.send_replace(Standing::Lost);
        // For everybody else who watches the lock's events. Who holds it knows already.
        if let Ok(naming) = self.client.naming().await {
            let event = lock::lost_event(&naming, self.name.as_bytes(), Some(self.held.fence));
            let _ = self.client.send(&event, Repeat::Once).await;
        }
    }
}
