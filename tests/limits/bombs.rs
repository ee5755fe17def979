//! Malformed, hostile and huge requests, in one piece and byte by byte. Redis is asked what it answers.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use crate::support::{Client, Daemon, PATIENCE, Redis, encode};
use crate::{Bystander, MIB, assert_memory_below};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    /// The connection ends after Redis's own bytes (perhaps none).
    Closes,
    /// A PING sent behind it is answered, after Redis's own bytes.
    GoesOn,
    /// More is awaited: no byte comes, the connection stays.
    Waits,
    /// Closed without a byte, where Redis would wait for more.
    ClosesSilently,
    /// Whatever happens, it ends or waits; only the others matter.
    Whatever,
}
use Outcome::*;

fn bombs() -> Vec<(Outcome, Vec<u8>)> {
    let short: &[(Outcome, &[u8])] = &[
        // Counts.
        (Waits, b"*2147483647\r\n"),
        (Waits, b"*2147483647\r\n$4\r\nPING\r\n"),
        (Closes, b"*2147483648\r\n"),
        (Closes, b"*9223372036854775808\r\n"),
        (Closes, b"*-9223372036854775809\r\n"),
        (GoesOn, b"*-2147483648\r\n"),
        (GoesOn, b"*-1\r\n"),
        (GoesOn, b"*0\r\n"),
        (Closes, b"*+1\r\n"),
        (Closes, b"*01\r\n"),
        (Closes, b"* 1\r\n"),
        (Closes, b"*1 \r\n"),
        (Closes, b"*\r\n"),
        (Closes, b"*1.0\r\n"),
        (Closes, b"*abc\r\n"),
        // Lengths.
        (Waits, b"*1\r\n$536870912\r\n"),
        (Closes, b"*1\r\n$536870913\r\n"),
        (Closes, b"*1\r\n$9223372036854775807\r\n"),
        (Closes, b"*1\r\n$-1\r\n"),
        (Closes, b"*1\r\n$-2\r\n"),
        (Closes, b"*1\r\n$+1\r\n"),
        (Closes, b"*1\r\n$01\r\n"),
        (Closes, b"*1\r\n$\r\n"),
        (Closes, b"*1\r\n$ 4\r\nPING\r\n"),
        (Closes, b"*2\r\n$4\r\nECHO\r\n$-2\r\n"),
        (GoesOn, b"*1\r\n$0\r\n\r\n"),
        // Types, depth, line ends.
        (Closes, b"*1\r\n:1\r\n"),
        (Closes, b"*1\r\n+PING\r\n"),
        (Closes, b"*1\r\n\r\n$4\r\nPING\r\n"),
        (Closes, b"*1\r\n*1\r\n$4\r\nPING\r\n"),
        (Closes, b"*1\n$4\nPING\r\n"),
        (Waits, b"*1\n$4\nPING\n"),
        (GoesOn, b"*1\r\n$4\r\nPINGxx"),
        (GoesOn, b"PING\n"),
        (GoesOn, b"\n\r\n\n"),
        (GoesOn, b"  PING  \r\n"),
        // Inline.
        (Closes, b"SET \"a\r\n"),
        (Closes, b"SET 'a'b c\r\n"),
        (GoesOn, b"nosuch a b\r\n"),
        (GoesOn, b"\xff\xfe\r\n"),
        // Other protocols.
        (Closes, b"POST / HTTP/1.1\r\n"),
        (Closes, b"post x\r\n"),
        (Closes, b"Host: localhost:6379\r\n"),
        (Closes, b"*1\r\n$4\r\nPOST\r\n"),
        (Closes, b"*2\r\n$5\r\nhost:\r\n$1\r\nx\r\n"),
        (ClosesSilently, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a client hello, more or less"),
        (Whatever, b"GET a\0b\r\n"),
        (Whatever, b"*1\r\n\0\r\n"),
        (Whatever, b"*\x001\r\n$4\r\nPING\r\n"),
        (Whatever, b"\0\0\0\0\r\n"),
    ];
    let mut all: Vec<(Outcome, Vec<u8>)> = short.iter().map(|(o, bytes)| (*o, bytes.to_vec())).collect();
    let long = |head: &[u8], byte: u8| [head, &vec![byte; 70_000]].concat();
    all.extend([
        (Closes, long(b"", b'x')),
        (Closes, long(b"*", b'1')),
        (Closes, long(b"*1\r\n$", b'1')),
        (Closes, b"*1\r\n".repeat(5000)),
        (GoesOn, b"*0\r\n".repeat(5000)),
        (GoesOn, b"\r\n".repeat(5000)),
    ]);
    all
}

/// What came back, and whether the connection had ended when the reading did.
#[derive(PartialEq)]
struct Answer {
    bytes: Vec<u8>,
    ended: bool,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tail = &self.bytes[self.bytes.len().saturating_sub(200)..];
        write!(f, "{:?} ended={}", String::from_utf8_lossy(tail), self.ended)
    }
}

