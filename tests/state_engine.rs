//! The shared-state scripts in a real Redis and in the embedded engine: random histories of many clients, at injected times,
//! give the same replies, the same events and the same keys. `STATE_ENGINE_STEPS` asks for longer ones,
//! `STATE_ENGINE_SEED` replays.
//!
//! Times pass in whole minutes and some milliseconds, and whatever lasts, lasts minutes: a key that lives by one clock for a
//! few milliseconds more would otherwise be gone on one side, since its TTL goes by the real clock.

#[path = "state_engine/history.rs"]
mod history;
#[path = "state_engine/sides.rs"]
mod sides;
mod support;

use history::History;
use sides::Sides;

const STEPS: usize = 24_000;
/// A history begins with an empty keyspace.
const STEPS_PER_HISTORY: usize = 400;

fn play(tagged: bool, seed: u64) {
    let setting = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let steps = setting("STATE_ENGINE_STEPS").map_or(STEPS, |steps| steps as usize);
    let seed = setting("STATE_ENGINE_SEED").unwrap_or(seed);
    let mut sides = Sides::start();
    for number in 0..steps.div_ceil(STEPS_PER_HISTORY) as u64 {
        sides.begin(format!("STATE_ENGINE_SEED={} tagged {tagged}", seed + number));
        let mut history = History::new(seed + number, tagged);
        for _ in 0..STEPS_PER_HISTORY {
            history.step(&mut sides);
        }
        sides.compare_keys_and_events();
    }
    let lacking = sides.scripts_not_run();
    assert!(lacking.is_empty(), "never run: {lacking:?}");
}

#[test]
fn random_histories_read_the_same_in_redis_and_in_the_engine() {
    play(false, 1000);
}

#[test]
fn so_they_do_with_the_keys_of_a_cluster() {
    play(true, 2000);
}
