//! Every reply reaches the request that asked for it, whatever clients do: a swarm that pipelines, cancels, resets and
//! leaves, over every kind of link. `MADCACHE_TEST_REPLIES` sets how many replies are checked, `MADCACHE_TEST_SEED` the
//! choices of the clients. Says nothing about how fresh a value is; that is the coherence test.

#[path = "../support/mod.rs"]
mod support;

mod check;
mod swarm;
mod talk;
mod wire;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use check::stamped;
use support::{Daemon, Redis, eventually};
use swarm::{CLIENTS, SHARED_KEYS, Swarm, links, prepare};

/// More than the shared links of two workers can be (two protocols, two databases; tracked, plain, script and up to
/// eight spill links each), and far less than the connections of a run would leave behind.
const SHARED_LINKS_MAX: usize = 128;

fn from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => default,
    }
}

fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    from_environment("MADCACHE_TEST_SEED", now.as_nanos() as u64)
}

#[test]
fn a_million_replies_each_reach_the_request_that_asked_and_nothing_is_left_behind() {
    let redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url(), &[("MADCACHE_SERVER_WORKERS", "2")]);
    prepare(&redis);
    let swarm = Swarm::new(daemon.port, from_environment("MADCACHE_TEST_REPLIES", 1_000_000));
    swarm.run(&redis, seed());
    let faults = swarm.faults();
    assert!(faults.is_empty(), "{}\n{}", faults.join("\n"), daemon.stderr());
    assert!(swarm.left.load(Relaxed) > CLIENTS, "too few clients left early to tell anything");

    let (hits, forwarded) = (daemon.stat("l1_hits"), daemon.stat("forwarded"));
    println!("integrity: {hits} hits, {forwarded} requests forwarded");
    assert!(hits > 0 && forwarded > 0, "a run without hits, or without misses, shows little");
    eventually("INFO madcache counts only the client that asks", || daemon.stat("clients") == 1);
    let mut l2 = redis.client();
    let stateful = |line: &String| {
        let flags = line.split("flags=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("");
        flags.contains(['P', 'x', 'b', 'O']) || !line.contains(" sub=0 ") || !line.contains(" multi=-1 ")
    };
    eventually("no link of a session that left is still subscribed, blocked or in a transaction", || {
        !links(&mut l2).iter().any(stateful)
    });
    eventually("only shared links are left", || links(&mut l2).len() <= SHARED_LINKS_MAX);
}

#[test]
fn redis_itself_passes_the_same_swarm() {
    let redis = Redis::start();
    prepare(&redis);
    let swarm = Swarm::new(redis.port, 100_000);
    swarm.run(&redis, seed());
    assert!(swarm.faults().is_empty(), "{}", swarm.faults().join("\n"));
}

#[test]
fn the_swarm_notices_replies_that_were_meant_for_another_key() {
    let redis = Redis::start();
    prepare(&redis);
    let swarm = Swarm::new(redis.port, 200_000);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = redis.client();
            while !over.load(Relaxed) {
                for n in 0..SHARED_KEYS {
                    let (key, other) = (format!("k:{n}"), format!("k:{}", n + 1));
                    client.call(&[&b"SET"[..], key.as_bytes(), &stamped(0, &other, n, 20)]);
                }
            }
        });
        swarm.run(&redis, seed());
        over.store(true, Relaxed);
    });
    assert!(!swarm.faults().is_empty(), "crossed values went unnoticed");
    assert!(swarm.faults()[0].contains("Stamped("), "{}", swarm.faults()[0]);
}
