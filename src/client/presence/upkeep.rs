//! What keeps presence true: heartbeats for the entries of a manager, and the sweep of those whose heartbeats stopped.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Beat, Client, Entry, Error, Kept, PresenceManager, Repeat};
use crate::state::Naming;
use crate::state::presence;
use crate::state::presence::hints::{self, Hint};
use crate::state::presence::sweep::{self, Due, Look};

/// Between two sweeps. Any number of sweepers may be at work: each leave is announced once.
const SWEEP_PACE: Duration = Duration::from_secs(1);

/// Beats and sweeps until it is dropped. Its manager's entries then end with their ttl, unless they leave.
#[derive(Debug)]
#[must_use = "it stops when it is dropped"]
pub struct KeepAlive {
    manager: PresenceManager,
    task: JoinHandle<()>,
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.task.abort();
        let mut kept = self.manager.kept();
        if self.manager.keepers.fetch_sub(1, Relaxed) == 1 {
            kept.clear();
        }
    }
}

impl PresenceManager {
    /// Keeps all that join through this manager from now on online, three beats within a ttl, and joins again what the server has
    /// forgotten. Sweeps expired entries of all channels about each second, as daemons do, so that a leave is announced
    /// where no daemon is. What fails is done again the next time.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn keep_alive(&self) -> KeepAlive {
        let manager = self.clone();
        self.keepers.fetch_add(1, Relaxed);
        KeepAlive {
            manager: self.clone(),
            task: tokio::spawn(async move {
                tokio::join!(manager.beat_on(), manager.sweep_on());
            }),
        }
    }

    /// Removes what has expired, in all channels, and answers how many connections that were. [`keep_alive`](Self::keep_alive)
    /// and each daemon do this by themselves.
    ///
    /// # Errors
    /// [`Error::Unreachable`]: what is left is found by the next sweep.
    pub async fn sweep(&self) -> Result<u64, Error> {
        let naming = self.client.naming().await?;
        let mut removed = 0;
        loop {
            let frame = self.client.run(&sweep::due(&naming), Repeat::Safe).await?;
            let due = Due::parse_all(&frame).map_err(Error::Unexpected)?;
            for due in &due {
                removed += sweep_channel(&self.client, &naming, due).await?;
            }
            if due.len() < sweep::CHANNELS_MAX {
                return Ok(removed);
            }
        }
    }

    async fn sweep_on(&self) {
        loop {
            tokio::time::sleep(SWEEP_PACE).await;
            let _ = self.sweep().await;
        }
    }

    async fn beat_on(&self) {
        let beats = u32::try_from(presence::BEATS_PER_TTL).expect("a small number");
        loop {
            // The shortest of all, as connections of one manager may have ttls of their own.
            let shortest = self.kept().values().filter_map(|kept| kept.join.ttl_ms).min();
            let ttl = shortest.map_or(self.ttl, |ms| self.ttl.min(Duration::from_millis(ms)));
            tokio::time::sleep((ttl / beats).max(Duration::from_millis(1))).await;
            let _ = self.beat_once().await;
        }
    }

    async fn beat_once(&self) -> Result<(), Error> {
        let entries: Vec<Entry> = self.kept().keys().cloned().collect();
        let beats = self.beat(&entries.iter().collect::<Vec<_>>()).await?;
        for (entry, beat) in entries.iter().zip(beats) {
            // It may have left meanwhile.
            let Some(Kept { join, hinted }) = self.kept().get(entry).cloned() else { continue };
            if beat == Beat::Gone {
                self.enter(&join).await?;
                if !self.kept().contains_key(entry) {
                    let naming = self.client.naming().await?;
                    self.client.run(&entry.call(&naming), Repeat::Safe).await?;
                }
            } else if hinted.elapsed() > hints::REFRESH {
                let naming = self.client.naming().await?;
                for call in join.hints(&naming, presence::TTL_MS_DEFAULT) {
                    self.client.run(&call, Repeat::Safe).await?;
                }
                if let Some(kept) = self.kept().get_mut(entry) {
                    kept.hinted = Instant::now();
                }
            }
        }
        Ok(())
    }
}

async fn sweep_channel(client: &Client, naming: &Naming, due: &Due) -> Result<u64, Error> {
    let (mut expired, mut removed) = (Vec::new(), 0);
    loop {
        let frame = client.run(&due.look(naming, &expired), Repeat::Once).await?;
        let look = Look::parse(&frame).map_err(Error::Unexpected)?;
        removed += look.removed.len() as u64;
        client.run_aside(Hint::forget(naming, &look.hints(&due.channel), Duration::ZERO));
        if look.expired.is_empty() {
            client.run(&due.settle(naming, look.next_ms), Repeat::Safe).await?;
            return Ok(removed);
        }
        expired = look.expired;
    }
}
