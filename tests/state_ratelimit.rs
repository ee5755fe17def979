//! The rate-limit scripts against a real Redis, at injected times: what is counted, stored, pruned and given back.
//! `model.rs` compares whole histories with a model, `windows.rs` looks at what was admitted, `throttle.rs` at CL.THROTTLE.
#[path = "state_ratelimit/model.rs"]
mod model;
mod support;
#[path = "state_ratelimit/throttle.rs"]
mod throttle;
#[path = "state_ratelimit/windows.rs"]
mod windows;

use std::collections::BTreeMap;

use madcache::config::{LimitOnL2Down, Policy};
use madcache::state::ratelimit::{Command, Limits, Plan};
use madcache::state::{self, Call, Naming};
use support::scripts::Store;

/// A store with the policies `free` (3 per second) and `hourly` (5 per hour).
struct Rates {
    store: Store,
    naming: Naming,
    policies: BTreeMap<String, Policy>,
}

const KEY: &str = "ratelimit:user:7";
const ALGORITHMS: [&str; 4] = ["sliding", "gcra", "fixed", "log"];

impl Rates {
    fn start() -> Rates {
        Rates::over(Store::start(), Naming::default())
    }

    fn over(store: Store, naming: Naming) -> Rates {
        let policy = |limit, window_ms| Policy { limit, window_ms, ..Policy::default() };
        let policies = [("free", policy(3, 1000)), ("hourly", policy(5, 3_600_000))];
        Rates { store, naming, policies: policies.map(|(name, policy)| (name.to_owned(), policy)).into() }
    }

    fn call(&self, line: &str) -> Call {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let command = match state::parse(&words) {
            Ok(state::Command::Ratelimit(command)) => command,
            Ok(state::Command::Throttle(throttle)) => return throttle.call(&self.naming),
            other => panic!("{line}: {other:?}"),
        };
        let limits = Limits {
            naming: &self.naming,
            policies: &self.policies,
            ipv6_prefix_bits: 64,
            on_l2_down: LimitOnL2Down::Open,
        };
        match command {
            Command::Check(check) => check.resolve(&limits).unwrap().check(),
            Command::Peek(check) => check.resolve(&limits).unwrap().peek(),
            Command::Reset(subject) => subject.reset(&limits),
            Command::Refund(refund) => refund.call(&limits).unwrap(),
            Command::Multi(multi) => match multi.plan(&limits).unwrap() {
                Plan::Whole(call) => call,
                Plan::OneByOne(_) => panic!("{line}: several slots"),
            },
        }
    }

    fn run(&mut self, line: &str) -> String {
        let call = self.call(line);
        self.store.run(call)
    }

    /// `RATELIMIT.CHECK user 7 <line>`.
    fn check(&mut self, line: &str) -> String {
        self.run(&format!("RATELIMIT.CHECK user 7 {line}"))
    }

    fn peek(&mut self, line: &str) -> String {
        self.run(&format!("RATELIMIT.PEEK user 7 {line}"))
    }

    fn redis(&mut self, line: &str) -> String {
        self.store.client.text(&line.split(' ').collect::<Vec<_>>())
    }
}

#[test]
fn each_algorithm_admits_its_limit_and_says_when_the_next_one_fits() {
    // Half a window in: four used at once, then a fifth.
    for (algorithm, denied, later) in [
        ("sliding", "[0 4 0 750 1500]", 750),
        ("fixed", "[0 4 0 500 500]", 500),
        ("gcra", "[0 4 0 250 1000]", 250),
        ("log", "[0 4 0 1000 1000]", 1000),
    ] {
        let mut rates = Rates::start();
        rates.store.pass_ms(500);
        let terms = format!("LIMIT 4 WINDOW 1000 ALGO {algorithm}");
        for left in (0..4).rev() {
            let reply = rates.check(&terms);
            assert!(reply.starts_with(&format!("[1 4 {left} -1 ")), "{algorithm}: {reply}");
        }
        let before = rates.store.contents();
        assert_eq!(rates.check(&terms), denied, "{algorithm}");
        assert_eq!(rates.store.contents(), before, "{algorithm}: a denied call consumes nothing");
        rates.store.pass_ms(later - 1);
        assert!(rates.check(&terms).starts_with("[0 4 0 1 "), "{algorithm}: a millisecond early");
        rates.store.pass_ms(1);
        assert!(rates.check(&terms).starts_with("[1 "), "{algorithm}: to the millisecond");
    }
}

