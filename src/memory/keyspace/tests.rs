//! Deadlines, eviction, bytes, watching and waiting, with a clock that the tests set.
use super::super::commands::tests::Probe;
use super::super::eviction::Policy;
use super::super::keys::Keys;
use super::*;

fn probe(policy: Policy, bytes_max: u64) -> Probe {
    Probe::with(Settings { policy, bytes_max, ..Settings::default() })
}

impl Probe {
    fn keys(&mut self) -> Keys<'_> {
        Keys { keyspace: &mut self.keyspace, db: 0, now_ms: self.now_ms }
    }

    /// Sets, as the engine does, after it has made room.
    fn set(&mut self, key: &str, more: &str) -> bool {
        let now_ms = self.now_ms;
        let has_room = self.keyspace.make_room(now_ms).is_ok();
        if has_room {
            assert_eq!(self.run(&format!("SET {key} {}{more}", "v".repeat(100))), "+OK");
        }
        has_room
    }

    fn has(&mut self, key: &str) -> bool {
        self.keys().exists(key.as_bytes())
    }
}

#[test]
fn active_expiry_takes_what_nobody_looks_at_and_only_that() {
    let mut probe = Probe::new();
    for number in 0..3000 {
        probe.run(&format!("SET stay:{number} v"));
        probe.run(&format!("SET go:{number} v PX {}", 1 + number % 50));
        probe.run(&format!("SET later:{number} v EX 1000"));
    }
    assert_eq!((probe.keyspace.len(0), probe.keyspace.volatile_len(0)), (9000, 6000));
    probe.now_ms += 100;
    for _ in 0..200 {
        probe.keyspace.expire_some(probe.now_ms, 2000);
    }
    let left = probe.keyspace.len(0) - 6000;
    // It is not worth while to look for the last tenth.
    assert!(left < 600, "{left} expired ones are left");
    assert_eq!(probe.keyspace.stats.expired, 3000 - left as u64);
    assert_eq!(probe.keyspace.volatile_len(0), 3000 + left);
    assert!((0..3000).all(|number| probe.has(&format!("stay:{number}"))));
    assert!((0..3000).all(|number| probe.has(&format!("later:{number}"))));
}

#[test]
fn the_least_recently_used_keys_go_first() {
    let mut probe = probe(Policy::AllKeysLru, 100_000);
    let used: Vec<String> = (0..50).map(|number| format!("used:{number}")).collect();
    for number in 0..5000 {
        for key in &used {
            if number < 50 { assert!(probe.set(key, "")) } else { drop(probe.run(&format!("GET {key}"))) }
        }
        assert!(probe.set(&format!("once:{number}"), ""));
        probe.now_ms += 200;
    }
    assert!(probe.keyspace.bytes() < 101_000, "{}", probe.keyspace.bytes());
    let kept = used.iter().filter(|key| probe.has(key)).count();
    assert!(kept >= 45, "{kept} of 50 keys in use were kept");
}

#[test]
fn the_least_frequently_used_keys_go_first() {
    let mut probe = probe(Policy::AllKeysLfu, 100_000);
    for number in 0..3000 {
        for key in 0..50 {
            if number == 0 {
                assert!(probe.set(&format!("used:{key}"), ""));
            }
            probe.run(&format!("GET used:{key}"));
        }
        assert!(probe.set(&format!("once:{number}"), ""));
    }
    let kept = (0..50).filter(|number| probe.has(&format!("used:{number}"))).count();
    assert!(kept >= 45, "{kept} of 50 keys in use were kept");
    let frequency = probe.run("OBJECT FREQ used:1");
    assert!(frequency.trim_start_matches(':').parse::<u32>().unwrap() > 10, "{frequency}");
}

#[test]
fn the_nearest_deadline_goes_first_and_keys_without_one_never() {
    let mut probe = probe(Policy::VolatileTtl, 60_000);
    for number in 0..100 {
        assert!(probe.set(&format!("stay:{number}"), ""));
        assert!(probe.set(&format!("near:{number}"), " EX 100"));
    }
    let mut refused = 0;
    for number in 0..600 {
        refused += usize::from(!probe.set(&format!("far:{number}"), " EX 100000"));
    }
    assert_eq!(refused, 0);
    assert!((0..100).all(|number| probe.has(&format!("stay:{number}"))));
    assert!((0..100).filter(|number| probe.has(&format!("near:{number}"))).count() < 5);
    for number in 0..2000 {
        refused += usize::from(!probe.set(&format!("more:{number}"), ""));
    }
    assert!(refused > 0, "there is nothing left to evict");
    assert!((0..100).all(|number| probe.has(&format!("stay:{number}"))));
}

