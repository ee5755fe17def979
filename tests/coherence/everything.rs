//! The promises together: two daemons and a writer straight at Redis, a million checked reads. Every write's time of
//! acknowledgement is written down, so the age of what a read shows is known exactly.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::kit::{Ends, HELD_UP, HitsCount, Rng, Setup, number, pipeline, rounds, two_workers};
use crate::support::{Client, Daemon};

const KEYS: usize = 48;
const VERSIONS_MAX: usize = 1 << 15;
/// The bound for writes of others: a push's way, with room for a busy machine.
const AGE_MAX: Duration = Duration::from_millis(50);

/// Who writes: one key, one writer, so versions are a single sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Writer {
    Straight,
    Daemon(usize),
}

const WRITERS: [Writer; 3] = [Writer::Straight, Writer::Daemon(0), Writer::Daemon(1)];

fn writer_of(key: usize) -> Writer {
    WRITERS[key % 3]
}

/// When each version of each key was acknowledged, in ns since the start; 0: not yet.
struct Ledger {
    start: Instant,
    acknowledged: Vec<Vec<AtomicU64>>,
}

impl Ledger {
    fn new() -> Ledger {
        let versions = || (0..VERSIONS_MAX).map(|_| AtomicU64::new(0)).collect();
        Ledger { start: Instant::now(), acknowledged: (0..KEYS).map(|_| versions()).collect() }
    }
    fn acknowledge(&self, key: usize, version: usize) {
        let now = self.start.elapsed().as_nanos() as u64;
        self.acknowledged[key][version].store(now.max(1), Relaxed);
    }
    /// How long before `at` the version was overwritten, by a write acknowledged before `at`.
    fn outdated_for(&self, key: usize, version: usize, at: Instant) -> Option<Duration> {
        let next = self.acknowledged[key].get(version + 1)?.load(Relaxed);
        let next = (next > 0).then(|| self.start + Duration::from_nanos(next))?;
        at.checked_duration_since(next).filter(|age| !age.is_zero())
    }
}

fn name(key: usize) -> String {
    format!("all:{key}")
}

/// Some keys are read and written much more than others.
fn pick(rng: &mut Rng) -> usize {
    let bound = rng.below(KEYS) + 1;
    rng.below(bound)
}

fn write_on(mut client: Client, writer: Writer, ledger: &Ledger, ended: &AtomicBool) -> usize {
    let mut rng = Rng::new(5);
    let mut versions = [0; KEYS];
    let mut writes = 0;
    while !ended.load(Relaxed) {
        let key = pick(&mut rng);
        if writer_of(key) != writer || versions[key] + 1 == VERSIONS_MAX {
            continue;
        }
        versions[key] += 1;
        let reply = client.text(&["SET", &name(key), &versions[key].to_string()]);
        assert_eq!(reply, "+OK");
        ledger.acknowledge(key, versions[key]);
        writes += 1;
        // The pace of the load: up to a thousand writes a second by each writer.
        std::thread::sleep(Duration::from_micros(rng.below(2_000) as u64));
    }
    writes
}

/// What the readers found.
#[derive(Default)]
struct Findings {
    reads: AtomicUsize,
    held_up: AtomicUsize,
    outdated: AtomicUsize,
    age_max_ns: AtomicU64,
    too_old: AtomicUsize,
    own_missed: AtomicUsize,
    backwards: AtomicUsize,
}

const BATCH: usize = 32;

