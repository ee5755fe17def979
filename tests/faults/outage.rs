//! Redis killed, stopped, away at the start, cut off by the network.

use std::time::Duration;

use crate::load::{Errors, Load};
use crate::relay::Relay;
use crate::support::{Client, Daemon, Redis, eventually};
use crate::{ask, expect_recovery};

/// What is acknowledged has been written to the file. (With "everysec" Redis answers before it writes while an fsync
/// is under way.)
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "no"];
const SHORT_SILENCE: (&str, &str) = ("MADCACHE_UPSTREAM_SILENCE_MAX_MS", "300");

fn killed_and_restarted(errors: Errors) {
    let mut redis = Redis::start_with(&DURABLE);
    let daemon = Daemon::start_with(&redis.url(), &[errors.setting()]);
    Load::run(8, daemon.port, errors, &mut redis, |load, redis| {
        for _ in 0..4 {
            load.expect_progress();
            redis.process.kill();
            // Long enough that requests meet a Redis that is away, not only one that has just died.
            std::thread::sleep(Duration::from_millis(200));
            redis.restart();
            expect_recovery(&daemon, "recovered from a killed Redis");
        }
    });
}

#[test]
fn nothing_runs_twice_when_redis_is_killed_and_restarted_under_load() {
    killed_and_restarted(Errors::Redis);
}

#[test]
fn nothing_runs_twice_when_redis_is_killed_and_errors_are_named() {
    killed_and_restarted(Errors::Named);
}

fn stopped_and_continued(errors: Errors) {
    let mut redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url(), &[errors.setting(), SHORT_SILENCE]);
    Load::run(8, daemon.port, errors, &mut redis, |load, redis| {
        for _ in 0..3 {
            load.expect_progress();
            redis.process.signal("STOP");
            // Several times `silence_max_ms`: pending requests become unknown, later ones are not sent.
            std::thread::sleep(Duration::from_millis(1500));
            redis.process.signal("CONT");
            expect_recovery(&daemon, "recovered from a stopped Redis");
        }
    });
}

#[test]
fn nothing_runs_twice_when_redis_stops_and_goes_on_under_load() {
    stopped_and_continued(Errors::Redis);
}

#[test]
fn nothing_runs_twice_when_redis_stops_and_errors_are_named() {
    stopped_and_continued(Errors::Named);
}

#[test]
fn a_stall_shorter_than_the_silence_allowed_fails_nothing() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut client = daemon.client();
    assert_eq!(client.text(&["INCR", "n"]), ":1");
    redis.process.signal("STOP");
    client.send(&["INCR", "n"]);
    client.expect_silence(Duration::from_millis(1500));
    redis.process.signal("CONT");
    assert_eq!(client.read_frame(), b":2\r\n");
    assert_eq!(client.text(&["INCR", "n"]), ":3");
}

#[test]
fn an_unknown_outcome_ends_the_connection_after_the_earlier_replies() {
    let redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url(), &[SHORT_SILENCE]);
    let mut client = daemon.client();
    assert_eq!(client.text(&["SET", "a", "1"]), "+OK");
    // L2 was asked once whether this user may ask for its name; from then on the daemon answers by itself.
    assert_eq!(client.call(&["CLIENT", "GETNAME"]), b"$-1\r\n");
    redis.process.signal("STOP");
    client.send(&["CLIENT", "GETNAME"]);
    client.send(&["INCR", "a"]);
    let all = client.read_to_end();
    assert_eq!(String::from_utf8_lossy(&all), "$-1\r\n");
    redis.process.signal("CONT");
    expect_recovery(&daemon, "recovered from a stopped Redis");
    let value = redis.client().text(&["GET", "a"]);
    assert!(value == "1" || value == "2", "{value}");
}

#[test]
fn an_unknown_outcome_is_named_if_asked_for_and_the_connection_goes_on() {
    let redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url(), &[SHORT_SILENCE, Errors::Named.setting()]);
    let mut client = daemon.client();
    assert_eq!(client.text(&["SET", "a", "1"]), "+OK");
    redis.process.signal("STOP");
    assert!(client.text(&["INCR", "a"]).starts_with("-UPSTREAMLOST outcome unknown: "));
    redis.process.signal("CONT");
    eventually("the same connection works again", || client.text(&["SET", "b", "1"]) == "+OK");
}

#[test]
fn sessions_whose_own_link_died_learn_it_too() {
    let mut redis = Redis::start_with(&DURABLE);
    let daemon = Daemon::start(&redis);
    let (mut watching, mut waiting, mut listening) = (daemon.client(), daemon.client(), daemon.client());
    assert_eq!(watching.text(&["WATCH", "a"]), "+OK");
    assert_eq!(watching.text(&["MULTI"]), "+OK");
    assert_eq!(watching.text(&["SET", "a", "1"]), "+QUEUED");
    waiting.send(&["BLPOP", "queue", "0"]);
    listening.call(&["SUBSCRIBE", "news"]);
    let mut l2 = redis.client();
    eventually("the pop waits at Redis", || l2.text(&["CLIENT", "LIST"]).contains("cmd=blpop"));
    redis.process.kill();
    assert_eq!(waiting.read_to_end(), b"", "a blocked client learns it by a closed connection");
    assert_eq!(listening.read_to_end(), b"", "a subscriber learns it by a closed connection");
    redis.restart();
    expect_recovery(&daemon, "recovered from a killed Redis");
    // The transaction's state is lost: it must not run, and not look as if it had run.
    let _ = watching.send_raw(&crate::support::encode(&["EXEC"]));
    if let Ok(reply) = watching.try_read_frame() {
        assert_eq!(reply[0], b'-', "{}", String::from_utf8_lossy(&reply));
    }
    assert_eq!(redis.client().text(&["EXISTS", "a"]), ":0");
}

