//! Cases that broke the daemon once: each test is the smallest conversation that showed it.

mod support;

use std::net::Shutdown;
use std::time::{Duration, Instant};

use support::fake_l2::{FakeL2, Links, Side};
use support::{Client, Daemon, Redis, encode, eventually};

/// Several requests in one write.
fn pipeline(client: &mut Client, requests: &[&[&str]]) {
    let wire: Vec<u8> = requests.iter().flat_map(|request| encode(request)).collect();
    client.send_raw(&wire).unwrap();
}

/// A daemon, and a client of it that speaks RESP3.
fn resp3(daemon: &Daemon) -> Client {
    let mut client = daemon.client();
    client.call(&["HELLO", "3"]);
    client
}

/// Sends BLPOP and waits until L2 has it.
fn block(client: &mut Client, l2: &mut Client) {
    client.send(&["BLPOP", "queue", "0"]);
    eventually("BLPOP waits at Redis", || l2.text(&["CLIENT", "LIST"]).contains("cmd=blpop"));
}

/// Clients that have another state beside the blocking command.
fn with_state(daemon: &Daemon) -> Vec<Client> {
    let mut watching = daemon.client();
    assert_eq!(watching.text(&["WATCH", "key"]), "+OK");
    let mut subscribed = resp3(daemon);
    subscribed.call(&["SUBSCRIBE", "channel"]);
    let mut tracking = resp3(daemon);
    assert_eq!(tracking.text(&["CLIENT", "TRACKING", "ON"]), "+OK");
    vec![watching, subscribed, tracking]
}

#[test]
fn a_list_that_begins_like_a_message_is_still_the_reply_of_a_resp3_subscriber() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut client = resp3(&daemon);
    client.call(&["RPUSH", "list", "message", "a", "b"]);
    client.call(&["SUBSCRIBE", "channel"]);
    for _ in 0..3 {
        assert_eq!(
            client.call(&["LRANGE", "list", "0", "-1"]),
            b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n"
        );
    }
    // It waits for every reply that is owed.
    assert_eq!(client.text(&["SELECT", "1"]), "+OK");
}

#[test]
fn nothing_is_popped_for_a_client_that_left_whatever_else_its_connection_was_used_for() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut l2 = redis.client();
    for mut client in with_state(&daemon) {
        block(&mut client, &mut l2);
        drop(client);
        eventually("its link is closed", || !l2.text(&["CLIENT", "LIST"]).contains("cmd=blpop"));
    }
    assert_eq!(l2.text(&["RPUSH", "queue", "value"]), ":1");
    assert_eq!(l2.text(&["LLEN", "queue"]), ":1");
}

#[test]
fn client_unblock_reaches_a_client_that_has_another_state_too() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let (mut l2, mut other) = (redis.client(), daemon.client());
    for mut client in with_state(&daemon) {
        let id = client.text(&["CLIENT", "ID"]);
        block(&mut client, &mut l2);
        assert_eq!(other.text(&["CLIENT", "UNBLOCK", &id[1..], "ERROR"]), ":1");
        assert_eq!(
            client.read_frame(),
            b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n",
            "the reply of BLPOP"
        );
        assert_eq!(other.text(&["CLIENT", "UNBLOCK", &id[1..]]), ":0");
        assert_eq!(client.text(&["ECHO", "on"]), "on");
    }
}

#[test]
fn the_daemon_ends_at_once_although_a_client_that_watches_is_blocked() {
    let redis = Redis::start();
    let mut daemon = Daemon::start(&redis);
    let mut l2 = redis.client();
    let mut clients = with_state(&daemon);
    for client in &mut clients {
        client.send(&["BLPOP", "queue", "0"]);
    }
    eventually("all wait at Redis", || l2.text(&["CLIENT", "LIST"]).matches("cmd=blpop").count() == 3);
    let began = Instant::now();
    daemon.process.signal("TERM");
    assert!(daemon.process.wait().success());
    assert!(began.elapsed() < Duration::from_secs(8), "server.drain_seconds is 10");
}

