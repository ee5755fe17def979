//! Promise 7: nothing older than `max_staleness`, whatever the network does; hits go on while it is well.

use std::time::{Duration, Instant};

use crate::kit::{Scripted, Setup, all_see, bulk, frame_within, is_request, show, warm};
use crate::support::Client;
use crate::support::fake_l2::{Links, Way};

/// The default of `cache.max_staleness_ms`.
const MAX_STALENESS: Duration = Duration::from_millis(1000);

/// Reads until a read is not answered any more, or until `end`; calls `check` with each read's start and reply.
/// Whether a read stayed unanswered (it must be read later).
fn read_until(session: &mut Client, end: Instant, mut check: impl FnMut(Instant, &[u8])) -> bool {
    loop {
        let began = Instant::now();
        if began >= end {
            return false;
        }
        session.send(&["GET", "k"]);
        match frame_within(session, end - began) {
            Some(reply) => check(began, &reply),
            None => return true,
        }
    }
}

#[test]
fn hits_stop_within_max_staleness_when_redis_stops() {
    let setup = Setup::alone();
    setup.direct().call(&["SET", "k", "v"]);
    let mut sessions = setup.sessions(2);
    warm(&setup.daemon, &mut sessions[0], &["GET", "k"]);
    read_until(&mut sessions[0], Instant::now() + Duration::from_millis(300), |_, _| {});
    setup.redis.process.signal("STOP");
    let stopped = Instant::now();
    let mut hits = 0;
    let waiting = read_until(&mut sessions[0], stopped + MAX_STALENESS * 2, |began, reply| {
        hits += 1;
        let age = began.saturating_duration_since(stopped);
        assert!(age <= MAX_STALENESS, "{} is served {age:?} after Redis stopped", show(reply));
    });
    assert!(waiting, "reads are answered although Redis has stopped");
    assert!(hits > 0, "L1 did not survive the first moments");
    sessions[1].send(&["GET", "k"]);
    assert!(
        frame_within(&mut sessions[1], Duration::from_millis(100)).is_none(),
        "another session still hits"
    );
    setup.redis.process.signal("CONT");
    for session in &mut sessions {
        assert_eq!(show(&session.read_frame()), show(&bulk("v")));
    }
    warm(&setup.daemon, &mut sessions[0], &["GET", "k"]);
}

/// Packets get lost on some links in some direction; a write is made straight at Redis; nobody sees the old value
/// longer than `max_staleness`.
fn frozen(max_staleness: Duration, directions: &[Way], links: Links) {
    let setting = max_staleness.as_millis().to_string();
    let l2 = Scripted::alone(&[("MADCACHE_CACHE_MAX_STALENESS_MS", &setting)]);
    let (mut direct, mut sessions) = (l2.direct(), l2.sessions(4));
    direct.call(&["SET", "k", "old"]);
    l2.warm(&mut sessions[0], &["GET", "k"]);
    directions.iter().for_each(|&way| l2.fake.freeze(way, links));
    direct.call(&["SET", "k", "new"]);
    let written = Instant::now();
    let end = written + max_staleness * 2;
    let waiting: Vec<bool> = std::thread::scope(|scope| {
        let readers: Vec<_> = sessions
            .iter_mut()
            .map(|session| {
                scope.spawn(move || {
                    read_until(session, end, |began, reply| {
                        let age = began.saturating_duration_since(written);
                        let old = reply == bulk("old");
                        assert!(!old || age <= max_staleness, "the old value {age:?} after the write");
                    })
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().expect("a reader saw no value too old")).collect()
    });
    l2.fake.thaw();
    for (session, _) in sessions.iter_mut().zip(waiting).filter(|(_, waiting)| *waiting) {
        // It began before the thaw and may be an error where the daemon gave the link up; it may not be old.
        assert_ne!(show(&session.read_frame()), show(&bulk("old")), "a read from after the write");
    }
    crate::support::eventually("reads work again", || sessions[0].call(&["GET", "k"]) == bulk("new"));
    all_see(&mut sessions, &["GET", "k"], &bulk("new"), "after the thaw");
}

#[test]
fn a_network_that_loses_what_redis_sends_on_tracked_links_bounds_the_age() {
    frozen(MAX_STALENESS, &[Way::Down], Links::Tracked);
}

#[test]
fn a_network_that_loses_everything_bounds_the_age() {
    frozen(MAX_STALENESS, &[Way::Up, Way::Down], Links::All);
}

#[test]
fn a_network_that_loses_what_the_daemon_sends_bounds_the_age() {
    frozen(MAX_STALENESS, &[Way::Up], Links::Tracked);
}

#[test]
fn a_shorter_max_staleness_is_kept_too() {
    frozen(Duration::from_millis(400), &[Way::Down], Links::Tracked);
}

#[test]
fn heartbeats_keep_hits_alive_while_nothing_else_is_sent() {
    let l2 = Scripted::alone(&[]);
    let mut session = l2.daemon.client();
    l2.direct().call(&["SET", "k", "v"]);
    l2.warm(&mut session, &["GET", "k"]);
    let reads = l2.requests(&["GET", "k"]);
    let tracked = |l2: &Scripted| l2.fake.count(|frame| is_request(frame) && frame.tracked);
    let (before, began) = (tracked(&l2), Instant::now());
    let mut hits = 0;
    while began.elapsed() < MAX_STALENESS * 3 {
        assert_eq!(session.text(&["GET", "k"]), "v");
        hits += 1;
    }
    let (refills, beats) = (l2.requests(&["GET", "k"]) - reads, tracked(&l2) - before);
    // A machine that holds the daemon up for a second costs one refill.
    assert!(refills <= 1, "{refills} of {hits} reads went to Redis although the link was well");
    assert!((5..=60).contains(&beats), "{beats} requests on the tracked links in 3 s");
}
