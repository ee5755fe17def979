//! The typed client against a real Redis, and through a daemon: what sessions, presence, locks and rate limits promise to
//! Rust programs. The scripts' own cases are in the tests of each kind's state.
#[path = "client_api/limits.rs"]
mod limits;
#[path = "client_api/locks.rs"]
mod locks;
#[path = "client_api/presence.rs"]
mod presence;
#[path = "client_api/sessions.rs"]
mod sessions;
mod support;

use std::time::{Duration, Instant};

use madcache::client::{Client, DistributedLock, Error, SessionManager};
use support::sentinel::FakeSentinel;
use support::{Daemon, PATIENCE, Redis};

fn open(redis: &Redis) -> Client {
    Client::open(&redis.url()).unwrap()
}

/// Asks again and again until it is so.
async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let end = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < end, "still not so after {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What should come at once.
async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("not after {PATIENCE:?}: {what}"))
}

#[tokio::test]
async fn a_daemon_and_its_redis_show_the_same_state() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let through = Client::open(&format!("redis://127.0.0.1:{}", daemon.port)).unwrap();

    let token = SessionManager::new(through.clone()).create_session("ann", "a@b.c", "member").await.unwrap();
    let direct = SessionManager::new(open(&redis));
    assert_eq!(direct.validate_session(&token).await.unwrap().unwrap().user_id, "ann");
    // The daemon's own command knows the token too.
    let mut raw = daemon.client();
    assert!(raw.text(&["SESSION.VALIDATE", &token]).contains("ann"));

    let (here, there) =
        (DistributedLock::new(through, "job", 30), DistributedLock::new(open(&redis), "job", 30));
    assert!(here.acquire().await.unwrap());
    assert!(!there.acquire().await.unwrap());
    here.release().await.unwrap();
    assert!(there.acquire().await.unwrap());
}

#[tokio::test]
async fn a_client_outlives_its_connection_and_the_servers_scripts() {
    let mut redis = Redis::start();
    let client = open(&redis);
    let lock = DistributedLock::new(client.clone(), "a", 30);
    assert!(lock.acquire().await.unwrap());
    redis.client().text(&["SCRIPT", "FLUSH"]);
    lock.release().await.unwrap();
    redis.restart();
    client.ping().await.unwrap();
    assert!(lock.acquire().await.unwrap());
}

#[tokio::test]
async fn errors_tell_a_wrong_call_from_a_server_that_is_away() {
    assert!(matches!(Client::open("no url"), Err(Error::Url(_))));
    let away = Client::open(&format!("redis://127.0.0.1:{}", support::free_port())).unwrap();
    let error = away.ping().await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    let redis = Redis::start();
    let lock = DistributedLock::new(open(&redis), "{a}", 30);
    assert!(matches!(lock.acquire().await, Err(Error::Invalid(_))));
    redis.client().text(&["LPUSH", "lock:a", "x"]);
    let wrong = DistributedLock::new(open(&redis), "a", 30).acquire().await.unwrap_err();
    assert!(matches!(&wrong, Error::Refused(text) if text.contains("WRONGTYPE")), "{wrong}");
}

#[tokio::test]
async fn a_client_finds_the_master_that_sentinels_name_and_its_successor() {
    let (mut first, second) = (Redis::start(), Redis::start());
    let sentinel = FakeSentinel::naming(&first, 1);
    let outdated = FakeSentinel::naming(&first, 0);
    let url =
        format!("redis-sentinel://127.0.0.1:{},127.0.0.1:{}/test-state/3", outdated.port, sentinel.port);
    let lock = |name| DistributedLock::new(Client::open(&url).unwrap(), name, 30);
    let (here, there) = (lock("a"), lock("b"));
    assert!(here.acquire().await.unwrap() && there.acquire().await.unwrap());
    // A replica is not believed, however often it is named.
    second.client().call(&["REPLICAOF", "127.0.0.1", &first.port.to_string()]);
    sentinel.say(&second, 2, None);
    first.process.kill();
    assert!(there.is_held().await.unwrap_err().is_temporary());
    second.client().call(&["REPLICAOF", "NO", "ONE"]);
    second.client().call(&["FLUSHALL"]);
    assert!(matches!(here.release().await, Err(Error::LockLost)));
    assert!(lock("a").acquire().await.unwrap());
    assert_eq!(second.client().call(&["EXISTS", "lock:a"]), b":0\r\n", "it is in another database");
    let error = Client::open("redis-sentinel://host").unwrap_err().to_string();
    assert!(error.contains("the URL names no service"), "{error}");
}

#[tokio::test]
async fn a_prefix_stands_before_all_keys() {
    let redis = Redis::start();
    let lock = DistributedLock::new(open(&redis).with_prefix("app:"), "a", 30);
    assert!(lock.acquire().await.unwrap());
    assert_eq!(redis.client().call(&["EXISTS", "app:lock:a", "lock:a"]), b":1\r\n");
}
