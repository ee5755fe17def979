//! Clients of the daemon that write and read while masters change, and the account of it: what a replica confirmed is there,
//! what was refused is not, nothing ran twice, and no read was older than it may be.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use madcache::resp::parse;

use crate::following::{Direct, KEY, Way};
use crate::support::sentinel::{eventually_elected, text};
use crate::support::{Client, Redis, encode};

const WRITERS: usize = 4;
const READERS: usize = 2;
/// `cache.max_staleness_ms` as it is by default.
const STALENESS_MAX: Duration = Duration::from_secs(1);
const PUSH: &str = "return redis.call('RPUSH', KEYS[1], ARGV[1])";

/// Numbers that grow, and when each was confirmed.
#[derive(Default)]
pub struct Confirmed(Mutex<Vec<(Instant, u64)>>);

impl Confirmed {
    pub fn note(&self, number: u64) {
        self.0.lock().unwrap().push((Instant::now(), number));
    }
    /// The newest one that was confirmed before then.
    fn before(&self, then: Instant) -> u64 {
        let confirmed = self.0.lock().unwrap();
        let at = confirmed.partition_point(|(at, _)| *at < then);
        at.checked_sub(1).map_or(0, |at| confirmed[at].1)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// Acknowledged, and a replica had it.
    Confirmed,
    Acknowledged,
    Refused,
    Unknown,
}

#[derive(Default)]
struct Writer {
    fates: Mutex<HashMap<String, Fate>>,
    /// What its key `value:<n>` held, and every `born:<n>:<number>`.
    confirmed: Confirmed,
}

#[derive(Default)]
pub struct Load {
    port: u16,
    over: AtomicBool,
    writers: [Writer; WRITERS],
    /// When writes through the daemon were confirmed.
    moments: Mutex<Vec<Instant>>,
    pub direct: Direct,
    reads: AtomicU64,
    faults: Mutex<Vec<String>>,
}

impl Load {
    /// Runs the clients of the daemon on this port, and one without a daemon, while `disturb` does its work.
    pub fn run(port: u16, way: Way, disturb: impl FnOnce(&Load)) -> Load {
        let load = Load { port, ..Load::default() };
        std::thread::scope(|scope| {
            let load = &load;
            let way = &way;
            for n in 0..WRITERS {
                scope.spawn(move || load.write(n));
            }
            for n in 0..READERS {
                scope.spawn(move || load.read(n));
            }
            scope.spawn(move || load.direct.look(way, &load.over));
            scope.spawn(move || load.direct.write(&load.over));
            let disturbed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| disturb(load)));
            load.over.store(true, Relaxed);
            if let Err(panic) = disturbed {
                eprintln!("{:?}", load.faults.lock().unwrap());
                std::panic::resume_unwind(panic);
            }
        });
        load
    }

    /// Waits until everybody's writes have been confirmed, and everything has been read, since this call.
    pub fn expect_progress(&self) {
        let now = Instant::now();
        let reads = self.reads.load(Relaxed);
        let latest =
            |confirmed: &Confirmed| confirmed.0.lock().unwrap().last().is_some_and(|(at, _)| *at > now);
        eventually_elected("writes and reads go on", || {
            self.writers.iter().all(|writer| latest(&writer.confirmed))
                && latest(&self.direct.confirmed)
                && self.reads.load(Relaxed) > reads + 200
        });
    }

    /// The longest time without a confirmed write since then: through the daemon, and without it.
    pub fn gaps(&self, since: Instant) -> (Duration, Duration) {
        let longest = |moments: &mut dyn Iterator<Item = Instant>| {
            let mut last = since;
            let mut gap = Duration::ZERO;
            for moment in moments.filter(|moment| *moment > since) {
                gap = gap.max(moment - last);
                last = moment;
            }
            gap
        };
        let mut through = self.moments.lock().unwrap().clone();
        through.sort_unstable();
        let direct = self.direct.writes.lock().unwrap();
        (longest(&mut through.into_iter()), longest(&mut direct.iter().map(|(at, _)| *at)))
    }

    fn write(&self, n: usize) {
        let writer = &self.writers[n];
        let mut number = 0u64;
        while !self.over.load(Relaxed) {
            let mut client = Client::connect(self.port);
            loop {
                number += 1;
                if self.over.load(Relaxed) || !self.write_once(writer, n, number, &mut client) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(3));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A token into a list, by a command or a script; a value; a new key; and the question whether a replica has them.
    fn write_once(&self, writer: &Writer, n: usize, number: u64, client: &mut Client) -> bool {
        let (token, list) = (format!("{n}:{number}"), format!("list:{n}"));
        let push = match number % 4 {
            3 => encode(&["EVAL", PUSH, "1", &list, &token]),
            _ => encode(&["RPUSH", &list, &token]),
        };
        let rest = [
            encode(&["SET", &format!("value:{n}"), &number.to_string()]),
            encode(&["SET", &format!("born:{n}:{number}"), "x"]),
            encode(&["WAIT", "1", "500"]),
        ];
        let _ = client.send_raw(&[push, rest.concat()].concat());
        let replies: Vec<_> = (0..4)
            .map(|_| client.try_read_frame().map(|frame| String::from_utf8_lossy(&frame).into_owned()))
            .collect();
        let fate = match &replies[0] {
            Ok(text) if text.starts_with(':') => Fate::Acknowledged,
            // Sentinel's way has the reasons in the daemon's words; Redis says so itself while it loads.
            Ok(text) if text.starts_with("-LOADING ") => Fate::Refused,
            // A script that a replica would not run has not run.
            Ok(text) if text.starts_with("-READONLY ") && number % 4 == 3 => Fate::Refused,
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => Fate::Unknown,
            other => {
                self.faults.lock().unwrap().push(format!("{token} got {other:?}"));
                Fate::Unknown
            }
        };
        let all = replies[1..3].iter().all(|reply| matches!(reply, Ok(text) if text == "+OK\r\n"));
        let waited = matches!(&replies[3], Ok(text) if text.starts_with(':') && text != ":0\r\n");
        let fate = if fate == Fate::Acknowledged && waited { Fate::Confirmed } else { fate };
        writer.fates.lock().unwrap().insert(token, fate);
        if fate == Fate::Confirmed && all {
            writer.confirmed.note(number);
            self.moments.lock().unwrap().push(Instant::now());
        }
        fate == Fate::Confirmed || fate == Fate::Acknowledged && all
    }

    /// Reads what the writers wrote again and again, so that it is in L1, and what will be written next.
    fn read(&self, reader: usize) {
        while !self.over.load(Relaxed) {
            let mut client = Client::connect(self.port);
            while !self.over.load(Relaxed) && self.read_all(reader, &mut client) {
                self.reads.fetch_add(1, Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn read_all(&self, reader: usize, client: &mut Client) -> bool {
        for (n, writer) in self.writers.iter().enumerate() {
            // The daemon's own writes are seen by all its clients at once.
            let expected = writer.confirmed.before(Instant::now());
            let born = [expected, expected + 1 + reader as u64].map(|number| format!("born:{n}:{number}"));
            let Some(found) = get(client, &format!("value:{n}")) else { return false };
            self.judge(found.parse().unwrap_or(0), expected, &format!("value:{n}"));
            for _ in 0..3 {
                let (Some(now), Some(_)) = (get(client, &born[0]), get(client, &born[1])) else {
                    return false;
                };
                self.judge(u64::from(now == "x") * expected, expected, &born[0]);
            }
        }
        let expected =
            Instant::now().checked_sub(STALENESS_MAX).map_or(0, |then| self.direct.confirmed.before(then));
        let Some(found) = get(client, KEY) else { return false };
        self.judge(found.parse().unwrap_or(0), expected, KEY);
        true
    }

    fn judge(&self, found: u64, expected: u64, key: &str) {
        if found < expected {
            self.faults.lock().unwrap().push(format!("{key} is read as {found} and was {expected} before"));
        }
    }

    /// Holds the accounts against what the master has.
    pub fn check(&self, master: &Redis) {
        let faults = self.faults.lock().unwrap();
        assert!(faults.is_empty(), "{} faults: {:?}", faults.len(), &faults[..faults.len().min(5)]);
        let mut client = master.client();
        let mut totals: HashMap<&'static str, usize> = HashMap::new();
        for (n, writer) in self.writers.iter().enumerate() {
            let list = parse(&client.call(&["LRANGE", &format!("list:{n}"), "0", "-1"])).unwrap();
            let mut ran: HashMap<String, usize> = HashMap::new();
            for token in list.elements().unwrap().iter().filter_map(text) {
                *ran.entry(token).or_default() += 1;
            }
            let fates = writer.fates.lock().unwrap();
            let twice: Vec<_> = ran.iter().filter(|(_, times)| **times != 1).collect();
            assert!(twice.is_empty(), "ran more than once: {twice:?}");
            for (token, fate) in fates.iter() {
                let name = match fate {
                    Fate::Confirmed => "confirmed",
                    Fate::Acknowledged => "acknowledged",
                    Fate::Refused => "refused",
                    Fate::Unknown => "unknown",
                };
                *totals.entry(name).or_default() += 1;
                match fate {
                    Fate::Confirmed => {
                        assert!(ran.contains_key(token), "{token} was confirmed by a replica and is lost")
                    }
                    Fate::Refused => assert!(!ran.contains_key(token), "{token} was refused and ran"),
                    Fate::Acknowledged | Fate::Unknown => {}
                }
            }
        }
        println!("sentinel: {totals:?}, {} rounds of reads", self.reads.load(Relaxed));
    }
}

/// None: the daemon has no master, or closed the connection.
fn get(client: &mut Client, key: &str) -> Option<String> {
    client.send_raw(&encode(&["GET", key])).ok()?;
    let frame = client.try_read_frame().ok()?;
    match frame.first()? {
        b'$' => Some(parse(&frame).and_then(|value| text(&value)).unwrap_or_default()),
        _ => None,
    }
}
