//! A daemon before a Redis Cluster whose slots move and whose masters change: what clients see is one plain Redis. `midway` is about
//! slots that are half moved, `nodes` about nodes that leave, and clusters that cannot be known.

#[path = "../support/mod.rs"]
mod support;

mod load;
mod midway;
mod nodes;
mod order;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use load::{HOT, Load};
use support::cluster::RedisCluster;
use support::{Client, Daemon, eventually};

/// `cache.max_staleness_ms` as it is by default.
const STALENESS_MAX: Duration = Duration::from_secs(1);

fn rounds(otherwise: usize) -> usize {
    std::env::var("CLUSTER_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Reads until L1 answers.
fn until_it_hits(daemon: &Daemon, client: &mut Client, key: &str, expected: &str) {
    eventually("a read hits", || {
        let before = daemon.stat("l1_hits");
        assert_eq!(client.text(&["GET", key]), expected);
        daemon.stat("l1_hits") > before
    });
}

#[test]
fn a_key_that_was_missing_is_seen_although_its_slot_moves_away() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut client = daemon.client();
    for round in 0..4 {
        let key = format!("missing:{round}");
        let slot = cluster.slot(&key);
        let to = (cluster.owner(slot) + 1) % 3;
        until_it_hits(&daemon, &mut client, &key, "$-1");
        cluster.begin_move(slot, to);
        let mut new_home = cluster.client(to);
        assert_eq!(new_home.text(&["ASKING"]), "+OK");
        assert_eq!(new_home.text(&["SET", &key, "there"]), "+OK");
        let written = Instant::now();
        while client.text(&["GET", &key]) != "there" {
            assert!(written.elapsed() < STALENESS_MAX, "round {round}: it is still missing");
        }
        // While the slot moves, and behind a transaction, everything is where it is.
        assert_eq!(client.text(&["SET", &key, "mine"]), "+OK");
        assert_eq!(client.text(&["GET", &key]), "mine");
        assert_eq!(transaction(&mut client, &key), ["+OK", "+QUEUED", "+QUEUED"]);
        cluster.end_move(slot, to);
        assert_eq!(client.text(&["GET", &key]), "from a transaction");
        // It moves back whole, and is written there by another client.
        assert_eq!(client.text(&["DEL", &key]), ":1");
        until_it_hits(&daemon, &mut client, &key, "$-1");
        cluster.move_slot(slot, (to + 2) % 3);
        assert_eq!(cluster.ask_owner(&key, &["SET", &key, "back"]), "+OK");
        let written = Instant::now();
        while client.text(&["GET", &key]) != "back" {
            assert!(written.elapsed() < STALENESS_MAX, "round {round}: it is missing again");
        }
    }
}

#[test]
fn a_read_does_not_overtake_a_flush_that_its_session_sent_before() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut client = daemon.client();
    for (round, read) in ["GET", "EXISTS", "STRLEN", "GET"].iter().enumerate() {
        let key = format!("key:{round}");
        for _ in 0..=round {
            assert_eq!(client.text(&["SET", &key, "there"]), "+OK");
            client.text(&[*read, &key]);
        }
        cluster.at_every_master(&["CLIENT", "PAUSE", "300", "WRITE"]);
        let batch = [support::encode(&["FLUSHALL"]), support::encode(&[*read, key.as_str()])].concat();
        client.send_raw(&batch).unwrap();
        assert_eq!(*client.read_frame(), *b"+OK\r\n");
        let reply = client.read_frame();
        assert!(*reply == *b"$-1\r\n" || *reply == *b":0\r\n", "{read}: {}", reply.escape_ascii());
    }
}

