//! What `DistributedLock` and its guard promise.
use std::sync::Arc;
use std::time::{Duration, Instant};

use madcache::client::{DistributedLock, Error};

use crate::support::Redis;
use crate::{open, soon, until};

#[tokio::test]
async fn one_holds_at_a_time_and_fences_grow() {
    let redis = Redis::start();
    let (one, two) = (
        DistributedLock::new(redis::Client::open(redis.url()).unwrap(), "migration:lock".to_string(), 30),
        DistributedLock::new(open(&redis), "migration:lock", 30).with_owner("two"),
    );
    assert!(matches!(one.release().await, Err(Error::NotHeld)));
    assert!(one.acquire().await.unwrap());
    assert!(!two.acquire().await.unwrap());
    assert!(!one.acquire().await.unwrap(), "two tasks with one handle exclude each other");
    let first = one.fence().unwrap();
    assert!(one.extend().await.unwrap() > Duration::from_secs(29));
    assert!(one.is_held().await.unwrap());
    one.release().await.unwrap();
    assert_eq!((one.fence(), two.info().await.unwrap()), (None, None));
    assert!(two.acquire().await.unwrap());
    assert!(two.fence().unwrap() > first);
    let info = one.info().await.unwrap().unwrap();
    assert_eq!((info.owner.as_deref(), info.fence, info.waiters), (Some("two"), two.fence(), 0));
}

#[tokio::test]
async fn a_lock_that_ran_out_is_lost_to_its_holder() {
    let redis = Redis::start();
    let lock = DistributedLock::new(open(&redis), "a", 30).with_ttl(Duration::from_millis(50));
    assert!(lock.acquire().await.unwrap());
    until("ended", async || !lock.is_held().await.unwrap()).await;
    assert!(matches!(lock.extend().await, Err(Error::LockLost)));
    assert!(lock.acquire().await.unwrap());
    until("ended", async || !lock.is_held().await.unwrap()).await;
    assert!(matches!(lock.release().await, Err(Error::LockLost)));
    assert!(matches!(lock.release().await, Err(Error::NotHeld)));
}

#[tokio::test]
async fn who_waits_gets_the_lock_when_it_is_released() {
    let redis = Redis::start();
    let holder = DistributedLock::new(open(&redis), "a", 30);
    let waiter = Arc::new(DistributedLock::new(open(&redis), "a", 30).fair());
    assert!(holder.acquire().await.unwrap());
    assert!(!waiter.acquire_within(Duration::from_millis(30)).await.unwrap());
    assert_eq!(holder.info().await.unwrap().unwrap().waiters, 0, "its time was over");
    let waiting = tokio::spawn({
        let waiter = waiter.clone();
        async move { waiter.acquire_within(Duration::from_secs(20)).await }
    });
    until("in line", async || holder.info().await.unwrap().unwrap().waiters == 1).await;
    holder.release().await.unwrap();
    assert!(soon("granted", waiting).await.unwrap().unwrap());
    assert!(waiter.is_held().await.unwrap());
}

#[tokio::test]
async fn a_waiter_that_is_given_up_leaves_the_line() {
    let redis = Redis::start();
    let holder = DistributedLock::new(open(&redis), "a", 30);
    let waiter = DistributedLock::new(open(&redis), "a", 30);
    assert!(holder.acquire().await.unwrap());
    let waiting = tokio::spawn(async move { waiter.acquire_within(Duration::from_secs(20)).await });
    until("in line", async || holder.info().await.unwrap().unwrap().waiters == 1).await;
    waiting.abort();
    until("gone", async || holder.info().await.unwrap().unwrap().waiters == 0).await;
}

#[tokio::test]
async fn a_guard_renews_until_it_is_dropped() {
    let redis = Redis::start();
    let lock = DistributedLock::new(open(&redis), "a", 30).with_ttl(Duration::from_millis(900));
    let other = DistributedLock::new(open(&redis), "a", 30);
    let guard = lock.guard().await.unwrap().unwrap();
    assert!(lock.guard().await.unwrap().is_none());
    // Three ttls: it is renewed, or it is gone.
    tokio::time::sleep(Duration::from_millis(2700)).await;
    assert!(!guard.is_lost());
    assert!(!other.acquire().await.unwrap());
    drop(guard);
    until("free", async || other.acquire().await.unwrap()).await;
    other.release().await.unwrap();
    let guard = lock.guard_within(Duration::from_secs(5)).await.unwrap().unwrap();
    guard.release().await.unwrap();
    assert_eq!(other.info().await.unwrap(), None);
}

#[tokio::test]
async fn a_guard_tells_that_its_lock_was_taken_away() {
    let redis = Redis::start();
    let lock = DistributedLock::new(open(&redis), "a", 3);
    let guard = lock.guard().await.unwrap().unwrap();
    assert!(!guard.is_lost());
    assert!(lock.force().await.unwrap());
    soon("lost", guard.lost()).await;
    assert!(guard.is_lost());
    assert!(matches!(guard.release().await, Err(Error::LockLost)));
}

#[tokio::test]
async fn a_guard_whose_server_is_silent_tells_so_when_the_ttl_is_over() {
    let redis = Redis::start();
    let ttl = Duration::from_secs(2);
    let lock = DistributedLock::new(open(&redis), "a", 2);
    let asked = Instant::now();
    let guard = lock.guard().await.unwrap().unwrap();
    let granted = Instant::now();
    redis.process.signal("STOP");
    soon("lost", guard.lost()).await;
    // An extension may have succeeded before the server stopped.
    assert!(asked.elapsed() >= ttl && granted.elapsed() < ttl + Duration::from_secs(2));
    assert!(guard.is_lost());
    redis.process.signal("CONT");
}