fn read_on(daemon: &Daemon, nth: usize, seed: u64, count: usize, ledger: &Ledger, findings: &Findings) {
    let mut rng = Rng::new(seed);
    let mut sessions: Vec<(Client, Vec<usize>)> = (0..3).map(|_| (daemon.client(), vec![0; KEYS])).collect();
    for round in 0..count / BATCH {
        let (session, seen) = &mut sessions[round % 3];
        let keys: Vec<usize> = (0..BATCH).map(|_| pick(&mut rng)).collect();
        let batch: Vec<_> = keys.iter().map(|&key| vec!["GET".to_string(), name(key)]).collect();
        let began = Instant::now();
        let replies = pipeline(session, &batch);
        let held_up = began.elapsed() > HELD_UP;
        for (&key, reply) in keys.iter().zip(&replies) {
            let version = number(reply).unwrap_or(0) as usize;
            findings.reads.fetch_add(1, Relaxed);
            if version < seen[key] {
                findings.backwards.fetch_add(1, Relaxed);
                eprintln!("{} ran backwards from {} to {version} at daemon {nth}", name(key), seen[key]);
            }
            seen[key] = version;
            let Some(age) = ledger.outdated_for(key, version, began) else { continue };
            if writer_of(key) == Writer::Daemon(nth) {
                findings.own_missed.fetch_add(1, Relaxed);
                eprintln!("{} at daemon {nth}: {version} is {age:?} older than its own write", name(key));
            } else if held_up {
                findings.held_up.fetch_add(1, Relaxed);
            } else {
                findings.outdated.fetch_add(1, Relaxed);
                findings.age_max_ns.fetch_max(age.as_nanos() as u64, Relaxed);
                if age > AGE_MAX {
                    findings.too_old.fetch_add(1, Relaxed);
                    eprintln!("{} at daemon {nth}: {version} was outdated for {age:?}", name(key));
                }
            }
        }
    }
}

#[test]
fn a_million_reads_at_two_daemons_are_never_too_old() {
    let setup = Setup::alone();
    let other = two_workers(&setup.redis.url(), &[]);
    let daemons = [&setup.daemon, &other];
    let hits = daemons.map(HitsCount::from_now);
    let (ledger, findings, ended) = (Ledger::new(), Findings::default(), AtomicBool::new(false));
    let count = rounds(1_000_000, 10_000_000);
    let writes: Vec<usize> = std::thread::scope(|scope| {
        let ends = Ends(&ended);
        let writers: Vec<_> = WRITERS
            .iter()
            .map(|&writer| {
                let client = match writer {
                    Writer::Straight => setup.direct(),
                    Writer::Daemon(nth) => daemons[nth].client(),
                };
                let (ledger, ended) = (&ledger, &ended);
                scope.spawn(move || write_on(client, writer, ledger, ended))
            })
            .collect();
        let readers: Vec<_> = (0..4)
            .map(|thread| {
                let (daemon, ledger, findings) = (daemons[thread % 2], &ledger, &findings);
                scope.spawn(move || {
                    read_on(daemon, thread % 2, thread as u64 + 30, count / 4, ledger, findings)
                })
            })
            .collect();
        let failed = readers.into_iter().map(|reader| reader.join()).filter(Result::is_err).count();
        drop(ends);
        assert_eq!(failed, 0, "readers that panicked");
        writers.into_iter().map(|writer| writer.join().expect("a writer ended well")).collect()
    });
    let of = |number: &AtomicUsize| number.load(Relaxed);
    let age_max = Duration::from_nanos(findings.age_max_ns.load(Relaxed));
    eprintln!(
        "{} reads beside {writes:?} writes in {:?}: {} outdated by others' writes, by {age_max:?} at most; {} more \
         not judged, as the reader was held up",
        of(&findings.reads),
        ledger.start.elapsed(),
        of(&findings.outdated),
        of(&findings.held_up),
    );
    assert_eq!(of(&findings.own_missed), 0, "reads that missed a write of their own daemon");
    assert_eq!(of(&findings.too_old), 0, "reads that were outdated for more than {AGE_MAX:?}");
    assert_eq!(of(&findings.backwards), 0, "sessions that saw a key run backwards");
    assert!(of(&findings.held_up) < count / 100, "too many samples were not judged");
    hits.iter().for_each(|hits| hits.at_least(count as u64 / 8, count / 2));
}
