//! Promise 3: once a session of this daemon has a write's reply, every session of it sees the write, whatever kind
//! of link the write took, and without waiting for Redis's push.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::kit::{
    Ends, HitsCount, Rng, Scripted, Setup, all_see, all_see_despite, bulk, number, ok, owned, pipeline,
    rounds, show, words,
};
use crate::support::fake_l2::Side;
use crate::support::{Client, Daemon, encode};
use crate::writes::{WRITES, fill_in, mset_of};

/// How a write is sent.
#[derive(Debug, Clone, Copy)]
enum Means {
    Alone,
    /// MULTI, the write and EXEC in one go, as clients' pipelines send it.
    Exec,
    /// WATCH before it, and one command at a time.
    Watched,
}

fn send_write(session: &mut Client, means: Means, write: &[String]) {
    let refuse_errors =
        |reply: Vec<u8>| assert!(!show(&reply).contains("-ERR"), "{write:?}: {}", show(&reply));
    match means {
        Means::Alone => refuse_errors(session.call(write)),
        Means::Exec => {
            let wire = [encode(&["MULTI"]), encode(write), encode(&["EXEC"])].concat();
            session.send_raw(&wire).unwrap();
            (0..3).for_each(|_| refuse_errors(session.read_frame()));
        }
        Means::Watched => {
            ok(session, "WATCH unrelated");
            ok(session, "MULTI");
            assert_eq!(session.text(write), "+QUEUED");
            refuse_errors(session.call(&["EXEC"]));
        }
    }
}

/// All rows of the table with every push withheld: only the daemon's own bump can end the entries.
fn every_write_is_seen(means: Means) {
    let l2 = Scripted::new();
    let _silence = l2.fake.drop_pushes();
    let (mut direct, mut sessions) = (l2.direct(), l2.sessions(4));
    for (i, row) in WRITES.iter().enumerate() {
        let prefix = format!("{i}:");
        row.before.iter().for_each(|line| drop(direct.call(&fill_in(line, &prefix))));
        let reads: Vec<Vec<String>> = row.reads.iter().map(|line| fill_in(line, &prefix)).collect();
        let reads: Vec<Vec<&str>> =
            reads.iter().map(|read| read.iter().map(String::as_str).collect()).collect();
        let old: Vec<_> = reads.iter().map(|read| l2.warm(&mut sessions[i % 4], read)).collect();
        send_write(&mut sessions[(i + 1) % 4], means, &fill_in(row.write, &prefix));
        let new: Vec<_> = reads.iter().map(|read| direct.call(read)).collect();
        assert_ne!(old, new, "{} changes nothing that is read: nothing tested", row.write);
        for (read, new) in reads.iter().zip(&new) {
            all_see(&mut sessions, read, new, &format!("{} by {means:?}", row.write));
        }
    }
}

#[test]
fn every_write_is_seen_by_every_session_once_it_is_answered() {
    every_write_is_seen(Means::Alone);
}

#[test]
fn every_write_in_a_transaction_is_seen_by_every_session_once_exec_is_answered() {
    every_write_is_seen(Means::Exec);
}

#[test]
fn every_write_in_a_watched_transaction_is_seen_by_every_session_once_exec_is_answered() {
    every_write_is_seen(Means::Watched);
}

