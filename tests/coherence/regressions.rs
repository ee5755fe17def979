//! The ways in which caching proxies are known to keep what is gone: flushes, swapped databases, evictions from
//! Redis's tracking table, expiry, and writes that name their key in an unusual place.

use std::time::Instant;

use crate::kit::{NIL, Scripted, Setup, all_see, all_see_soon, bulk, ok, warm, words};
use crate::support::Client;
use crate::writes::{WRITES, fill_in, mset_of};

/// In the database, a value of its own under `k`.
fn sessions_of(setup: &Scripted, db: usize) -> Vec<Client> {
    let mut sessions = setup.sessions(3);
    sessions.iter_mut().for_each(|session| ok(session, &format!("SELECT {db}")));
    sessions
}

/// What an own command leaves behind in database 0 and 1, with all pushes withheld.
fn whole_keyspace(command: &str, in_0: &[u8], in_1: &[u8]) {
    let l2 = Scripted::new();
    let _silence = l2.fake.drop_pushes();
    let mut direct = l2.direct();
    for transaction in [false, true] {
        for db in [1, 0] {
            ok(&mut direct, &format!("SELECT {db}"));
            ok(&mut direct, &format!("SET k in{db}"));
            ok(&mut direct, "DEL missing");
        }
        // New sessions in each round; the entries of the round before ended with its command.
        let (mut zero, mut one) = (sessions_of(&l2, 0), sessions_of(&l2, 1));
        all_see(&mut zero, &["GET", "k"], &bulk("in0"), "the start");
        all_see(&mut one, &["GET", "k"], &bulk("in1"), "the start");
        l2.warm(&mut zero[0], &["GET", "k"]);
        l2.warm(&mut zero[0], &["GET", "missing"]);
        l2.warm(&mut one[0], &["GET", "k"]);
        if transaction {
            ok(&mut zero[1], "MULTI");
            ok(&mut zero[1], command);
            ok(&mut zero[1], "EXEC");
        } else {
            ok(&mut zero[1], command);
        }
        all_see(&mut zero, &["GET", "k"], in_0, command);
        all_see(&mut one, &["GET", "k"], in_1, command);
        // The next round's values are written past the daemon, which hears no pushes: they must not be cached.
        for session in [&mut zero[0], &mut one[0]] {
            ok(session, "FLUSHALL");
        }
    }
}

#[test]
fn flushall_leaves_nothing() {
    whole_keyspace("FLUSHALL", NIL, NIL);
    whole_keyspace("FLUSHALL ASYNC", NIL, NIL);
}

#[test]
fn flushdb_leaves_nothing_of_its_database() {
    whole_keyspace("FLUSHDB", NIL, &bulk("in1"));
}

#[test]
fn swapdb_swaps_what_is_cached() {
    whole_keyspace("SWAPDB 0 1", &bulk("in1"), &bulk("in0"));
}

#[test]
fn a_script_that_flushes_leaves_nothing() {
    let setup = Setup::new();
    let mut sessions = setup.sessions(4);
    for i in 0..50 {
        setup.direct().call(&["SET", "k", &i.to_string()]);
        all_see_soon(&mut sessions, &["GET", "k"], &bulk(&i.to_string()), Instant::now(), "SET");
        warm(&setup.daemon, &mut sessions[0], &["GET", "k"]);
        sessions[i % 4].call(&["EVAL", "return redis.call('FLUSHALL')", "0"]);
        all_see(&mut sessions, &["GET", "k"], NIL, "FLUSHALL in a script");
    }
}

#[test]
fn a_flush_straight_at_redis_is_seen_soon() {
    let setup = Setup::new();
    let (mut direct, mut sessions) = (setup.direct(), setup.sessions(4));
    for command in ["FLUSHALL", "FLUSHDB", "FLUSHALL ASYNC"] {
        ok(&mut direct, "SET k v");
        warm(&setup.daemon, &mut sessions[0], &["GET", "other"]);
        all_see_soon(&mut sessions, &["GET", "k"], &bulk("v"), Instant::now(), "SET");
        warm(&setup.daemon, &mut sessions[0], &["GET", "k"]);
        ok(&mut direct, command);
        all_see_soon(&mut sessions, &["GET", "k"], NIL, Instant::now(), command);
    }
}

