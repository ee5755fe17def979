//! The lock scripts against a real Redis, at injected times: fences, expiry, foreign holders, waiters, late and repeated
//! requests, steps of the clock. Waiting itself, RENEW and BIND are the daemon's and tested with it.
mod support;
#[path = "state_lock/waiting.rs"]
mod waiting;

use std::collections::HashMap;

use madcache::resp::parse;
use madcache::state::lock::{self, Acquire, Acquired, Check, Command, Extend, Force, Info, Release, Waits};
use madcache::state::{self, Naming};
use support::scripts::{START_US, Store, shown};

/// A store whose lock is called `a`.
struct Locks {
    store: Store,
    naming: Naming,
}

fn nonce(number: u8) -> lock::Nonce {
    [number; 16]
}

/// The request as it would be typed, parsed.
fn request(line: &str) -> Command {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    match state::parse(&words) {
        Ok(state::Command::Lock(command)) => command,
        other => panic!("{line}: {other:?}"),
    }
}

fn acquire(line: &str) -> Acquire {
    match request(&format!("LOCK.ACQUIRE {line}")) {
        Command::Acquire(acquire) => acquire,
        other => panic!("{line}: {other:?}"),
    }
}

impl Locks {
    fn start() -> Locks {
        Locks { store: Store::start(), naming: Naming::default() }
    }

    /// `LOCK.ACQUIRE a <line>` as attempt of the numbered ACQUIRE; whoever says WAIT stands in line.
    fn acquire(&mut self, number: u8, line: &str) -> String {
        let acquire = acquire(&format!("a {line}"));
        let waits = if acquire.wait_ms.is_some() { Waits::InLine } else { Waits::No };
        let token = acquire.token.clone().unwrap_or_else(|| format!("t{number}").into_bytes());
        self.store.run(acquire.call(&self.naming, &token, &nonce(number), waits))
    }

    /// The fence of a grant.
    fn granted(&mut self, number: u8, line: &str) -> u64 {
        let reply = self.acquire(number, line);
        let words: Vec<&str> = reply.trim_matches(['[', ']']).split(' ').collect();
        assert_eq!((words[0], words.len()), ("1", 4), "{reply}");
        words[2].parse().unwrap()
    }

    fn run(&mut self, line: &str) -> String {
        let naming = &self.naming;
        let call = match request(&format!("LOCK.{line}")) {
            Command::Extend(extend) => extend.call(naming),
            Command::Release(release) => release.call(naming),
            Command::Check(check) => check.call(naming),
            Command::Info(info) => info.call(naming),
            Command::Force(force) => force.call(naming),
            Command::Acquire(_) => panic!("{line}: needs a nonce"),
        };
        self.store.run(call)
    }

    fn cancel(&mut self, number: u8) -> String {
        self.store.run(lock::cancel(&self.naming, b"a", &nonce(number)))
    }

    fn redis(&mut self, line: &str) -> String {
        self.store.client.text(&line.split(' ').collect::<Vec<_>>())
    }
}

const LOST: &str = "LOCKLOST the lock is not held with this token";

#[test]
fn a_lock_has_one_holder_until_it_is_released() {
    let mut locks = Locks::start();
    assert_eq!(locks.acquire(1, "1000 OWNER job"), format!("[1 t1 {START_US} 1000]"));
    assert_eq!(locks.acquire(2, "1000"), format!("[0 ~ {START_US} 1000]"));
    assert_eq!(locks.run("CHECK a t1"), format!("[1 {START_US} 1000]"));
    assert_eq!(locks.run("CHECK a t2"), "[0 ~ 0]");
    assert_eq!(locks.run("INFO a"), format!("[job {START_US} 1000 0]"));
    assert_eq!(locks.run("RELEASE a t2"), LOST);
    assert_eq!(locks.redis("GET lock:a"), "t1");
    assert_eq!(locks.run("RELEASE a t1"), "0");
    assert_eq!(locks.run("INFO a"), "~");
    assert_eq!(locks.acquire(2, "1000"), format!("[1 t2 {} 1000]", START_US + 1));
    assert_eq!(locks.run("INFO a"), format!("[~ {} 1000 0]", START_US + 1));
}

#[test]
fn a_denied_acquire_changes_nothing_and_says_exactly_when_to_retry() {
    let mut locks = Locks::start();
    locks.granted(1, "1000");
    locks.store.now_us += 400;
    let before = locks.store.contents();
    assert_eq!(locks.acquire(2, "1000"), format!("[0 ~ {START_US} 1000]"));
    assert_eq!(locks.store.contents(), before);
    locks.store.pass_ms(999);
    assert_eq!(locks.acquire(2, "1000"), format!("[0 ~ {START_US} 1]"));
    locks.store.pass_ms(1);
    locks.granted(2, "1000");
}