#[test]
fn a_cost_above_the_limit_never_fits_and_a_cost_of_nothing_only_asks() {
    let mut rates = Rates::start();
    for algorithm in ALGORITHMS {
        let terms = format!("LIMIT 4 WINDOW 1000 ALGO {algorithm}");
        assert_eq!(rates.check(&format!("{terms} COST 5")), "[0 4 4 -2 0]");
        assert_eq!(rates.check(&format!("{terms} COST 0")), "[1 4 4 -1 0]");
        assert_eq!(rates.peek(&format!("{terms} COST 4")), "[1 4 4 -1 0]");
    }
    assert_eq!(rates.redis("DBSIZE"), ":0");
    assert_eq!(rates.check("LIMIT 4 WINDOW 1000 BURST 2 COST 3"), "[0 2 2 -2 0]");
    assert_eq!(rates.check("LIMIT 4 WINDOW 1000 BURST 2 COST 2"), "[1 2 0 -1 500]");
    assert_eq!(rates.check("LIMIT 4 WINDOW 1000 BURST 2"), "[0 2 0 250 500]");
}

#[test]
fn a_peek_answers_as_a_check_and_uses_nothing() {
    let mut rates = Rates::start();
    for algorithm in ALGORITHMS {
        let terms = format!("LIMIT 2 WINDOW 1000 ALGO {algorithm}");
        rates.check(&terms);
        let before = rates.store.contents();
        assert!(rates.peek(&terms).starts_with("[1 2 1 -1 "));
        assert_eq!(rates.store.contents(), before);
        rates.check(&terms);
        let denied = rates.check(&terms);
        assert!(denied.starts_with("[0 "));
        assert_eq!(rates.peek(&terms), denied);
        assert!(rates.peek(&format!("{terms} SHADOW")).starts_with("[1 2 0 -1 "));
    }
}

#[test]
fn two_windows_on_one_subject_are_two_counters() {
    let mut rates = Rates::start();
    for algorithm in ALGORITHMS {
        let (short, long) = ("LIMIT 2 WINDOW 1000", "LIMIT 5 WINDOW 60000");
        let on = |terms: &str| format!("{terms} ALGO {algorithm}");
        rates.check(&on(short));
        rates.check(&on(short));
        assert!(rates.check(&on(short)).starts_with("[0 2 0 "));
        assert!(rates.check(&on(long)).starts_with("[1 5 4 "));
        assert!(rates.peek(&on(short)).starts_with("[0 2 0 "));
    }
    assert_eq!(rates.redis(&format!("HGET {KEY} counters")).split(' ').count(), 8);
}

#[test]
fn another_limit_keeps_the_usage_so_that_a_changed_plan_applies_at_once() {
    let mut rates = Rates::start();
    for algorithm in ALGORITHMS {
        let on = |limit: u64| format!("LIMIT {limit} WINDOW 60000 ALGO {algorithm}");
        for _ in 0..4 {
            rates.check(&on(4));
        }
        assert!(rates.check(&on(4)).starts_with("[0 4 0 "));
        assert!(rates.check(&on(6)).starts_with("[1 6 1 "), "{algorithm}: an upgrade");
        assert!(rates.check(&on(2)).starts_with("[0 2 0 "), "{algorithm}: a downgrade");
        assert!(rates.check(&on(6)).starts_with("[1 6 0 "));
    }
    rates.redis("FLUSHALL");
    for _ in 0..3 {
        rates.check("POLICY free");
    }
    assert!(rates.check("POLICY free").starts_with("[0 3 0 "));
    rates.policies.get_mut("free").unwrap().limit = 4;
    assert!(rates.check("POLICY free").starts_with("[1 4 0 "));
}

#[test]
fn no_counter_is_left_without_ttl_and_none_outlives_the_next_window() {
    for algorithm in ALGORITHMS {
        let mut rates = Rates::start();
        rates.store.pass_ms(400);
        rates.check(&format!("LIMIT 9 WINDOW 100000 ALGO {algorithm}"));
        let left = rates.store.pttl(KEY);
        assert!((190_000..=200_000).contains(&left), "{algorithm}: {left}");
        rates.check(&format!("LIMIT 9 WINDOW 1000 ALGO {algorithm}"));
        assert!(rates.store.pttl(KEY) > 190_000, "{algorithm}: a shorter window shortens nothing");
        rates.store.pass_ms(100_000);
        rates.check(&format!("LIMIT 9 WINDOW 100000 ALGO {algorithm}"));
        assert!(rates.store.pttl(KEY) > 190_000);
    }
    let mut rates = Rates::start();
    rates.check("LIMIT 1 WINDOW 1000 BURST 500 COST 500");
    assert!(rates.store.pttl(KEY) > 400_000, "a large burst drains for long");
}