#[test]
fn the_first_line_of_monitor_may_follow_its_ok_in_the_same_packet() {
    const LINE: &[u8] = b"+1700000000.000001 [0 127.0.0.1:1] \"PING\"\r\n";
    let redis = Redis::start();
    let fake = FakeL2::start(&redis);
    let daemon = Daemon::start_with(&fake.url(), &[]);
    // The fake does not tell which request a monitoring link answers.
    let gate = fake.hold(Side::Reply, |frame| frame.args.is_empty() && frame.bytes == b"+OK\r\n");
    let mut client = daemon.client();
    client.send(&["MONITOR"]);
    gate.next().pass_between(b"", &LINE.repeat(3));
    assert_eq!(client.read_frame(), b"+OK\r\n");
    for _ in 0..3 {
        assert_eq!(client.read_frame(), LINE);
    }
    redis.client().call(&["ECHO", "seen"]);
    eventually("what Redis executes is seen", || {
        String::from_utf8_lossy(&client.read_frame()).contains("\"ECHO\" \"seen\"")
    });
}

#[test]
fn a_reply_in_front_of_garbage_on_a_link_of_its_own_still_reaches_its_client() {
    let redis = Redis::start();
    let fake = FakeL2::start(&redis);
    let daemon = Daemon::start_with(&fake.url(), &[]);
    let gate = fake.hold(Side::Reply, |frame| frame.named("watch"));
    let mut client = daemon.client();
    client.send(&["WATCH", "key"]);
    gate.next().pass_between(b"", b"+nobody asked\r\n");
    assert_eq!(client.read_to_end(), b"+OK\r\n");
    eventually("it is forgotten", || daemon.stat("clients") == 1);
}

#[test]
fn clients_that_ask_to_monitor_and_leave_are_forgotten() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    for _ in 0..200 {
        let mut client = daemon.client();
        client.send(&["MONITOR"]);
    }
    eventually("no client is left but the one that asks", || {
        daemon.stat("clients") == 1 && daemon.stat("links_pinned") == 0
    });
    assert_eq!(daemon.stat("monitors"), 0);
}

#[test]
fn client_reply_skip_leaves_out_the_reply_of_multi_alone() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    for port in [redis.port, daemon.port] {
        let mut client = Client::connect(port);
        pipeline(
            &mut client,
            &[&["CLIENT", "REPLY", "SKIP"], &["MULTI"], &["SET", "key", "1"], &["EXEC"], &["ECHO", "on"]],
        );
        for reply in [&b"+QUEUED\r\n"[..], b"*1\r\n+OK\r\n", b"$2\r\non\r\n"] {
            assert_eq!(client.read_frame(), reply);
        }
    }
}

#[test]
fn client_reply_skip_ends_with_an_empty_request_and_with_a_client_reply_that_is_refused() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let without = Daemon::start_with("", &[]);
    let skip = encode(&["CLIENT", "REPLY", "SKIP"]);
    let [refused, get] = [encode(&["CLIENT", "REPLY", "FOO"]), encode(&["GET", "key"])];
    for port in [redis.port, daemon.port, without.port] {
        let mut client = Client::connect(port);
        for left_out in [&b"\r\n"[..], b"\n", b"*0\r\n", b"*-1\r\n", &skip, &refused, &get] {
            // Skipped twice, it still is one request that is left out.
            let ends = if left_out == skip { &get[..] } else { b"" };
            client.send_raw(&[&skip, left_out, ends, &encode(&["ECHO", "on"])].concat()).unwrap();
            assert_eq!(client.read_frame(), b"$2\r\non\r\n", "{}", left_out.escape_ascii());
        }
    }
}

#[test]
fn client_reply_skip_leaves_out_the_reply_of_reset_and_off_ends_with_it() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let without = Daemon::start_with("", &[]);
    for port in [redis.port, daemon.port, without.port] {
        for (mode, frames) in
            [("SKIP", &[&b"$2\r\non\r\n"[..]][..]), ("OFF", &[b"+RESET\r\n", b"$2\r\non\r\n"])]
        {
            let mut client = Client::connect(port);
            pipeline(&mut client, &[&["CLIENT", "REPLY", mode], &["RESET"], &["ECHO", "on"]]);
            for frame in frames {
                assert_eq!(client.read_frame(), *frame, "{mode}");
            }
        }
    }
}

