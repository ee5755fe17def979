//! What `PresenceManager` promises.
use std::time::Duration;

use madcache::client::{PresenceEventKind, PresenceManager};
use serde_json::json;

use crate::support::Redis;
use crate::{open, soon, until};

#[tokio::test]
async fn a_user_with_two_connections_is_counted_and_announced_once() {
    let redis = Redis::start();
    let here = PresenceManager::new(open(&redis));
    let there = PresenceManager::new(open(&redis));
    let mut events = here.events("chat").await.unwrap();
    let joined = here.join_channel("ann", "chat".to_string(), Some(json!({"n": 1}))).await.unwrap();
    assert!(joined.first && joined.users == 1);
    assert!(!there.join_channel("ann", "chat", None).await.unwrap().first);
    assert_eq!(here.get_channel_online_count("chat".to_string()).await.unwrap(), 1);
    let members = there.members("chat").await.unwrap();
    assert_eq!((members[0].user.as_str(), members[0].connections), ("ann", 2));
    assert_eq!(members[0].meta, Some(json!({"n": 1})));
    let users = redis.client().text(&["SMEMBERS", "presence:channel:chat:users"]);
    assert!(users.contains("ann"), "{users}");

    assert!(there.update("ann", "chat", &json!({"n": 2})).await.unwrap());
    assert!(!here.leave("ann", "chat").await.unwrap().last);
    let left = there.leave("ann", "chat").await.unwrap();
    assert!(left.last && left.users == 0);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let event = soon("event", events.next()).await.unwrap();
        seen.push((event.kind, event.seq - joined.seq));
        assert_eq!((event.user.as_str(), event.cause.as_str()), ("ann", "client"));
    }
    use PresenceEventKind::{Join, Leave, Update};
    assert_eq!(seen, [(Join, 0), (Update, 1), (Leave, 2)]);
    assert_eq!(left.seq, joined.seq + 2);
}

#[tokio::test]
async fn who_stops_beating_leaves_and_that_is_announced() {
    let redis = Redis::start();
    let crashed = PresenceManager::new(open(&redis)).with_ttl(Duration::from_millis(200));
    let watcher = PresenceManager::new(open(&redis));
    let mut events = watcher.events("chat").await.unwrap();
    crashed.join_channel("ann", "chat", None).await.unwrap();
    let _sweeper = watcher.keep_alive();
    assert_eq!(soon("join", events.next()).await.unwrap().kind, PresenceEventKind::Join);
    let event = soon("leave", events.next()).await.unwrap();
    assert_eq!((event.kind, event.cause.as_str()), (PresenceEventKind::Leave, "expired"));
    assert_eq!(watcher.get_channel_online_count("chat").await.unwrap(), 0);
    assert!(!crashed.heartbeat("ann", "chat").await.unwrap());
    assert_eq!(watcher.channels("ann").await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_keeper_beats_and_joins_again_what_the_server_forgot() {
    let redis = Redis::start();
    let presence = PresenceManager::new(open(&redis)).with_ttl(Duration::from_millis(900));
    let alive = presence.keep_alive();
    presence.join_channel("ann", "chat", None).await.unwrap();
    // Three ttls: it is beaten, or it is gone.
    tokio::time::sleep(Duration::from_millis(2700)).await;
    assert!(presence.heartbeat("ann", "chat").await.unwrap());
    redis.client().text(&["FLUSHALL"]);
    let is_there = async || presence.get_channel_online_count("chat").await.unwrap() == 1;
    until("back", is_there).await;
    presence.leave("ann", "chat").await.unwrap();
    presence.join_channel("ben", "chat", None).await.unwrap();
    drop(alive);
    until("gone", async || {
        presence.sweep().await.unwrap();
        presence.get_channel_online_count("chat").await.unwrap() == 0
    })
    .await;
}

#[tokio::test]
async fn a_connection_leaves_all_its_channels_at_once() {
    let redis = Redis::start();
    let presence = PresenceManager::new(open(&redis));
    let tab = presence.for_connection("tab");
    for channel in ["a", "b", "c"] {
        tab.join_channel("ann", channel, None).await.unwrap();
    }
    presence.join_channel("ann", "a", None).await.unwrap();
    assert!(tab.heartbeat("ann", "b").await.unwrap());
    let mut channels = tab.channels("ann").await.unwrap();
    channels.sort();
    assert_eq!(channels, ["a", "b", "c"]);
    assert_eq!(tab.leave_all().await.unwrap(), 3);
    assert_eq!(presence.channels("ann").await.unwrap(), ["a"]);
    assert!(!tab.heartbeat("ann", "a").await.unwrap());
}
