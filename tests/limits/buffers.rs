//! Output that nobody reads: of normal clients, pinned ones, subscribers, and of all together.

use std::time::Duration;

use crate::support::{Client, Daemon, PATIENCE, Redis, encode, eventually};
use crate::{Bystander, MIB, assert_memory_below, closes, connect_with_small_window, put_big, write_unread};

const PIECE: usize = 1 << 20;

/// The bulk string frame of this value.
fn frame(value: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

#[test]
fn a_normal_client_that_does_not_read_is_not_closed_and_gets_everything_in_order() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut bystander = Bystander::of(&daemon);
    let wanted = frame(&put_big(&redis, "big", PIECE));
    let mut slow = connect_with_small_window(daemon.port);
    for n in 0..48 {
        slow.send(&["GET", "big"]);
        slow.send(&["ECHO", &n.to_string()]);
    }
    for _ in 0..20 {
        bystander.is_fine();
        std::thread::sleep(Duration::from_millis(10));
    }
    for n in 0..48 {
        assert!(slow.read_frame() == wanted, "value {n}");
        assert_eq!(slow.read_frame(), frame(n.to_string().as_bytes()));
    }
}

#[test]
fn a_pinned_link_stops_reading_instead_of_buffering() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut bystander = Bystander::of(&daemon);
    let wanted = frame(&put_big(&redis, "big", PIECE));
    let mut slow = connect_with_small_window(daemon.port);
    assert_eq!(slow.text(&["WATCH", "other"]), "+OK");
    let before = daemon.process.rss_bytes();
    for _ in 0..512 {
        slow.send(&["GET", "big"]);
    }
    // What was read before the client was seen to be slow may be some MiB; buffering it all would be many times this.
    for _ in 0..50 {
        bystander.is_fine();
        assert_memory_below(&daemon, before, 32 * MIB, "512 MiB for a pinned client that does not read");
        std::thread::sleep(Duration::from_millis(10));
    }
    for n in 0..512 {
        assert!(slow.read_frame() == wanted, "value {n}");
    }
    assert_eq!(slow.text(&["UNWATCH"]), "+OK");
}

/// Publishes so many pieces to the channel; whether it has lost its subscriber on the way.
fn publish(client: &mut Client, pieces: usize, piece: &[u8]) -> bool {
    (0..pieces).any(|_| client.call(&[&b"PUBLISH"[..], b"news", piece]) == b":0\r\n")
}

fn subscriber(daemon: &Daemon) -> Client {
    let mut client = connect_with_small_window(daemon.port);
    client.call(&["SUBSCRIBE", "news"]);
    client
}

#[test]
fn a_subscriber_that_does_not_read_is_closed_at_the_hard_limit() {
    let redis = Redis::start();
    let daemon = Daemon::start_with(
        &redis.url(),
        &[
            ("MADCACHE_LIMITS_PUBSUB_OUTPUT_BYTES_MAX", "2MiB"),
            ("MADCACHE_LIMITS_PUBSUB_OUTPUT_SOFT_BYTES", "0"),
        ],
    );
    let mut bystander = Bystander::of(&daemon);
    let before = daemon.process.rss_bytes();
    let slow = subscriber(&daemon);
    let mut reader = daemon.client();
    reader.call(&["SUBSCRIBE", "other"]);
    let mut publisher = redis.client();
    // What the kernels hold on the way may be some MiB more than the limit.
    let mut lost = publish(&mut publisher, 256, &vec![b'x'; 256 << 10]);
    eventually("the subscriber that does not read is closed", || {
        lost = lost || publish(&mut publisher, 1, b"still there?");
        lost
    });
    assert!(closes(&slow));
    bystander.is_fine();
    assert_memory_below(&daemon, before, 32 * MIB, "a subscriber with a limit of 2 MiB");
    publisher.call(&["PUBLISH", "other", "hello"]);
    assert!(reader.read_frame().ends_with(b"$5\r\nhello\r\n"), "another subscriber was harmed");
}

