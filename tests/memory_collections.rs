//! The embedded engine's collections beside a real redis-server: random commands, well-formed and not, must be answered
//! alike in both protocols, and leave the same values in the same encodings. A seed replays a failure.

#[path = "memory_collections/grammar.rs"]
mod grammar;
#[path = "memory_collections/sides.rs"]
mod sides;
mod support;

use grammar::{Grammar, Random};
use sides::{Judgement, Sides};
use std::collections::BTreeSet;

/// `COLLECTIONS_COMMANDS` asks for another number, and `COLLECTIONS_SEED` for one seed with its part of them.
const COMMANDS: usize = 100_000;
const SEEDS: u64 = 8;
/// Values are compared whole after so many commands.
const INSPECTED_EACH: usize = 250;

fn commands() -> usize {
    let wanted = std::env::var("COLLECTIONS_COMMANDS");
    wanted.map_or(COMMANDS, |text| text.parse().expect("COLLECTIONS_COMMANDS is a number"))
}

/// Gives the names of the commands that were answered with something else than an error.
fn run(seed: u64, commands: usize, redis: &support::Redis) -> BTreeSet<String> {
    let mut sides = Sides::new(redis, seed % 2 == 1);
    let grammar = Grammar::new();
    let mut random = Random::new(seed);
    for step in 0..commands {
        let request = grammar.request(&mut random);
        if let Judgement::Differ(difference) = sides.compare(&request) {
            panic!("seed {seed}, step {step}: {}\n{difference}", sides::shown(&request));
        }
        if step % INSPECTED_EACH == 0 {
            let keys = grammar.keys();
            sides.inspect(keys).unwrap_or_else(|difference| panic!("seed {seed}, step {step}: {difference}"));
        }
    }
    sides.empty(grammar.keys());
    sides.answered
}

#[test]
fn random_commands_are_answered_as_redis_answers_them() {
    let redis = support::Redis::start();
    let mut answered = BTreeSet::new();
    let one: Option<u64> = std::env::var("COLLECTIONS_SEED")
        .ok()
        .map(|text| text.parse().expect("COLLECTIONS_SEED is a number"));
    for seed in one.map_or(0..SEEDS, |seed| seed..seed + 1) {
        answered.extend(run(seed, commands() / SEEDS as usize, &redis));
    }
    let silent: Vec<_> = Grammar::new().names().filter(|name| !answered.contains(*name)).collect();
    assert!(silent.is_empty(), "only errors from {silent:?}");
}

#[test]
fn random_elements_are_elements_and_come_once_where_they_should() {
    let redis = support::Redis::start();
    for members in [5, 100, 700] {
        let mut sides = Sides::new(&redis, false);
        for n in 0..members {
            sides.engine(&format!("SADD s m{n}"));
            sides.engine(&format!("SADD numbers {n}"));
            sides.engine(&format!("HSET h m{n} v"));
            sides.engine(&format!("ZADD z {n} m{n}"));
        }
        for (command, prefix) in [
            ("SRANDMEMBER s", "m"),
            ("SRANDMEMBER numbers", ""),
            ("HRANDFIELD h", "m"),
            ("ZRANDMEMBER z", "m"),
        ] {
            let all: BTreeSet<String> = (0..members).map(|n| format!("{prefix}{n}")).collect();
            for count in [1, 2, members / 2, members - 1, members, members + 1] {
                let shown = sides.engine(&format!("{command} {count}"));
                let different: BTreeSet<String> = shown.iter().cloned().collect();
                assert!(different.is_subset(&all) && different.len() == shown.len(), "{command} {count}");
                assert_eq!(shown.len(), count.min(members), "{command} {count}");
                let repeated = sides.engine(&format!("{command} -{}", 20 * count));
                assert!(repeated.len() == 20 * count && repeated.iter().all(|name| all.contains(name)));
            }
        }
        let mut left: BTreeSet<String> = (0..members).map(|n| format!("m{n}")).collect();
        while !left.is_empty() {
            let popped = sides.engine("SPOP s 3");
            assert_eq!(popped.len(), left.len().min(3));
            assert!(popped.iter().all(|member| left.remove(member)), "a member is popped once");
        }
        assert_eq!(sides.engine("SPOP s 3").len(), 0);
    }
}

#[test]
fn long_doubles_add_up_to_the_digits_that_redis_shows() {
    let redis = support::Redis::start();
    let mut sides = Sides::new(&redis, false);
    let mut random = Random::new(7);
    for step in 0..5000 {
        let number = random.number();
        let request: Vec<Vec<u8>> = vec!["HINCRBYFLOAT".into(), "h".into(), "f".into(), number];
        if let Judgement::Differ(difference) = sides.compare(&request) {
            panic!("step {step}: {}\n{difference}", sides::shown(&request));
        }
        if random.below(4) == 0 {
            sides.compare(&[b"DEL".to_vec(), b"h".to_vec()]);
        }
    }
}

fn compared(sides: &mut Sides, line: &str) {
    let request: Vec<Vec<u8>> = line.split(' ').map(|word| word.into()).collect();
    if let Judgement::Differ(difference) = sides.compare(&request) {
        panic!("{line}\n{difference}");
    }
}

#[test]
fn the_smallest_rank_finds_every_match_from_the_end() {
    let redis = support::Redis::start();
    let mut sides = Sides::new(&redis, false);
    for line in [
        "RPUSH l a b a c a",
        "LPOS l a RANK -9223372036854775808",
        "LPOS l a RANK -9223372036854775807",
        "LPOS l a RANK -9223372036854775808 COUNT 0",
        "LPOS l a RANK -9223372036854775808 COUNT 1",
        "LPOS l a RANK -9223372036854775808 COUNT 2 MAXLEN 2",
        "LPOS l none RANK -9223372036854775808",
        "LPOS l a RANK 9223372036854775808",
    ] {
        compared(&mut sides, line);
    }
}

#[test]
fn a_stored_range_keeps_the_sign_of_zero_where_redis_keeps_it() {
    let redis = support::Redis::start();
    let mut sides = Sides::new(&redis, false);
    (1..=200).for_each(|n| compared(&mut sides, &format!("ZADD s {n} m{n}")));
    compared(&mut sides, "ZADD s -0 zero");
    for range in [
        "0 -1",
        "0 -1 REV",
        "0 127",
        "0 128",
        "-inf +inf BYSCORE",
        "-inf +inf BYSCORE LIMIT 0 129",
        "- + BYLEX",
        "1 0",
    ] {
        compared(&mut sides, &format!("ZRANGESTORE d s {range}"));
        compared(&mut sides, "ZSCORE d zero");
        compared(&mut sides, "OBJECT ENCODING d");
    }
}
