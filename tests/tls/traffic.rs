//! What goes over TLS, on both sides: hits, pipelines, both protocols, messages, large values both ways, bytes that come one by
//! one, clients that do not read, neighbours that are read without end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::pki::Pki;
use crate::secure::{self, trusting};
use crate::support::{Daemon, PATIENCE, encode, eventually, frame_len};
use crate::{SecureDaemon, SecureRedis};

/// Redis, daemon and clients that speak TLS alone to each other.
struct Setup {
    pki: Pki,
    redis: SecureRedis,
    daemon: SecureDaemon,
}

impl Setup {
    fn new(more: &[(&str, &str)]) -> Setup {
        let pki = Pki::new();
        let redis = SecureRedis::start(&pki, "no");
        let daemon = SecureDaemon::start(&pki, &redis.url(), more);
        Setup { pki, redis, daemon }
    }

    fn client(&self) -> secure::Client {
        self.daemon.client(&self.pki.authority)
    }

    fn daemon(&self) -> &Daemon {
        &self.daemon.daemon
    }
}

fn bulk(value: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

fn value(len: usize) -> Vec<u8> {
    (0..len).map(|n| b'a' + (n % 23) as u8).collect()
}

#[test]
fn reads_become_hits_and_writes_made_elsewhere_end_them() {
    let setup = Setup::new(&[]);
    let mut client = setup.client();
    assert_eq!(client.text(&["SET", "k", "v"]), "+OK");
    for _ in 0..10 {
        assert_eq!(client.text(&["GET", "k"]), "v");
    }
    assert!(setup.daemon().stat("l1_hits") >= 8, "{}", setup.daemon().stat("l1_hits"));
    assert_eq!(setup.redis.redis.client().text(&["SET", "k", "new"]), "+OK");
    eventually("the write is seen", || client.text(&["GET", "k"]) == "new");
}

#[test]
fn pipelines_of_both_protocols_are_answered_in_order() {
    let setup = Setup::new(&[]);
    for hello in ["2", "3"] {
        let mut client = setup.client();
        client.call(&["HELLO", hello]);
        let mut wire = Vec::new();
        for n in 0..5000 {
            let (n, key) = (n.to_string(), format!("k{}", n % 50));
            wire.extend(encode(&["SET", &key, &n]));
            wire.extend(encode(&["GET", &key]));
            wire.extend(encode(&["HGETALL", "none"]));
        }
        // Written by another thread: nobody reads before all is written otherwise, and buffers are not endless.
        let empty: &[u8] = if hello == "2" { b"*0\r\n" } else { b"%0\r\n" };
        for (n, piece) in wire.chunks(wire.len() / 100 + 1).enumerate() {
            client.send_raw(piece).unwrap_or_else(|e| panic!("piece {n}: {e}"));
        }
        for n in 0..5000 {
            assert_eq!(client.read_frame(), b"+OK\r\n");
            assert_eq!(client.read_frame(), bulk(n.to_string().as_bytes()));
            assert_eq!(client.read_frame(), empty);
        }
    }
}

#[test]
fn transactions_scripts_and_blocking_commands_work() {
    let setup = Setup::new(&[]);
    let (mut client, mut other) = (setup.client(), setup.client());
    for (request, reply) in [
        (&["WATCH", "k"][..], "+OK"),
        (&["MULTI"], "+OK"),
        (&["INCR", "k"], "+QUEUED"),
        (&["EXEC"], "*1\r\n:1"),
        (&["EVAL", "return redis.call('INCR', KEYS[1])", "1", "k"], ":2"),
        (&["GET", "k"], "2"),
    ] {
        assert_eq!(client.text(request), reply, "{request:?}");
    }
    client.send(&["BLPOP", "jobs", "0"]);
    eventually("it waits", || other.text(&["INFO", "clients"]).contains("blocked_clients:1"));
    assert_eq!(other.text(&["RPUSH", "jobs", "one"]), ":1");
    assert_eq!(client.read_frame(), b"*2\r\n$4\r\njobs\r\n$3\r\none\r\n");
}

#[test]
fn messages_reach_subscribers_of_both_protocols() {
    let setup = Setup::new(&[]);
    let mut subscribers = Vec::new();
    for hello in ["2", "3"] {
        let mut subscriber = setup.client();
        subscriber.call(&["HELLO", hello]);
        let confirmed = subscriber.call(&["SUBSCRIBE", "news"]);
        assert!(confirmed.ends_with(b"$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"));
        subscribers.push(subscriber);
    }
    let mut publisher = setup.client();
    let big = value(300_000);
    for n in 0..200 {
        assert_eq!(publisher.text(&["PUBLISH", "news", &n.to_string()]), ":2");
    }
    assert_eq!(publisher.call(&[b"PUBLISH", &b"news"[..], &big]), b":2\r\n");
    for subscriber in &mut subscribers {
        for n in 0..200 {
            assert!(subscriber.read_frame().ends_with(&bulk(n.to_string().as_bytes())), "message {n}");
        }
        assert!(subscriber.read_frame().ends_with(&bulk(&big)));
    }
}

#[test]
fn large_values_are_whole_both_ways() {
    let setup = Setup::new(&[]);
    let mut client = setup.client();
    for len in [16_383, 16_384, 16_385, 65_535, 65_536, 200_000, 1 << 20, 10 << 20] {
        let value = value(len);
        assert_eq!(client.call(&[b"SET", &b"big"[..], &value]), b"+OK\r\n", "{len}");
        for _ in 0..3 {
            assert!(client.call(&["GET", "big"]) == bulk(&value), "{len}");
        }
        assert!(setup.redis.redis.client().call(&["GET", "big"]) == bulk(&value), "{len}");
    }
}

/// Sends every byte of what the end has to say by itself.
fn trickle(connection: &mut rustls::ClientConnection, socket: &mut TcpStream) {
    let mut records = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut records).unwrap();
    }
    for byte in records {
        socket.write_all(&[byte]).unwrap();
        // So that the daemon reads it alone, most of the time.
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn trickled(version: &'static rustls::SupportedProtocolVersion) {
    let setup = Setup::new(&[]);
    let mut config = (*trusting(&setup.pki.authority, None)).clone();
    if version.version == rustls::ProtocolVersion::TLSv1_2 {
        config = secure::only_tls12(&setup.pki.authority);
    }
    let mut connection = secure::connection(config.into());
    let mut socket = TcpStream::connect(("127.0.0.1", setup.daemon.port)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    while connection.is_handshaking() {
        trickle(&mut connection, &mut socket);
        if connection.wants_read() {
            assert!(connection.read_tls(&mut socket).unwrap() > 0, "closed during the handshake");
            connection.process_new_packets().unwrap();
        }
    }
    trickle(&mut connection, &mut socket);
    assert_eq!(connection.protocol_version(), Some(version.version));
    let mut wanted = Vec::new();
    // Two records, then one that holds the end of one request and the beginning of another.
    let requests = [encode(&["SET", "k", "v"]), encode(&["GET", "k"]), encode(&["ECHO", "hello"])].concat();
    for piece in [&requests[..10], &requests[10..40], &requests[40..]] {
        connection.writer().write_all(piece).unwrap();
        trickle(&mut connection, &mut socket);
    }
    while wanted.len() < b"+OK\r\n$1\r\nv\r\n$5\r\nhello\r\n".len() {
        assert!(connection.read_tls(&mut socket).unwrap() > 0);
        connection.process_new_packets().unwrap();
        let mut piece = [0; 1024];
        match connection.reader().read(&mut piece) {
            Ok(n) => wanted.extend_from_slice(&piece[..n]),
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    assert_eq!(wanted, b"+OK\r\n$1\r\nv\r\n$5\r\nhello\r\n");
}

#[test]
fn a_handshake_and_records_that_come_byte_by_byte_are_understood() {
    trickled(&rustls::version::TLS13);
}

#[test]
fn tls_1_2_is_spoken_too() {
    trickled(&rustls::version::TLS12);
}

#[test]
fn keys_that_are_exchanged_on_the_way_are_followed() {
    let setup = Setup::new(&[]);
    let mut client = setup.client();
    for n in 0..50 {
        client.change_keys();
        let n = n.to_string();
        assert_eq!(client.text(&["SET", "k", &n]), "+OK");
        assert_eq!(client.text(&["GET", "k"]), n);
    }
}

/// A client whose kernel holds little that it has not read.
fn slow_client(setup: &Setup) -> secure::Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], setup.daemon.port)).into()).unwrap();
    secure::Client::over(socket.into(), trusting(&setup.pki.authority, None)).unwrap()
}