#[test]
fn what_comes_for_a_subscriber_that_is_over_its_limit_is_not_held() {
    let redis = Redis::start();
    let mut publisher = redis.client();
    assert_eq!(publisher.text(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0"]), "+OK");
    // Pages of the usual size: with huge ones the allocator, not what is held, decides about several MiB.
    let settings = [("MADCACHE_LIMITS_PUBSUB_OUTPUT_BYTES_MAX", "2MiB"), ("MIMALLOC_ALLOW_THP", "0")];
    let daemon = Daemon::start_with(&redis.url(), &settings);
    let mut bystander = Bystander::of(&daemon);
    let slow = subscriber(&daemon);
    let before = daemon.process.rss_bytes();
    // All of it waits in Redis when the daemon goes on, and is there as fast as it can be read.
    daemon.process.signal("STOP");
    assert!(!publish(&mut publisher, 512, &vec![b'x'; 256 << 10]), "Redis has closed the daemon's link");
    daemon.process.signal("CONT");
    assert!(closes(&slow));
    eventually("its link is left", || publish(&mut publisher, 1, b"still there?"));
    bystander.is_fine();
    let peak = daemon.process.peak_rss_bytes();
    let more = (peak - before) / 1024;
    assert!(more <= 8 * 1024, "128 MiB for a subscriber with a limit of 2 MiB: {more} KiB");
}

#[test]
fn without_a_redis_a_subscriber_that_does_not_read_is_closed_too() {
    let daemon = Daemon::spawn_as("", &[("MADCACHE_LIMITS_PUBSUB_OUTPUT_BYTES_MAX", "2MiB")], |command| {
        command.env_remove("MADCACHE_UPSTREAM_URL");
    })
    .ready();
    let slow = subscriber(&daemon);
    let mut publisher = daemon.client();
    let piece = "x".repeat(64 * 1024);
    eventually("the subscriber that does not read is closed", || {
        publisher.text(&["PUBLISH", "news", &piece]) == ":0"
    });
    assert_eq!(daemon.stat("closed_slow_readers"), 1);
    drop(slow);
}

#[test]
fn a_subscriber_above_the_soft_limit_is_closed_after_its_time_and_not_before() {
    let redis = Redis::start();
    let daemon = Daemon::start_with(
        &redis.url(),
        &[
            ("MADCACHE_LIMITS_PUBSUB_OUTPUT_BYTES_MAX", "256MiB"),
            ("MADCACHE_LIMITS_PUBSUB_OUTPUT_SOFT_BYTES", "1MiB"),
            ("MADCACHE_LIMITS_PUBSUB_OUTPUT_SOFT_SECONDS", "2"),
        ],
    );
    let mut bystander = Bystander::of(&daemon);
    let slow = subscriber(&daemon);
    let mut publisher = redis.client();
    let piece = vec![b'x'; 256 << 10];
    let begin = std::time::Instant::now();
    let mut lost = publish(&mut publisher, 96, &piece);
    assert!(
        !lost || begin.elapsed() >= Duration::from_secs(2),
        "closed at once, 24 MiB below the hard limit"
    );
    eventually("the subscriber above its soft limit is closed", || {
        lost = lost || publish(&mut publisher, 1, b"still there?");
        lost
    });
    assert!(closes(&slow));
    bystander.is_fine();
}

#[test]
fn a_subscriber_below_its_limits_gets_every_message() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut slow = subscriber(&daemon);
    let mut publisher = redis.client();
    let piece = vec![b'x'; 64 << 10];
    assert!(!publish(&mut publisher, 64, &piece));
    for n in 0..64 {
        assert_eq!(
            slow.read_frame().len(),
            "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n".len() + frame(&piece).len(),
            "{n}"
        );
    }
}

#[test]
fn when_all_buffers_together_are_too_much_the_largest_slow_reader_goes_first() {
    let redis = Redis::start();
    let daemon = Daemon::start_with(
        &redis.url(),
        &[("MADCACHE_LIMITS_BUFFERS_BYTES_MAX", "32MiB"), ("MADCACHE_CACHE_L1", "false")],
    );
    let mut bystander = Bystander::of(&daemon);
    let wanted = frame(&put_big(&redis, "big", PIECE));
    let before = daemon.process.rss_bytes();
    let (mut small, mut large) =
        (connect_with_small_window(daemon.port), connect_with_small_window(daemon.port));
    for _ in 0..12 {
        small.send(&["GET", "big"]);
    }
    bystander.is_fine();
    for _ in 0..128 {
        if large.send_raw(&encode(&["GET", "big"])).is_err() {
            break;
        }
    }
    eventually("the largest slow reader is closed", || {
        bystander.is_fine();
        daemon.stat("clients") == 3
    });
    assert_memory_below(&daemon, before, 96 * MIB, "buffers of 32 MiB");
    assert!(closes(&large));
    for n in 0..12 {
        assert!(small.read_frame() == wanted, "value {n} of the smaller reader");
    }
    bystander.is_fine();
}

/// So many requests of several kinds, and the replies to them.
fn pipeline(requests: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut wire, mut wanted) = (Vec::new(), Vec::new());
    for n in 0..requests {
        let token = n.to_string();
        match n % 4 {
            0 => {
                wire.extend(encode(&["ECHO", &token]));
                wanted.extend(frame(token.as_bytes()));
            }
            1 => {
                wire.extend(encode(&["GET", "hot"]));
                wanted.extend(frame(b"warm"));
            }
            2 => {
                wire.extend(encode(&["SET", "own", &token]));
                wanted.extend(b"+OK\r\n");
            }
            _ => {
                wire.extend(encode(&["GET", "own"]));
                wanted.extend(frame((n - 1).to_string().as_bytes()));
            }
        }
    }
    (wire, wanted)
}