/// Sends it in pieces of so many bytes, reading meanwhile, then reads until the end, the PONG or a moment's silence.
fn answer(port: u16, outcome: Outcome, bomb: &[u8], piece: usize) -> Answer {
    let mut client = Client::connect(port);
    let mut answer = Answer { bytes: Vec::new(), ended: false };
    let ping: &[u8] = if outcome == GoesOn { b"*2\r\n$4\r\nPING\r\n$4\r\nlast\r\n" } else { b"" };
    client.stream().set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    for (n, part) in [bomb, ping].concat().chunks(piece).enumerate() {
        answer.ended |= client.send_raw(part).is_err();
        // The nonblocking glance keeps what was answered before a reset, and ends soon after it.
        if n % 512 == 511 && read_once(&client, &mut answer) {
            break;
        }
    }
    let wait = if outcome == Waits || outcome == Whatever { Duration::from_millis(100) } else { PATIENCE };
    let end = Instant::now() + wait;
    while !answer.ended && Instant::now() < end && !answer.bytes.ends_with(b"$4\r\nlast\r\n") {
        read_once(&client, &mut answer);
    }
    while answer.ended && read_once_more(&client, &mut answer) {}
    answer
}

/// Whether the connection has ended.
fn read_once(client: &Client, answer: &mut Answer) -> bool {
    let mut piece = [0; 16384];
    match client.stream().read(&mut piece) {
        Ok(0) => answer.ended = true,
        Ok(n) => answer.bytes.extend_from_slice(&piece[..n]),
        Err(e) if e.kind() == ErrorKind::WouldBlock => {}
        Err(_) => answer.ended = true,
    }
    answer.ended
}

/// Whether something was still in the kernel's buffer.
fn read_once_more(client: &Client, answer: &mut Answer) -> bool {
    let before = answer.bytes.len();
    read_once(client, answer);
    answer.bytes.len() > before
}

fn show(bomb: &[u8]) -> String {
    format!("{:?} ({} bytes)", String::from_utf8_lossy(&bomb[..bomb.len().min(40)]), bomb.len())
}

#[test]
fn each_parser_bomb_gets_what_redis_answers_in_one_piece_and_byte_by_byte() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut bystander = Bystander::of(&daemon);
    let before = daemon.process.rss_bytes();
    let mut wrong = Vec::new();
    for (outcome, bomb) in bombs() {
        for piece in [usize::MAX, 1] {
            let ours = answer(daemon.port, outcome, &bomb, piece);
            let theirs = answer(redis.port, outcome, &bomb, piece);
            let silent = |answer: &Answer, ended| answer.bytes.is_empty() && answer.ended == ended;
            let right = match outcome {
                Closes => ours == theirs && ours.ended,
                GoesOn => ours == theirs && !ours.ended,
                Waits => silent(&theirs, false) && silent(&ours, false),
                ClosesSilently => silent(&ours, true),
                Whatever => true,
            };
            if !right {
                wrong.push(format!(
                    "{outcome:?} {} by {piece}:\n  got  {ours:?}\n  want {theirs:?}",
                    show(&bomb)
                ));
            }
            bystander.is_fine();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_memory_below(&daemon, before, 64 * MIB, "after all parser bombs");
}

#[test]
fn a_request_is_understood_however_it_is_cut() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let wire = [
        encode(&["SET", "cut", "a\r\nb"]),
        b"GET cut\r\n".to_vec(),
        encode(&["GET", "cut"]),
        encode(&[&b"ECHO"[..], &[0, 13, 10, 255]]),
        encode(&["MGET", "cut", "none"]),
    ]
    .concat();
    let wanted = answer(redis.port, GoesOn, &wire, usize::MAX);
    for piece in [1, 2, 3, 5, 7, 11, wire.len() - 1, wire.len()] {
        assert_eq!(answer(daemon.port, GoesOn, &wire, piece), wanted, "in pieces of {piece}");
    }
    // Two writes, cut at every place.
    for cut in 1..wire.len() {
        let mut client = daemon.client();
        client.send_raw(&wire[..cut]).unwrap();
        client.send_raw(&wire[cut..]).unwrap();
        let frames: Vec<u8> = (0..5).flat_map(|_| client.read_frame()).collect();
        assert!(wanted.bytes.starts_with(&frames), "cut at {cut}: {:?}", String::from_utf8_lossy(&frames));
    }
}