#[test]
fn an_acquire_repeated_with_its_token_has_the_same_result() {
    let mut locks = Locks::start();
    let fence = locks.granted(1, "1000 TOKEN t");
    locks.store.pass_ms(600);
    assert_eq!(locks.acquire(2, "1000 TOKEN t"), format!("[1 t {fence} 1000]"));
    // It never shortens what the holder has.
    assert_eq!(locks.acquire(3, "10 TOKEN t"), format!("[1 t {fence} 1000]"));
    assert_eq!(locks.run("RELEASE a t"), "0");
    assert_eq!(locks.run("INFO a"), "~");
}

#[test]
fn a_release_repeated_within_a_minute_succeeds_and_a_loss_is_not_mistaken_for_it() {
    let mut locks = Locks::start();
    locks.granted(1, "1000 TOKEN t");
    assert_eq!(locks.run("RELEASE a t"), "0");
    locks.store.pass_ms(59_999);
    assert_eq!(locks.run("RELEASE a t"), "0");
    locks.store.pass_ms(1);
    assert_eq!(locks.run("RELEASE a t"), LOST);

    locks.granted(2, "1000 TOKEN t");
    assert_eq!(locks.run("RELEASE a t"), "0");
    locks.granted(3, "1000 TOKEN t");
    locks.store.pass_ms(1000);
    assert_eq!(locks.run("RELEASE a t"), LOST);
    // Somebody else's lock is left alone by the repetition of a release.
    locks.granted(4, "1000 TOKEN u");
    assert_eq!(locks.run("RELEASE a u"), "0");
    locks.granted(5, "1000 TOKEN v");
    assert_eq!(locks.run("RELEASE a u"), "0");
    assert_eq!(locks.redis("GET lock:a"), "v");
}

#[test]
fn nothing_can_be_released_or_extended_after_expiry() {
    let mut locks = Locks::start();
    locks.granted(1, "1000");
    locks.store.pass_ms(999);
    assert_eq!(locks.run("EXTEND a t1 500"), "500");
    locks.store.pass_ms(499);
    assert_eq!(locks.run("CHECK a t1"), format!("[1 {START_US} 1]"));
    locks.store.pass_ms(1);
    // Redis still has the key, since its clock is another one here: the deadline decides.
    assert_eq!(locks.redis("GET lock:a"), "t1");
    for line in ["EXTEND a t1 500", "RELEASE a t1"] {
        assert_eq!(locks.run(line), LOST, "{line}");
    }
    assert_eq!(locks.run("CHECK a t1"), "[0 ~ 0]");
    assert_eq!(locks.run("INFO a"), "~");
    assert_eq!(locks.run("FORCE a"), "0");
}

#[test]
fn a_holder_stopped_past_its_ttl_has_the_smaller_fence() {
    let mut locks = Locks::start();
    let stopped = locks.granted(1, "1000");
    locks.store.pass_ms(1000);
    let next = locks.granted(2, "1000");
    assert!(next > stopped);
    // A resource that keeps the largest fence it saw refuses the first holder when it wakes up.
    assert_eq!(locks.run("CHECK a t1"), "[0 ~ 0]");
    assert_eq!(locks.run("RELEASE a t1"), LOST);
    assert_eq!(locks.redis("GET lock:a"), "t2");
}

#[test]
fn fences_grow_through_a_flush_and_a_clock_that_steps_back() {
    let mut locks = Locks::start();
    let mut last = locks.granted(1, "1000");
    locks.redis("FLUSHALL");
    locks.store.pass_ms(1);
    let after_flush = locks.granted(2, "1000");
    assert!(after_flush > last);
    last = after_flush;
    assert_eq!(locks.run("RELEASE a t2"), "0");
    locks.store.now_us -= 3_600_000_000;
    for number in 3..6 {
        let fence = locks.granted(number, "1000");
        assert_eq!(fence, last + 1);
        last = fence;
        assert_eq!(locks.run(&format!("RELEASE a t{number}")), "0");
    }
}

