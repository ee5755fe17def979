//! Plays the same transcripts to Redis and through the daemon and compares the bytes of every reply, in RESP2 and
//! RESP3, with L1 off and on. A transcript holds no expected replies: what Redis itself answers is right. The format
//! is told in `tests/transcripts/README.md`; fields that may differ, and why, in `differential/mask.rs`; commands
//! without a transcript, and why, in `differential/coverage.rs`.

mod support;
mod differential {
    pub mod cluster;
    pub mod coverage;
    pub mod mask;
    pub mod rdb;
    pub mod report;
    pub mod run;
    pub mod side;
    pub mod special;
    pub mod transcript;
    pub mod value;
}

use std::sync::OnceLock;
use std::thread;

use differential::run::{Outcome, play};
use differential::side::{Behind, Server, Side, Sides};
use differential::transcript::{self, Section};
use differential::{cluster, coverage, mask, report};

#[test]
fn every_command_of_redis_has_a_success_and_an_error_transcript() {
    let sections = transcript::load_all();
    let played = play_all(&sections, Behind::Redis);
    let outcomes = || played.iter().chain(special_to_redis()).flat_map(|run| &run.outcomes);
    coverage::check(&coverage::command_list(), outcomes());
    let needless = mask::needless(outcomes().map(|outcome| outcome.words.as_slice()));
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

#[test]
fn commands_that_need_a_set_up_of_their_own_are_answered_with_the_bytes_of_redis() {
    let behind = Behind::Daemon { l1: true };
    let (redis, daemon) = thread::scope(|scope| {
        let daemon = scope.spawn(|| play_special(special_sections(), behind));
        (special_to_redis(), daemon.join().expect("the daemon's side"))
    });
    assert_same(redis, &daemon, behind);
}

#[test]
fn before_a_cluster_the_daemon_answers_the_bytes_of_one_redis() {
    let mut sections = transcript::load_all();
    sections.retain(|section| section.server == Server::Plain);
    let in_one_slot = cluster::in_one_slot(&sections);
    let (as_they_stand, in_one_slot) = thread::scope(|scope| {
        let as_they_stand = scope.spawn(|| compare_before_a_cluster(&sections));
        (compare_before_a_cluster(&in_one_slot), as_they_stand.join().expect("the sections as they stand"))
    });
    let (mut allowed, mut differences) = as_they_stand;
    allowed.and(in_one_slot.0);
    differences.extend(in_one_slot.1);
    assert!(differences.is_empty(), "{}", report::render(&differences, Behind::Cluster));
    if std::env::var_os("DIFFERENTIAL_ONLY").is_none() {
        let needless = allowed.needless();
        assert!(needless.is_empty(), "what no transcript needs: {}", needless.join(", "));
    }
}

/// Redis is played to when it is known what the cluster refuses.
fn compare_before_a_cluster(sections: &[Section]) -> (cluster::Allowed, Vec<report::Difference>) {
    let (mut allowed, mut differences) = (cluster::Allowed::default(), Vec::new());
    let sections = cluster::playable(sections, &mut allowed);
    let mut sides = Sides::new(Behind::Redis);
    for run in play_all(&sections, Behind::Cluster) {
        let section = cluster::without_refused(run.section, &run.outcomes, &mut allowed);
        let redis = play(&section, run.protocol, sides.of(section.server));
        allowed.compare(&section, run.protocol, &redis, &run.outcomes, &mut differences);
    }
    (allowed, differences)
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
    let (redis, daemon) = thread::scope(|scope| {
        let redis = scope.spawn(|| play_all(sections, Behind::Redis));
        let daemon = scope.spawn(|| play_all(sections, behind));
        (redis.join().expect("Redis's side"), daemon.join().expect("the daemon's side"))
    });
    assert_same(&redis, &daemon, behind);
    daemon
}

fn assert_same(redis: &[Run<'_>], daemon: &[Run<'_>], behind: Behind) {
    let mut differences = Vec::new();
    for (ours, theirs) in redis.iter().zip(daemon) {
        report::compare(ours.section, ours.protocol, &ours.outcomes, &theirs.outcomes, &mut differences);
    }
    assert!(differences.is_empty(), "{}", report::render(&differences, behind));
}

fn special_sections() -> &'static [Section] {
    static SECTIONS: OnceLock<Vec<Section>> = OnceLock::new();
    SECTIONS.get_or_init(transcript::load_special)
}

/// As Redis itself answers them; two tests look at that.
fn special_to_redis() -> &'static [Run<'static>] {
    static PLAYED: OnceLock<Vec<Run<'static>>> = OnceLock::new();
    PLAYED.get_or_init(|| play_special(special_sections(), Behind::Redis))
}

/// Each section has servers of its own, which it may end or turn into something else. They mostly wait for each other,
/// so all are played at the same time.
fn play_special(sections: &[Section], behind: Behind) -> Vec<Run<'_>> {
    let each = sections.iter().flat_map(|section| section.protocols.iter().map(move |p| (section, *p)));
    thread::scope(|scope| {
        let players: Vec<_> = each
            .map(|(section, protocol)| {
                scope.spawn(move || {
                    let outcomes = play(section, protocol, &Side::start(section.server, behind));
                    Run { section, protocol, outcomes }
                })
            })
            .collect();
        players.into_iter().map(|player| player.join().expect("a section's servers start")).collect()
    })
}
