//! What RATELIMIT requests are taken for, and what becomes of their answers. The scripts: `tests/state_ratelimit.rs`.
use std::time::Duration;

use super::*;
use crate::state::{Known, NOT_AN_INTEGER};

fn command(line: &str) -> Result<Command, String> {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    match crate::state::parse(&words) {
        Ok(crate::state::Command::Ratelimit(command)) => Ok(command),
        Ok(other) => panic!("{line}: {other:?}"),
        Err(fault) => Err(fault.into_owned()),
    }
}

/// Does `f` with a configuration of two policies.
fn with_limits<T>(tagged: bool, f: impl FnOnce(&Limits) -> T) -> T {
    let policy = |limit, burst| Policy { limit, window_ms: 1000, burst, ..Policy::default() };
    let closed = Policy { on_l2_down: Some(LimitOnL2Down::Closed), ..policy(7, None) };
    let policies = BTreeMap::from([("free".to_owned(), closed), ("paid".to_owned(), policy(50, Some(20)))]);
    let naming = Naming { prefix: Vec::new(), tagged };
    f(&Limits { naming: &naming, policies: &policies, ipv6_prefix_bits: 64, on_l2_down: LimitOnL2Down::Open })
}

fn resolved(line: &str) -> Result<Resolved, String> {
    match command(line)? {
        Command::Check(check) | Command::Peek(check) => {
            with_limits(false, |limits| check.resolve(limits)).map_err(Cow::into_owned)
        }
        other => panic!("{line}: {other:?}"),
    }
}

fn args(line: &str) -> String {
    let found = resolved(line).expect("a sound check");
    let texts = found.args().map(|arg| String::from_utf8(arg.into_vec()).expect("text"));
    format!("{} {}", String::from_utf8_lossy(&found.key), texts.join(" "))
}

#[test]
fn a_check_says_what_is_counted_and_how() {
    for (line, expected) in [
        ("ratelimit.check user 7 limit 5 window 100", "ratelimit:user:7 s 5 100 5 1"),
        ("RATELIMIT.PEEK user 7 COST 3 WINDOW 100 LIMIT 5 ALGO Log", "ratelimit:user:7 l 5 100 5 3"),
        ("RATELIMIT.CHECK api a:b LIMIT 5 WINDOW 100 BURST 9", "ratelimit:api:a:b g 5 100 9 1"),
        ("RATELIMIT.CHECK user 7 LIMIT 5 WINDOW 100 ALGO gcra", "ratelimit:user:7 g 5 100 5 1"),
        ("RATELIMIT.CHECK user 7 POLICY free", "ratelimit:user:7 s 7 1000 7 1"),
        ("RATELIMIT.CHECK user 7 POLICY paid", "ratelimit:user:7 g 50 1000 20 1"),
        ("RATELIMIT.CHECK user 7 POLICY paid ALGO fixed COST 0", "ratelimit:user:7 f 50 1000 50 0"),
    ] {
        assert_eq!(args(line), expected, "{line}");
    }
    assert_eq!(
        resolved("RATELIMIT.CHECK u 7 POLICY free").map(|r| r.on_l2_down()),
        Ok(LimitOnL2Down::Closed)
    );
    assert_eq!(resolved("RATELIMIT.CHECK u 7 POLICY paid").map(|r| r.on_l2_down()), Ok(LimitOnL2Down::Open));
    assert_eq!(resolved("RATELIMIT.CHECK u 7 POLICY paid SHADOW").map(|r| r.may_be_remembered()), Ok(false));
}

#[test]
fn addresses_are_counted_by_their_network() {
    for (address, key) in [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:DB8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::"),
        ("::1", "::"),
        ("unknown", "unknown"),
    ] {
        let found = args(&format!("RATELIMIT.CHECK ip {address} POLICY free"));
        assert_eq!(found, format!("ratelimit:ip:{key} s 7 1000 7 1"), "{address}");
    }
    assert_eq!(network(b"2001:db8::1", 128).as_ref(), b"2001:db8::1");
    assert_eq!(network(b"2001:db8::1", 16).as_ref(), b"2001::");
    assert!(args("RATELIMIT.CHECK user ::ffff:192.0.2.7 POLICY free").contains(":user:::ffff:192.0.2.7 "));
}