/// Writes the whole pipeline from another thread, so that backpressure is no deadlock, and reads only later.
fn flood(client: &Client, wire: &[u8], wanted: &[u8], head_start: Duration) {
    std::thread::scope(|scope| {
        let mut stream = client.stream().try_clone().unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        scope.spawn(move || std::io::Write::write_all(&mut stream, wire).expect("the pipeline is taken"));
        std::thread::sleep(head_start);
        let mut got = vec![0; wanted.len()];
        std::io::Read::read_exact(&mut client.stream(), &mut got).expect("all replies");
        let differs = got.iter().zip(wanted).position(|(got, wanted)| got != wanted);
        assert_eq!(differs, None, "the first byte that differs");
    });
}

#[test]
fn a_hundred_thousand_pipelined_requests_all_come_back_in_order_and_memory_stays_bounded() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut bystander = Bystander::of(&daemon);
    assert_eq!(daemon.client().text(&["SET", "hot", "warm"]), "+OK");
    let before = daemon.process.rss_bytes();
    let (wire, wanted) = pipeline(100_000);
    let client = daemon.client();
    flood(&client, &wire, &wanted, Duration::from_millis(500));
    assert_memory_below(&daemon, before, 64 * MIB, "100,000 pipelined requests");
    bystander.is_fine();
}

#[test]
fn in_flight_limits_are_backpressure_and_never_an_error() {
    let redis = Redis::start();
    let daemon = Daemon::start_with(
        &redis.url(),
        &[("MADCACHE_LIMITS_CLIENT_IN_FLIGHT_MAX", "4"), ("MADCACHE_LIMITS_LINK_IN_FLIGHT_MAX", "16")],
    );
    assert_eq!(daemon.client().text(&["SET", "hot", "warm"]), "+OK");
    std::thread::scope(|scope| {
        for n in 0..20 {
            let daemon = &daemon;
            scope.spawn(move || {
                let (mut wire, mut wanted) = (Vec::new(), Vec::new());
                for i in 0..2000 {
                    let token = format!("{n}:{i}");
                    wire.extend(encode(&["ECHO", &token]));
                    wanted.extend(frame(token.as_bytes()));
                    wire.extend(encode(&["GET", "hot"]));
                    wanted.extend(frame(b"warm"));
                }
                flood(&daemon.client(), &wire, &wanted, Duration::from_millis(10));
            });
        }
    });
}

#[test]
fn a_client_that_never_reads_stops_being_read_or_is_buffered_within_the_total() {
    let redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url(), &[("MADCACHE_LIMITS_BUFFERS_BYTES_MAX", "32MiB")]);
    let mut bystander = Bystander::of(&daemon);
    put_big(&redis, "some", 4096);
    let before = daemon.process.rss_bytes();
    let client = connect_with_small_window(daemon.port);
    let requests = encode(&["GET", "some"]).repeat(100_000);
    let _ = write_unread(&client, &requests, Duration::from_millis(500));
    bystander.is_fine();
    assert_memory_below(&daemon, before, 96 * MIB, "400 MB of replies that nobody reads");
}

/// The same where the requests lie there before the daemon looks: no request is taken after the bytes of the answers
/// before it are counted.
#[test]
fn requests_that_wait_in_the_socket_are_not_all_answered_at_once() {
    let redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url(), &[("MADCACHE_LIMITS_BUFFERS_BYTES_MAX", "32MiB")]);
    put_big(&redis, "some", 4096);
    let mut warm = daemon.client();
    for _ in 0..4 {
        warm.call(&["GET", "some"]);
    }
    let before = daemon.process.rss_bytes();
    let client = connect_with_small_window(daemon.port);
    daemon.process.signal("STOP");
    let requests = encode(&["GET", "some"]).repeat(100_000);
    let _ = write_unread(&client, &requests, Duration::from_millis(300));
    daemon.process.signal("CONT");
    warm.call(&["PING"]);
    assert_memory_below(&daemon, before, 96 * MIB, "replies to what the socket held");
}