#[test]
fn counters_of_windows_long_past_are_pruned_at_a_write() {
    let mut rates = Rates::start();
    for algorithm in ALGORITHMS {
        for window in [1000, 2000, 3_600_000] {
            rates.check(&format!("LIMIT 9 WINDOW {window} ALGO {algorithm} COST 2"));
            rates.check(&format!("LIMIT 9 WINDOW {window} ALGO {algorithm}"));
        }
    }
    // The list, twelve counters, and two entries of each log.
    assert_eq!(rates.redis(&format!("HLEN {KEY}")), ":19");
    rates.store.pass_ms(10_000);
    rates.peek("LIMIT 9 WINDOW 5000");
    assert_eq!(rates.redis(&format!("HLEN {KEY}")), ":19");
    rates.check("LIMIT 9 WINDOW 5000");
    assert_eq!(rates.redis(&format!("HLEN {KEY}")), ":8");
    let left = rates.redis(&format!("HGET {KEY} counters"));
    let mut left: Vec<&str> = left.split(' ').collect();
    left.sort_unstable();
    assert_eq!(left, ["f:3600000", "g:3600000", "l:3600000", "s:3600000", "s:5000"]);
    // However many there were: a few at each write.
    for window in 1..100 {
        rates.check(&format!("LIMIT 9 WINDOW {window}"));
    }
    for _ in 0..10 {
        rates.store.pass_ms(1000);
        rates.check("LIMIT 90 WINDOW 3600000");
    }
    assert_eq!(rates.redis(&format!("HLEN {KEY}")), ":7");
}

#[test]
fn a_log_holds_only_what_still_counts() {
    let mut rates = Rates::start();
    for _ in 0..50 {
        rates.check("LIMIT 5 WINDOW 1000 ALGO log");
        rates.store.pass_ms(300);
    }
    let fields = rates.redis(&format!("HLEN {KEY}"));
    assert!([":5", ":6", ":7"].contains(&fields.as_str()), "{fields}");
    while rates.check("LIMIT 5 WINDOW 1000 ALGO log").starts_with("[1") {}
    // SHADOW above the limit grows the newest entry instead of the log.
    for _ in 0..50 {
        assert!(rates.check("LIMIT 5 WINDOW 1000 ALGO log SHADOW").starts_with("[1 5 0 -1 "));
    }
    let fields = rates.redis(&format!("HLEN {KEY}"));
    assert!([":6", ":7"].contains(&fields.as_str()), "{fields}");
    rates.store.pass_ms(1000);
    assert!(rates.peek("LIMIT 5 WINDOW 1000 ALGO log").starts_with("[1 5 5 -1 0"));
}

#[test]
fn a_log_that_shadow_filled_beyond_all_counting_is_empty_behind_its_window() {
    let mut rates = Rates::start();
    let terms = "LIMIT 5 WINDOW 60000 ALGO log";
    for _ in 0..3 {
        rates.check(&format!("{terms} SHADOW COST 9007199254740992"));
    }
    rates.store.pass_ms(60_001);
    assert_eq!(rates.peek(terms), "[1 5 5 -1 0]");
    assert_eq!(rates.check(terms), "[1 5 4 -1 60000]");
    assert_eq!(rates.peek(terms), "[1 5 4 -1 60000]");
}

#[test]
fn a_damaged_log_is_begun_anew_and_keeps_nobody_busy() {
    let mut rates = Rates::start();
    let terms = "LIMIT 5 WINDOW 60000 ALGO log";
    for damage in [
        "0 99999999999999999999 3 3",
        "9999999999999999 9 9",
        "9007199254740993 9007199254740999 3 3",
        "0 7 3 1",
    ] {
        for entries in [&[][..], &["l:60000:0"], &["l:60000:6"]] {
            rates.redis(&format!("DEL {KEY}"));
            rates.store.client.text(&["HSET", KEY, "counters", "l:60000", "l:60000", damage]);
            for entry in entries {
                rates.store.client.text(&["HSET", KEY, entry, "9999999999999999 1"]);
            }
            for ask in ["RATELIMIT.PEEK", "RATELIMIT.CHECK", "RATELIMIT.REFUND"] {
                let line = if ask.ends_with("REFUND") {
                    format!("{ask} user 7 1 {terms}")
                } else {
                    format!("{ask} user 7 {terms}")
                };
                let reply = rates.run(&line);
                assert!(!reply.contains("ERR"), "{damage}, {entries:?}: {line}: {reply}");
            }
            rates.check(&format!("{terms} SHADOW"));
            // Pruned by another counter, when its time is over.
            rates.store.pass_ms(200_000);
            rates.check("LIMIT 5 WINDOW 1000");
        }
    }
}

