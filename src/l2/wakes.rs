//! Listens for releases of locks as long as anybody waits for one: one subscription for the whole daemon.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::RedisResult;

use crate::config::{Kind, Target};
use crate::shared::{Leader, Remote, Shared};
use crate::state::Naming;
use crate::state::lock::{Wake, wake_channel};

const PAUSE: Duration = Duration::from_millis(250);

/// Listens where locks live, if that is a Redis, or several.
pub async fn listen(shared: Arc<Shared>) {
    if let Some(remote) = shared.places.remote(Kind::Lock) {
        return listen_at(shared.clone(), remote.clone()).await;
    }
    let masters = shared.places.own.iter().filter(|remote| remote.is_master);
    for master in masters {
        tokio::spawn(listen_at(shared.clone(), master.clone()));
    }
}

async fn listen_at(shared: Arc<Shared>, remote: Arc<Remote>) {
    let waiters = shared.lock_waiters.clone();
    loop {
        waiters.until_wanted().await;
        let mut changes = remote.leader.changes();
        let Ok(target) = remote.leader.settled().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // In a cluster any node hears what is published on any other.
        let node = remote.cluster.as_ref().and_then(|cluster| cluster.topology().nodes.first().cloned());
        let target = node.as_ref().map_or(&*target, |node| &node.target);
        tokio::select! {
            outcome = listen_once(&shared, target) => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "not listening for releases of locks");
                }
                tokio::time::sleep(PAUSE).await;
            }
            // Another one leads, and tells of the releases.
            _ = changes.changed() => {}
            () = removed(node.as_deref()) => {}
        }
    }
}

/// Comes back when the node does not belong to the cluster any more, and hears nothing of it.
async fn removed(node: Option<&Remote>) {
    let Some(node) = node else { return std::future::pending().await };
    // The sender is in `node`.
    let _ = node.leader.changes().wait_for(|leader| matches!(leader, Leader::Nobody(_))).await;
}

async fn listen_once(shared: &Shared, target: &Target) -> RedisResult<()> {
    let prefix = shared.live.load().config.prefix(Kind::Lock).into();
    let channel = wake_channel(&Naming { prefix, tagged: false });
    let mut subscription = super::dial::subscription(target, shared).await?;
    subscription.subscribe(channel).await?;
    let _listening = shared.lock_waiters.listening();
    let mut messages = subscription.on_message();
    while let Some(message) = messages.next().await {
        if let Some(wake) = Wake::parse(message.get_payload_bytes()) {
            shared.lock_waiters.wake(&wake);
        }
    }
    Ok(())
}