#[test]
fn restore_and_writes_of_more_keys_than_are_listed_are_seen_too() {
    let l2 = Scripted::new();
    let (mut direct, mut sessions) = (l2.direct(), l2.sessions(4));
    direct.call(&["SET", "source", "new"]);
    direct.call(&["SET", "target", "old"]);
    let frame = direct.call(&["DUMP", "source"]);
    let start = frame.windows(2).position(|w| w == b"\r\n").unwrap() + 2;
    let payload = &frame[start..frame.len() - 2];
    l2.warm(&mut sessions[0], &["GET", "target"]);
    let silence = l2.fake.drop_pushes();
    sessions[1].call(&[b"RESTORE".as_slice(), b"target", b"0", payload, b"REPLACE"]);
    all_see(&mut sessions, &["GET", "target"], &bulk("new"), "RESTORE");
    drop(silence);
    // Past 64 keys the daemon does not list them: its barrier sees that the push is stuck.
    for (keys, key) in
        [64, 65, 500].into_iter().flat_map(|keys| [(keys, 0), (keys, keys / 2), (keys, keys - 1)])
    {
        let prefix = format!("of{keys}:{key}:");
        direct.call(&mset_of(keys, &prefix, "old"));
        let read = ["GET", &format!("{prefix}{key}")];
        l2.warm(&mut sessions[0], &read);
        let pushes = l2.fake.hold(Side::Push, |frame| frame.tracked);
        ok(&mut sessions[1], &mset_of(keys, &prefix, "new").join(" "));
        all_see_despite(pushes, &mut sessions, &read, &bulk("new"), "a long MSET");
    }
}

#[test]
fn a_write_whose_reply_is_lost_is_seen_once_the_loss_is_known() {
    let l2 = Scripted::new();
    let _silence = l2.fake.drop_pushes();
    let (mut direct, mut sessions) = (l2.direct(), l2.sessions(4));
    for (i, line) in ["SET % new", "BLPOP %q 0", "EXEC"].into_iter().enumerate() {
        let key = format!("lost{i}");
        let write = fill_in(line, &key);
        let read = if i == 1 { owned(&["LLEN", &format!("{key}q")]) } else { owned(&["GET", &key]) };
        let read: Vec<&str> = read.iter().map(String::as_str).collect();
        direct.call(&["SET", &key, "old"]);
        direct.call(&["RPUSH", &format!("{key}q"), "x"]);
        l2.warm(&mut sessions[0], &read);
        let mut writer = l2.daemon.client();
        if i == 2 {
            ok(&mut writer, "WATCH unrelated");
            ok(&mut writer, "MULTI");
            writer.call(&["SET", &key, "new"]);
        }
        let lost = write.clone();
        let gate = l2.fake.hold(Side::Reply, move |frame| frame.is(&lost));
        writer.send(&write);
        gate.next().cut();
        // The outcome is unknown: an error or a closed connection, either of which tells the client of the loss.
        let _ = writer.try_read_frame();
        let new = direct.call(&read);
        all_see(&mut sessions, &read, &new, &format!("{line} whose reply was lost"));
    }
}

const KEYS: usize = 64;

/// Writes a few of its own keys through one session, then reads all of them through another. The model is exact:
/// nobody else writes them.
fn write_then_read(daemon: &Daemon, thread: usize, rounds: usize) {
    let mut rng = Rng::new(thread as u64 + 1);
    let mut sessions: Vec<Client> = (0..3).map(|_| daemon.client()).collect();
    let key = |i: usize| format!("own:{thread}:{i}");
    let mut model = [0i64; KEYS];
    let all: Vec<_> = (0..KEYS).map(|i| vec!["SET".to_string(), key(i), "0".to_string()]).collect();
    pipeline(&mut sessions[0], &all);
    let reads: Vec<_> = (0..KEYS).map(|i| vec!["GET".to_string(), key(i)]).collect();
    for round in 0..rounds {
        let first = rng.below(KEYS);
        let writes: Vec<_> = (first..first + 6)
            .map(|i| {
                model[i % KEYS] += 1;
                vec!["SET".to_string(), key(i % KEYS), model[i % KEYS].to_string()]
            })
            .collect();
        pipeline(&mut sessions[rng.below(3)], &writes);
        let reader = rng.below(3);
        for (i, reply) in pipeline(&mut sessions[reader], &reads).iter().enumerate() {
            assert_eq!(number(reply), Some(model[i]), "{} in round {round} of thread {thread}", key(i));
        }
    }
}

/// Reads the same keys over and over, so that a fill of each is under way at any time.
fn hammer(daemon: &Daemon, threads: usize, ended: &AtomicBool) {
    let mut session = daemon.client();
    let mut rng = Rng::new(99);
    while !ended.load(Relaxed) {
        let reads: Vec<_> = (0..64)
            .map(|_| vec!["GET".to_string(), format!("own:{}:{}", rng.below(threads), rng.below(KEYS))])
            .collect();
        pipeline(&mut session, &reads);
    }
}