#[test]
fn nothing_is_allocated_from_an_announced_length_alone() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut bystander = Bystander::of(&daemon);
    let before = daemon.process.rss_bytes();
    let heads: [&[u8]; 4] = [
        b"*1\r\n$536870912\r\nabc",
        b"*2147483647\r\n$3\r\nabc\r\n",
        b"*1000000\r\n$4\r\nMGET\r\n$1\r\na\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$536870912\r\n",
    ];
    let mut clients: Vec<Client> = (0..200).map(|_| daemon.client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send_raw(heads[n % heads.len()]).unwrap();
    }
    for client in &mut clients[..4] {
        client.expect_silence(Duration::from_millis(50));
    }
    bystander.is_fine();
    assert_memory_below(&daemon, before, 64 * MIB, "200 announced giants");
}

#[test]
fn deeply_nested_replies_pass_as_they_are() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    for depth in [1, 100, 129, 1000] {
        let script = format!("local t = {{'end'}} for i = 1, {depth} do t = {{t}} end return t");
        for hello in ["2", "3"] {
            let (mut ours, mut theirs) = (daemon.client(), redis.client());
            ours.call(&["HELLO", hello]);
            theirs.call(&["HELLO", hello]);
            let wanted = theirs.call(&["EVAL", &script, "0"]);
            assert_eq!(ours.call(&["EVAL", &script, "0"]), wanted, "{depth} deep over RESP{hello}");
            assert_eq!(ours.text(&["ECHO", "after"]), "after");
        }
    }
}

/// A setting, Redis's option for the same, and a request past the limit.
#[test]
fn smaller_limits_apply_and_answer_as_redis_does() {
    let bulk = b"*2\r\n$4\r\nECHO\r\n$1048577\r\n".to_vec();
    let redis = Redis::start_with(&["--proto-max-bulk-len", "1mb"]);
    let daemon = Daemon::start_with(&redis.url(), &[("MADCACHE_LIMITS_BULK_BYTES_MAX", "1MiB")]);
    let theirs = answer(redis.port, Closes, &bulk, usize::MAX);
    assert_eq!(theirs.bytes, b"-ERR Protocol error: invalid bulk length\r\n");
    assert_eq!(answer(daemon.port, Closes, &bulk, usize::MAX), theirs);
    let allowed = encode(&[&b"ECHO"[..], &vec![b'x'; 1 << 20]]);
    let mut client = daemon.client();
    client.send_raw(&allowed).unwrap();
    assert_eq!(client.read_frame().len(), "$1048576\r\n".len() + (1 << 20) + 2);

    let settings = [("MADCACHE_LIMITS_ARGS_MAX", "16"), ("MADCACHE_LIMITS_INLINE_BYTES_MAX", "1KiB")];
    let daemon = Daemon::start_with(&redis.url(), &settings);
    let many = answer(daemon.port, Closes, b"*17\r\n", usize::MAX);
    assert_eq!(many.bytes, b"-ERR Protocol error: invalid multibulk length\r\n");
    let inline = answer(daemon.port, Closes, &[b'x'; 1500], usize::MAX);
    assert_eq!(inline.bytes, b"-ERR Protocol error: too big inline request\r\n");
    assert_eq!(daemon.client().text(&["PING"]), "+PONG");
}

#[test]
fn a_query_buffer_past_its_limit_closes_the_connection() {
    let redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url(), &[("MADCACHE_LIMITS_QUERY_BUFFER_BYTES_MAX", "1MiB")]);
    let mut bystander = Bystander::of(&daemon);
    let before = daemon.process.rss_bytes();
    let mut client = daemon.client();
    let _ = client.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$67108864\r\n");
    let _ = client.send_raw(&vec![b'x'; 64 << 20]);
    assert!(crate::closes(&client), "64 MiB were taken with a query buffer of 1 MiB");
    bystander.is_fine();
    assert_memory_below(&daemon, before, 32 * MIB, "a query buffer of 1 MiB");
    assert_eq!(daemon.client().text(&["EXISTS", "a"]), ":0");
}