#[test]
fn wait_does_not_ask_a_redis_that_was_never_told_of_the_session_s_writes() {
    for l1 in ["true", "false"] {
        waits_for_what_is_lost(l1);
    }
}

fn waits_for_what_is_lost(l1: &str) {
    let mut redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url(), &[("MADCACHE_CACHE_L1", l1)]).ready();
    let (mut plain, mut scripted, mut reading) = (daemon.client(), daemon.client(), daemon.client());
    for client in [&mut plain, &mut scripted, &mut reading] {
        assert_eq!(client.text(&["WAIT", "0", "10"]), ":0");
        assert_eq!(client.text(&["GET", "a"]), "$-1");
    }
    assert_eq!(plain.text(&["SET", "a", "1"]), "+OK");
    assert_eq!(scripted.text(&["EVAL", "return redis.call('SET', 'b', '1')", "0"]), "+OK");
    assert_eq!(plain.text(&["WAIT", "0", "10"]), ":0");
    redis.restart();
    expect_recovery(&daemon, "recovered from a killed Redis");
    // What they wrote is lost, and whoever took over would count its replicas all the same.
    for client in [&mut plain, &mut scripted] {
        client.send(&["WAIT", "0", "10"]);
        assert_eq!(client.read_to_end(), b"");
    }
    assert_eq!(reading.text(&["WAIT", "0", "10"]), ":0");
}

#[test]
fn redis_away_at_the_start_is_retried_and_told_to_clients() {
    for errors in [Errors::Redis, Errors::Named] {
        let mut redis = Redis::start();
        redis.process.kill();
        let daemon = Daemon::start_with(&redis.url(), &[errors.setting()]);
        let mut client = daemon.client();
        for request in
            [&["GET", "a"][..], &["SET", "a", "1"], &["EVAL", "return 1", "0"], &["BLPOP", "a", "1"]]
        {
            let reply = client.text(request);
            assert!(reply.starts_with(errors.not_sent()), "{request:?} got {reply}");
        }
        redis.restart();
        expect_recovery(&daemon, "served once Redis was there");
        assert_eq!(client.text(&["SET", "a", "1"]), "+OK");
        assert_eq!(client.text(&["GET", "a"]), "1");
    }
}

/// A daemon behind a relay, with a key that is read often enough to be a hit.
fn warm(redis: &Redis, settings: &[(&str, &str)]) -> (Relay, Daemon) {
    let relay = Relay::to(redis.port);
    let daemon = Daemon::start_with(&relay.url(), settings);
    let mut client = daemon.client();
    assert_eq!(client.text(&["SET", "hot", "old"]), "+OK");
    let before = daemon.stat("l1_hits");
    eventually("the key is served from L1", || {
        assert_eq!(client.text(&["GET", "hot"]), "old");
        daemon.stat("l1_hits") > before
    });
    (relay, daemon)
}

/// Reads until the new value comes; the old one must not.
fn expect_only_new(daemon: &Daemon) {
    eventually("the new value is read", || match ask(daemon.port, &["GET", "hot"]) {
        Some(reply) if reply.contains("old") => panic!("a stale read after the daemon was cut off"),
        Some(reply) => reply.contains("new"),
        None => false,
    });
}

#[test]
fn what_was_written_while_the_daemon_was_cut_off_is_read_afterwards() {
    let redis = Redis::start();
    let (relay, daemon) = warm(&redis, &[]);
    for _ in 0..5 {
        let mut client = redis.client();
        client.call(&["SET", "hot", "old"]);
        eventually("the old value is read", || {
            ask(daemon.port, &["GET", "hot"]).is_some_and(|r| r.contains("old"))
        });
        relay.cut();
        eventually("hits have stopped", || {
            ask(daemon.port, &["GET", "hot"]).is_some_and(|reply| reply.starts_with(Errors::Redis.not_sent()))
        });
        client.call(&["SET", "hot", "new"]);
        relay.heal();
        expect_only_new(&daemon);
    }
}

#[test]
fn hits_stop_within_max_staleness_when_the_network_goes_silent() {
    let redis = Redis::start();
    let (relay, daemon) = warm(&redis, &[("MADCACHE_UPSTREAM_SILENCE_MAX_MS", "2000")]);
    relay.freeze();
    redis.client().call(&["SET", "hot", "new"]);
    // `max_staleness` is one second, from before the write was acknowledged.
    std::thread::sleep(Duration::from_millis(1200));
    let mut reader: Client = daemon.client();
    let _ = reader.send_raw(b"GET hot\r\n");
    let reply = reader.try_read_frame().unwrap_or_default();
    assert!(!reply.windows(3).any(|w| w == b"old"), "a hit 1.2 s after the network went silent");
    relay.heal();
    expect_only_new(&daemon);
}

#[test]
fn links_that_redis_closes_are_opened_again_without_an_error_to_anyone_idle() {
    let redis = Redis::start();
    // One worker, so that the writes below show that its links are open again.
    let daemon = Daemon::start_with(&redis.url(), &[("MADCACHE_SERVER_WORKERS", "1")]);
    let mut client = daemon.client();
    for n in 0..50 {
        let mut l2 = redis.client();
        l2.call(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        // The daemon may learn of the loss a moment later; then the outcome is unknown, but it never hangs.
        eventually("served again", || {
            ask(daemon.port, &["SET", "n", &n.to_string()]).as_deref() == Some("+OK")
        });
    }
    assert_eq!(redis.client().text(&["GET", "n"]), "49");
    let _ = client.send_raw(b"PING\r\n");
    assert_eq!(client.read_frame(), b"+PONG\r\n", "a client that had nothing pending keeps its connection");
}
