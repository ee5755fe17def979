//! One ACQUIRE from its first attempt to its grant or its end. Whatever becomes of it, no place in line and no hold that
//! nobody knows of is left behind.

use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::PubSubStream;
use tokio::time::Instant;

use super::{Acquired, Client, DistributedLock, Error, Granted, Held, Nonce, Repeat, Waits, lock, random};
use crate::state::Naming;
use crate::state::lock::Wake;

/// Cancels on the server what it stands for, unless that was settled.
struct Attempt<'a> {
    client: &'a Client,
    name: &'a [u8],
    naming: &'a Naming,
    nonce: Nonce,
    settled: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.client.run_aside(vec![lock::cancel(self.naming, self.name, &self.nonce)]);
        }
    }
}

pub(super) async fn acquire(lock: &DistributedLock, wait: Duration) -> Result<Option<Granted>, Error> {
    let request = lock.request(wait)?;
    let client = &lock.client;
    let naming = &client.naming().await?;
    let until = Instant::now() + wait;
    let waits = if wait.is_zero() { Waits::No } else { Waits::InLine };
    let (nonce, token): (Nonce, _) = (random(), lock::token_text(&random()));
    // Before the first attempt: a release between that and here would not be heard of. Without it the waiter looks again
    // each second.
    let mut wakes = match waits {
        Waits::InLine => client.subscribe(&lock::wake_channel(naming)).await.ok(),
        Waits::No => None,
    };
    let call = request.call(naming, &token, &nonce, waits);
    let mut attempt = Attempt { client, name: &request.name, naming, nonce, settled: false };
    loop {
        let sent = Instant::now();
        let frame = client.run(&call, Repeat::Safe).await?;
        match Acquired::parse(&frame).map_err(Error::Unexpected)? {
            Acquired::Granted { token, fence, .. } => {
                attempt.settled = true;
                return Ok(Some(Granted { held: Held { token, nonce, fence }, sent }));
            }
            Acquired::Denied { .. } if waits == Waits::No => {
                attempt.settled = true;
                return Ok(None);
            }
            Acquired::Denied { retry_ms, .. } => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    client.run(&lock::cancel(naming, &request.name, &nonce), Repeat::Safe).await?;
                    attempt.settled = true;
                    return Ok(None);
                }
                let pause = lock::look_again(retry_ms).min(left);
                let woken = woken(&mut wakes, &request.name, &nonce);
                let _ = tokio::time::timeout(pause, woken).await;
            }
        }
    }
}

/// Comes back when this waiter may look again; never, if nobody tells.
async fn woken(wakes: &mut Option<PubSubStream>, name: &[u8], nonce: &Nonce) {
    while let Some(stream) = wakes {
        let Some(message) = stream.next().await else {
            *wakes = None;
            break;
        };
        let wake = Wake::parse(message.get_payload_bytes());
        if wake.is_some_and(|wake| wake.name == name && wake.next.is_none_or(|next| next == *nonce)) {
            return;
        }
    }
    std::future::pending().await
}
