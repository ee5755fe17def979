//! The embedded engine's strings, bitmaps, HyperLogLogs and key commands against a real redis-server: the same random
//! requests, well-formed and broken, give the same replies, byte for byte, and leave the same keys. Orders that mean
//! nothing are sorted, times compared with some tolerance, random and estimated replies by type.
//! `MEMORY_CORE_REQUESTS` says how many requests per protocol, `MEMORY_CORE_SEED` replays.

#[allow(dead_code)]
#[path = "memory_collections/grammar.rs"]
mod grammar;
#[path = "memory_core/requests.rs"]
mod requests;
mod support;

use madcache::command::ROWS;
use madcache::memory::{Caller, Keyspace, Settings, call, handler};
use requests::{KEYS, Request, Requests};
use std::time::{SystemTime, UNIX_EPOCH};
use support::{Client, Redis, encode, frame_len};

/// Requests that are under way to Redis at once.
const BATCH: usize = 200;
/// What the two clocks may differ by.
const TOLERANCE_MS: i64 = 10_000;

struct Both {
    client: Client,
    keyspace: Keyspace,
    caller: Caller,
    _redis: Redis,
}

impl Both {
    fn start(resp3: bool) -> Both {
        let redis = Redis::start();
        let mut client = redis.client();
        assert_eq!(client.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]), b"+OK\r\n");
        if resp3 {
            client.call(&["HELLO", "3"]);
        }
        let caller = Caller::speaking(resp3);
        Both { client, keyspace: Keyspace::new(Settings::default()), caller, _redis: redis }
    }

    fn run(&mut self, requests: &[Request], told: &str) {
        let wire: Vec<u8> = requests.iter().flat_map(|request| encode(&request.arguments)).collect();
        self.client.send_raw(&wire).unwrap();
        for request in requests {
            let mut ours = Vec::new();
            let words: Vec<&[u8]> = request.arguments.iter().map(Vec::as_slice).collect();
            if words[0] == b"SELECT" {
                self.caller.db = std::str::from_utf8(words[1]).unwrap().parse().unwrap();
                ours.extend_from_slice(b"+OK\r\n");
            } else {
                call(&mut self.keyspace, &mut self.caller, now_ms(), &words, &mut ours);
            }
            let theirs = self.client.read_frame();
            let same = is_same(request, &theirs, &ours);
            assert!(same, "{told}\n{request:?}\nRedis  {}\nengine {}", shown(&theirs), shown(&ours));
        }
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn shown(reply: &[u8]) -> String {
    reply.escape_ascii().to_string()
}

fn is_same(request: &Request, theirs: &[u8], ours: &[u8]) -> bool {
    if theirs == ours {
        return true;
    }
    let name = String::from_utf8_lossy(&request.arguments[0]).to_uppercase();
    // Each shows the bytes of an expired key until it looks at it, and RANDOMKEY makes Redis look at any.
    let shows_more = name == "MEMORY" && theirs[0] != b'-' && ours[0] != b'-';
    if theirs[0] != ours[0] || theirs[0] == b'-' {
        return shows_more;
    }
    match name.as_str() {
        "TTL" | "EXPIRETIME" => is_near(theirs, ours, TOLERANCE_MS / 1000),
        "PTTL" | "PEXPIRETIME" => is_near(theirs, ours, TOLERANCE_MS),
        "RANDOMKEY" => theirs.starts_with(b"$-1") == ours.starts_with(b"$-1"),
        "KEYS" => sorted(theirs) == sorted(ours),
        "SCAN" => request.is_broken || sorted_scan(theirs) == sorted_scan(ours),
        // Copies of small integers are no longer shared in Redis.
        "MEMORY" | "OBJECT" => theirs[0] == b':',
        _ => false,
    }
}

fn is_near(theirs: &[u8], ours: &[u8], tolerance: i64) -> bool {
    let [theirs, ours] = [theirs, ours]
        .map(|reply| std::str::from_utf8(&reply[1..reply.len() - 2]).unwrap().parse::<i64>().unwrap());
    theirs > 0 && ours > 0 && (theirs - ours).abs() <= tolerance
}

/// The elements of an array, in order of their bytes.
fn sorted(array: &[u8]) -> Vec<&[u8]> {
    let mut left = &array[array.iter().position(|&byte| byte == b'\n').unwrap() + 1..];
    let mut elements = Vec::new();
    while !left.is_empty() {
        let (element, rest) = left.split_at(frame_len(left).unwrap());
        elements.push(element);
        left = rest;
    }
    elements.sort();
    elements
}

/// A scan that came through in one step.
fn sorted_scan(reply: &[u8]) -> Option<Vec<&[u8]>> {
    Some(sorted(reply.strip_prefix(b"*2\r\n$1\r\n0\r\n")?))
}

/// Everything that shows of all keys of a database.
fn looks(db: u32) -> Vec<Request> {
    let db = db.to_string();
    let mut requests = vec![Request::of(&["SELECT", &db])];
    for key in KEYS {
        for words in [&["TYPE", key][..], &["GET", key], &["PTTL", key], &["OBJECT", "ENCODING", key]] {
            requests.push(Request::of(words));
        }
    }
    requests.push(Request::of_all_names());
    requests.push(Request::of(&["DBSIZE"]));
    requests.push(Request::of(&["KEYS", "*"]));
    requests
}

fn compare(resp3: bool, default_seed: u64) {
    let setting = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let count = setting("MEMORY_CORE_REQUESTS").unwrap_or(100_000) as usize;
    let seed = setting("MEMORY_CORE_SEED").unwrap_or(default_seed);
    let mut both = Both::start(resp3);
    let mut requests = Requests::new(seed);
    for round in 0..count / BATCH {
        let told = format!("seed {seed}, round {round}, resp3 {resp3}");
        let batch: Vec<Request> = (0..BATCH).map(|_| requests.next()).collect();
        both.run(&batch, &told);
        if round % 20 == 0 {
            (0..3).for_each(|db| both.run(&looks(db), &told));
        }
    }
    for db in 0..3 {
        both.run(&looks(db), "at the end");
        let bytes = both.keyspace.bytes();
        assert!(both.keyspace.len(db) == 0 || bytes > 0);
    }
    both.run(&[Request::of(&["FLUSHALL"])], "at the end");
    assert_eq!(both.keyspace.bytes(), 0, "what is counted for a key is given back with it");
}

#[test]
fn random_requests_are_answered_as_by_redis_in_resp2() {
    compare(false, 1);
}

#[test]
fn random_requests_are_answered_as_by_redis_in_resp3() {
    compare(true, 2);
}

#[test]
fn help_and_self_tests_are_redis_own() {
    let mut both = Both::start(false);
    let requests: [&[&str]; 3] = [&["OBJECT", "HELP"], &["OBJECT", "NOTHING"], &["PFSELFTEST"]];
    both.run(&requests.map(Request::of), "once");
}

#[test]
fn every_command_for_keys_that_the_engine_has_is_among_the_random_ones_here_or_of_collections() {
    let asked: std::collections::BTreeSet<&str> =
        grammar::Grammar::new().names().chain(requests::names()).collect();
    let lacking: Vec<&str> = ROWS
        .iter()
        .filter(|row| handler(row).is_some())
        .map(|row| row.name.split('|').next().unwrap())
        .filter(|name| !asked.contains(name) && !ASKED_ELSEWHERE.contains(name))
        .collect();
    assert!(lacking.is_empty(), "no random request has {lacking:?}");
}

/// It takes long: `help_and_self_tests_are_redis_own` asks it once.
const ASKED_ELSEWHERE: [&str; 1] = ["PFSELFTEST"];