#[test]
fn locks_and_sessions_are_never_evicted_whatever_the_policy() {
    for policy in Policy::ALL {
        let mut probe = probe(policy, 40_000);
        let names = ["lock:a", "session:b", "presence:channel:c:users", "ratelimit:ip:d", "x:{lock:a}:fence"];
        for name in names {
            assert!(probe.set(name, " EX 1000"));
        }
        for number in 0..2000 {
            let more = if policy.name().starts_with("volatile") { " EX 1000" } else { "" };
            assert!(probe.set(&format!("other:{number}"), more) || policy == Policy::NoEviction);
        }
        assert!(names.into_iter().all(|name| probe.has(name)), "{policy:?}");
        assert!(probe.keyspace.bytes() < 41_000, "{policy:?}");
        // Where only protected keys are left, writes are refused.
        (0..2000).for_each(|number| _ = probe.set(&format!("lock:{number}"), " EX 1000"));
        assert!(!probe.set("lock:last", ""), "{policy:?}");
        assert!(names.into_iter().all(|name| probe.has(name)), "{policy:?}");
    }
}

#[test]
fn a_watched_key_tells_every_change_and_nothing_else() {
    let changes: [(&str, bool); 16] = [
        ("GET k", false),
        ("SET other v", false),
        ("EXISTS k", false),
        ("DEL nothing", false),
        ("SET k v", true),
        ("APPEND k x", true),
        ("EXPIRE k 100", true),
        ("PERSIST k", true),
        ("PERSIST k", false),
        ("RENAME k moved", true),
        ("RENAME moved k", true),
        ("COPY other k REPLACE", true),
        ("SWAPDB 0 1", true),
        ("SWAPDB 0 1", true),
        ("FLUSHALL", true),
        ("FLUSHALL", false),
    ];
    let mut probe = Probe::new();
    probe.run("SET k v");
    for (request, tells) in changes {
        let before = probe.keys().watch(b"k");
        probe.run(request);
        assert_eq!(probe.keys().watched_version(b"k") != before, tells, "{request}");
        probe.keyspace.unwatch(0, b"k");
    }
    probe.run("SET k v PX 10");
    let before = probe.keys().watch(b"k");
    probe.now_ms += 11;
    assert_ne!(probe.keys().watched_version(b"k"), before, "it expired meanwhile");
}

#[test]
fn a_key_that_had_expired_in_the_other_database_does_not_come_by_swapdb() {
    for own in ["PING", "SET k v PX 10"] {
        let mut probe = Probe::new();
        probe.run("SET k v PX 10");
        assert_eq!(probe.run("MOVE k 1"), ":1");
        probe.run(own);
        probe.now_ms += 11;
        let before = probe.keys().watch(b"k");
        probe.run("SWAPDB 0 1");
        assert_eq!(probe.keys().watched_version(b"k"), before, "{own}");
    }
}

#[test]
fn who_waits_for_a_key_learns_of_it_however_it_comes() {
    let mut probe = Probe::new();
    probe.keyspace.wait_for(0, b"k");
    for request in ["SET k v", "GET k", "RENAME k other", "MOVE other 1", "SWAPDB 0 1", "COPY other k"] {
        let told = !matches!(request, "GET k" | "MOVE other 1" | "SWAPDB 0 1");
        probe.run(request);
        let ready = probe.keyspace.take_ready();
        assert_eq!(ready.iter().any(|(db, key)| *db == 0 && **key == *b"k"), told, "{request}");
    }
    probe.keyspace.stop_waiting(0, b"k");
    probe.run("SET k v");
    assert!(!probe.keyspace.has_ready());
}

#[test]
fn bytes_follow_what_the_values_grow_and_shrink_by() {
    let mut probe = Probe::new();
    probe.run("SET k v");
    let small = probe.keyspace.bytes();
    probe.run(&format!("APPEND k {}", "x".repeat(10_000)));
    assert!(probe.keyspace.bytes() >= small + 10_000);
    probe.run("SETBIT bits 800000 1");
    assert!(probe.keyspace.bytes() >= small + 110_000);
    probe.run("SET k v");
    probe.run("DEL bits");
    assert_eq!(probe.keyspace.bytes(), small);
}