#[test]
fn wait_asks_every_node_that_the_session_has_written_to() {
    let mut cluster = RedisCluster::start(3);
    for l1 in ["true", "false"] {
        let daemon = Daemon::start_with(&cluster.url(), &[("MADCACHE_CACHE_L1", l1)]).ready();
        for node in 0..3 {
            let key = cluster.key_of(node, "key");
            let elsewhere = cluster.key_of((node + 1) % 3, "key");
            let set: &[&str] = &["SET", &key, "v"];
            let name = |prefix: &str| {
                let mut names = (0..).map(|number: u32| number.to_string());
                let is_here = |name: &String| cluster.owner(cluster.slot(&format!("{prefix}{name}"))) == node;
                names.find(is_here).unwrap()
            };
            let [lock, subject, channel] = ["lock:", "ratelimit:user:", ""].map(name);
            let writes: [&[&[&str]]; 8] = [
                &[&["MULTI"], set, &["EXEC"]],
                &[set],
                &[&["FLUSHALL"]],
                &[&["LOCK.ACQUIRE", &lock, "100000"]],
                &[&["RATELIMIT.CHECK", "user", &subject, "LIMIT", "5", "WINDOW", "1000"]],
                &[&["PRESENCE.JOIN", &channel, "ann", "laptop"]],
                &[set, &["WATCH", &elsewhere]],
                &[&["HELLO", "3"], &["SUBSCRIBE", "channel"], set],
            ];
            for write in writes {
                let mut client = daemon.client();
                let bytes: Vec<u8> = write.iter().flat_map(|words| support::encode(words)).collect();
                client.send_raw(&bytes).unwrap();
                for words in write {
                    let reply = client.read_frame();
                    assert!(!reply.starts_with(b"-"), "{words:?}: {}", reply.escape_ascii());
                }
                cluster.stop(node);
                client.send(&["WAIT", "0", "10"]);
                client.expect_silence(Duration::from_millis(200));
                cluster.go_on(node);
                assert_eq!(*client.read_frame(), *b":0\r\n", "L1 {l1}, {write:?}, node {node}");
            }
        }
    }
}

#[test]
fn the_keys_of_a_slot_are_told_by_the_node_that_serves_it() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut client = daemon.client();
    for node in 0..3 {
        let key = cluster.key_of(node, "key");
        let slot = cluster.slot(&key).to_string();
        assert_eq!(client.text(&["SET", &key, "v"]), "+OK");
        assert_eq!(client.text(&["CLUSTER", "COUNTKEYSINSLOT", &slot]), ":1", "node {node}");
        let keys = format!("*1\r\n${}\r\n{key}", key.len());
        assert_eq!(client.text(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]), keys, "node {node}");
    }
}

#[test]
fn a_node_that_sleeps_keeps_back_no_reply_of_another_one() {
    let cluster = RedisCluster::start(3);
    let settings = [("MADCACHE_CACHE_L1", "false"), ("MADCACHE_SERVER_WORKERS", "1")];
    let daemon = Daemon::start_with(&cluster.url(), &settings).ready();
    let [asleep, awake] = [0, 1].map(|node| cluster.key_of(node, "key"));
    let mut clients: Vec<Client> = (0..20).map(|_| daemon.client()).collect();
    for round in 0..4 {
        // Both nodes are known to be near, and many replies are under way when one of them falls asleep.
        for _ in 0..50 {
            for client in &mut clients {
                client.send(&[b"GET".as_slice(), asleep.as_bytes()]);
                client.send(&[b"GET".as_slice(), awake.as_bytes()]);
            }
            clients.iter_mut().for_each(|client| (0..2).for_each(|_| drop(client.read_frame())));
        }
        let mut sleeper = cluster.client(0);
        sleeper.send(&[b"DEBUG".as_slice(), b"SLEEP", b"2"]);
        let began = Instant::now();
        let (waiting, others) = clients.split_at_mut(10);
        // Replies that others follow are kept back, and requests while others are under way.
        let asks_both = round % 2 == 0;
        for client in &mut *waiting {
            if asks_both {
                client.send(&[b"GET".as_slice(), awake.as_bytes()]);
            }
            client.send(&[b"GET".as_slice(), asleep.as_bytes()]);
        }
        others.iter_mut().for_each(|client| client.send(&[b"GET".as_slice(), awake.as_bytes()]));
        let both = waiting.iter_mut().filter(|_| asks_both);
        for client in both.chain(others) {
            assert_eq!(*client.read_frame(), *b"$-1\r\n", "round {round}");
        }
        assert!(began.elapsed() < Duration::from_secs(2), "round {round}: they waited until it was awake");
        waiting.iter_mut().for_each(|client| drop(client.read_frame()));
        assert_eq!(*sleeper.read_frame(), *b"+OK\r\n");
    }
}

