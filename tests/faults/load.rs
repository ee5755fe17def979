//! Clients that write unique tokens while Redis fails, and the account of what became of each: acknowledged tokens ran
//! once, refused ones never, unknown ones at most once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::support::{Client, Redis, encode, eventually};

const PIPELINE: usize = 8;
const PUSH_SCRIPT: &str = "return redis.call('RPUSH', KEYS[1], ARGV[1])";

/// How the daemon tells of L2's failures (`upstream.errors`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Errors {
    Redis,
    Named,
}

impl Errors {
    pub fn setting(self) -> (&'static str, &'static str) {
        ("MADCACHE_UPSTREAM_ERRORS", if self == Errors::Redis { "redis" } else { "named" })
    }

    pub fn not_sent(self) -> &'static str {
        if self == Errors::Redis { "-LOADING madcache: not sent: " } else { "-UPSTREAMDOWN not sent: " }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Acknowledged,
    /// An error that says that it did not run.
    Refused,
    /// The connection ended, or an error that says so.
    Unknown,
}

/// The account of one client.
#[derive(Default)]
struct Account {
    fates: HashMap<String, Fate>,
    increments_acknowledged: u64,
    increments_unknown: u64,
    faults: Vec<String>,
}

#[derive(Default)]
pub struct Load {
    over: AtomicBool,
    acknowledged: AtomicU64,
}

impl Load {
    /// Runs the clients while `disturb` does its work, then holds their accounts against what Redis has.
    pub fn run(
        clients: u64,
        port: u16,
        errors: Errors,
        redis: &mut Redis,
        disturb: impl FnOnce(&Load, &mut Redis),
    ) {
        let load = Load::default();
        let accounts: Vec<Account> = std::thread::scope(|scope| {
            let load = &load;
            let running: Vec<_> =
                (0..clients).map(|n| scope.spawn(move || load.client(n, port, errors))).collect();
            let disturbed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| disturb(load, redis)));
            load.over.store(true, Relaxed);
            let accounts: Vec<Account> = running.into_iter().map(|client| client.join().unwrap()).collect();
            if let Err(panic) = disturbed {
                for account in &accounts {
                    eprintln!("{:?}", &account.faults[..account.faults.len().min(2)]);
                }
                std::panic::resume_unwind(panic);
            }
            accounts
        });
        let mut totals: HashMap<&'static str, usize> = HashMap::new();
        for (n, account) in accounts.iter().enumerate() {
            assert!(
                account.faults.is_empty(),
                "client {n}: {:?}",
                &account.faults[..account.faults.len().min(5)]
            );
            account.check(n as u64, &mut redis.client());
            for fate in account.fates.values() {
                let name = match fate {
                    Fate::Acknowledged => "acknowledged",
                    Fate::Refused => "refused",
                    Fate::Unknown => "unknown",
                };
                *totals.entry(name).or_default() += 1;
            }
        }
        println!("faults: errors={errors:?}: {totals:?}");
        assert!(totals.contains_key("acknowledged"));
        assert!(totals.len() > 1, "the disturbance disturbed nobody");
    }

    /// Waits until more writes have been acknowledged, so that a disturbance meets requests under way.
    pub fn expect_progress(&self) {
        let before = self.acknowledged.load(Relaxed);
        eventually("the load goes on", || self.acknowledged.load(Relaxed) > before + 200);
    }

    fn client(&self, n: u64, port: u16, errors: Errors) -> Account {
        let mut account = Account::default();
        let mut client = Client::connect(port);
        let mut seq = 0;
        while !self.over.load(Relaxed) && account.faults.is_empty() {
            let mut wire = encode(&["INCR", &format!("count:{n}")]);
            let tokens: Vec<String> = (0..PIPELINE).map(|i| format!("{n}:{}", seq + i)).collect();
            seq += PIPELINE;
            let list = format!("list:{n}");
            for (i, token) in tokens.iter().enumerate() {
                wire.extend(match i % 4 {
                    3 => encode(&["EVAL", PUSH_SCRIPT, "1", &list, token]),
                    _ => encode(&["RPUSH", &list, token]),
                });
            }
            let _ = client.send_raw(&wire);
            let mut refused = false;
            for request in [None].into_iter().chain(tokens.iter().map(Some)) {
                let fate = account.settle(request, client.try_read_frame(), errors);
                refused |= fate != Fate::Acknowledged;
                self.acknowledged.fetch_add((fate == Fate::Acknowledged) as u64, Relaxed);
            }
            if refused {
                // As client libraries do; and a connection that ended is opened again.
                std::thread::sleep(Duration::from_millis(5));
                client = Client::connect(port);
            }
        }
        account
    }
}

impl Account {
    /// Notes what became of a request (`None`: the increment).
    fn settle(&mut self, token: Option<&String>, reply: std::io::Result<Vec<u8>>, errors: Errors) -> Fate {
        let text = reply.as_ref().map(|frame| String::from_utf8_lossy(frame).into_owned());
        let fate = match (&text, errors) {
            (Ok(text), _) if text.starts_with(':') => Fate::Acknowledged,
            // Redis itself says the same while it reads its file.
            (Ok(text), _) if text.starts_with(errors.not_sent()) || text.starts_with("-LOADING Redis is") => {
                Fate::Refused
            }
            (Ok(text), Errors::Named) if text.starts_with("-UPSTREAMLOST outcome unknown: ") => Fate::Unknown,
            (Err(e), Errors::Redis) if e.kind() != std::io::ErrorKind::WouldBlock => Fate::Unknown,
            other => {
                self.faults.push(format!("{token:?} got {other:?}"));
                Fate::Unknown
            }
        };
        match (token, fate) {
            (Some(token), fate) => drop(self.fates.insert(token.clone(), fate)),
            (None, Fate::Acknowledged) => self.increments_acknowledged += 1,
            (None, Fate::Unknown) => self.increments_unknown += 1,
            (None, Fate::Refused) => {}
        }
        fate
    }

    fn check(&self, n: u64, l2: &mut Client) {
        let mut ran: HashMap<String, usize> = HashMap::new();
        let list = String::from_utf8(l2.call(&["LRANGE", &format!("list:{n}"), "0", "-1"])).unwrap();
        for line in list.lines().filter(|line| line.contains(':') && !line.starts_with(':')) {
            *ran.entry(line.to_string()).or_default() += 1;
        }
        for (token, times) in &ran {
            assert_eq!(*times, 1, "{token} ran {times} times");
            assert!(self.fates.contains_key(token), "{token} was never asked for");
        }
        for (token, fate) in &self.fates {
            match fate {
                Fate::Acknowledged => {
                    assert!(ran.contains_key(token), "{token} was acknowledged and did not run")
                }
                Fate::Refused => assert!(!ran.contains_key(token), "{token} was refused and ran"),
                Fate::Unknown => {}
            }
        }
        let count = l2.text(&["GET", &format!("count:{n}")]).parse::<u64>().expect("a counter");
        let possible = self.increments_acknowledged..=self.increments_acknowledged + self.increments_unknown;
        assert!(possible.contains(&count), "client {n}: {count} increments ran, {possible:?} were possible");
    }
}