#[test]
fn a_pinned_client_that_does_not_read_stops_the_reading_of_redis() {
    let setup = Setup::new(&[]);
    let piece = value(1 << 20);
    assert_eq!(setup.client().call(&[b"SET", &b"big"[..], &piece]), b"+OK\r\n");
    let mut slow = slow_client(&setup);
    assert_eq!(slow.text(&["WATCH", "other"]), "+OK");
    let before = setup.daemon().process.rss_bytes();
    for _ in 0..512 {
        slow.send(&["GET", "big"]);
    }
    let mut bystander = setup.client();
    for _ in 0..50 {
        assert_eq!(bystander.text(&["PING"]), "+PONG");
        let now = setup.daemon().process.rss_bytes();
        assert!(now < before + (64 << 20), "512 MiB for a client that does not read: from {before} to {now}");
        std::thread::sleep(Duration::from_millis(10));
    }
    let wanted = bulk(&piece);
    for n in 0..512 {
        assert!(slow.read_frame() == wanted, "value {n}");
    }
    assert_eq!(slow.text(&["UNWATCH"]), "+OK");
}

#[test]
fn a_subscriber_that_does_not_read_is_closed_at_its_limit() {
    let setup = Setup::new(&[
        ("MADCACHE_LIMITS_PUBSUB_OUTPUT_BYTES_MAX", "2MiB"),
        ("MADCACHE_LIMITS_PUBSUB_OUTPUT_SOFT_BYTES", "0"),
    ]);
    let mut slow = slow_client(&setup);
    slow.call(&["SUBSCRIBE", "news"]);
    let piece = value(256 << 10);
    let mut publisher = setup.redis.redis.client();
    eventually("the subscriber that does not read is closed", || {
        publisher.call(&[b"PUBLISH", &b"news"[..], &piece]) == b":0\r\n"
    });
    assert_eq!(setup.daemon().stat("closed_slow_readers"), 1);
    assert!(setup.daemon().stat("buffered_bytes") < 1 << 20);
}