#[test]
fn a_request_at_a_node_that_stopped_ends_when_its_replica_has_taken_over() {
    let mut cluster = RedisCluster::start_with_replicas(3);
    let daemon =
        Daemon::start_with(&cluster.url(), &[("MADCACHE_UPSTREAM_SILENCE_MAX_MS", "600000")]).ready();
    let key = cluster.key_of(0, "key");
    let mut client = daemon.client();
    assert_eq!(client.text(&["INCR", &key]), ":1");
    let of_stopped = cluster.node(0).port.to_string();
    let replica = (3..6).find(|&at| cluster.client(at).text(&["ROLE"]).contains(&of_stopped)).unwrap();
    cluster.stop(0);
    client.send(&["INCR", &key]);
    cluster.fail_over_to(replica, &["TAKEOVER"]);
    // Nobody knows whether it was executed.
    let end = client.try_read_frame().unwrap_err();
    assert!(!matches!(end.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{end}: it waits still");
    let count = daemon.client().text(&["INCR", &key]);
    assert!([":1", ":2"].contains(&&*count), "{count}");
}

/// A whole block, as pipelines send it.
fn transaction(client: &mut Client, key: &str) -> [String; 3] {
    let block = [&["MULTI"][..], &["SET", key, "from a transaction"], &["GET", key], &["EXEC"]];
    let block: Vec<u8> = block.iter().flat_map(|words| support::encode(words)).collect();
    client.send_raw(&block).unwrap();
    let replies = [(); 3].map(|()| String::from_utf8_lossy(&client.read_frame()).trim_end().to_owned());
    let executed = String::from_utf8(client.read_frame()).unwrap();
    assert_eq!(executed, "*2\r\n+OK\r\n$18\r\nfrom a transaction\r\n");
    replies
}

#[test]
fn whoever_waits_for_an_element_follows_its_slot() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut client = daemon.client();
    let slot = cluster.slot("queue");
    client.send(&["BLPOP", "queue", "0"]);
    let mut other = daemon.client();
    eventually("it waits", || other.text(&["CLIENT", "LIST"]).contains("cmd=blpop"));
    cluster.move_slot(slot, (cluster.owner(slot) + 1) % 3);
    assert_eq!(other.text(&["RPUSH", "queue", "element"]), ":1");
    assert_eq!(String::from_utf8(client.read_frame()).unwrap(), "*2\r\n$5\r\nqueue\r\n$7\r\nelement\r\n");
}

#[test]
fn a_script_that_answers_with_a_redirection_leads_nobody_astray() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut client = daemon.client();
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    stranger.set_nonblocking(true).unwrap();
    let slot = cluster.slot("k");
    let other = (cluster.owner(slot) + 1) % 3;
    let ports = [stranger.local_addr().unwrap().port(), cluster.node(other).port];
    for (port, word) in ports.into_iter().flat_map(|port| [(port, "MOVED"), (port, "ASK")]) {
        let reply = format!("{word} {slot} 127.0.0.1:{port}");
        let script = format!("redis.call('INCR', KEYS[1]) return redis.error_reply('{reply}')");
        let before: i64 = client.text(&["GET", "k"]).parse().unwrap_or(0);
        // It has written, and is not executed again.
        assert_eq!(client.text(&["EVAL", &script, "1", "k"]), format!("-{reply}"));
        assert_eq!(client.text(&["GET", "k"]), (before + 1).to_string());
    }
    let read_only = format!("return redis.error_reply('MOVED {slot} 127.0.0.1:{}')", ports[0]);
    assert!(client.text(&["EVAL_RO", &read_only, "1", "k"]).starts_with("-MOVED "));
    assert_eq!(client.text(&["SET", "k", "here"]), "+OK");
    assert_eq!(stranger.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "somebody came");
}