#[test]
fn what_comes_right_behind_an_unsubscription_is_no_subscribers() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let without = Daemon::start_with("", &[]);
    for port in [redis.port, daemon.port, without.port] {
        let mut client = Client::connect(port);
        let both: [&[&str]; 2] = [&["SUBSCRIBE", "channel"], &["UNSUBSCRIBE", "channel"]];
        let muted = [&[&["CLIENT", "REPLY", "OFF"][..]], &both[..], &[&["CLIENT", "REPLY", "ON"]]].concat();
        pipeline(&mut client, &[&muted[..], &[&["GET", "key"]]].concat());
        // The confirmations come in any case.
        client.read_frame();
        client.read_frame();
        assert_eq!([client.read_frame(), client.read_frame()], [&b"+OK\r\n"[..], b"$-1\r\n"]);
        pipeline(&mut client, &[&both[..], &[&["SELECT", "1"], &["PING"], &["CLIENT", "GETNAME"]]].concat());
        client.read_frame();
        client.read_frame();
        for reply in [&b"+OK\r\n"[..], b"+PONG\r\n", b"$-1\r\n"] {
            assert_eq!(client.read_frame(), reply);
        }
    }
}

#[test]
fn a_subscriber_that_asks_for_a_transaction_is_in_none() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let heard = |port| {
        let mut client = Client::connect(port);
        let batch: [&[&str]; 7] = [
            &["SUBSCRIBE", "channel"],
            &["MULTI"],
            &["WATCH", "key"],
            &["UNSUBSCRIBE"],
            &["GET", "key"],
            &["PING", "again"],
            &["EXEC"],
        ];
        pipeline(&mut client, &batch);
        let replies: Vec<Vec<u8>> = batch.iter().map(|_| client.read_frame()).collect();
        replies
    };
    assert_eq!(heard(daemon.port), heard(redis.port));
    eventually("nobody is left but who asks", || daemon.stat("clients") == 1);
}

#[test]
fn no_part_of_a_transactions_reply_is_left_out() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut client = daemon.client();
    for how in ["OFF", "SKIP"] {
        pipeline(
            &mut client,
            &[&["MULTI"], &["CLIENT", "REPLY", how], &["GET", "key"], &["EXEC"], &["PING"]],
        );
        assert_eq!(client.read_frame(), b"+OK\r\n");
        assert_eq!([client.read_frame(), client.read_frame()], [b"+QUEUED\r\n"; 2]);
        assert_eq!(client.read_frame(), b"*2\r\n+OK\r\n$-1\r\n", "{how}");
        assert_eq!(client.read_frame(), b"+PONG\r\n");
    }
}

#[test]
fn reset_leaves_the_replies_of_a_transaction_as_they_are() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    for port in [redis.port, daemon.port] {
        let mut client = Client::connect(port);
        pipeline(&mut client, &[&["MULTI"], &["SET", "key", "1"], &["RESET"], &["EXEC"], &["EXISTS", "key"]]);
        for reply in
            [&b"+OK\r\n"[..], b"+QUEUED\r\n", b"+RESET\r\n", b"-ERR EXEC without MULTI\r\n", b":0\r\n"]
        {
            assert_eq!(client.read_frame(), reply);
        }
    }
}

#[test]
fn a_database_index_is_a_number_as_redis_reads_it() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let (mut l2, mut client) = (redis.client(), daemon.client());
    for index in ["0", "1", "01", "00", "-0", "+1", "1 ", "", "1.0", "0x1", "15", "16", "00000001"] {
        assert_eq!(client.text(&["SELECT", index]), l2.text(&["SELECT", index]), "SELECT {index:?}");
    }
}

#[test]
fn nothing_of_a_transaction_is_executed_when_no_link_can_be_had_for_it() {
    let redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url(), &[("MADCACHE_UPSTREAM_PINNED_LINKS_MAX", "1")]);
    let (mut l2, mut blocked, mut client) = (redis.client(), daemon.client(), daemon.client());
    block(&mut blocked, &mut l2);
    assert_eq!(client.text(&["SET", "balance", "10"]), "+OK");
    // In two writes, as clients send it that do not gather: the block is not whole when MULTI is read.
    client.send(&["MULTI"]);
    let refused = client.read_frame();
    assert!(refused.starts_with(b"-ERR max number of upstream links"), "{refused:?}");
    let _ = client.send_raw(&encode(&["DECR", "balance"]));
    assert_eq!(client.read_to_end(), b"", "the connection closes");
    assert_eq!(l2.text(&["GET", "balance"]), "10");
}

