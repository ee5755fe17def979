//! The events of a channel, as a stream. Keeps no state: who sees a gap in the numbers asks for the channel's.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt};
use redis::aio::PubSubStream;
use serde_json::Value as Json;

/// What happened to a user in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceEvent {
    /// Whether the user came, went, or has other meta.
    pub kind: PresenceEventKind,
    /// Whose entry it was.
    pub user: String,
    /// One more than that of the event before. Who misses one reads [`state`](super::PresenceManager::state).
    pub seq: u64,
    /// Why: `client`, `closed` (its connection was) or `expired`.
    pub cause: String,
}

/// Kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresenceEventKind {
    /// The first connection of the user joined.
    Join,
    /// The last one left, or ran out.
    Leave,
    /// The user's meta was changed.
    Update,
}

/// A stream of events over a connection of its own. It ends when that connection does: subscribe again, and read the
/// channel's state behind it for what happened in between.
///
/// ```no_run
/// # use madcache::client::{Error, PresenceManager};
/// # async fn example(presence: PresenceManager) -> Result<(), Error> {
/// let mut events = presence.events("public-chat").await?;
/// while let Some(event) = events.next().await {
///     println!("{}: {:?}", event.user, event.kind);
/// }
/// # Ok(())
/// # }
/// ```
pub struct PresenceEvents {
    messages: PubSubStream,
}

impl std::fmt::Debug for PresenceEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PresenceEvents")
    }
}

impl PresenceEvents {
    pub(super) fn new(messages: PubSubStream) -> PresenceEvents {
        PresenceEvents { messages }
    }

    /// The next event; `None`: the connection is gone.
    pub async fn next(&mut self) -> Option<PresenceEvent> {
        StreamExt::next(self).await
    }
}

impl Stream for PresenceEvents {
    type Item = PresenceEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PresenceEvent>> {
        loop {
            match self.messages.poll_next_unpin(cx) {
                Poll::Ready(Some(message)) => {
                    // Others may publish on the channel what is no event.
                    if let Some(event) = PresenceEvent::parse(message.get_payload_bytes()) {
                        return Poll::Ready(Some(event));
                    }
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl PresenceEvent {
    fn parse(payload: &[u8]) -> Option<PresenceEvent> {
        let event: Json = serde_json::from_slice(payload).ok()?;
        let kind = match event.get("type")?.as_str()? {
            "join" => PresenceEventKind::Join,
            "leave" => PresenceEventKind::Leave,
            "update" => PresenceEventKind::Update,
            _ => return None,
        };
        Some(PresenceEvent {
            kind,
            user: event.get("user")?.as_str()?.to_owned(),
            seq: event.get("seq")?.as_u64()?,
            cause: event.get("cause")?.as_str()?.to_owned(),
        })
    }
}
