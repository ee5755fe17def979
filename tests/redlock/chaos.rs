//! Thirty clients of two daemons while any two of five masters are stopped, or killed and started again with what they had
//! or with nothing: never two holders at once, and no older one is accepted behind a newer one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::support::fenced::{Grant, Resource};
use crate::support::{Client, Daemon, eventually};
use crate::transcript;
use crate::{KEEPS_ALL, Masters, season, until_counting, until_member};

const CLIENTS: usize = 30;
const TTL: Duration = Duration::from_millis(1000);
/// So often the lock goes round before the next thing happens.
const ROUNDS: usize = 15;
/// So often masters that were stopped go on just when another one loses what it knew.
const SWAPS: usize = 5;

#[derive(Debug, Clone, Copy)]
enum Fault {
    Stop,
    Restart,
}

/// Those two at once that differ; the first three masters lose all that they have, the last two keep it.
const FAULTS: [[(usize, Fault); 2]; 6] = [
    [(0, Fault::Stop), (1, Fault::Stop)],
    [(0, Fault::Stop), (1, Fault::Restart)],
    [(0, Fault::Stop), (3, Fault::Restart)],
    [(1, Fault::Restart), (2, Fault::Restart)],
    [(2, Fault::Restart), (4, Fault::Restart)],
    [(3, Fault::Restart), (4, Fault::Restart)],
];

/// One client's whole life: it asks, writes, sometimes too late, and lets go.
fn contend(daemon: &Daemon, number: usize, ended: &AtomicBool, resource: &Mutex<Resource>) -> Vec<Grant> {
    let mut client = daemon.client();
    let mut grants = Vec::new();
    let mut round = number;
    while !ended.load(Relaxed) {
        round += 1;
        let asked = Instant::now();
        // Some wait until they are woken; others look again and again.
        let wait_ms = if number.is_multiple_of(3) { 30 } else { 2000 };
        let reply = ask(&mut client, &format!("LOCK.ACQUIRE r {} WAIT {wait_ms}", TTL.as_millis()));
        let told = Instant::now();
        let words: Vec<&str> = reply.trim_matches(['[', ']']).split(' ').collect();
        if words[0] != "1" {
            assert!(words[0] == "0" || reply.starts_with("-NOQUORUM"), "{reply}");
            continue;
        }
        let (token, fence): (&str, u64) = (words[1].trim_matches('\''), words[2].parse().unwrap());
        let valid = Duration::from_millis(words[3].parse().unwrap());
        resource.lock().unwrap().write(fence);
        // Some work for long, so that it is held at most moments; some are stopped past their ttl, and write then.
        let work = match () {
            () if round.is_multiple_of(29) => TTL * 3 / 2,
            () if round.is_multiple_of(3) => TTL * 3 / 10,
            () => Duration::from_millis(3),
        };
        std::thread::sleep(work);
        let over = Instant::now().min(asked + valid);
        resource.lock().unwrap().write(fence);
        grants.push(Grant { fence, asked, told, over });
        ask(&mut client, &format!("LOCK.RELEASE r {token}"));
    }
    grants
}

fn ask(client: &mut Client, line: &str) -> String {
    crate::send(client, line);
    transcript::shown(&client.read_frame())
}

fn goes_round(resource: &Mutex<Resource>, what: &str) {
    let so_far = resource.lock().unwrap().writes;
    eventually(what, || resource.lock().unwrap().writes > so_far + ROUNDS);
}

/// Everything that happens to the masters; gives from when to when a majority of them was stopped.
fn torment(masters: &mut Masters, resource: &Mutex<Resource>) -> (Instant, Instant) {
    for faults in FAULTS {
        for (at, fault) in faults {
            match fault {
                Fault::Stop => masters.pause(&[at]),
                Fault::Restart => masters.kill(&[at]),
            }
        }
        goes_round(resource, &format!("the lock goes round with {faults:?}"));
        for (at, fault) in faults {
            match fault {
                Fault::Stop => masters.wake(&[at]),
                Fault::Restart => masters.restart(&[at]),
            }
        }
        goes_round(resource, &format!("the lock goes round behind {faults:?}"));
        faults.iter().for_each(|(at, _)| until_member(masters, *at));
    }
    // What was granted by just a majority is now free at those that go on, and unknown to one that begins.
    for _ in 0..SWAPS {
        masters.pause(&[3, 4]);
        goes_round(resource, "the lock goes round by three");
        masters.wake(&[3, 4]);
        masters.restart(&[2]);
        goes_round(resource, "the lock goes round by four");
        until_member(masters, 2);
    }
    masters.pause(&[0, 2, 4]);
    let stopped = Instant::now();
    std::thread::sleep(TTL * 2);
    let woken = Instant::now();
    masters.wake(&[0, 2, 4]);
    goes_round(resource, "the lock goes round again");
    (stopped, woken)
}

#[test]
fn never_two_hold_a_lock_whatever_happens_to_a_minority_of_masters() {
    let mut masters = Masters::start(3);
    masters.0.extend(Masters::start_with(2, &KEEPS_ALL).0);
    masters.0.iter().for_each(season);
    let lines = format!("redlock_ttl_max_ms = {}", TTL.as_millis());
    let daemons = [masters.daemon(&lines), masters.daemon(&lines)];
    daemons.iter().for_each(|daemon| until_counting(daemon, 5));
    let (ended, resource) = (AtomicBool::new(false), Mutex::new(Resource::default()));
    let (mut grants, (stopped, woken)) = std::thread::scope(|scope| {
        let (ended, resource) = (&ended, &resource);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let daemon = &daemons[number % 2];
                scope.spawn(move || contend(daemon, number, ended, resource))
            })
            .collect();
        // They end, whatever this one finds.
        let happened =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| torment(&mut masters, resource)));
        ended.store(true, Relaxed);
        let grants: Vec<Grant> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (grants, happened.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    grants.sort_by_key(|grant| grant.fence);
    let resource = resource.into_inner().unwrap();
    eprintln!("{} grants, {} writes, {} refused", grants.len(), resource.writes, resource.refusals);
    assert!(grants.len() > (FAULTS.len() + SWAPS) * ROUNDS && resource.refusals > 0);
    let mut newest_asked = grants[0].asked;
    for pair in grants.windows(2) {
        assert!(pair[0].fence < pair[1].fence, "two grants have one fence: {pair:?}");
        newest_asked = newest_asked.max(pair[0].asked);
        assert!(pair[1].told > newest_asked, "told of a fence before a smaller one was asked for: {pair:?}");
        assert!(pair[0].over <= pair[1].told, "two held the lock at once: {pair:?}");
    }
    let without_majority = grants.iter().filter(|grant| grant.asked > stopped && grant.told < woken).count();
    assert_eq!(without_majority, 0, "granted by two of five");
}