#[test]
fn a_client_that_says_that_it_ends_gets_its_replies_and_a_farewell() {
    let setup = Setup::new(&[]);
    let mut client = setup.client();
    client.send_raw(&[encode(&["SET", "k", "v"]), encode(&["GET", "k"])].concat()).unwrap();
    client.say_farewell();
    // It would be an error if the daemon closed without saying that nothing more comes.
    assert_eq!(client.read_to_end().unwrap(), b"+OK\r\n$1\r\nv\r\n");
    let mut client = setup.client();
    client.send(&["QUIT"]);
    assert_eq!(client.read_to_end().unwrap(), b"+OK\r\n");
}

#[test]
fn clients_that_are_read_without_end_leave_the_others_their_turn() {
    let setup = Setup::new(&[("MADCACHE_SERVER_WORKERS", "1")]);
    assert_eq!(setup.client().text(&["SET", "hot", "v"]), "+OK");
    let (done, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut hot = setup.client();
                let wire = encode(&["GET", "hot"]).repeat(200);
                while !done.load(Relaxed) {
                    hot.send_raw(&wire).unwrap();
                    for _ in 0..200 {
                        assert_eq!(hot.read_frame(), b"$1\r\nv\r\n");
                    }
                    rounds.fetch_add(1, Relaxed);
                }
            });
        }
        let mut bystander = setup.client();
        eventually("they are at work", || rounds.load(Relaxed) > 20);
        let begin = Instant::now();
        for n in 0..200 {
            assert_eq!(bystander.text(&["ECHO", &n.to_string()]), n.to_string());
        }
        // A newcomer's handshake has its turn too.
        assert_eq!(setup.client().text(&["PING"]), "+PONG");
        let took = begin.elapsed();
        done.store(true, Relaxed);
        assert!(took < PATIENCE, "{took:?} for 200 requests beside busy neighbours");
    });
}

#[test]
fn idle_connections_hold_little_memory() {
    let setup = Setup::new(&[]);
    crate::exchange::raise_file_limit();
    let mut first: Vec<secure::Client> = (0..50).map(|_| setup.client()).collect();
    for client in &mut first {
        assert!(client.call(&["GET", "k"]).len() >= frame_len(b"$-1\r\n").unwrap());
    }
    let before = setup.daemon().process.rss_bytes();
    let mut idle: Vec<secure::Client> = (0..1000).map(|_| setup.client()).collect();
    for client in &mut idle {
        assert_eq!(client.text(&["GET", "k"]), "$-1");
    }
    let each = setup.daemon().process.rss_bytes().saturating_sub(before) / idle.len() as u64;
    println!("{each} bytes for each idle connection");
    assert!(each < 24 << 10, "{each} bytes for an idle connection");
}