#[test]
fn a_hello_while_redis_is_away_is_refused_and_its_connection_goes_on() {
    let mut redis = Redis::start();
    let daemon = Daemon::start(&redis);
    redis.process.kill();
    eventually("it is known to be away", || daemon.client().text(&["GET", "key"]).starts_with("-LOADING"));
    let mut clients: Vec<Client> = (0..5).map(|_| daemon.client()).collect();
    for client in &mut clients {
        for hello in [&["HELLO", "3"][..], &["HELLO"], &["HELLO", "2", "SETNAME", "me"]] {
            pipeline(client, &[hello, &["GET", "key"]]);
            for _ in 0..2 {
                let reply = client.read_frame();
                assert!(reply.starts_with(b"-LOADING"), "{hello:?}: {}", reply.escape_ascii());
            }
        }
    }
    redis.restart();
    eventually("it is back", || daemon.client().text(&["GET", "key"]) == "$-1");
    for client in &mut clients {
        assert!(client.call(&["HELLO", "3"]).starts_with(b"%"));
    }
    drop(clients);
    eventually("no client is left but the one that asks", || daemon.stat("clients") == 1);
}

#[test]
fn a_frame_that_nobody_asked_for_beside_a_check_is_survived() {
    let redis = Redis::start();
    let fake = FakeL2::start(&redis);
    let daemon = Daemon::start_with(&fake.url(), &[("MADCACHE_SERVER_WORKERS", "1")]);
    let check = ["RATELIMIT.CHECK", "user", "u", "LIMIT", "1000", "WINDOW", "604800000"];
    let mut client = daemon.client();
    for round in 0..10 {
        client.call(&check);
        client.call(&check);
        // Both are there when the daemon goes on: in one turn it reads the check, and then the frame.
        daemon.process.signal("STOP");
        client.send(&check);
        fake.inject(Links::All, b"+nobody asked\r\n");
        std::thread::sleep(Duration::from_millis(20));
        daemon.process.signal("CONT");
        let reply = client.try_read_frame();
        // A check that was sent, or took that frame for its reply, has an unknown outcome.
        if !reply.is_ok_and(|reply| reply.starts_with(b"*5\r\n")) {
            client = daemon.client();
        }
        eventually("checks are answered", || daemon.client().call(&check).starts_with(b"*5\r\n"));
        assert_eq!(daemon.client().text(&["PING"]), "+PONG", "round {round}");
    }
}

#[test]
fn who_leaves_before_a_blocking_command_has_begun_waits_for_nothing() {
    let redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url_for_daemon(), &[("MADCACHE_SERVER_WORKERS", "1")]);
    let mut other = daemon.client();
    for _ in 0..10 {
        let mut client = daemon.client();
        assert_eq!(client.text(&["SET", "key", "v"]), "+OK");
        redis.process.stop();
        pipeline(&mut client, &[&["SET", "key", "v"], &["BLPOP", "queue", "0"]]);
        drop(client);
        // The daemon answers this by itself, behind the end that it has read.
        other.text(&["INFO", "madcache"]);
        eventually("it is kept for the command that is under way", || daemon.stat("clients") == 3);
        redis.process.signal("CONT");
        eventually("it is forgotten", || daemon.stat("clients") == 2);
        assert_eq!(other.text(&["RPUSH", "queue", "element"]), ":1");
        assert_eq!(other.text(&["LPOP", "queue"]), "element");
    }
}

#[test]
fn who_leaves_before_a_blocking_command_has_begun_waits_for_nothing_without_a_redis_either() {
    let daemon = Daemon::spawn_as("", &[], |command| {
        command.env_remove("MADCACHE_UPSTREAM_URL");
    })
    .ready();
    let mut other = daemon.client();
    // So large a reply is written before anything behind it begins.
    assert_eq!(other.text(&["SETRANGE", "key", "1000000", "v"]), ":1000001");
    for _ in 0..10 {
        let mut client = daemon.client();
        pipeline(&mut client, &[&["GET", "key"], &["BLPOP", "queue", "0"]]);
        client.stream().shutdown(Shutdown::Write).unwrap();
        eventually("it is forgotten", || daemon.stat("clients") == 2);
        assert_eq!(other.text(&["RPUSH", "queue", "element"]), ":1");
        assert_eq!(other.text(&["LPOP", "queue"]), "element");
    }
}
