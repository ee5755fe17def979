//! Promise 9: from WATCH or MULTI to the end, and while a client tracks keys itself, its session reads at Redis.

use std::time::Duration;

use crate::kit::{Scripted, Setup, bulk, frame_within, number, ok, pipeline, rounds, show, words};
use crate::support::fake_l2::{Links, invalidate};
use crate::support::{Client, PATIENCE};

/// A value of which L1 still has the old one, because the pushes are withheld.
fn stale(l2: &Scripted, session: &mut Client, key: &str) {
    let mut direct = l2.direct();
    direct.call(&["SET", key, "old"]);
    l2.warm(session, &["GET", key]);
    direct.call(&["SET", key, "new"]);
    assert_eq!(show(&session.call(&["GET", key])), show(&bulk("old")), "no longer a hit: nothing tested");
}

#[test]
fn a_watching_session_reads_at_redis() {
    let l2 = Scripted::new();
    let _silence = l2.fake.drop_pushes();
    let mut sessions = l2.sessions(4);
    for (i, session) in sessions.iter_mut().enumerate() {
        let key = format!("k{i}");
        stale(&l2, session, &key);
        ok(session, &format!("WATCH {key}"));
        for read in [format!("GET {key}"), format!("GETRANGE {key} 0 -1")] {
            assert_eq!(show(&session.call(&words(&read))), show(&bulk("new")), "{read} after WATCH");
        }
        assert_eq!(show(&session.call(&["MGET", &key, &key])), "*2\r\n$3\r\nnew\r\n$3\r\nnew\r\n");
        ok(session, "UNWATCH");
    }
}

#[test]
fn a_transaction_reads_at_redis_however_it_is_sent() {
    let l2 = Scripted::new();
    let _silence = l2.fake.drop_pushes();
    let mut session = l2.daemon.client();
    stale(&l2, &mut session, "k");
    let reply = b"*1\r\n$3\r\nnew\r\n".to_vec();
    let commands = [words("MULTI"), words("GET k"), words("EXEC")];
    assert_eq!(show(&pipeline(&mut session, &commands)[2]), show(&reply), "sent in one write");
    ok(&mut session, "MULTI");
    assert_eq!(session.text(&["GET", "k"]), "+QUEUED");
    assert_eq!(show(&session.call(&["EXEC"])), show(&reply), "sent one by one");
    // What the session reads in one pipeline before and behind a transaction is not part of it.
    ok(&mut session, "WATCH k");
    ok(&mut session, "MULTI");
    ok(&mut session, "DISCARD");
}

#[test]
fn a_session_whose_transaction_has_ended_hits_again() {
    let setup = Setup::new();
    let mut session = setup.daemon.client();
    setup.direct().call(&["SET", "k", "v"]);
    for end in [
        &["WATCH k", "UNWATCH"][..],
        &["WATCH k", "MULTI", "EXEC"],
        &["MULTI", "DISCARD"],
        &["MULTI", "EXEC"],
    ] {
        end.iter().for_each(|line| ok(&mut session, line));
        crate::kit::warm(&setup.daemon, &mut session, &["GET", "k"]);
    }
}

/// Adds one, as clients do it: WATCH, GET, MULTI, SET, EXEC. Whether it took effect.
fn add_one(session: &mut Client, key: &str) -> bool {
    // What it shows before the WATCH may be old; what counts is read after it.
    session.call(&["GET", key]);
    ok(session, &format!("WATCH {key}"));
    let seen = number(&session.call(&["GET", key])).unwrap_or(0);
    let set = words(&format!("SET {key} {}", seen + 1));
    let replies = pipeline(session, &[words("MULTI"), set, words("EXEC")]);
    show(&replies[2]) == "*1\r\n+OK\r\n"
}

#[test]
fn no_update_is_lost_by_sessions_that_watch() {
    const THREADS: usize = 4;
    let setup = Setup::new();
    let each = rounds(1_500, 20_000);
    let done: usize = std::thread::scope(|scope| {
        let adders: Vec<_> = (0..THREADS)
            .map(|_| {
                let mut session = setup.daemon.client();
                scope.spawn(move || (0..each).filter(|_| add_one(&mut session, "counter")).count())
            })
            .collect();
        // And one that nobody can make fail, straight at Redis.
        let mut direct = setup.direct();
        let straight = scope.spawn(move || (0..each).map(|_| direct.call(&["INCR", "counter"])).count());
        adders.into_iter().map(|adder| adder.join().unwrap()).sum::<usize>() + straight.join().unwrap()
    });
    assert_eq!(
        number(&setup.direct().call(&["GET", "counter"])),
        Some(done as i64),
        "updates that were answered"
    );
    assert!(done > each, "no watched update ever took effect");
}

#[test]
fn a_client_that_tracks_keys_itself_reads_at_redis_and_gets_its_own_pushes() {
    let l2 = Scripted::new();
    let mut other = l2.daemon.client();
    let mut session = l2.daemon.client();
    session.call(&["HELLO", "3"]);
    let daemons_own = l2.fake.open(Links::Tracked);
    let silence = l2.fake.drop_pushes();
    stale(&l2, &mut other, "k");
    assert_eq!(session.text(&["CLIENT", "TRACKING", "ON"]), "+OK");
    assert!(l2.fake.open(Links::Tracked) > daemons_own, "the session has no link of its own");
    assert_eq!(session.text(&["GET", "k"]), "new");
    assert_eq!(show(&session.call(&["MGET", "k"])), "*1\r\n$3\r\nnew\r\n");
    drop(silence);
    l2.direct().call(&["SET", "k", "newer"]);
    let push = frame_within(&mut session, PATIENCE).expect("a push of the client's own");
    assert_eq!(show(&push), show(&invalidate(&["k"])));
    assert_eq!(session.text(&["GET", "k"]), "newer");
    // Off again it is a session like any other.
    assert_eq!(session.text(&["CLIENT", "TRACKING", "OFF"]), "+OK");
    l2.warm(&mut session, &["GET", "k"]);
    session.expect_silence(Duration::from_millis(1));
}
