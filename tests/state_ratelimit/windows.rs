//! What the algorithms promise of any window, whoever comes when; and that a denial remembered in L1 never denies what
//! Redis would allow.
use std::time::Duration;

use super::Rates;
use super::model::Random;
use madcache::state::ratelimit::Outcome;

const LIMIT: usize = 100;
const WINDOW_US: u64 = 1_000_000;

/// Times at which arrivals were admitted.
fn admitted(algorithm: &str, arrivals: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut rates = Rates::start();
    let call = rates.call(&format!("RATELIMIT.CHECK user 7 LIMIT {LIMIT} WINDOW 1000 ALGO {algorithm}"));
    let start = rates.store.now_us;
    arrivals
        .filter(|at| {
            rates.store.now_us = start + at;
            Outcome::parse(&rates.store.frame(call.clone())).unwrap().allowed
        })
        .collect()
}

/// The most that were admitted in any window, wherever it begins.
fn most_in_a_window(admitted: &[u64]) -> usize {
    let mut first = 0;
    let counts = admitted.iter().enumerate().map(|(index, at)| {
        while admitted[first] + WINDOW_US <= *at {
            first += 1;
        }
        index + 1 - first
    });
    counts.max().unwrap_or(0)
}

/// Bursts at bad moments, pauses, and steady streams.
fn rough_arrivals(seed: u64) -> impl Iterator<Item = u64> {
    let mut random = Random(seed);
    let (mut at, mut burst) = (0, 0);
    std::iter::from_fn(move || {
        if burst == 0 {
            at += [random.below(WINDOW_US), 1, 990_000][random.below(3) as usize];
            burst = 1 + random.below(150);
        }
        burst -= 1;
        at += [0, 1, 999, 7001][random.below(4) as usize];
        Some(at)
    })
}

#[test]
fn a_log_never_admits_more_than_the_limit_in_any_window() {
    for seed in 1..=3 {
        let most = most_in_a_window(&admitted("log", rough_arrivals(seed).take(4000)));
        assert_eq!(most, LIMIT, "seed {seed}");
    }
}

#[test]
fn a_sliding_window_stays_below_twice_the_limit_in_any_window() {
    for seed in 1..=3 {
        let most = most_in_a_window(&admitted("sliding", rough_arrivals(seed).take(4000)));
        assert!((LIMIT..2 * LIMIT).contains(&most), "seed {seed}: {most}");
    }
    // The worst that can come: everything late in one window, then whatever fits.
    let greedy = (0..1990u64).map(|step| 950_000 + step * 1000);
    let most = most_in_a_window(&admitted("sliding", greedy));
    assert!(most < 2 * LIMIT, "{most}");
}

#[test]
fn over_poisson_arrivals_at_twice_the_limit_nearly_all_windows_keep_within_a_tenth() {
    let mut random = Random(11);
    let mut at = 0.0;
    let mean_us = WINDOW_US as f64 / (2 * LIMIT) as f64;
    let arrivals = std::iter::from_fn(move || {
        at -= random.fraction().ln() * mean_us;
        Some(at as u64)
    });
    let admitted = admitted("sliding", arrivals.take(12_000));
    let end = admitted.last().unwrap() - WINDOW_US;
    let starts: Vec<u64> = (WINDOW_US..end).step_by(1000).collect();
    let over = starts
        .iter()
        .filter(|start| {
            let first = admitted.partition_point(|at| at < start);
            let next = admitted.partition_point(|at| *at < **start + WINDOW_US);
            next - first > LIMIT * 11 / 10
        })
        .count();
    assert!(over * 100 <= starts.len(), "{over} of {} windows", starts.len());
    let rate = admitted.len() as f64 / (end as f64 / WINDOW_US as f64);
    assert!(rate > 0.9 * LIMIT as f64, "and it does admit: {rate}");
}

#[test]
fn a_remembered_denial_never_denies_what_redis_would_allow() {
    let mut random = Random(5);
    for algorithm in super::ALGORITHMS {
        let mut rates = Rates::start();
        let line = format!("user 7 LIMIT 10 WINDOW 50 ALGO {algorithm} COST");
        for _ in 0..400 {
            rates.store.now_us += random.below(3000);
            let cost = 1 + random.below(6);
            let sent = rates.store.now_us - random.below(500);
            let call = rates.call(&format!("RATELIMIT.CHECK {line} {cost}"));
            let denial = Outcome::parse(&rates.store.frame(call)).unwrap();
            if denial.allowed {
                continue;
            }
            // Around its end, where an error would show.
            let end = sent + denial.retry_ms as u64 * 1000;
            let later = end - random.below(2500).min(end - rates.store.now_us);
            let remembered = denial.after(Duration::from_micros(later - sent)).is_some();
            let peek = rates.call(&format!("RATELIMIT.PEEK {line} {cost}"));
            let now = std::mem::replace(&mut rates.store.now_us, later);
            let allowed = Outcome::parse(&rates.store.frame(peek)).unwrap().allowed;
            rates.store.now_us = now;
            assert!(!(remembered && allowed), "{algorithm}: {denial:?} sent {sent}, asked {later}");
        }
    }
}
