//! What `SessionManager` promises.
use std::time::Duration;

use madcache::client::{Error, SessionManager, Surplus};

use crate::open;
use crate::support::Redis;

#[tokio::test]
async fn a_login_holds_on_every_node_until_the_logout() {
    let redis = Redis::start();
    let (here, there) = (SessionManager::new(open(&redis)), SessionManager::new(open(&redis)));
    let token = here.create_session(17, "ann@example.com", "authenticated".to_string()).await.unwrap();
    let session = there.validate_session(&token).await.unwrap().unwrap();
    assert_eq!((session.user_id.as_str(), session.email.as_str()), ("17", "ann@example.com"));
    assert_eq!(session.role, "authenticated");
    assert!(session.idle_left <= Duration::from_secs(3600));
    assert!(session.idle_left > Duration::from_secs(3000) && session.absolute_left > session.idle_left);
    assert!(there.destroy(&token).await.unwrap());
    assert!(!there.destroy(&token).await.unwrap());
    assert_eq!(here.validate_session(&token).await.unwrap(), None);
    assert_eq!(here.validate_session("no token").await.unwrap(), None);
}

#[tokio::test]
async fn a_user_sees_its_sessions_and_ends_them() {
    let redis = Redis::start();
    let sessions = SessionManager::new(open(&redis));
    let mut tokens = Vec::new();
    for device in ["phone", "desk", "tablet"] {
        tokens.push(sessions.create_session_on(device, "ann", "", "").await.unwrap());
    }
    let other = sessions.create_session("ben", "", "").await.unwrap();
    let list = sessions.list("ann").await.unwrap();
    let mut devices: Vec<_> = list.iter().filter_map(|session| session.device.clone()).collect();
    devices.sort();
    assert_eq!(devices, ["desk", "phone", "tablet"]);
    let phone = list.iter().find(|session| session.device.as_deref() == Some("phone")).unwrap();
    assert!(phone.created_ms <= phone.used_ms && phone.used_ms < phone.expires_ms);
    assert!(sessions.revoke(&phone.id).await.unwrap());
    assert_eq!(sessions.validate_session(&tokens[0]).await.unwrap(), None);
    assert_eq!(sessions.destroy_others("ann", &tokens[1]).await.unwrap(), 1);
    assert!(sessions.validate_session(&tokens[1]).await.unwrap().is_some());
    assert_eq!(sessions.destroy_all("ann").await.unwrap(), 1);
    assert_eq!(sessions.list("ann").await.unwrap(), []);
    assert!(sessions.validate_session(&other).await.unwrap().is_some());
}

#[tokio::test]
async fn a_change_of_what_was_changed_meanwhile_is_refused() {
    let redis = Redis::start();
    let sessions = SessionManager::new(open(&redis));
    let token = sessions.create_session("ann", "a@b.c", "member").await.unwrap();
    let seen = sessions.validate_session(&token).await.unwrap().unwrap();
    let mut data = seen.data.clone();
    data.insert("role".to_owned(), "admin".into());
    let version = sessions.update(&token, &seen, &data).await.unwrap();
    assert!(matches!(sessions.update(&token, &seen, &data).await, Err(Error::Stale)));
    let now = sessions.validate_session(&token).await.unwrap().unwrap();
    assert_eq!((now.role.as_str(), now.email.as_str(), now.version), ("admin", "a@b.c", version));

    let rotated = sessions.rotate(&token, Duration::ZERO).await.unwrap();
    assert_eq!(rotated.id, seen.id);
    assert_eq!(sessions.validate_session(&token).await.unwrap(), None);
    assert!(matches!(sessions.update(&token, &now, &data).await, Err(Error::NoSession)));
    assert_eq!(sessions.validate_session(&rotated.token).await.unwrap().unwrap().role, "admin");
    assert!(!format!("{rotated:?}").contains(&rotated.token));
}

#[tokio::test]
async fn a_user_has_at_most_as_many_sessions_as_allowed() {
    let redis = Redis::start();
    let sessions = SessionManager::new(open(&redis)).with_max(1, Surplus::Reject);
    let token = sessions.create_session("ann", "", "").await.unwrap();
    assert!(matches!(sessions.create_session("ann", "", "").await, Err(Error::TooManySessions)));
    let evicting = SessionManager::new(open(&redis)).with_max(1, Surplus::Evict);
    evicting.create_session("ann", "", "").await.unwrap();
    assert_eq!(sessions.validate_session(&token).await.unwrap(), None);
}

#[tokio::test]
async fn the_server_holds_no_token() {
    let redis = Redis::start();
    let token = SessionManager::new(open(&redis)).create_session("ann", "", "").await.unwrap();
    let secret = &token.as_bytes()[..43];
    let mut raw = redis.client();
    let keys = raw.call(&["KEYS", "*"]);
    assert!(!keys.windows(43).any(|part| part == secret));
    let plain = SessionManager::new(open(&redis)).with_plain_keys();
    let token = plain.create_session("ben", "", "").await.unwrap();
    assert_eq!(raw.call(&["EXISTS", &format!("session:{token}")]), b":1\r\n");
    assert!(plain.validate_session(&token).await.unwrap().is_some());
}

#[tokio::test]
async fn a_session_that_is_not_used_ends() {
    let redis = Redis::start();
    let sessions = SessionManager::new(open(&redis)).with_idle(Duration::from_millis(100));
    let token = sessions.create_session("ann", "", "").await.unwrap();
    // The key is gone once nobody used it: EXISTS is no use.
    crate::until("ended", async || redis.client().call(&["DBSIZE"]) == b":0\r\n").await;
    assert_eq!(sessions.validate_session(&token).await.unwrap(), None);
}