#[test]
fn a_million_reads_after_own_writes_miss_none_of_them() {
    const THREADS: usize = 4;
    let setup = Setup::alone();
    let hits = HitsCount::from_now(&setup.daemon);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| hammer(&setup.daemon, THREADS, &ended));
        }
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let daemon = &setup.daemon;
                scope.spawn(move || write_then_read(daemon, thread, 1_000_000 / THREADS / KEYS + 1))
            })
            .collect();
        let failed = writers.into_iter().map(|writer| writer.join()).filter(Result::is_err).count();
        ended.store(true, Relaxed);
        assert_eq!(failed, 0, "threads with stale reads");
    });
    hits.at_least(100_000, "1,000,000 reads");
}

/// One round of writing `i` by some means; afterwards `read` must give `i`.
struct Round {
    name: &'static str,
    read: &'static str,
    write: fn(&mut Client, &mut Client, usize),
}

/// The session that writes, a client of Redis itself, the number.
const ROUNDS: &[Round] = &[
    Round {
        name: "EXEC",
        read: "GET k",
        write: |session, _, i| {
            let write = format!("SET k {i}");
            let replies = pipeline(session, &[words("MULTI"), words(&write), words("EXEC")]);
            assert_eq!(show(&replies[2]), "*1\r\n+OK\r\n");
        },
    },
    Round {
        name: "EXEC after WATCH",
        read: "GET k",
        write: |session, _, i| {
            ok(session, "WATCH other");
            ok(session, "MULTI");
            ok(session, &format!("SET k {i}"));
            assert_eq!(show(&session.call(&["EXEC"])), "*1\r\n+OK\r\n");
        },
    },
    Round {
        name: "BLMOVE of what is there",
        read: "LINDEX done 0",
        write: |session, direct, i| {
            direct.call(&["RPUSH", "todo", &i.to_string()]);
            assert_eq!(number(&session.call(&words("BLMOVE todo done LEFT LEFT 0"))), Some(i as i64));
        },
    },
    Round {
        name: "BLMOVE that had to wait",
        read: "LINDEX done 0",
        write: |session, direct, i| {
            session.send(&words("BLMOVE todo done LEFT LEFT 0"));
            direct.call(&["RPUSH", "todo", &i.to_string()]);
            assert_eq!(number(&session.read_frame()), Some(i as i64));
        },
    },
    Round {
        name: "BLPOP of an old element",
        read: "LINDEX list 0",
        write: |session, direct, i| {
            direct.call(&["DEL", "list"]);
            direct.call(&["RPUSH", "list", "old", &i.to_string()]);
            (0..3).for_each(|_| drop(session.call(&words("LINDEX list 0"))));
            session.call(&words("BLPOP list 0"));
        },
    },
];

#[test]
fn own_writes_by_transactions_and_blocking_commands_are_seen_beside_a_hammer() {
    let setup = Setup::new();
    let mut sessions = setup.sessions(4);
    let mut direct = setup.direct();
    for round in ROUNDS {
        let hits = HitsCount::from_now(&setup.daemon);
        let count = rounds(1_500, 50_000);
        let read = words(round.read);
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _ends = Ends(&ended);
            scope.spawn(|| {
                let mut session = setup.daemon.client();
                while !ended.load(Relaxed) {
                    pipeline(&mut session, &vec![read.clone(); 8]);
                }
            });
            for i in 1..=count {
                (round.write)(&mut sessions[i % 4], &mut direct, i);
                for (nth, session) in sessions.iter_mut().enumerate() {
                    let seen = number(&session.call(&read));
                    assert_eq!(seen, Some(i as i64), "{} in round {i}, seen by session {nth}", round.name);
                }
            }
        });
        hits.at_least(count as u64 / 10, round.name);
        direct.call(&["FLUSHALL"]);
    }
}