#[test]
fn wrong_requests_are_answered_in_redis_words() {
    let arity = |name: &str| format!("ERR wrong number of arguments for 'ratelimit.{name}' command");
    let range = "ERR limit (or burst) times window is out of range".to_owned();
    for (line, fault) in [
        ("CHECK user", arity("check")),
        ("CHECK user 7", arity("check")),
        ("RESET user", arity("reset")),
        ("RESET user 7 8", arity("reset")),
        ("REFUND user 7 1", arity("refund")),
        ("MULTI 2 user 7 free 1", arity("multi")),
        ("MULTI 0", NOT_AN_INTEGER.to_owned()),
        ("MULTI 1001", NOT_AN_INTEGER.to_owned()),
        ("CHECK us:er 7 POLICY free", "ERR a scope is made of letters, digits, _ and -".to_owned()),
        ("CHECK user 7 LIMIT 5", SYNTAX_ERROR.to_owned()),
        ("CHECK user 7 POLICY free LIMIT 5 WINDOW 5", SYNTAX_ERROR.to_owned()),
        ("CHECK user 7 POLICY free BURST 5", SYNTAX_ERROR.to_owned()),
        ("CHECK user 7 POLICY", SYNTAX_ERROR.to_owned()),
        ("CHECK user 7 LIMIT 5 WINDOW 5 ALGO token", SYNTAX_ERROR.to_owned()),
        ("CHECK user 7 LIMIT 5 WINDOW 5 BURST 5 ALGO log", SYNTAX_ERROR.to_owned()),
        ("CHECK user 7 LIMIT 0 WINDOW 5", NOT_AN_INTEGER.to_owned()),
        ("CHECK user 7 LIMIT 5 WINDOW 5 COST -1", NOT_AN_INTEGER.to_owned()),
        ("CHECK user 7 LIMIT 9007199254740992 WINDOW 2", range.clone()),
        ("CHECK user 7 LIMIT 1 WINDOW 9000000000 BURST 9000000000", range),
        ("CHECK user 7 POLICY gone", "NOPOLICY the configuration has no rate-limit policy 'gone'".to_owned()),
    ] {
        let line = format!("RATELIMIT.{line}");
        assert_eq!(command(&line).and_then(|_| resolved(&line)), Err(fault), "{line}");
    }
    let refund = command("RATELIMIT.REFUND user 7 1 LIMIT 5 WINDOW 5 COST 1");
    assert_eq!(refund, Err(SYNTAX_ERROR.to_owned()));
}

#[test]
fn a_multi_over_several_slots_of_a_cluster_goes_one_by_one() {
    let Ok(Command::Multi(multi)) = command("RATELIMIT.MULTI 2 user 7 free 1 user 8 paid 2") else {
        panic!("not understood")
    };
    let Ok(Plan::Whole(call)) = with_limits(false, |limits| multi.plan(limits)) else { panic!("not whole") };
    let words = call.with_argv(Known::Yes, |argv| argv.len());
    assert_eq!((call.keys().count(), words), (2, 3 + 2 + 11));
    let Ok(Plan::OneByOne(plan)) = with_limits(true, |limits| multi.plan(limits)) else {
        panic!("not split")
    };
    let outcome = Outcome { allowed: true, limit: 7, remaining: 6, retry_ms: -1, reset_ms: 9 };
    let denied = Outcome { allowed: false, limit: 20, remaining: 0, retry_ms: 5, reset_ms: 9 };
    let mut out = Vec::new();
    multi_reply(&plan, &[outcome, denied], false, &mut out);
    let expected =
        "*3\r\n:0\r\n:1\r\n*2\r\n*5\r\n:1\r\n:7\r\n:6\r\n:-1\r\n:9\r\n*5\r\n:0\r\n:20\r\n:0\r\n:5\r\n:9\r\n";
    assert_eq!(String::from_utf8_lossy(&out), expected);
    let same = "RATELIMIT.MULTI 2 user {a}1 free 1 user {a}2 paid 2";
    let Ok(Command::Multi(multi)) = command(same) else { panic!("not understood") };
    assert!(matches!(with_limits(true, |limits| multi.plan(limits)), Ok(Plan::Whole(_))));
}

#[test]
fn a_denial_is_counted_down_and_ends_before_that_of_l2() {
    let frame = b"*5\r\n:0\r\n:7\r\n:0\r\n:50\r\n:900\r\n";
    let denial = Outcome::parse(frame).expect("a sound reply");
    let at = |us: u64| denial.after(Duration::from_micros(us)).map(|left| (left.retry_ms, left.reset_ms));
    assert_eq!(at(0), Some((50, 900)));
    assert_eq!(at(1), Some((49, 899)));
    assert_eq!(at(49_000), Some((1, 851)));
    assert_eq!(at(49_001), None);
    let never = Outcome { retry_ms: -2, ..denial };
    assert_eq!(never.after(Duration::ZERO), None);
    assert_eq!(Outcome { allowed: true, ..denial }.after(Duration::ZERO), None);
    let mut out = Vec::new();
    denial.write(false, &mut out);
    assert_eq!(out, frame);
    out.clear();
    denial.write(true, &mut out);
    let mut converted = Vec::new();
    Reply::Fields(FIELDS).convert(frame, true, &mut converted);
    assert_eq!(out, converted);
}

#[test]
fn without_l2_the_policy_decides() {
    let check = resolved("RATELIMIT.CHECK user 7 POLICY paid").expect("a sound check");
    assert_eq!(Outcome::open(&check).remaining, 20);
    assert!(!Outcome::closed(&check).allowed);
    let shadow = resolved("RATELIMIT.CHECK user 7 POLICY paid SHADOW").expect("a sound check");
    assert!(Outcome::closed(&shadow).allowed);
    let share = check.divided(3);
    assert_eq!((share.limit, share.capacity, share.divided(100).limit), (16, 6, 1));
}
