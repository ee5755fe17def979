//! Listens for releases of locks as long as anybody waits for one: one subscription for the whole daemon.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::RedisResult;

use crate::config::{Kind, Target};
use crate::shared::Shared;
use crate::state::Naming;
use crate::state::lock::{Wake, wake_channel};

const PAUSE: Duration = Duration::from_millis(250);

/// Listens where locks live, if that is a Redis.
pub async fn listen(shared: Arc<Shared>) {
    let Some(remote) = shared.places.remote(Kind::Lock) else { return };
    let waiters = shared.lock_waiters.clone();
    loop {
        if waiters.is_empty() {
            waiters.wanted.notified().await;
        }
        if let Err(error) = listen_once(&shared, &remote.target).await {
            tracing::debug!(%error, "not listening for releases of locks");
        }
        waiters.set_listening(false);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn listen_once(shared: &Shared, target: &Target) -> RedisResult<()> {
    let prefix = shared.live.load().config.prefix(Kind::Lock).into();
    let channel = wake_channel(&Naming { prefix, tagged: false });
    let mut subscription = super::dial::subscription(target, shared).await?;
    subscription.subscribe(channel).await?;
    shared.lock_waiters.set_listening(true);
    let mut messages = subscription.on_message();
    while let Some(message) = messages.next().await {
        if let Some(wake) = Wake::parse(message.get_payload_bytes()) {
            shared.lock_waiters.wake(&wake);
        }
    }
    Ok(())
}