#[test]
fn a_script_follows_its_slot() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut client = daemon.client();
    let slot = cluster.slot("k");
    for round in 1..=3 {
        cluster.move_slot(slot, (cluster.owner(slot) + 1) % 3);
        assert_eq!(
            client.text(&["EVAL", "return redis.call('INCR', KEYS[1])", "1", "k"]),
            format!(":{round}")
        );
    }
}

#[test]
fn a_transaction_whose_slot_moves_is_executed_whole_or_not_at_all() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut client = daemon.client();
    let slot = cluster.slot("{t}a");
    assert_eq!(client.text(&["WATCH", "{t}a"]), "+OK");
    assert_eq!(client.text(&["MULTI"]), "+OK");
    assert_eq!(client.text(&["INCR", "{t}a"]), "+QUEUED");
    cluster.move_slot(slot, (cluster.owner(slot) + 1) % 3);
    assert!(client.text(&["INCR", "{t}b"]).starts_with("-TRYAGAIN "));
    assert!(client.text(&["EXEC"]).starts_with("-EXECABORT "));
    assert_eq!(client.text(&["MGET", "{t}a", "{t}b"]), "*2\r\n$-1\r\n$-1");
    // Once more, at the new place.
    assert_eq!(client.text(&["MULTI"]), "+OK");
    assert_eq!(client.text(&["INCR", "{t}a"]), "+QUEUED");
    assert_eq!(client.text(&["EXEC"]), "*1\r\n:1");
}

#[test]
fn while_slots_move_under_load_nothing_goes_astray_and_nothing_stale_is_shown() {
    let cluster = RedisCluster::start_with_replicas(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let load = Load::run(&cluster, &daemon, |load| {
        for round in 0..rounds(1) {
            for key in (0..HOT).step_by(2) {
                let slot = cluster.slot(&load::key(key));
                let to = (cluster.owner(slot) + 1 + round % 2) % 3;
                cluster.begin_move(slot, to);
                load.go_on_for(Duration::from_millis(30));
                while cluster.move_keys(slot, to, 1) > 0 {}
                cluster.end_move(slot, to);
            }
            load.go_on_for(Duration::from_millis(500));
        }
    });
    load.expect_sound(&cluster, &daemon);
    assert!(daemon.stat("redirects") > 0, "no request met a slot on its way");
}

#[test]
fn while_masters_change_under_load_nothing_goes_astray_and_nothing_stale_is_shown() {
    let mut cluster = RedisCluster::start_with_replicas(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    for round in 0..rounds(1) {
        // On request, one after the other.
        let load = Load::run(&cluster, &daemon, |load| {
            for shard in 0..3 {
                let replica = if cluster.is_master(shard) { shard + 3 } else { shard };
                cluster.fail_over_to(replica, &[]);
                load.go_on_for(Duration::from_millis(300));
            }
        });
        load.expect_sound(&cluster, &daemon);
        // A master dies.
        let dead = if cluster.is_master(round % 3) { round % 3 } else { round % 3 + 3 };
        let cluster_of_load = cluster.peers();
        let load = Load::run_with(cluster_of_load, &daemon, |load| {
            load.go_on_for(Duration::from_millis(300));
            cluster.kill(dead);
            cluster.settle();
            load.go_on_for(Duration::from_secs(1));
        });
        cluster.restart(dead);
        cluster.settle();
        load.expect_sound(&cluster, &daemon);
    }
}
