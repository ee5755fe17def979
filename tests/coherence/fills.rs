//! Promise 1: no fill survives its invalidation, whatever the order in which its replies and the pushes arrive.

use std::time::Instant;

use crate::kit::{Scripted, all_see, all_see_soon, bulk, owned, show, tracked};
use crate::support::fake_l2::{Links, Side, invalidate, invalidate_all};
use crate::support::{Client, eventually};

/// Where the push stands among the replies of a fill.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    BeforeTheRead,
    BetweenTheReplies,
    AfterBoth,
    BeforeAndAfter,
}

const PLACES: [Place; 4] =
    [Place::BeforeTheRead, Place::BetweenTheReplies, Place::AfterBoth, Place::BeforeAndAfter];

/// A fill that read the old value, the write, and its push (made up, in a chosen place) in one fill's replies.
fn a_push_among_the_replies(l2: &Scripted, sessions: &mut [Client], key: &str, place: Place, push: &[u8]) {
    let mut direct = l2.direct();
    direct.call(&["SET", key, "old"]);
    let _silence = l2.fake.drop_pushes();
    let reads = l2.fake.hold(Side::Reply, tracked(&["GET", key]));
    let ttls = l2.fake.hold(Side::Reply, tracked(&["PTTL", key]));
    let (read, asked) = l2.begin_fill(&["GET", key], &reads);
    drop(reads);
    direct.call(&["SET", key, "new"]);
    let invalidations = l2.daemon.stat("l1_invalidations");
    let at = |places: &[Place]| if places.contains(&place) { push } else { b"" };
    read.pass_between(at(&[Place::BeforeTheRead, Place::BeforeAndAfter]), at(&[Place::BetweenTheReplies]));
    let ttl = ttls.next();
    drop(ttls);
    ttl.pass_between(b"", at(&[Place::AfterBoth, Place::BeforeAndAfter]));
    asked.answer();
    eventually("the push is counted", || l2.daemon.stat("l1_invalidations") > invalidations);
    // What is filled from here on is read after the write, so it needs no push.
    all_see(sessions, &["GET", key], &bulk("new"), &format!("push {place:?}"));
}

#[test]
fn a_push_in_any_place_of_a_fill_leaves_nothing_old() {
    let l2 = Scripted::new();
    let mut sessions = l2.sessions(4);
    for place in PLACES {
        let key = format!("one:{place:?}");
        let push = invalidate(&[&key]);
        a_push_among_the_replies(&l2, &mut sessions, &key, place, &push);
    }
}

#[test]
fn every_key_of_a_push_counts_for_a_fill_under_way() {
    let l2 = Scripted::new();
    let mut sessions = l2.sessions(4);
    for place in PLACES {
        for nth in 0..3 {
            let key = format!("many:{place:?}:{nth}");
            let mut keys = vec!["other:1".to_string(), "other:2".to_string()];
            keys.insert(nth, key.clone());
            a_push_among_the_replies(&l2, &mut sessions, &key, place, &invalidate(&keys));
        }
    }
}

#[test]
fn a_null_push_counts_for_a_fill_under_way() {
    let l2 = Scripted::new();
    let mut sessions = l2.sessions(4);
    for place in PLACES {
        let key = format!("null:{place:?}");
        a_push_among_the_replies(&l2, &mut sessions, &key, place, &invalidate_all());
    }
}

#[test]
fn a_write_between_the_two_requests_of_a_fill_is_noticed() {
    let l2 = Scripted::new();
    let mut sessions = l2.sessions(4);
    let mut direct = l2.direct();
    for round in 0..50 {
        let key = format!("between:{round}");
        direct.call(&["SET", &key, "old"]);
        let gate = l2.fake.hold(Side::Request, tracked(&["PTTL", &key]));
        let (ttl, asked) = l2.begin_fill(&["GET", &key], &gate);
        let pushes = l2.fake.count(|frame| frame.side == Side::Push);
        direct.call(&["SET", &key, "new"]);
        // Redis sends the push before PTTL's reply, as PTTL has not arrived there yet.
        l2.fake.await_count("the push", pushes + 1, |frame| frame.side == Side::Push);
        ttl.pass();
        drop(gate);
        asked.answer();
        all_see_soon(
            &mut sessions,
            &["GET", &key],
            &bulk("new"),
            Instant::now(),
            "a write between GET and PTTL",
        );
    }
}

