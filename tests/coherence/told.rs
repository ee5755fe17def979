//! Promise 5: who is told of a write (by a message, a popped element, a granted lock) sees it. The writer writes
//! straight at Redis, so only the barrier before the telling reply keeps the order.

use std::time::{Duration, Instant};

use crate::kit::{HitsCount, Scripted, Setup, bulk, frame_within, number, ok, rounds, show, words};
use crate::support::Client;
use crate::support::fake_l2::Side;

const KEYS: usize = 16;

/// A way of being told.
struct Telling {
    name: &'static str,
    /// Said once, with the number of replies that it brings.
    once: &'static [&'static str],
    /// Said before each round; its reply is what tells.
    each: &'static str,
    /// What the writer does after its SET; `%` is the number.
    tell: &'static str,
    rounds_full: usize,
}

const TELLINGS: &[Telling] = &[
    told("a message", &["SUBSCRIBE news"], "", "PUBLISH news %", 20_000),
    told("a RESP3 message", &["HELLO 3", "SUBSCRIBE news"], "", "PUBLISH news %", 10_000),
    told("a message by pattern", &["PSUBSCRIBE n*s"], "", "PUBLISH news %", 10_000),
    told("a sharded message", &["SSUBSCRIBE news"], "", "SPUBLISH news %", 10_000),
    told("a keyspace event", &["PSUBSCRIBE __keyspace@0__:k*"], "", "", 10_000),
    told("BLPOP", &[], "BLPOP list 0", "RPUSH list %", 10_000),
    told("BLMOVE", &[], "BLMOVE list other LEFT LEFT 0", "RPUSH list %", 10_000),
    told("BZPOPMIN", &[], "BZPOPMIN zset 0", "ZADD zset 1 %", 10_000),
    told("XREAD BLOCK", &[], "XREAD BLOCK 0 STREAMS stream $", "XADD stream * f %", 10_000),
];

const fn told(
    name: &'static str,
    once: &'static [&'static str],
    each: &'static str,
    tell: &'static str,
    rounds_full: usize,
) -> Telling {
    Telling { name, once, each, tell, rounds_full }
}

fn start(telling: &Telling, listener: &mut Client) {
    for line in telling.once {
        let reply = listener.call(&words(line));
        assert_ne!(reply[0], b'-', "{line}: {}", show(&reply));
    }
}

fn written(telling: &Telling, key: &str, i: usize) -> Vec<Vec<String>> {
    let set = words(&format!("SET {key} {i}"));
    match telling.tell {
        "" => vec![set],
        tell => vec![set, words(&tell.replace('%', &i.to_string()))],
    }
}

/// Blocks at Redis, seen from Redis, so that `$` of XREAD means what was there before the round.
fn until_blocked(direct: &mut Client) {
    crate::support::eventually("the listener blocks", || {
        direct.text(&["INFO", "clients"]).contains("blocked_clients:1")
    });
}

#[test]
fn what_wakes_a_client_never_comes_before_the_write_that_it_tells_of() {
    let setup = Setup::with(&["--notify-keyspace-events", "K$"], &[]);
    let mut direct = setup.direct();
    let mut sessions = setup.sessions(4);
    for telling in TELLINGS {
        let hits = HitsCount::from_now(&setup.daemon);
        let count = rounds(1_500, telling.rounds_full);
        let mut listener = setup.daemon.client();
        start(telling, &mut listener);
        let mut old = 0;
        for i in 1..=count {
            let key = format!("k{}", i % KEYS);
            for reader in 0..4 {
                sessions[(i + reader) % 4].call(&["GET", &key]);
            }
            if !telling.each.is_empty() {
                listener.send(&words(telling.each));
                if telling.name.starts_with("XREAD") {
                    until_blocked(&mut direct);
                }
            }
            let replies = written(telling, &key, i);
            let wire: Vec<u8> = replies.iter().flat_map(|args| crate::support::encode(args)).collect();
            direct.send_raw(&wire).unwrap();
            let news = listener.read_frame();
            let seen = number(&sessions[i % 4].call(&["GET", &key]));
            if seen != Some(i as i64) {
                old += 1;
                eprintln!("{}: told by {} of {i}, then read {seen:?}", telling.name, show(&news));
            }
            replies.iter().for_each(|_| drop(direct.read_frame()));
        }
        assert_eq!(old, 0, "old values in {count} rounds of {}", telling.name);
        hits.at_least(count as u64 / 2, telling.name);
        direct.call(&["DEL", "list", "other", "zset", "stream"]);
    }
}

/// The push of the write is stuck, the message is not.
#[test]
fn a_message_is_of_no_use_before_a_stuck_push() {
    let l2 = Scripted::new();
    let mut direct = l2.direct();
    let mut sessions = l2.sessions(4);
    for (i, telling) in TELLINGS.iter().filter(|telling| !telling.tell.is_empty()).enumerate() {
        let key = format!("k{i}");
        direct.call(&["SET", &key, "0"]);
        l2.warm(&mut sessions[0], &["GET", &key]);
        let mut listener = l2.daemon.client();
        start(telling, &mut listener);
        if !telling.each.is_empty() {
            listener.send(&words(telling.each));
            until_blocked(&mut direct);
        }
        let pushes = l2.fake.hold(Side::Push, |frame| frame.tracked);
        for args in written(telling, &key, 7) {
            direct.call(&args);
        }
        let stuck = pushes.next();
        // It comes when the stuck link is fenced, at the latest.
        let news = listener.read_frame();
        assert!(show(&news).contains('7'), "{}: {}", telling.name, show(&news));
        sessions.iter_mut().for_each(|session| session.send(&["GET", &key]));
        let end = Instant::now() + Duration::from_millis(30);
        let mut early: Vec<_> = sessions
            .iter_mut()
            .map(|session| frame_within(session, end.saturating_duration_since(Instant::now())))
            .collect();
        stuck.pass();
        drop(pushes);
        for (nth, session) in sessions.iter_mut().enumerate() {
            let reply = early[nth].take().unwrap_or_else(|| session.read_frame());
            assert_eq!(show(&reply), show(&bulk("7")), "{} seen by session {nth}", telling.name);
        }
        // Entries are of use again on every link before the next round begins.
        l2.warm(&mut sessions[0], &["GET", &key]);
    }
}

#[test]
fn the_message_of_ones_own_daemon_is_no_earlier_than_its_write_either() {
    let setup = Setup::new();
    let mut sessions = setup.sessions(6);
    let mut listener = setup.daemon.client();
    ok(&mut listener, "SUBSCRIBE news");
    for i in 1..=rounds(1_500, 10_000) {
        let key = format!("k{}", i % KEYS);
        (0..4).for_each(|nth| drop(sessions[(i + nth) % 6].call(&["GET", &key])));
        // One write, unanswered when the message comes: the two may even take different links.
        let wire = [words(&format!("SET {key} {i}")), words(&format!("PUBLISH news {i}"))];
        let wire: Vec<u8> = wire.iter().flat_map(|args| crate::support::encode(args)).collect();
        sessions[0].send_raw(&wire).unwrap();
        listener.read_frame();
        let seen = number(&sessions[1 + i % 5].call(&["GET", &key]));
        (0..2).for_each(|_| drop(sessions[0].read_frame()));
        assert_eq!(seen, Some(i as i64), "round {i}");
    }
}