#[test]
fn shadow_uses_what_it_does_not_deny() {
    let mut rates = Rates::start();
    for algorithm in ALGORITHMS {
        let terms = format!("LIMIT 2 WINDOW 60000 ALGO {algorithm}");
        for left in [1, 0, 0, 0] {
            assert!(rates.check(&format!("{terms} SHADOW")).starts_with(&format!("[1 2 {left} -1 ")));
        }
        assert!(rates.check(&terms).starts_with("[0 2 0 "), "{algorithm}");
        assert!(rates.peek(&format!("LIMIT 5 WINDOW 60000 ALGO {algorithm}")).starts_with("[1 5 1 "));
    }
}

#[test]
fn a_refund_gives_back_what_still_counts_and_no_more() {
    let mut rates = Rates::start();
    for algorithm in ALGORITHMS {
        let terms = format!("LIMIT 4 WINDOW 60000 ALGO {algorithm}");
        let refund = |much: u64| format!("RATELIMIT.REFUND user 7 {much} {terms}");
        assert_eq!(rates.run(&refund(1)), "0", "{algorithm}: nothing was used");
        rates.check(&format!("{terms} COST 3"));
        rates.check(&terms);
        assert_eq!(rates.run(&refund(2)), "2");
        assert!(rates.peek(&terms).starts_with("[1 4 2 -1 "), "{algorithm}");
        assert_eq!(rates.run(&refund(9)), "2");
        assert_eq!(rates.peek(&terms), "[1 4 4 -1 0]", "{algorithm}");
    }
    rates.redis("FLUSHALL");
    rates.store.pass_ms(59_000);
    rates.check("LIMIT 4 WINDOW 60000 COST 4");
    rates.store.pass_ms(1000);
    assert!(rates.peek("LIMIT 4 WINDOW 60000").starts_with("[0 4 0 "));
    assert_eq!(rates.run("RATELIMIT.REFUND user 7 1 LIMIT 4 WINDOW 60000"), "1");
    assert!(rates.peek("LIMIT 4 WINDOW 60000").starts_with("[1 4 1 "), "also from the last window");
    assert_eq!(rates.run("RATELIMIT.REFUND user 7 1 LIMIT 4 WINDOW 1000"), "0", "of this window only");
}

#[test]
fn a_reset_forgets_all_counters() {
    let mut rates = Rates::start();
    rates.check("POLICY free COST 3");
    rates.check("POLICY hourly COST 5");
    assert_eq!(rates.run("RATELIMIT.RESET user 7"), "1");
    assert_eq!(rates.run("RATELIMIT.RESET user 7"), "0");
    assert!(rates.check("POLICY hourly COST 5").starts_with("[1 "));
}

#[test]
fn multi_is_all_or_nothing() {
    let mut rates = Rates::start();
    let all = "RATELIMIT.MULTI 3 user 7 free 1 user 7 hourly 2 ip 192.0.2.1 free 1";
    assert_eq!(rates.run(all), "[1 -1 [[1 3 2 -1 2000] [1 5 3 -1 7200000] [1 3 2 -1 2000]]]");
    assert!(rates.run(all).starts_with("[1 -1 [[1 3 1 "));
    let before = rates.store.contents();
    // One is left of `hourly`.
    let denied = rates.run(all);
    assert!(denied.starts_with("[0 1 [[1 3 1 -1 2000] [0 5 1 "), "{denied}");
    assert!(denied.ends_with("[1 3 1 -1 2000]]]"), "{denied}");
    assert_eq!(rates.store.contents(), before);
    // The same counter twice counts twice.
    let twice = rates.run("RATELIMIT.MULTI 2 user 8 free 2 user 8 free 2");
    assert!(twice.starts_with("[0 1 [[1 3 3 -1 0] [0 3 1 "), "{twice}");
    assert_eq!(rates.run("RATELIMIT.PEEK user 8 POLICY free"), "[1 3 3 -1 0]");
    let twice = rates.run("RATELIMIT.MULTI 2 user 8 free 2 user 8 free 1");
    assert_eq!(twice, "[1 -1 [[1 3 0 -1 2000] [1 3 0 -1 2000]]]");
    rates.redis("RPUSH ratelimit:user:9 x");
    let before = rates.store.contents();
    assert!(rates.run("RATELIMIT.MULTI 2 user 10 free 1 user 9 free 1").starts_with("WRONGTYPE "));
    assert_eq!(rates.store.contents(), before);
}

