//! Two hundred clients at once, what they found, and the writer behind their backs that publishes and invalidates.
//! What one client says is `talk`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::check::stamped;
use crate::support::{Client, Redis, encode};
use crate::talk::{self, End};
use crate::wire::Wire;

pub const CLIENTS: u64 = 200;
pub const SHARED_KEYS: u64 = 512;
pub const HASHES: u64 = 16;
pub const BIG_KEYS: u64 = 8;
pub const BIG_BYTES: usize = 200_000;
pub const CHANNELS: u64 = 16;
pub const DATABASES: u8 = 2;

/// Splitmix64: enough to vary what clients do, and a seed repeats their choices (not their timing).
pub struct Rng(pub u64);

impl Rng {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }
    pub fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// What all clients share.
pub struct Swarm {
    pub port: u16,
    replies_wanted: u64,
    pub replies: AtomicU64,
    /// Connections that were left before all replies had come.
    pub left: AtomicU64,
    pub talks: AtomicU64,
    next: AtomicU64,
    faults: Mutex<Vec<String>>,
}

impl Swarm {
    pub fn new(port: u16, replies_wanted: u64) -> Swarm {
        let (replies, left, talks, next) = Default::default();
        Swarm { port, replies_wanted, replies, left, talks, next, faults: Mutex::new(Vec::new()) }
    }

    /// A number that nobody else of this swarm gets.
    pub fn unique(&self) -> u64 {
        self.next.fetch_add(1, Relaxed) + 1
    }

    fn done(&self) -> bool {
        self.replies.load(Relaxed) >= self.replies_wanted || self.faults().len() >= 20
    }

    pub fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap().clone()
    }

    /// Lets the clients talk until so many replies were checked; `l2` is Redis itself.
    pub fn run(&self, l2: &Redis, seed: u64) {
        let begin = Instant::now();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| publish(l2.port, seed, &over));
            let clients: Vec<_> =
                (0..CLIENTS).map(|n| scope.spawn(move || self.client(seed.wrapping_add(n << 32)))).collect();
            let panicked = clients.into_iter().filter_map(|client| client.join().err()).count();
            over.store(true, Relaxed);
            assert_eq!(panicked, 0, "clients that panicked");
        });
        let (replies, seconds) = (self.replies.load(Relaxed), begin.elapsed().as_secs_f64());
        println!(
            "integrity: seed {seed}, {replies} replies checked, {} mismatches, {} connections, {} of them left \
             early, {seconds:.1} s, {:.0} replies/s",
            self.faults().len(),
            self.talks.load(Relaxed),
            self.left.load(Relaxed),
            replies as f64 / seconds
        );
    }

    fn client(&self, seed: u64) {
        let mut rng = Rng(seed);
        while !self.done() {
            self.talks.fetch_add(1, Relaxed);
            match talk::one(self, &mut rng) {
                Ok(()) => {}
                Err(End::Left) => {
                    self.left.fetch_add(1, Relaxed);
                }
                Err(End::Fault(what)) => self.faults.lock().unwrap().push(what),
            }
        }
    }
}

/// Writes what the clients read, straight to Redis.
pub fn prepare(l2: &Redis) {
    let mut client = l2.client();
    let mut put = |args: &[&[u8]]| {
        let reply = client.call(args);
        assert_ne!(reply[0], b'-', "{}", String::from_utf8_lossy(&reply));
    };
    for db in 0..DATABASES {
        put(&[b"SELECT", db.to_string().as_bytes()]);
        for n in 0..SHARED_KEYS {
            let key = format!("k:{n}");
            put(&[b"SET", key.as_bytes(), &stamped(db, &key, n, 20)]);
        }
        for n in 0..BIG_KEYS {
            let key = format!("big:{n}");
            put(&[b"SET", key.as_bytes(), &stamped(db, &key, n, BIG_BYTES)]);
        }
        for n in 0..HASHES {
            for field in 0..4 {
                put(&[
                    b"HSET",
                    format!("h:{n}").as_bytes(),
                    format!("f{field}").as_bytes(),
                    hash_value(db, n, field).as_bytes(),
                ]);
            }
        }
    }
}

pub fn hash_value(db: u8, hash: u64, field: u64) -> String {
    format!("{db}|h:{hash}|f{field}")
}

/// Publishes numbered messages and overwrites shared keys, straight at Redis, until it is over.
fn publish(port: u16, seed: u64, over: &AtomicBool) {
    let mut rng = Rng(seed ^ 0xabcd);
    let mut wire = Wire::connect(port).unwrap();
    for round in 1.. {
        let mut bytes = Vec::new();
        for n in 0..CHANNELS {
            let channel = format!("ch:{n}");
            bytes.extend(encode(&["PUBLISH", &channel, &format!("{channel}|{round}")]));
        }
        for db in 0..DATABASES {
            let key = format!("k:{}", rng.below(SHARED_KEYS));
            bytes.extend(encode(&["SELECT", &db.to_string()]));
            bytes.extend(encode(&[&b"SET"[..], key.as_bytes(), &stamped(db, &key, round, 30)]));
        }
        wire.send(&bytes).unwrap();
        for _ in 0..CHANNELS + 2 * DATABASES as u64 {
            wire.read_value().unwrap();
        }
        if over.load(Relaxed) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// L2's own list of its connections, without the one that asks.
pub fn links(l2: &mut Client) -> Vec<String> {
    let list = l2.text(&["CLIENT", "LIST"]);
    list.lines().filter(|line| !line.contains("cmd=client|list")).map(String::from).collect()
}
