//! How many: clients, links; how long idle; how large a cached reply or request.

use crate::support::{Client, Daemon, Redis, eventually};
use crate::{Bystander, closes, put_big};

const NO_LINK: &str = "-ERR max number of upstream links reached";

#[test]
fn one_client_too_many_is_told_as_redis_does_and_a_free_place_is_taken_again() {
    let small = Redis::start_with(&["--maxclients", "10"]);
    let redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url(), &[("MADCACHE_SERVER_CLIENTS_MAX", "10")]);
    for port in [small.port, daemon.port] {
        // The probe at the start may still be about to leave.
        let mut clients: Vec<Client> = Vec::new();
        eventually("ten clients are served", || {
            clients.clear();
            clients.extend((0..10).map(|_| Client::connect(port)));
            clients.iter_mut().all(|client| {
                client.send_raw(b"PING\r\n").is_ok()
                    && client.try_read_frame().is_ok_and(|reply| reply == b"+PONG\r\n")
            })
        });
        let mut refused = Client::connect(port);
        assert_eq!(String::from_utf8_lossy(&refused.read_to_end()), "-ERR max number of clients reached\r\n");
        assert_eq!(clients[0].text(&["PING"]), "+PONG");
        clients.pop();
        eventually("the free place is taken", || {
            let mut client = Client::connect(port);
            client.send_raw(b"PING\r\n").is_ok()
                && client.try_read_frame().is_ok_and(|reply| reply == b"+PONG\r\n")
        });
    }
}

#[test]
fn one_pinned_link_too_many_is_an_error_and_shared_ones_go_on() {
    let redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url(), &[("MADCACHE_UPSTREAM_PINNED_LINKS_MAX", "4")]);
    let mut bystander = Bystander::of(&daemon);
    let mut waiting: Vec<Client> = (0..4).map(|_| daemon.client()).collect();
    for client in &mut waiting {
        client.send(&["BLPOP", "queue", "0"]);
    }
    let mut l2 = redis.client();
    eventually("four clients wait at Redis", || {
        l2.text(&["CLIENT", "LIST"]).matches("cmd=blpop").count() == 4
    });
    let mut fifth = daemon.client();
    assert_eq!(fifth.text(&["BLPOP", "queue", "0"]), NO_LINK);
    assert_eq!(fifth.text(&["SUBSCRIBE", "a"]), NO_LINK);
    assert_eq!(fifth.text(&["WATCH", "a"]), NO_LINK);
    assert_eq!(fifth.text(&["ECHO", "still here"]), "still here");
    bystander.is_fine();
    waiting.pop();
    eventually("the place of the one that left is taken", || fifth.text(&["WATCH", "a"]) == "+OK");
    l2.call(&["RPUSH", "queue", "1", "2", "3"]);
    for client in &mut waiting {
        assert!(client.read_frame().starts_with(b"*2\r\n$5\r\nqueue\r\n"));
    }
}

#[test]
fn one_shared_link_too_many_is_an_error_and_the_others_go_on() {
    let redis = Redis::start();
    let settings = [("MADCACHE_UPSTREAM_LINKS_MAX", "8"), ("MADCACHE_SERVER_WORKERS", "1")];
    let daemon = Daemon::start_with(&redis.url(), &settings);
    let mut bystander = Bystander::of(&daemon);
    let mut clients = Vec::new();
    let mut refused = 0;
    for db in 0..16 {
        let mut client = daemon.client();
        // A SELECT that was refused leaves the session where it was, so what follows would go to database 0.
        for request in [&["SELECT", &db.to_string()][..], &["SET", "here", &db.to_string()]] {
            match &client.text(request)[..] {
                "+OK" => {}
                NO_LINK => {
                    refused += 1;
                    break;
                }
                other => panic!("{request:?} got {other}"),
            }
        }
        clients.push(client);
        bystander.is_fine();
    }
    assert!(refused > 0, "16 databases over at most 8 links");
    assert_eq!(clients[0].text(&["GET", "here"]), "0");
    let links = redis.client().text(&["CLIENT", "LIST"]).lines().count() - 1;
    // One more may be the one that speaks for the control thread (health, SELECT's check).
    assert!(links <= 10, "{links} links");
}

#[test]
fn an_idle_client_is_closed_after_the_timeout_but_a_waiting_one_is_not() {
    let redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url(), &[("MADCACHE_SERVER_TIMEOUT_SECONDS", "1")]);
    let (idle, mut popper, mut subscriber) = (daemon.client(), daemon.client(), daemon.client());
    popper.send(&["BLPOP", "queue", "0"]);
    subscriber.call(&["SUBSCRIBE", "news"]);
    assert!(closes(&idle), "the idle client stays");
    // A second round, so that the others have been idle for longer than the timeout too.
    let second = daemon.client();
    assert!(closes(&second), "the second idle client stays");
    let mut l2 = redis.client();
    l2.call(&["RPUSH", "queue", "x"]);
    l2.call(&["PUBLISH", "news", "y"]);
    assert_eq!(popper.read_frame(), b"*2\r\n$5\r\nqueue\r\n$1\r\nx\r\n");
    assert!(subscriber.read_frame().ends_with(b"$1\r\ny\r\n"));
}

/// Reads it often enough to be a hit, if it may be one; by how many the hits grew.
fn hits_of(daemon: &Daemon, request: &[&str]) -> u64 {
    let mut client = daemon.client();
    let before = daemon.stat("l1_hits");
    for _ in 0..20 {
        client.call(request);
    }
    daemon.stat("l1_hits") - before
}

#[test]
fn replies_and_requests_above_their_limits_are_served_but_not_cached() {
    let redis = Redis::start();
    let settings =
        [("MADCACHE_CACHE_REPLY_BYTES_MAX", "64KiB"), ("MADCACHE_LIMITS_CACHED_REQUEST_BYTES_MAX", "1KiB")];
    let daemon = Daemon::start_with(&redis.url(), &settings);
    put_big(&redis, "small", 32 << 10);
    let large = put_big(&redis, "large", 65 << 10);
    assert!(hits_of(&daemon, &["GET", "small"]) > 0, "a small reply is cached");
    assert_eq!(hits_of(&daemon, &["GET", "large"]), 0, "a large reply is not");
    assert_eq!(daemon.client().text(&["GET", "large"]).as_bytes(), large);
    redis.client().call(&["HSET", "hash", "field", "value"]);
    let (short, long) = ("x".repeat(100), "x".repeat(2000));
    assert!(hits_of(&daemon, &["HMGET", "hash", "field", &short]) > 0, "a short request is cached");
    assert_eq!(hits_of(&daemon, &["HMGET", "hash", "field", &long]), 0, "a long request is not");
}
