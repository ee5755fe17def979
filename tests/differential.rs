//! Plays the same transcripts to Redis and through the daemon and compares the bytes of every reply, in RESP2 and
//! RESP3, with L1 off and on. A transcript holds no expected replies: what Redis itself answers is right. The format
//! is told in `tests/transcripts/README.md`; fields that may differ, and why, in `differential/mask.rs`; commands
//! without a transcript, and why, in `differential/coverage.rs`.

mod support;
mod differential {
    pub mod coverage;
    pub mod mask;
    pub mod report;
    pub mod run;
    pub mod side;
    pub mod transcript;
    pub mod value;
}

use differential::run::{Outcome, play};
use differential::side::{Behind, Sides};
use differential::transcript::{self, Section};
use differential::{coverage, mask, report};

#[test]
fn every_command_of_redis_has_a_success_and_an_error_transcript() {
    let sections = transcript::load_all();
    let played = play_all(&sections, Behind::Redis);
    let list = coverage::command_list();
    coverage::check(&list, played.iter().flat_map(|run| &run.outcomes));
    let requests = played.iter().flat_map(|run| &run.outcomes).map(|outcome| outcome.words.as_slice());
    let needless = mask::needless(requests);
    assert!(needless.is_empty(), "masks that no transcript needs: {}", needless.join(", "));
}

#[test]
fn the_daemon_without_l1_answers_the_bytes_of_redis() {
    let sections = transcript::load_all();
    compare(&sections, Behind::Daemon { l1: false });
}

#[test]
fn the_daemon_with_l1_answers_the_bytes_of_redis_also_when_it_hits() {
    let sections = transcript::load_all();
    let played = compare(&sections, Behind::Daemon { l1: true });
    // Every command has transcripts (the first test); with DIFFERENTIAL_ONLY not all of them are played.
    let mut never = Vec::new();
    for (protocol, name) in
        [2, 3].into_iter().flat_map(|p| coverage::CACHED.iter().map(move |name| (p, *name)))
    {
        let runs = played.iter().filter(|run| run.protocol == protocol);
        let reads: Vec<_> = runs.flat_map(|run| &run.outcomes).filter(|read| read.name() == name).collect();
        if !reads.is_empty() && reads.iter().all(|read| read.hits == 0) {
            never.push(format!("{name} (RESP{protocol})"));
        }
    }
    assert!(never.is_empty(), "these reads were never answered from L1: {}", never.join(", "));
}

/// A section as one side answered it.
struct Run<'a> {
    section: &'a Section,
    protocol: u8,
    outcomes: Vec<Outcome>,
}

fn play_all(sections: &[Section], behind: Behind) -> Vec<Run<'_>> {
    let mut sides = Sides::new(behind);
    let mut played = Vec::new();
    for section in sections {
        for &protocol in &section.protocols {
            let outcomes = play(section, protocol, sides.of(section.server));
            played.push(Run { section, protocol, outcomes });
        }
    }
    played
}

/// Plays everything to Redis and to the daemon at the same time, each with servers of its own, and fails with every
/// difference. Gives the daemon's runs.
fn compare(sections: &[Section], behind: Behind) -> Vec<Run<'_>> {
    let (redis, daemon) = std::thread::scope(|scope| {
        let redis = scope.spawn(|| play_all(sections, Behind::Redis));
        let daemon = scope.spawn(|| play_all(sections, behind));
        (redis.join().expect("Redis's side"), daemon.join().expect("the daemon's side"))
    });
    let mut differences = Vec::new();
    for (ours, theirs) in redis.iter().zip(&daemon) {
        report::compare(ours.section, ours.protocol, &ours.outcomes, &theirs.outcomes, &mut differences);
    }
    assert!(differences.is_empty(), "{}", report::render(&differences, behind));
    daemon
}