#[test]
fn a_clock_that_steps_back_neither_frees_nor_keeps_a_lock_for_long() {
    let mut locks = Locks::start();
    locks.granted(1, "10000");
    // By a little: time stands still until the clock is back.
    locks.store.pass_ms(1000);
    assert_eq!(locks.run("EXTEND a t1 10000"), "10000");
    locks.store.now_us -= 5_000_000;
    assert_eq!(locks.run("CHECK a t1"), format!("[1 {START_US} 10000]"));
    assert_eq!(locks.acquire(2, "1000"), format!("[0 ~ {START_US} 10000]"));
    // By an hour: no more than the ttl from the first look on.
    locks.store.now_us -= 3_600_000_000;
    assert_eq!(locks.acquire(2, "1000"), format!("[0 ~ {START_US} 10000]"));
    locks.store.pass_ms(9999);
    assert_eq!(locks.acquire(2, "1000"), format!("[0 ~ {START_US} 1]"));
    locks.store.pass_ms(1);
    assert_eq!(locks.granted(2, "1000"), START_US + 1);
}

#[test]
fn an_acquire_that_arrives_after_its_release_is_refused() {
    let mut locks = Locks::start();
    let late = "LOCKLOST this ACQUIRE was granted and released before";
    locks.granted(1, "1000 TOKEN t");
    locks.granted(2, "1000 TOKEN t");
    assert_eq!(locks.run("RELEASE a t"), "0");
    let before = locks.store.contents();
    assert_eq!(locks.acquire(1, "1000 TOKEN t"), late);
    assert_eq!(locks.acquire(2, "1000 TOKEN t"), late);
    assert_eq!(locks.store.contents(), before);
    // The same token in a new ACQUIRE is no late one.
    locks.granted(3, "1000 TOKEN t");
    assert_eq!(locks.run("FORCE a"), "1");
    assert_eq!(locks.acquire(3, "1000 TOKEN t"), late);
    assert_eq!(locks.run("RELEASE a t"), LOST, "a lock that was taken away is lost");
    locks.store.pass_ms(60_000);
    locks.granted(3, "1000 TOKEN t");
}

#[test]
fn a_foreign_holder_excludes_and_has_no_fence() {
    let mut locks = Locks::start();
    let last = locks.granted(1, "1000");
    assert_eq!(locks.run("RELEASE a t1"), "0");
    assert_eq!(locks.redis("SET lock:a theirs NX PX 100000"), "+OK");
    let Acquired::Denied { fence, retry_ms } = Acquired::parse(&{
        let call = acquire("a 1000").call(&locks.naming, b"t", &nonce(2), Waits::No);
        locks.store.frame(call)
    })
    .unwrap() else {
        panic!("granted beside a foreign holder")
    };
    assert!(fence.is_none() && (90_000..=100_001).contains(&retry_ms), "{fence:?} {retry_ms}");
    let info = locks.run("INFO a");
    assert!(info.starts_with("[~ ~ ") && info.ends_with(" 0]"), "{info}");
    assert!(locks.run("CHECK a theirs").starts_with("[1 ~ "));
    assert_eq!(locks.run("RELEASE a t2"), LOST);
    // Whoever knows the value of the key is its holder.
    assert_eq!(locks.run("EXTEND a theirs 50000"), "50000");
    assert!((40_000..=50_000).contains(&locks.store.pttl("lock:a")));
    assert_eq!(locks.run("RELEASE a theirs"), "0");
    assert!(locks.granted(2, "1000") > last);
    assert_eq!(locks.redis("SET lock:a theirs NX PX 1000"), "$-1", "and it is excluded in turn");

    locks.redis("SET lock:a forever");
    assert_eq!(locks.acquire(3, "1000"), "[0 ~ ~ 1000]");
    assert_eq!(locks.run("INFO a"), "[~ ~ -1 0]");
    assert_eq!(locks.run("CHECK a t2"), "[0 ~ 0]", "a grant counts only while its token is the value");
    assert_eq!(locks.run("FORCE a"), "1");
    assert_eq!(locks.run("INFO a"), "~");
}

#[test]
fn a_reentrant_holder_counts_its_holds() {
    let mut locks = Locks::start();
    let fence = locks.granted(1, "1000 TOKEN t REENTRANT");
    assert_eq!(locks.granted(2, "1000 TOKEN t REENTRANT"), fence);
    // An attempt that is repeated, by its nonce, is no further hold.
    assert_eq!(locks.granted(2, "1000 TOKEN t REENTRANT"), fence);
    assert!(locks.acquire(3, "1000 TOKEN u REENTRANT").starts_with("[0"));
    assert_eq!(locks.run("RELEASE a t"), "1");
    assert_eq!(locks.redis("GET lock:a"), "t");
    assert_eq!(locks.run("RELEASE a t"), "0");
    assert_eq!(locks.redis("EXISTS lock:a"), ":0");
    assert_eq!(locks.run("RELEASE a t"), "0");
    for number in 10..60 {
        locks.granted(number, "1000 TOKEN t REENTRANT");
    }
    for left in (0..50).rev() {
        assert_eq!(locks.run("RELEASE a t"), left.to_string());
    }
}

