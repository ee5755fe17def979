//! What a daemon does not take for independent masters, and what it says of those that it has.

use std::time::Instant;

use crate::support::{Daemon, Redis, eventually, free_port};
use crate::{Masters, fields, granted_at_last, season, shown, until_counting};

/// What a daemon says that does not start with these masters.
fn refusal(redis: &Redis, urls: &[String]) -> String {
    let file = redis.dir().join(format!("madcache-{}.toml", free_port()));
    std::fs::write(&file, format!("[lock]\nredlock = {urls:?}\n")).unwrap();
    let mut daemon = Daemon::spawn_as("", &[], |command| {
        command.arg("--config").arg(&file);
    });
    assert!(!daemon.process.wait().success());
    daemon.stderr()
}

#[test]
fn two_addresses_of_one_redis_a_replica_and_a_cluster_are_refused_at_start() {
    let masters = Masters::start(3);
    let mut urls: Vec<String> = masters.0.iter().map(Redis::url).collect();
    urls[2] = urls[0].replace("127.0.0.1", "localhost");
    let told = refusal(&masters.0[0], &urls);
    assert!(told.contains("it is another one under a second address"), "{told}");

    let port = masters.0[0].port.to_string();
    let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &port]);
    eventually("it is a replica", || {
        replica.client().text(&["INFO", "replication"]).contains("master_link_status:up")
    });
    urls[2] = replica.url();
    let told = refusal(&masters.0[0], &urls);
    assert!(
        told.contains(&format!(
            "at 127.0.0.1:{} cannot be one of lock.redlock, it is a replica",
            replica.port
        )),
        "{told}"
    );

    let cluster = Redis::start_with(&["--cluster-enabled", "yes"]);
    assert_eq!(cluster.client().text(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), "+OK");
    eventually("the cluster serves", || {
        cluster.client().text(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
    });
    urls[2] = cluster.url();
    assert!(refusal(&masters.0[0], &urls).contains("it is in cluster mode"));
}

#[test]
fn one_that_turns_out_to_be_another_does_not_count() {
    let mut masters = Masters::start(5);
    masters.kill(&[2, 3, 4]);
    let daemon = masters.daemon("");
    until_counting(&daemon, 2);
    // In the place of the third, a replica.
    let replica = format!("--replicaof 127.0.0.1 {}", masters.0[0].port);
    std::fs::write(masters.0[2].dir().join(crate::support::CONFIG_FILE), replica.trim_start_matches("--"))
        .unwrap();
    masters.restart(&[2]);
    eventually("it is told", || daemon.stderr().contains("does not count: it is a replica"));
    let mut client = daemon.client();
    assert!(shown(&mut client, "LOCK.ACQUIRE a 1000").starts_with("-NOQUORUM"));
    masters.restart(&[3]);
    season(&masters.0[3]);
    granted_at_last(&mut client, "LOCK.ACQUIRE a 1000");
}

#[test]
fn new_masters_grant_nothing_before_the_longest_ttl_has_passed() {
    let masters = Masters::new_ones(3, &[]);
    let began = Instant::now();
    let daemon = masters.daemon("redlock_ttl_max_ms = 2000");
    let mut client = daemon.client();
    let reply = shown(&mut client, "LOCK.ACQUIRE a 1000");
    assert!(
        reply.starts_with("-NOQUORUM 2 of the 3 masters of locks must agree: 3 started lately"),
        "{reply}"
    );
    granted_at_last(&mut client, "LOCK.ACQUIRE a 1000");
    assert!(began.elapsed().as_millis() >= 2022, "{:?}", began.elapsed());
    // Another daemon finds them as they are.
    let other = masters.daemon("redlock_ttl_max_ms = 2000");
    assert_eq!(fields(&mut other.client(), "LOCK.ACQUIRE b 1000")[0], "1");
}

#[test]
fn the_numbers_and_pages_tell_of_masters() {
    let mut masters = Masters::start(3);
    let daemon = masters.daemon("");
    until_counting(&daemon, 3);
    eventually("they are seen to be there", || daemon.stat("lock_reachable") == 1);
    masters.kill(&[0]);
    let away = format!("the master of locks at 127.0.0.1:{} does not answer", masters.0[0].port);
    eventually("it is seen to be away", || daemon.http("/readyz").1.contains(&away));
    assert_eq!((daemon.http("/readyz").0, daemon.stat("lock_reachable")), (200, 1));
    masters.kill(&[1]);
    eventually("a majority is away", || daemon.stat("lock_reachable") == 0);
    let failed = daemon.stat("lock_no_quorum");
    assert!(shown(&mut daemon.client(), "LOCK.CHECK a t").starts_with("-NOQUORUM"));
    assert_eq!(daemon.stat("lock_no_quorum"), failed + 1);
    let third = format!("127.0.0.1:{}", masters.0[2].port);
    assert!(daemon.http("/").1.contains(&third));
}
