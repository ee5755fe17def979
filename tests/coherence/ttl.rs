//! Promise 2: nothing is answered past its TTL, also while Redis itself has not noticed.

use std::time::{Duration, Instant};

use crate::kit::{
    HELD_UP, HitsCount, NIL, Scripted, Setup, all_see, all_see_soon, bulk, ok, show, tracked, warm,
};
use crate::support::fake_l2::Side;
use crate::support::{Client, eventually};

/// Reads until the value is gone; a value of a read that began later than `ttl` after `set` fails.
fn gone_after(sessions: &mut [Client], key: &str, set: Instant, ttl: Duration) {
    let mut gone = 0;
    while gone < sessions.len() {
        gone = 0;
        for session in sessions.iter_mut() {
            let began = Instant::now();
            let reply = session.call(&["GET", key]);
            let age = began.saturating_duration_since(set);
            match reply == NIL {
                true => gone += 1,
                false => assert!(age <= ttl, "{} of {key} {age:?} after PX {ttl:?}", show(&reply)),
            }
        }
    }
}

#[test]
fn no_value_outlives_its_ttl_although_redis_has_not_noticed() {
    let setup = Setup::new();
    let (mut direct, mut sessions) = (setup.direct(), setup.sessions(4));
    ok(&mut direct, "DEBUG SET-ACTIVE-EXPIRE 0");
    let hits = HitsCount::from_now(&setup.daemon);
    for round in 0..20 {
        let key = format!("k{round}");
        direct.call(&["SET", &key, "v", "PX", "100"]);
        gone_after(&mut sessions, &key, Instant::now(), Duration::from_millis(101));
    }
    hits.at_least(20, "20 rounds");
}

#[test]
fn a_ttl_given_or_shortened_later_ends_what_was_stored_without_one() {
    let setup = Setup::new();
    let (mut direct, mut sessions) = (setup.direct(), setup.sessions(4));
    ok(&mut direct, "DEBUG SET-ACTIVE-EXPIRE 0");
    for straight in [false, true] {
        for (i, command) in ["PEXPIRE", "SET", "GETEX"].into_iter().enumerate() {
            let key = format!("k{straight}{i}");
            direct.call(&["SET", &key, "v"]);
            warm(&setup.daemon, &mut sessions[0], &["GET", &key]);
            let line = match command {
                "PEXPIRE" => vec!["PEXPIRE", &key, "300"],
                "SET" => vec!["SET", &key, "v", "PX", "300"],
                _ => vec!["GETEX", &key, "PX", "300"],
            };
            match straight {
                true => direct.call(&line),
                false => sessions[1].call(&line),
            };
            gone_after(&mut sessions, &key, Instant::now(), Duration::from_millis(301));
        }
    }
}

#[test]
fn a_fill_counts_its_ttl_from_when_it_was_sent() {
    let l2 = Scripted::new();
    let (mut direct, mut sessions) = (l2.direct(), l2.sessions(4));
    ok(&mut direct, "DEBUG SET-ACTIVE-EXPIRE 0");
    for round in 0..5 {
        let key = format!("k{round}");
        let gate = l2.fake.hold(Side::Reply, tracked(&["PTTL", &key]));
        direct.call(&["SET", &key, "v", "PX", "80"]);
        let expires = Instant::now() + Duration::from_millis(81);
        let (held, asked) = l2.begin_fill(&["GET", &key], &gate);
        drop(gate);
        // Less than 100 ms, past which a flight may store nothing in any case.
        eventually("the key's time is over", || Instant::now() > expires);
        let _silence = l2.fake.drop_pushes();
        held.pass();
        asked.answer();
        // Where the value was handed out before its TTL was known, this one sees the end of the flight.
        l2.daemon.client().call(&["GET", &key]);
        all_see(&mut sessions, &["GET", &key], NIL, "a fill under way for longer than its TTL");
    }
}

#[test]
fn a_value_whose_ttl_reads_as_gone_is_not_stored() {
    let l2 = Scripted::new();
    let (mut direct, mut sessions) = (l2.direct(), l2.sessions(4));
    direct.call(&["SET", "k", "old"]);
    let _silence = l2.fake.drop_pushes();
    let gate = l2.fake.hold(Side::Reply, tracked(&["PTTL", "k"]));
    let (held, asked) = l2.begin_fill(&["GET", "k"], &gate);
    drop(gate);
    direct.call(&["SET", "k", "new"]);
    held.answer(b":-2\r\n");
    asked.answer();
    all_see_soon(&mut sessions, &["GET", "k"], &bulk("new"), Instant::now(), "PTTL -2");
}

/// With pushes withheld only the daemon's own TTL ends an entry: it must, after at most `ttl`.
fn capped(setting: (&str, &str), old: Option<&str>, ttl: Duration) {
    let l2 = Scripted::with(&[setting]);
    let (mut direct, mut session) = (l2.direct(), l2.daemon.client());
    if let Some(old) = old {
        direct.call(&["SET", "k", old]);
    }
    l2.warm(&mut session, &["GET", "k"]);
    let filled = Instant::now();
    let _silence = l2.fake.drop_pushes();
    direct.call(&["SET", "k", "new"]);
    let mut hits = 0;
    loop {
        let began = Instant::now();
        if session.call(&["GET", "k"]) == bulk("new") {
            break;
        }
        hits += 1;
        let age = began.saturating_duration_since(filled);
        assert!(age <= ttl, "an entry of {age:?}, where {setting:?}");
    }
    let lived = filled.elapsed();
    assert!(hits > 0 && lived > ttl / 2, "it ended after {lived:?} and {hits} hits: something else ended it");
    assert!(lived < ttl + HELD_UP * 20, "{lived:?}");
}

#[test]
fn the_cache_ttl_caps_an_entry() {
    capped(("MADCACHE_CACHE_TTL_SECONDS", "1"), Some("old"), Duration::from_secs(1));
}

#[test]
fn a_missing_key_is_remembered_no_longer_than_the_negative_ttl() {
    capped(("MADCACHE_CACHE_NEGATIVE_TTL_SECONDS", "1"), None, Duration::from_secs(1));
}
