//! Promise 11: MGET and EXISTS are never torn, and what a session sees of one request never runs backwards.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::kit::{
    Ends, HitsCount, Rng, Scripted, Setup, all_see_despite, bulk, elements, number, owned, pipeline, rounds,
    show, words,
};
use crate::support::fake_l2::Side;
use crate::support::{Client, Daemon, PATIENCE, encode};

/// Writes `i`, `i + 1`, ... by `write` until the readers are done, with pauses in which entries can be filled.
fn write_on(mut client: Client, ended: &AtomicBool, write: impl Fn(&mut Client, u64)) {
    let mut rng = Rng::new(3);
    for i in 1.. {
        if ended.load(Relaxed) {
            return;
        }
        write(&mut client, i);
        // The pace of the load, not a wait for anything: write upon write, and now and then time enough for hits.
        let pause = if i % 50 == 0 { 25_000 } else { rng.below(1_000) as u64 };
        std::thread::sleep(Duration::from_micros(pause));
    }
}

/// Readers on sessions of both workers, each reply checked: at least `count`, and until one in twenty of these was a hit.
fn read_on(daemon: &Daemon, reads: &[Vec<String>], count: usize, check: impl Fn(usize, &[u8]) + Sync) {
    const THREADS: usize = 3;
    let hits = HitsCount::from_now(daemon);
    let wanted = count as u64 / 20;
    let patience = Instant::now() + 4 * PATIENCE;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (check, hits) = (&check, &hits);
            let go_on = move |round: usize| {
                let more = || hits.seen() < wanted && Instant::now() < patience;
                round < count / THREADS / 8 || !round.is_multiple_of(64) || more()
            };
            scope.spawn(move || {
                let mut sessions: Vec<_> = (0..3).map(|_| daemon.client()).collect();
                let mut rng = Rng::new(thread as u64 + 10);
                for round in (0..).take_while(|&round| go_on(round)) {
                    let picks: Vec<usize> = (0..8).map(|_| rng.below(reads.len())).collect();
                    let batch: Vec<_> = picks.iter().map(|&pick| reads[pick].clone()).collect();
                    for (pick, reply) in picks.iter().zip(pipeline(&mut sessions[round % 3], &batch)) {
                        check(*pick, &reply);
                    }
                }
            });
        }
    });
    hits.at_least(wanted, count);
}

fn whole(reply: &[u8]) {
    let values = elements(reply);
    assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "torn: {}", show(reply));
}

fn mget_is_whole(straight: bool) {
    let setup = Setup::new();
    // Single reads fill the elements one by one, in their own time: a copy of several is where tearing shows.
    let reads = ["MGET a b c d", "MGET d c b a", "MGET b d", "GET a", "GET b", "GET c", "GET d"].map(words);
    let count = rounds(90_000, 1_000_000);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = Ends(&ended);
        let writer = if straight { setup.direct() } else { setup.daemon.client() };
        let ended = &ended;
        scope.spawn(move || {
            write_on(writer, ended, |client, i| {
                let reply = client.text(&words(&format!("MSET a {i} b {i} c {i} d {i}")));
                assert_eq!(reply, "+OK");
            })
        });
        read_on(&setup.daemon, &reads, count, |pick, reply| {
            if pick < 3 {
                whole(reply);
            }
        });
    });
}

#[test]
fn mget_is_never_torn_by_a_writer_straight_at_redis() {
    mget_is_whole(true);
}

#[test]
fn mget_is_never_torn_by_a_writer_of_this_daemon() {
    mget_is_whole(false);
}

#[test]
fn exists_and_mget_of_missing_keys_are_never_torn() {
    let setup = Setup::new();
    let reads = ["EXISTS a b c", "MGET a b c", "EXISTS c a b", "GET a", "GET b", "EXISTS c"].map(words);
    let count = rounds(60_000, 1_000_000);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = Ends(&ended);
        let (writer, ended) = (setup.direct(), &ended);
        scope.spawn(move || {
            write_on(writer, ended, |client, i| {
                let write =
                    if i % 2 == 0 { words("DEL a b c") } else { words(&format!("MSET a {i} b {i} c {i}")) };
                client.call(&write);
            })
        });
        read_on(&setup.daemon, &reads, count, |pick, reply| match pick {
            0 | 2 => assert!(matches!(number(reply), Some(0 | 3)), "torn: {}", show(reply)),
            1 if show(reply).contains("$-1") => {
                assert_eq!(show(reply), "*3\r\n$-1\r\n$-1\r\n$-1\r\n", "torn");
            }
            1 => whole(reply),
            _ => {}
        });
    });
}

#[test]
fn what_a_session_sees_of_one_request_never_runs_backwards() {
    const KEYS: usize = 6;
    let setup = Setup::new();
    let count = rounds(200_000, 2_000_000);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = Ends(&ended);
        for straight in [true, false] {
            let writer = if straight { setup.direct() } else { setup.daemon.client() };
            let ended = &ended;
            scope.spawn(move || {
                write_on(writer, ended, |client, i| {
                    // Odd keys are written by the one, even keys by the other.
                    let key = i as usize % (KEYS / 2) * 2 + straight as usize;
                    client.call(&["INCR", &format!("k{key}")]);
                })
            });
        }
        let readers: Vec<_> = (0..3)
            .map(|thread| {
                let daemon = &setup.daemon;
                scope.spawn(move || forwards(daemon, thread, count / 3, KEYS))
            })
            .collect();
        readers.into_iter().for_each(|reader| reader.join().expect("a session whose reads ran backwards"));
    });
}