#[test]
fn an_eviction_from_the_tracking_table_leaves_nothing_untracked() {
    const KEYS: usize = 200;
    let setup = Setup::with(&["--tracking-table-max-keys", "10"], &[]);
    let (mut direct, mut sessions) = (setup.direct(), setup.sessions(4));
    for round in 0..5 {
        direct.call(&mset_of(KEYS, "k", &format!("old{round}")));
        for session in &mut sessions[..3] {
            (0..KEYS).for_each(|key| drop(session.call(&["GET", &format!("k{key}")])));
        }
        let (new, written) = (format!("new{round}"), Instant::now());
        direct.call(&mset_of(KEYS, "k", &new));
        for key in 0..KEYS {
            all_see_soon(&mut sessions, &["GET", &format!("k{key}")], &bulk(&new), written, "MSET");
        }
    }
}

#[test]
fn keys_that_expire_by_themselves_are_gone_and_come_back() {
    let setup = Setup::new();
    let (mut direct, mut sessions) = (setup.direct(), setup.sessions(4));
    for i in 0..5 {
        ok(&mut direct, &format!("SET k {i} PX 80"));
        let set = Instant::now();
        while set.elapsed().as_millis() <= 80 {
            sessions[i % 4].call(&["GET", "k"]);
        }
        all_see(&mut sessions, &["GET", "k"], NIL, "PX 80");
        ok(&mut direct, &format!("SET k again{i}"));
        all_see_soon(&mut sessions, &["GET", "k"], &bulk(&format!("again{i}")), Instant::now(), "SET");
    }
}

/// The table of writes once more, straight at Redis: here the pushes alone end the entries.
#[test]
fn every_write_straight_at_redis_is_seen_soon() {
    let setup = Setup::new();
    let (mut direct, mut sessions) = (setup.direct(), setup.sessions(3));
    for (i, row) in WRITES.iter().enumerate() {
        let prefix = format!("{i}:");
        row.before.iter().for_each(|line| drop(direct.call(&fill_in(line, &prefix))));
        let reads: Vec<Vec<String>> = row.reads.iter().map(|line| fill_in(line, &prefix)).collect();
        let reads: Vec<Vec<&str>> =
            reads.iter().map(|read| read.iter().map(String::as_str).collect()).collect();
        for read in &reads {
            warm(&setup.daemon, &mut sessions[i % 3], read);
        }
        direct.call(&fill_in(row.write, &prefix));
        let written = Instant::now();
        for read in &reads {
            let expected = direct.call(read);
            all_see_soon(&mut sessions, read, &expected, written, row.write);
        }
    }
}

/// A key that was moved or renamed onto another one, in each of the unusual places, and back.
#[test]
fn keys_that_take_each_others_places_are_seen_in_their_new_ones() {
    let setup = Setup::new();
    let mut sessions = setup.sessions(4);
    ok(&mut sessions[0], "MSET a 1 b 2");
    for (i, line) in
        ["RENAME a t", "RENAME b a", "RENAME t b", "COPY a c", "MOVE c 1", "DEL a", "RENAME b a", "SET b 2"]
            .into_iter()
            .cycle()
            .take(80)
            .enumerate()
    {
        let mut direct = setup.direct();
        for key in ["a", "b", "c", "t"] {
            (0..3).for_each(|n| drop(sessions[(i + n) % 4].call(&["GET", key])));
        }
        sessions[i % 4].call(&words(line));
        for key in ["a", "b", "c", "t"] {
            let expected = direct.call(&["GET", key]);
            all_see(&mut sessions, &["GET", key], &expected, line);
        }
    }
}