#[test]
fn events_tell_of_grants_and_ends_but_no_token() {
    let mut locks = Locks::start();
    let mut events = locks.store.redis.client();
    events.call(&["SUBSCRIBE", "events:lock:a"]);
    let mut next = || shown(&parse(&events.read_frame()).unwrap());
    locks.granted(1, "1000 OWNER a\"b TOKEN secret");
    locks.granted(2, "1000 TOKEN secret");
    locks.run("RELEASE a secret");
    locks.redis("SET lock:a theirs");
    locks.run("FORCE a");
    let event = |text: String| format!("[message events:lock:a {{{text}}}]");
    assert_eq!(next(), event(format!(r#""type":"acquire","fence":{START_US},"owner":"a\"b""#)));
    assert_eq!(next(), event(format!(r#""type":"release","fence":{START_US}"#)));
    assert_eq!(next(), event(r#""type":"force""#.to_owned()));
}

#[test]
fn companions_expire_and_outlive_the_lock() {
    let mut locks = Locks::start();
    let days_seven = 7 * 24 * 3_600_000;
    locks.granted(1, "5000");
    assert!((days_seven..=days_seven + 5000).contains(&locks.store.pttl("x:{lock:a}:grant")));
    locks.run(&format!("EXTEND a t1 {}", 2 * days_seven));
    assert!(locks.store.pttl("x:{lock:a}:grant") > 2 * days_seven);
    locks.acquire(2, "1000 WAIT 9000 FAIR");
    locks.run("RELEASE a t1");
    for (what, ms) in [("released", 120_000), ("queue", 60_000), ("signs", 60_000)] {
        let left = locks.store.pttl(&format!("x:{{lock:a}}:{what}"));
        assert!((1..=ms).contains(&left), "{what}: {left}");
    }
    assert_eq!(locks.redis("DBSIZE"), ":4");
}

#[test]
fn a_key_of_another_type_is_an_error_and_stays() {
    let mut locks = Locks::start();
    locks.redis("RPUSH lock:a x");
    let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
    assert_eq!(locks.acquire(1, "1000 WAIT 10"), wrong);
    for line in ["EXTEND a t 1", "RELEASE a t", "CHECK a t", "INFO a", "FORCE a"] {
        assert_eq!(locks.run(line), wrong);
    }
    assert_eq!(locks.cancel(1), wrong);
    assert_eq!(locks.redis("DBSIZE"), ":1");
}

#[test]
fn a_full_redis_refuses_new_holders_and_lets_present_ones_extend_and_release() {
    let mut locks = Locks::start();
    locks.granted(1, "1000");
    locks.redis("CONFIG SET maxmemory 1");
    assert!(locks.acquire(2, "1000").starts_with("OOM "));
    assert_eq!(locks.run("EXTEND a t1 5000"), "5000");
    assert_eq!(locks.run("RELEASE a t1"), "0");
    assert_eq!(locks.run("RELEASE a t1"), "0");
}

#[test]
fn without_an_injected_time_the_clock_of_redis_counts() {
    let locks = Locks::start();
    let call = acquire("a 60000").call(&locks.naming, b"t", &nonce(1), Waits::No);
    let mut client = locks.store.redis.client();
    client.send_raw(&call.eval()).unwrap();
    let Ok(Acquired::Granted { fence, ttl_ms: 60_000, .. }) = Acquired::parse(&client.read_frame()) else {
        panic!("not granted")
    };
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!((since.as_micros() as u64).abs_diff(fence) < 60_000_000, "{fence}");
    let info = Info { name: b"a".to_vec() }.call(&locks.naming);
    client.send_raw(&info.eval()).unwrap();
    let ttl = parse(&client.read_frame()).unwrap().elements().unwrap()[2].int().unwrap();
    assert!((1..=60_000).contains(&ttl), "{ttl}");
}

#[test]
fn every_script_keeps_to_its_declared_slot_on_a_cluster() {
    let mut store = Store::start_with(&["--cluster-enabled", "yes"]);
    store.client.text(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    support::eventually("the cluster serves", || {
        store.client.text(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
    });
    let naming = Naming { prefix: b"app:".to_vec(), tagged: true };
    let mut locks = Locks { store, naming };
    locks.granted(1, "1000");
    locks.acquire(2, "1000 WAIT 9000 FAIR");
    assert_eq!(locks.run("EXTEND a t1 1000"), "1000");
    assert!(locks.run("CHECK a t1").starts_with("[1"));
    assert!(locks.run("INFO a").ends_with(" 1]"));
    assert_eq!(locks.run("RELEASE a t1"), "0");
    locks.granted(2, "1000 WAIT 9000 FAIR");
    assert_eq!(locks.cancel(2), "1");
    assert_eq!(locks.run("FORCE a"), "0");
    assert_eq!(locks.redis("EXISTS app:lock:a"), ":0");
}

/// Random requests of eight clients, one of them foreign, on a clock that also stands and steps: at no time do two hold
/// the lock, and whoever is granted it anew gets a larger fence than all before.
#[test]
fn random_histories_have_one_holder_and_growing_fences() {
    let mut locks = Locks::start();
    let mut seed = 7u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let (mut last_fence, mut numbers, mut holder) = (0u64, 0u8, HashMap::<String, u64>::new());
    for step in 0..4000 {
        match random(10) {
            0 => locks.store.pass_ms(random(4000)),
            1 if random(20) == 0 => locks.store.now_us -= random(100_000_000),
            _ => locks.store.now_us += random(300_000),
        }
        let token = format!("c{}", random(7));
        match random(8) {
            0..4 => {
                numbers = numbers.wrapping_add(1);
                let letters = ["", " WAIT 1000", " WAIT 1000 FAIR", " REENTRANT"][random(4) as usize];
                let reply = locks.acquire(numbers, &format!("{} TOKEN {token}{letters}", 1 + random(3000)));
                let words: Vec<&str> = reply.trim_matches(['[', ']']).split(' ').collect();
                if words[0] == "1" {
                    let fence: u64 = words[2].parse().unwrap();
                    if holder.get(&token) == Some(&fence) {
                        assert_eq!(fence, last_fence, "step {step}: an old grant came back");
                    } else {
                        assert!(fence > last_fence, "step {step}: {fence} after {last_fence}");
                        last_fence = fence;
                        holder.insert(token.clone(), fence);
                    }
                }
            }
            4 => drop(locks.run(&format!("RELEASE a {token}"))),
            5 => drop(locks.run(&format!("EXTEND a {token} {}", 1 + random(3000)))),
            6 => drop(locks.cancel(numbers)),
            _ if random(4) == 0 => drop(locks.redis("SET lock:a c7 NX PX 60000")),
            _ => drop(locks.run("FORCE a")),
        }
        // A lock may end by Redis's own clock while it is looked at, but none begins.
        let is_free = |locks: &mut Locks| locks.run("INFO a") == "~";
        let was_free = is_free(&mut locks);
        let holders: Vec<String> = (0..8)
            .filter(|c| locks.run(&format!("CHECK a c{c}")).starts_with("[1"))
            .map(|c| c.to_string())
            .collect();
        assert!(holders.len() <= 1, "step {step}: {holders:?}");
        match holders.is_empty() {
            true => assert!(is_free(&mut locks), "step {step}: held by nobody"),
            false => assert!(!was_free, "step {step}: {holders:?} hold a lock that is free"),
        }
    }
    assert!(last_fence > 0);
}

/// The typed requests give the same calls as the typed text.
#[test]
fn typed_requests_need_no_parsing() {
    let naming = Naming::default();
    let (name, token) = (b"a".to_vec(), b"t".to_vec());
    let pairs = [
        (
            Extend { name: name.clone(), token: token.clone(), ttl_ms: 5 }.call(&naming),
            match request("LOCK.EXTEND a t 5") {
                Command::Extend(extend) => extend.call(&naming),
                _ => unreachable!(),
            },
        ),
        (
            Release { name: name.clone(), token: token.clone() }.call(&naming),
            match request("lock.release a t") {
                Command::Release(release) => release.call(&naming),
                _ => unreachable!(),
            },
        ),
    ];
    for (typed, parsed) in pairs {
        assert_eq!(typed.evalsha(), parsed.evalsha());
    }
    assert_eq!(request("LOCK.CHECK a t"), Command::Check(Check { name: name.clone(), token }));
    assert_eq!(request("LOCK.FORCE a"), Command::Force(Force { name }));
}
