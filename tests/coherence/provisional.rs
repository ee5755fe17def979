//! Promise 12: a hit that waits behind other requests of its session is as fresh as one decided when it is answered.

use std::time::{Duration, Instant};

use crate::kit::{HitsCount, NIL, SOON, Scripted, Setup, bulk, number, ok, pipeline, rounds, show, words};
use crate::support::fake_l2::Side;
use crate::support::{Client, encode, eventually};

fn send_together(session: &mut Client, lines: &[&str]) {
    let wire: Vec<u8> = lines.iter().flat_map(|line| encode(&words(line))).collect();
    session.send_raw(&wire).unwrap();
}

#[test]
fn a_read_behind_a_blocking_command_sees_what_was_written_before_it_woke() {
    let setup = Setup::new();
    let (mut direct, mut sessions) = (setup.direct(), setup.sessions(4));
    let hits = HitsCount::from_now(&setup.daemon);
    let blocks = [
        ("BLPOP list 0", "RPUSH list x"),
        ("BLMOVE list other LEFT LEFT 0", "RPUSH list x"),
        ("BZPOPMAX zset 0", "ZADD zset 1 x"),
        ("XREAD BLOCK 0 STREAMS stream $", "XADD stream * f x"),
    ];
    let count = rounds(400, 10_000);
    for (block, wake) in blocks {
        for i in 1..=count {
            let key = format!("k{}", i % 8);
            let session = &mut sessions[i % 4];
            (0..3).for_each(|_| drop(session.call(&["GET", &key])));
            send_together(session, &[block, &format!("GET {key}"), &format!("MGET {key} {key}")]);
            eventually("the session blocks", || {
                direct.text(&["INFO", "clients"]).contains("blocked_clients:1")
            });
            // The two in one write: the push is as late as it can be.
            pipeline(&mut direct, &[words(&format!("SET {key} {i}")), words(wake)]);
            session.read_frame();
            assert_eq!(number(&session.read_frame()), Some(i as i64), "behind {block} in round {i}");
            let both = [b"*2\r\n".to_vec(), bulk(&i.to_string()), bulk(&i.to_string())].concat();
            assert_eq!(show(&session.read_frame()), show(&both), "behind {block} in round {i}");
        }
    }
    hits.at_least(count as u64, "the reads before");
}

/// A cached read waits behind a request whose reply the relay holds; meanwhile something happens to its key.
fn behind_a_pending_request(happens: impl Fn(&Scripted, &mut Client, &str), expected: &[u8]) {
    let l2 = Scripted::new();
    let (mut direct, mut sessions, mut writer) = (l2.direct(), l2.sessions(4), l2.daemon.client());
    for (i, front) in ["ECHO front", "INCR front", "GET uncached%"].into_iter().cycle().take(12).enumerate() {
        let (key, front) = (format!("k{i}"), front.replace('%', &i.to_string()));
        direct.call(&["SET", &key, "old"]);
        let session = &mut sessions[i % 4];
        l2.warm(session, &["GET", &key]);
        let awaited = words(&front);
        let gate = l2.fake.hold(Side::Reply, move |frame| frame.is(&awaited));
        send_together(session, &[&front, &format!("GET {key}"), &format!("STRLEN {key}")]);
        let held = gate.next();
        drop(gate);
        happens(&l2, &mut writer, &key);
        held.pass();
        session.read_frame();
        assert_eq!(show(&session.read_frame()), show(expected), "behind {front}");
        let length = if expected == NIL { 0 } else { 3 };
        assert_eq!(number(&session.read_frame()), Some(length), "behind {front}");
    }
}

#[test]
fn a_hit_behind_a_pending_request_sees_a_push_that_comes_meanwhile() {
    behind_a_pending_request(
        |l2, _, key| {
            let before = l2.daemon.stat("l1_invalidations");
            l2.direct().call(&["SET", key, "new"]);
            eventually("the push arrives", || l2.daemon.stat("l1_invalidations") > before);
        },
        &bulk("new"),
    );
}

#[test]
fn a_hit_behind_a_pending_request_sees_an_expiry_meanwhile() {
    behind_a_pending_request(
        |l2, _, key| {
            let (mut direct, mut session) = (l2.direct(), l2.daemon.client());
            ok(&mut direct, "DEBUG SET-ACTIVE-EXPIRE 0");
            ok(&mut direct, &format!("PEXPIRE {key} 60"));
            let over = Instant::now() + Duration::from_millis(61);
            // Fills it with its short life, as long as it lasts.
            while Instant::now() < over {
                session.call(&["GET", key]);
            }
        },
        NIL,
    );
}

#[test]
fn a_hit_behind_a_pending_request_sees_a_script_of_this_daemon_meanwhile() {
    behind_a_pending_request(
        |_, writer, key| {
            let script = "return redis.call('SET', ARGV[1], 'new')";
            assert_eq!(writer.text(&["EVAL", script, "0", key]), "+OK");
        },
        &bulk("new"),
    );
}

#[test]
fn a_hit_behind_a_pending_request_sees_that_its_link_was_lost() {
    let l2 = Scripted::new();
    let (mut direct, mut session) = (l2.direct(), l2.daemon.client());
    for i in 0..10 {
        let key = format!("k{i}");
        direct.call(&["SET", &key, "old"]);
        l2.warm(&mut session, &["GET", &key]);
        let gate = l2.fake.hold(Side::Reply, |frame| frame.is(&["ECHO", "front"]));
        send_together(&mut session, &["ECHO front", &format!("GET {key}")]);
        let held = gate.next();
        drop(gate);
        let links = l2.fake.open(crate::support::fake_l2::Links::Tracked);
        let _silence = l2.fake.drop_pushes();
        l2.fake.cut(crate::support::fake_l2::Links::Tracked);
        direct.call(&["SET", &key, "new"]);
        let written = Instant::now();
        assert!(links > 0);
        // Another session learns of the loss first: no entry of the lost link is used from there on.
        let mut other = l2.daemon.client();
        while other.call(&["GET", &key]) != bulk("new") {
            assert!(written.elapsed() < SOON * 4, "an entry of the lost link lives on");
        }
        held.pass();
        session.read_frame();
        assert_eq!(show(&session.read_frame()), show(&bulk("new")), "round {i}");
    }
}

/// The first of two reads of a key is a hit that is read anew when its turn comes; the second, which missed, must not
/// have been sent before.
#[test]
fn a_read_behind_a_hit_whose_turn_has_not_come_is_no_older_than_that() {
    let l2 = Scripted::new();
    let (mut direct, mut sessions) = (l2.direct(), l2.sessions(4));
    for i in 0..20 {
        let (key, session) = (format!("k{i}"), &mut sessions[i % 4]);
        let read = ["GET", &key];
        direct.call(&["SET", &key, "first"]);
        l2.warm(session, &read);
        let gate = l2.fake.hold(Side::Reply, |frame| frame.is(&words("ECHO front")));
        send_together(session, &["ECHO front", &format!("GET {key}")]);
        let held = gate.next();
        drop(gate);
        let pushes = l2.daemon.stat("l1_invalidations");
        direct.call(&["SET", &key, "second"]);
        eventually("the push arrives", || l2.daemon.stat("l1_invalidations") > pushes);
        session.send(&read);
        // Both workers have looked at what came before once they have answered what came behind it, twice.
        for _ in 0..4 {
            l2.daemon.stat("clients");
        }
        direct.call(&["SET", &key, "third"]);
        held.pass();
        session.read_frame();
        for which in ["the hit", "the read behind it"] {
            assert_eq!(show(&session.read_frame()), show(&bulk("third")), "{which} in round {i}");
        }
    }
}
