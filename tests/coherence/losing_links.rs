//! Promise 8: losing a link, at any moment, never leaves a stale entry behind.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::kit::{
    Ends, HELD_UP, HitsCount, Rng, SOON, Scripted, Setup, all_see, all_see_soon, bulk, number, pipeline,
    tracked,
};
use crate::support::Client;
use crate::support::fake_l2::{Links, Side};

/// The ids of the clients that Redis tracks keys for.
fn tracked_ids(direct: &mut Client) -> Vec<String> {
    let list = direct.text(&["CLIENT", "LIST"]);
    let field = |line: &str, name: &str| {
        let value = line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().to_string()
    };
    list.lines().filter(|line| field(line, "flags").contains('t')).map(|line| field(line, "id")).collect()
}

/// Reads by all sessions until none sees less than `written`; the greatest age seen of an older value.
fn until_fresh(sessions: &mut [Client], key: &str, written: i64, since: Instant) -> Duration {
    let mut worst = Duration::ZERO;
    let mut fresh = 0;
    while fresh < sessions.len() {
        fresh = 0;
        for (nth, session) in sessions.iter_mut().enumerate() {
            let began = Instant::now();
            let seen = number(&session.call(&["GET", key])).unwrap_or(0);
            let age = began.saturating_duration_since(since);
            match seen >= written {
                true => fresh += 1,
                false if began.elapsed() > HELD_UP => {}
                false => {
                    worst = worst.max(age);
                    assert!(
                        age < SOON,
                        "session {nth} reads {seen} and not {written} {age:?} after the write"
                    );
                }
            }
        }
    }
    worst
}

#[test]
fn killing_the_tracked_links_a_thousand_times_leaves_nothing_stale() {
    const KEYS: usize = 32;
    const KILLS: usize = 1_000;
    let setup = Setup::alone();
    let (mut direct, mut sessions) = (setup.direct(), setup.sessions(4));
    let hits = HitsCount::from_now(&setup.daemon);
    let ended = AtomicBool::new(false);
    let (mut kills, mut rounds, mut worst) = (0, 0, Duration::ZERO);
    std::thread::scope(|scope| {
        let _ends = Ends(&ended);
        // Fills are under way at any time.
        scope.spawn(|| {
            let (mut session, mut rng) = (setup.daemon.client(), Rng::new(8));
            while !ended.load(Relaxed) {
                let reads: Vec<_> =
                    (0..16).map(|_| vec!["GET".to_string(), format!("k{}", rng.below(KEYS))]).collect();
                pipeline(&mut session, &reads);
            }
        });
        let (began, mut rng) = (Instant::now(), Rng::new(7));
        while kills < KILLS {
            rounds += 1;
            assert!(
                began.elapsed() < Duration::from_secs(90),
                "only {kills} tracked links were there to kill"
            );
            let key = format!("k{}", rng.below(KEYS));
            (0..4).for_each(|nth| drop(sessions[nth].call(&["GET", &key])));
            // Sometimes before the write, sometimes after it, sometimes one link only.
            let ids = tracked_ids(&mut direct);
            let few = if rounds % 3 == 0 { 1 } else { ids.len() };
            let victims = &ids[..few.min(ids.len())];
            let mut kill = |direct: &mut Client| {
                for id in victims {
                    kills += (direct.text(&["CLIENT", "KILL", "ID", id]) == ":1") as usize;
                }
            };
            if rounds % 2 == 0 {
                kill(&mut direct);
                direct.call(&["SET", &key, &rounds.to_string()]);
            } else {
                direct.call(&["SET", &key, &rounds.to_string()]);
                kill(&mut direct);
            }
            worst = worst.max(until_fresh(&mut sessions, &key, rounds, Instant::now()));
        }
    });
    eprintln!("{kills} links killed in {rounds} rounds; the oldest value seen was {worst:?} old");
    hits.at_least(rounds as u64 / 4, rounds);
}

#[test]
fn a_link_that_is_cut_among_the_replies_of_a_fill_stores_nothing() {
    let l2 = Scripted::new();
    let (mut direct, mut sessions) = (l2.direct(), l2.sessions(4));
    for (i, held) in ["GET", "PTTL"].into_iter().cycle().take(20).enumerate() {
        let key = format!("k{i}");
        direct.call(&["SET", &key, "old"]);
        let gate = l2.fake.hold(Side::Reply, tracked(&[held, &key]));
        let (fill, asked) = l2.begin_fill(&["GET", &key], &gate);
        drop(gate);
        let _silence = l2.fake.drop_pushes();
        direct.call(&["SET", &key, "new"]);
        fill.cut();
        asked.answer();
        let now = Instant::now();
        all_see_soon(
            &mut sessions,
            &["GET", &key],
            &bulk("new"),
            now,
            &format!("a link cut at {held}'s reply"),
        );
    }
}

#[test]
fn entries_are_gone_before_the_lost_link_is_there_again() {
    // So long that only the loss itself can end an entry.
    let l2 = Scripted::with(&[("MADCACHE_CACHE_MAX_STALENESS_MS", "10000")]);
    let (mut direct, mut sessions) = (l2.direct(), l2.sessions(4));
    for i in 0..20 {
        let key = format!("k{i}");
        direct.call(&["SET", &key, "old"]);
        l2.warm(&mut sessions[i % 4], &["GET", &key]);
        let tracking = |l2: &Scripted| {
            l2.fake.count(|frame| {
                crate::kit::is_request(frame) && frame.named("CLIENT") && frame.carries("TRACKING")
            })
        };
        let back = l2.fake.open(Links::Tracked) + tracking(&l2);
        let silence = l2.fake.drop_pushes();
        l2.fake.cut(Links::Tracked);
        direct.call(&["SET", &key, "new"]);
        let written = Instant::now();
        // Once every link has begun anew nothing old may be left; a daemon that connects lazily gets a moment.
        let mut fresh = 0;
        while fresh < 4 {
            let again = tracking(&l2) >= back;
            let reply = sessions[fresh].call(&["GET", &key]);
            assert!(!again || reply == bulk("new"), "an entry of the lost link outlived it");
            fresh += (reply == bulk("new")) as usize;
            assert!(fresh > 0 || written.elapsed() < SOON * 4, "an entry of the lost link lives on");
        }
        drop(silence);
        all_see(&mut sessions, &["GET", &key], &bulk("new"), "the tracked links were cut");
    }
}