#[test]
fn a_clock_that_steps_back_admits_nothing_twice_and_says_when_it_will() {
    for algorithm in ALGORITHMS {
        let mut rates = Rates::start();
        let terms = format!("LIMIT 4 WINDOW 1000 ALGO {algorithm}");
        rates.store.pass_ms(5000);
        rates.check(&format!("{terms} COST 4"));
        rates.store.now_us -= 700_000;
        let denied = rates.check(&terms);
        assert!(denied.starts_with("[0 4 0 "), "{algorithm}: {denied}");
        let retry: u64 = denied.split(' ').nth(3).unwrap().parse().unwrap();
        rates.store.pass_ms(retry - 1);
        assert!(rates.check(&terms).starts_with("[0 4 0 1 "), "{algorithm}");
        rates.store.pass_ms(1);
        assert!(rates.check(&terms).starts_with("[1 "), "{algorithm}: exact even so");
        // By more than a window: what is stored is no longer believed.
        rates.store.pass_ms(100_000);
        rates.check(&format!("{terms} COST 4"));
        rates.store.now_us -= 50_000_000;
        assert!(rates.check(&terms).starts_with("[1 4 3 -1 "), "{algorithm}");
    }
}

#[test]
fn a_key_of_another_type_is_an_error_and_stays() {
    let mut rates = Rates::start();
    rates.redis(&format!("RPUSH {KEY} x"));
    let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
    assert_eq!(rates.check("POLICY free"), wrong);
    assert_eq!(rates.peek("POLICY free"), wrong);
    assert_eq!(rates.run("RATELIMIT.REFUND user 7 1 POLICY free"), wrong);
    rates.redis("RPUSH ratelimit:throttle:k x");
    assert_eq!(rates.run("CL.THROTTLE k 1 1 1"), wrong);
}

#[test]
fn a_full_redis_admits_nobody_but_resets() {
    let mut rates = Rates::start();
    rates.check("POLICY free");
    rates.redis("CONFIG SET maxmemory 1");
    assert!(rates.check("POLICY free").starts_with("OOM "));
    assert_eq!(rates.run("RATELIMIT.REFUND user 7 1 POLICY free"), "1");
    assert_eq!(rates.run("RATELIMIT.RESET user 7"), "1");
}

#[test]
fn without_an_injected_time_the_clock_of_redis_counts() {
    let mut rates = Rates::start();
    for line in ["RATELIMIT.CHECK user 7 LIMIT 1 WINDOW 3600000 ALGO log", "CL.THROTTLE k 0 1 3600"] {
        let call = rates.call(line);
        let mut reply = || {
            rates.store.client.send_raw(&call.eval()).unwrap();
            String::from_utf8(rates.store.client.read_frame()).unwrap()
        };
        assert_ne!(reply(), reply(), "{line}: the second is denied");
    }
}

#[test]
fn every_script_keeps_to_its_declared_slot_on_a_cluster() {
    let mut store = Store::start_with(&["--cluster-enabled", "yes"]);
    store.client.text(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    support::eventually("the cluster serves", || {
        store.client.text(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
    });
    let mut rates = Rates::over(store, Naming { prefix: b"app:".to_vec(), tagged: true });
    assert!(rates.check("POLICY free").starts_with("[1 3 2 "));
    assert!(rates.peek("POLICY free").starts_with("[1 3 2 "));
    assert!(rates.run("RATELIMIT.MULTI 2 user {7}a free 1 user {7}b free 3").starts_with("[1 "));
    assert!(rates.run("CL.THROTTLE 7 1 1 1").starts_with("[0 2 1 "));
    assert_eq!(rates.run("RATELIMIT.REFUND user 7 1 POLICY free"), "1");
    assert_eq!(rates.run("RATELIMIT.RESET user 7"), "1");
}
