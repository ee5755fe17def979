//! The table against a map of the standard library, and the promise of its cursor.
use super::super::random::Random;
use super::Dict;
use std::collections::{BTreeMap, BTreeSet};

fn key(number: usize) -> Vec<u8> {
    format!("key:{number}:{}", "x".repeat(number % 30)).into_bytes()
}

#[test]
fn it_holds_what_a_map_holds_whatever_is_done_to_both() {
    let mut random = Random::seeded(1);
    let (mut dict, mut map) = (Dict::new(), BTreeMap::new());
    for step in 0..200_000 {
        // It fills and empties by turns, so that it grows and shrinks.
        let filling = step / 20_000 % 2 == 0;
        let key = key(random.below(6_000));
        if (random.below(10) < 7) == filling {
            assert_eq!(dict.insert(&key, step), map.insert(key, step));
        } else {
            assert_eq!(dict.remove(&key), map.remove(&key));
        }
        assert_eq!(dict.len(), map.len());
        let other = self::key(random.below(6_000));
        assert_eq!(dict.get(&other), map.get(&other));
    }
    let all: BTreeMap<Vec<u8>, i32> = dict.iter().map(|(key, value)| (key.to_vec(), *value)).collect();
    assert_eq!(all, map);
}

#[test]
fn a_scan_sees_every_element_that_stays_though_the_table_changes_size() {
    let mut random = Random::seeded(2);
    for round in 0..60 {
        let mut dict = Dict::new();
        let stay = 50 + random.below(500);
        for number in 0..stay {
            dict.insert(&key(number), ());
        }
        let others = 1 + random.below(20_000);
        if round % 2 == 0 {
            for number in 0..others {
                dict.insert(&key(100_000 + number), ());
            }
        }
        let (mut seen, mut cursor, mut done) = (BTreeSet::new(), 0, 0);
        loop {
            cursor = dict.scan(cursor, &mut |key, _| _ = seen.insert(key.to_vec()));
            if cursor == 0 {
                break;
            }
            let step = random.below(200).min(others - done);
            for number in done..done + step {
                let key = key(100_000 + number);
                let before = if round % 2 == 0 { dict.remove(&key) } else { dict.insert(&key, ()) };
                assert_eq!(before.is_some(), round % 2 == 0);
            }
            done += step;
        }
        assert!((0..stay).all(|number| seen.contains(&key(number))), "round {round}");
    }
}

#[test]
fn positions_are_dense_and_each_is_found_by_its_key() {
    let mut dict = Dict::new();
    for number in 0..10_000 {
        dict.insert(&key(number), number);
    }
    for number in (0..10_000).step_by(3) {
        dict.remove(&key(number));
    }
    for at in 0..dict.len() {
        assert_eq!(dict.find(dict.hash(dict.key(at)), dict.key(at)), Some(at));
        assert_eq!(key(*dict.value(at)), dict.key(at));
    }
}
