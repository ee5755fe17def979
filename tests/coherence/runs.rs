//! Hits that stand one behind the other in a pipeline are answered together, and requests that are written alike are taken
//! without another look at their name: as each of them alone would be.

use crate::kit::{HitsCount, NIL, Rng, Setup, bulk, ok, pipeline, rounds, show, warm, words};
use crate::support::{Client, Redis, encode};

const KEYS: usize = 24;

fn fill(client: &mut Client) {
    for key in 0..KEYS {
        match key % 4 {
            0 => drop(client.call(&["SET", &format!("k{key}"), &"v".repeat(key * 9)])),
            1 => drop(client.call(&["HSET", &format!("k{key}"), "f", &format!("value {key}"), "g", ""])),
            2 => drop(client.call(&["RPUSH", &format!("k{key}"), "a", "b"])),
            _ => {}
        }
    }
}

const READS: &[&str] = &["GET", "GET", "GET", "get", "STRLEN", "TYPE", "HGET", "HGETALL"];
/// What goes on to Redis, what is answered here, and names that mean nothing without the next word, or nothing at all.
const OTHERS: &[&str] = &["SET", "APPEND", "HGET", "CLIENT", "OBJECT", "NOSUCH"];

/// Runs of one of these commands, and between them whatever a client may send: the bytes, and how many replies come of them.
fn conversation(rng: &mut Rng, commands: &[&str]) -> (Vec<u8>, usize) {
    let (mut wire, mut replies) = (Vec::new(), 0);
    let mut say = |line: &str, answered: usize| {
        wire.extend(encode(&words(line)));
        replies += answered;
    };
    for _ in 0..6 {
        let command = commands[rng.below(commands.len())];
        // Often more than are prefetched together.
        for _ in 0..rng.below(40) {
            let key = format!("k{}", rng.below(KEYS));
            match command {
                "HGET" => say(&format!("HGET {key} {}", ["f", "g", "none"][rng.below(3)]), 1),
                "SET" | "APPEND" => say(&format!("{command} {key} {}", ["x", "xy"][rng.below(2)]), 1),
                "CLIENT" => {
                    say(&format!("CLIENT {} {key}", ["SETNAME", "NO-EVICT", "NOSUCH"][rng.below(3)]), 1)
                }
                "OBJECT" => say(&format!("OBJECT {} {key}", ["REFCOUNT", "NOSUCH"][rng.below(2)]), 1),
                _ => say(&format!("{command} {key}"), 1),
            }
        }
        let key = format!("k{}", rng.below(KEYS));
        match rng.below(15) {
            0 => say(&format!("SET {key} {}", rng.below(1000)), 1),
            1 => say(&format!("DEL {key}"), 1),
            2 => say(&format!("HSET {key} f {}", rng.below(1000)), 1),
            3 => say(&format!("APPEND {key} x"), 1),
            4 => say(&format!("GET {key} {key}"), 1),
            5 => say("GET", 1),
            6 => say("NOSUCH k1", 1),
            7 => {
                say("CLIENT REPLY SKIP", 0);
                say(&format!("GET {key}"), 0);
            }
            8 => {
                say("CLIENT REPLY OFF", 0);
                (0..3).for_each(|_| say(&format!("GET {key}"), 0));
                say("CLIENT REPLY ON", 1);
            }
            9 => {
                say("MULTI", 1);
                (0..3).for_each(|_| say(&format!("GET {key}"), 1));
                say("EXEC", 1);
            }
            10 => say(&format!("MGET k1 {key} k2"), 1),
            11 => say("SELECT 1", 1),
            12 => say("CLIENT GETNAME", 1),
            _ => say("SELECT 0", 1),
        }
    }
    (wire, replies)
}

/// Has many conversations of runs of these commands with the daemon and with a Redis; gives how many replies there were.
fn compare(setup: &Setup, commands: &[&str]) -> u64 {
    let other = Redis::start();
    let (mut daemon, mut redis) = (setup.sessions(2), [other.client(), other.client()]);
    fill(&mut setup.direct());
    fill(&mut redis[0]);
    let (mut asked, mut rng) = (0, Rng::new(41));
    for round in 0..rounds(300, 10_000) {
        let (wire, replies) = conversation(&mut rng, commands);
        let at = round % 2;
        let (ours, theirs) = (&mut daemon[at], &mut redis[at]);
        theirs.send_raw(&wire).unwrap();
        // Cut anywhere, also in the middle of a request.
        let (first, second) = wire.split_at(rng.below(wire.len() + 1));
        ours.send_raw(first).unwrap();
        ours.send_raw(second).unwrap();
        for nth in 0..replies {
            let (ours, theirs) = (ours.read_frame(), theirs.read_frame());
            assert_eq!(show(&ours), show(&theirs), "reply {nth} of round {round}");
        }
        asked += replies as u64;
    }
    asked
}

#[test]
fn runs_of_hits_are_answered_as_redis_answers_them_however_they_are_cut() {
    let setup = Setup::new();
    let hits = HitsCount::from_now(&setup.daemon);
    let asked = compare(&setup, READS);
    hits.at_least(asked / 4, asked);
}

#[test]
fn requests_that_begin_alike_are_answered_as_redis_answers_them() {
    compare(&Setup::new(), OTHERS);
}

#[test]
fn each_hit_of_a_run_counts_as_a_command_and_as_a_hit() {
    let setup = Setup::new();
    let mut session = setup.daemon.client();
    for key in 0..KEYS {
        ok(&mut setup.direct(), &format!("SET k{key} {key}"));
        warm(&setup.daemon, &mut session, &["GET", &format!("k{key}")]);
    }
    let reads = setup.daemon.stat("commands_read");
    let hits = HitsCount::from_now(&setup.daemon);
    let batch: Vec<_> = (0..100).map(|i| words(&format!("GET k{}", i % KEYS))).collect();
    for (i, reply) in pipeline(&mut session, &batch).iter().enumerate() {
        assert_eq!(show(reply), show(&bulk(&(i % KEYS).to_string())));
    }
    assert_eq!(hits.seen(), 100);
    assert_eq!(setup.daemon.stat("commands_read") - reads, 100);
}

#[test]
fn a_write_between_two_hits_of_its_key_is_seen_by_the_second() {
    let setup = Setup::new();
    let mut session = setup.daemon.client();
    for round in 0..rounds(200, 5_000) {
        ok(&mut session, &format!("SET k {round}"));
        warm(&setup.daemon, &mut session, &["GET", "k"]);
        let get = || words("GET k");
        let batch = [get(), get(), words("DEL k"), get(), get()];
        let replies = pipeline(&mut session, &batch);
        let old = bulk(&round.to_string());
        let expected = [&old[..], &old[..], &b":1\r\n"[..], NIL, NIL];
        for (nth, (reply, expected)) in replies.iter().zip(expected).enumerate() {
            assert_eq!(show(reply), show(expected), "reply {nth} of round {round}");
        }
    }
}