/// Single elements, of which one is older than the other's link could know: a push is stuck on the first one's link.
#[test]
fn elements_that_different_links_filled_are_not_put_together() {
    let l2 = Scripted::new();
    // On two workers, each with a tracked link of its own.
    let (mut direct, mut sessions) = (l2.direct(), l2.sessions(2));
    for i in 0..20 {
        let (a, b) = (format!("a{i}"), format!("b{i}"));
        direct.call(&["MSET", &a, "old", &b, "old"]);
        l2.warm(&mut sessions[0], &["MGET", &a]);
        let pushes = l2.fake.hold(Side::Push, |frame| frame.tracked);
        direct.call(&["MSET", &a, "new", &b, "new"]);
        l2.warm(&mut sessions[1], &["MGET", &b]);
        let new = [b"*2\r\n".to_vec(), bulk("new"), bulk("new")].concat();
        all_see_despite(pushes, &mut sessions, &["MGET", &a, &b], &new, "MSET of both");
    }
}

/// A session has read past L1, where an entry is still valid because its push is stuck.
#[test]
fn a_hit_is_no_older_than_a_read_of_its_session_that_passed_by() {
    let l2 = Scripted::new();
    let (mut direct, mut sessions) = (l2.direct(), l2.sessions(4));
    for i in 0..20 {
        let key = format!("k{i}");
        direct.call(&["SET", &key, "old"]);
        let session = &mut sessions[i % 4];
        let read = ["GET", &key];
        l2.warm(session, &read);
        let pushes = l2.fake.hold(Side::Push, |frame| frame.tracked);
        direct.call(&["SET", &key, "new"]);
        // Behind a transaction that is under way L1 is not asked.
        let lines = [words("MULTI"), words("PING"), words("EXEC"), owned(&read)];
        assert_eq!(show(&pipeline(session, &lines)[3]), show(&bulk("new")), "behind a transaction");
        all_see_despite(pushes, std::slice::from_mut(session), &read, &bulk("new"), "a read that passed");
    }
}

/// The same for reads that L1 is not asked for at all. Each line is sent once the one before was answered, or all at
/// once; the reply at the end is that of the last line but one.
#[test]
fn a_hit_is_no_older_than_what_its_session_read_in_a_transaction_or_past_l1() {
    let ways: [(&str, bool, &[&str]); 5] = [
        ("a watch", false, &["WATCH x", "GET k", "UNWATCH"]),
        ("a transaction in pieces", false, &["MULTI", "GET k", "EXEC", "PING"]),
        ("a transaction in one piece", true, &["MULTI", "GET k", "EXEC", "PING"]),
        ("the same with a write", true, &["MULTI", "SET other 1", "GET k", "EXEC", "PING"]),
        ("BYPASS", false, &["MADCACHE BYPASS ON", "GET k", "MADCACHE BYPASS OFF"]),
    ];
    let l2 = Scripted::new();
    let (mut direct, mut sessions) = (l2.direct(), l2.sessions(4));
    for i in 0..20 {
        for (name, at_once, lines) in ways {
            direct.call(&["SET", "k", "old"]);
            let session = &mut sessions[i % 4];
            let read = ["GET", "k"];
            l2.warm(session, &read);
            let pushes = l2.fake.hold(Side::Push, |frame| frame.tracked);
            direct.call(&["SET", "k", "new"]);
            let lines: Vec<_> = lines.iter().map(|line| words(line)).collect();
            let replies = match at_once {
                true => pipeline(session, &lines),
                false => {
                    lines.iter().flat_map(|line| pipeline(session, std::slice::from_ref(line))).collect()
                }
            };
            let seen = show(&replies[lines.len() - 2]);
            assert!(seen.contains("new"), "{name}: {seen}");
            all_see_despite(pushes, std::slice::from_mut(session), &read, &bulk("new"), name);
        }
    }
}

/// The first of two reads of a key takes the plain link, where it is held up; the second, which would fill, must not be
/// read before it on another link.
#[test]
fn a_read_that_would_fill_does_not_overtake_one_that_passes() {
    let l2 = Scripted::new();
    let (mut direct, mut sessions) = (l2.direct(), l2.sessions(4));
    for i in 0..20 {
        let (key, session) = (format!("k{i}"), &mut sessions[i % 4]);
        direct.call(&["SET", &key, "old"]);
        let read = owned(&["GET", &key]);
        let gate = l2.fake.hold(Side::Request, {
            let read = read.clone();
            move |frame| !frame.tracked && frame.is(&read)
        });
        session.send_raw(&[encode(&read), encode(&read)].concat()).unwrap();
        let held = gate.next();
        // Both workers have looked at what came before once they have answered what came behind it, twice.
        for _ in 0..4 {
            l2.daemon.stat("clients");
        }
        direct.call(&["SET", &key, "new"]);
        drop(gate);
        held.pass();
        for which in ["first", "second"] {
            assert_eq!(show(&session.read_frame()), show(&bulk("new")), "the {which} read in round {i}");
        }
    }
}

/// Each of several sessions remembers what it has seen of each key.
fn forwards(daemon: &Daemon, seed: u64, count: usize, keys: usize) {
    let mut sessions: Vec<(Client, Vec<i64>)> = (0..4).map(|_| (daemon.client(), vec![0; keys])).collect();
    let mut rng = Rng::new(seed + 20);
    for round in 0..count / 8 {
        let (session, seen) = &mut sessions[round % 4];
        // Pipelines of one to fifteen: alone, and behind each other.
        let picks: Vec<usize> = (0..=rng.below(15)).map(|_| rng.below(keys)).collect();
        let batch: Vec<_> = picks.iter().map(|pick| words(&format!("GET k{pick}"))).collect();
        for (pick, reply) in picks.iter().zip(pipeline(session, &batch)) {
            let value = number(&reply).unwrap_or(0);
            assert!(value >= seen[*pick], "k{pick}: {value} after {}", seen[*pick]);
            seen[*pick] = value;
        }
    }
}