#[test]
fn a_push_among_the_replies_of_an_mget_counts_for_its_elements() {
    let l2 = Scripted::new();
    let mut sessions = l2.sessions(4);
    let mut direct = l2.direct();
    for (round, nth) in (0..6).map(|round| (round, round % 3)) {
        let keys: Vec<String> = (0..3).map(|i| format!("mget:{round}:{i}")).collect();
        let read = ["MGET", &keys[0], &keys[1], &keys[2]];
        keys.iter().for_each(|key| drop(direct.call(&["SET", key, "old"])));
        let silence = l2.fake.drop_pushes();
        let gate = l2.fake.hold(Side::Reply, tracked(&read));
        let (held, asked) = l2.begin_fill(&read, &gate);
        drop(gate);
        direct.call(&["SET", &keys[nth], "new"]);
        let invalidations = l2.daemon.stat("l1_invalidations");
        let push = invalidate(&[&keys[nth]]);
        match round < 3 {
            true => held.pass_between(&push, b""),
            false => held.pass_between(b"", &push),
        }
        asked.answer();
        eventually("the push is counted", || l2.daemon.stat("l1_invalidations") > invalidations);
        let value = |i: usize| if i == nth { "new" } else { "old" };
        let expected: Vec<u8> = [b"*3\r\n".to_vec(), bulk(value(0)), bulk(value(1)), bulk(value(2))].concat();
        all_see(&mut sessions, &read, &expected, "a push in an MGET");
        all_see(&mut sessions, &["GET", &keys[nth]], &bulk("new"), "a push in an MGET");
        drop(silence);
    }
}

#[test]
fn a_push_of_several_keys_and_a_null_push_invalidate_all_that_they_mean() {
    let l2 = Scripted::new();
    let mut sessions = l2.sessions(4);
    let mut direct = l2.direct();
    let keys = ["a", "b", "c"];
    for (round, push) in [invalidate(&keys), invalidate_all()].into_iter().enumerate() {
        let (old, new) = (format!("old{round}"), format!("new{round}"));
        for key in keys {
            direct.call(&["SET", key, &old]);
        }
        for key in keys {
            all_see_soon(&mut sessions, &["GET", key], &bulk(&old), Instant::now(), "the first value");
            l2.warm(&mut sessions[0], &["GET", key]);
        }
        let _silence = l2.fake.drop_pushes();
        for key in keys {
            direct.call(&["SET", key, &new]);
            let reply = sessions[0].call(&["GET", key]);
            assert_eq!(
                show(&reply),
                show(&bulk(&old)),
                "without the push {key} is still a hit: nothing tested"
            );
        }
        let invalidations = l2.daemon.stat("l1_invalidations");
        l2.fake.inject(Links::Tracked, &push);
        eventually("the push is counted", || l2.daemon.stat("l1_invalidations") > invalidations);
        for key in keys {
            all_see_soon(&mut sessions, &["GET", key], &bulk(&new), Instant::now(), "the push");
        }
    }
}

#[test]
fn the_push_of_a_key_ends_every_entry_that_was_made_of_it() {
    let l2 = Scripted::new();
    let mut sessions = l2.sessions(4);
    let mut direct = l2.direct();
    direct.call(&["SET", "k", "old"]);
    let reads: [&[&str]; 5] = [
        &["GET", "k"],
        &["STRLEN", "k"],
        &["GETRANGE", "k", "0", "1"],
        &["TYPE", "k"],
        &["MGET", "k", "other"],
    ];
    for read in reads {
        l2.warm(&mut sessions[0], read);
    }
    direct.call(&["DEL", "k"]);
    let written = Instant::now();
    for read in reads {
        let expected = direct.call(read);
        all_see_soon(&mut sessions, read, &expected, written, "DEL");
    }
}

#[test]
fn an_error_in_the_place_of_a_read_is_passed_on_and_never_stored() {
    let l2 = Scripted::new();
    let mut session = l2.daemon.client();
    l2.direct().call(&["SET", "k", "v"]);
    let gate = l2.fake.answer(
        Side::Reply,
        {
            let read = owned(&["GET", "k"]);
            move |frame| frame.is(&read)
        },
        b"-MISCONF not now\r\n",
    );
    for _ in 0..4 {
        assert_eq!(session.text(&["GET", "k"]), "-MISCONF not now");
    }
    drop(gate);
    for _ in 0..4 {
        assert_eq!(session.text(&["GET", "k"]), "v");
    }
}
