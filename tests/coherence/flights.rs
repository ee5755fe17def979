//! Promise 6: one read in flight per request; who follows it never gets a value older than a write that this daemon
//! had acknowledged before.

use std::time::{Duration, Instant};

use crate::kit::{Scripted, all_see, bulk, show, tracked};
use crate::support::fake_l2::Side;
use crate::support::{Client, eventually};

#[test]
fn a_read_does_not_join_a_flight_that_is_older_than_an_acknowledged_write() {
    let l2 = Scripted::new();
    let (mut direct, mut sessions) = (l2.direct(), l2.sessions(6));
    for i in 0..20 {
        let key = format!("k{i}");
        direct.call(&["SET", &key, "old"]);
        let gate = l2.fake.hold(Side::Reply, tracked(&["GET", &key]));
        let (flight, asked) = l2.begin_fill(&["GET", &key], &gate);
        drop(gate);
        let writer = i % 6;
        assert_eq!(sessions[writer].text(&["SET", &key, "new"]), "+OK");
        let before = l2.requests(&["GET", &key]);
        sessions.iter_mut().for_each(|session| session.send(&["GET", &key]));
        let get = crate::kit::owned(&["GET", &key]);
        // Also a read of the same worker goes out by itself, although its reply waits behind the held one.
        l2.fake.await_count("a read of its own after the write", before + 1, move |frame| {
            crate::kit::is_request(frame) && frame.is(&get)
        });
        flight.pass();
        for (nth, session) in sessions.iter_mut().enumerate() {
            assert_eq!(show(&session.read_frame()), show(&bulk("new")), "session {nth} in round {i}");
        }
        asked.answer();
        all_see(&mut sessions, &["GET", &key], &bulk("new"), "the flight that was older than the write");
    }
}

#[test]
fn a_hundred_clients_that_miss_together_cost_redis_two_reads_at_most() {
    let l2 = Scripted::new();
    let mut direct = l2.direct();
    let mut sessions = l2.sessions(100);
    let (mut judged, mut late) = (0, 0);
    while judged < 10 {
        let key = format!("k{}", judged + late);
        direct.call(&["SET", &key, "v"]);
        sessions[0].call(&["GET", &key]);
        let before = l2.requests(&["GET", &key]);
        let gate = l2.fake.hold(Side::Reply, tracked(&["GET", &key]));
        let began = Instant::now();
        sessions.iter_mut().for_each(|session| session.send(&["GET", &key]));
        let held = gate.next();
        drop(gate);
        held.pass();
        let took = began.elapsed();
        for session in &mut sessions {
            assert_eq!(show(&session.read_frame()), show(&bulk("v")));
        }
        // A flight of more than 100 ms takes no more followers: such a round says nothing.
        if took > Duration::from_millis(60) {
            late += 1;
            assert!(late < 100, "this machine is too slow to send 100 requests in 60 ms");
            continue;
        }
        judged += 1;
        let reads = l2.requests(&["GET", &key]) - before;
        assert!(reads <= 2, "{reads} reads reached Redis for 100 clients");
    }
}

/// Waits until the flight, whose request passed at `since`, is older than 100 ms.
fn grow_old(since: Instant) {
    eventually("the flight is old", || since.elapsed() > Duration::from_millis(130));
}

#[test]
fn a_flight_older_than_100_ms_takes_no_more_followers_and_stores_nothing() {
    let l2 = Scripted::new();
    let (mut direct, mut sessions) = (l2.direct(), l2.sessions(6));
    for i in 0..5 {
        let key = format!("k{i}");
        direct.call(&["SET", &key, "old"]);
        let gate = l2.fake.hold(Side::Reply, tracked(&["GET", &key]));
        let (flight, asked) = l2.begin_fill(&["GET", &key], &gate);
        drop(gate);
        grow_old(flight.frame.at);
        let _silence = l2.fake.drop_pushes();
        direct.call(&["SET", &key, "new"]);
        let before = l2.requests(&["GET", &key]);
        sessions.iter_mut().for_each(|session| session.send(&["GET", &key]));
        let get = crate::kit::owned(&["GET", &key]);
        l2.fake.await_count("a read of its own after 100 ms", before + 1, move |frame| {
            crate::kit::is_request(frame) && frame.is(&get)
        });
        flight.pass();
        for (nth, session) in sessions.iter_mut().enumerate() {
            assert_eq!(show(&session.read_frame()), show(&bulk("new")), "session {nth} in round {i}");
        }
        asked.answer();
        all_see(&mut sessions, &["GET", &key], &bulk("new"), "a flight that had grown old");
    }
}

#[test]
fn a_leader_that_goes_away_leaves_its_followers_an_answer() {
    let l2 = Scripted::new();
    let (mut direct, mut sessions) = (l2.direct(), l2.sessions(6));
    for i in 0..10 {
        let key = format!("k{i}");
        direct.call(&["SET", &key, "v"]);
        let gate = l2.fake.hold(Side::Reply, tracked(&["GET", &key]));
        let (flight, asked) = l2.begin_fill(&["GET", &key], &gate);
        drop(gate);
        sessions.iter_mut().for_each(|session| session.send(&["GET", &key]));
        drop(asked);
        let others: &mut [Client] = &mut sessions;
        match i % 2 {
            0 => flight.pass(),
            _ => flight.cut(),
        }
        for session in others {
            assert_eq!(show(&session.read_frame()), show(&bulk("v")), "round {i}");
        }
    }
}
