//! A job that one process at a time does. Start it twice beside a daemon or a Redis:
//! `REDIS_URL=redis://127.0.0.1:6379 cargo run --example lock`

use std::time::Duration;

use madcache::client::{Client, DistributedLock, Error};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let owner = format!("process {}", std::process::id());
    let lock = DistributedLock::new(Client::open(&url)?, "nightly-report", 10).with_owner(owner).fair();

    if let Some(holder) = lock.info().await? {
        println!("held by {:?} for {:?} still: waiting", holder.owner, holder.ttl);
    }
    let Some(guard) = lock.guard_within(Duration::from_secs(30)).await? else {
        println!("not free within 30 seconds");
        return Ok(());
    };
    tokio::select! {
        () = report(guard.fence()) => guard.release().await?,
        // Somebody else may hold it now.
        () = guard.lost() => println!("lost: stopped"),
    }
    Ok(())
}

/// What it writes to refuses fences that are smaller than the largest it has seen: the lock alone cannot stop a process
/// that slept through its end.
async fn report(fence: u64) {
    println!("reporting under fence {fence}");
    tokio::time::sleep(Duration::from_secs(3)).await;
}
