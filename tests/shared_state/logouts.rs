//! Logouts beside validations, as many as two daemons can answer: what one of them has ended, it calls ended from then on, and
//! the other within the bound that holds for all that L1 keeps.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::fields;
use crate::support::{Client, Daemon, Redis, encode};

/// The bound for what was changed elsewhere: a push's way, with room for a busy machine.
const AGE_MAX: Duration = Duration::from_millis(50);
/// A batch that took longer says nothing about ages: its thread, or the machine, was held up.
const HELD_UP: Duration = Duration::from_millis(25);
const VALIDATIONS: usize = 40_000;
const BATCH: usize = 32;
/// Sessions that live at a time, and those that have ended of which some are still asked.
const SESSIONS: usize = 24;

/// A login and how it ends. Times are nanoseconds since the start; 0: not yet.
struct Login {
    token: String,
    /// Through this daemon.
    ended_by: usize,
    end_begun: AtomicU64,
    end_acknowledged: AtomicU64,
}

#[derive(Default)]
struct Findings {
    valid: AtomicUsize,
    over: AtomicUsize,
    held_up: AtomicUsize,
    outdated: AtomicUsize,
    age_max_ns: AtomicU64,
}

struct Scene {
    start: Instant,
    logins: Mutex<Vec<std::sync::Arc<Login>>>,
    ended: AtomicBool,
    findings: Findings,
}

impl Scene {
    fn now_ns(&self) -> u64 {
        (self.start.elapsed().as_nanos() as u64).max(1)
    }

    fn log_in(&self, client: &mut Client, ended_by: usize) {
        let token = fields(client, "SESSION.CREATE ann DATA 1")[0].clone();
        let login =
            Login { token, ended_by, end_begun: AtomicU64::new(0), end_acknowledged: AtomicU64::new(0) };
        self.logins.lock().unwrap().push(std::sync::Arc::new(login));
    }

    /// Ends the oldest session by any of the three ways, and begins another one.
    fn log_out(&self, clients: &mut [Client], round: usize) {
        let login = {
            let logins = self.logins.lock().unwrap();
            std::sync::Arc::clone(&logins[logins.len() - SESSIONS])
        };
        let client = &mut clients[login.ended_by];
        login.end_begun.store(self.now_ns(), Relaxed);
        match round % 3 {
            0 => assert_eq!(client.text(&["SESSION.DESTROY", &login.token]), ":1"),
            1 => {
                let id = fields(client, &format!("SESSION.VALIDATE {} STRICT", login.token))[0].clone();
                assert_eq!(client.text(&["SESSION.REVOKE", &id]), ":1");
            }
            _ => assert!(client.call(&["SESSION.ROTATE", &login.token]).starts_with(b"*3")),
        }
        login.end_acknowledged.store(self.now_ns(), Relaxed);
        self.log_in(client, round % 2);
    }

    /// Validates the sessions that live and those that ended lately, in pipelines, and judges every answer.
    fn validate(&self, daemon: &Daemon, nth: usize) {
        let mut client = daemon.client();
        for batch in 0..VALIDATIONS / BATCH {
            let asked: Vec<_> = {
                let logins = self.logins.lock().unwrap();
                let lately = &logins[logins.len().saturating_sub(2 * SESSIONS)..];
                (0..BATCH).map(|at| std::sync::Arc::clone(&lately[(batch + at * 5) % lately.len()])).collect()
            };
            let wire: Vec<u8> =
                asked.iter().flat_map(|login| encode(&["SESSION.VALIDATE", &login.token])).collect();
            let (began, began_ns) = (Instant::now(), self.now_ns());
            client.send_raw(&wire).unwrap();
            let replies: Vec<Vec<u8>> = asked.iter().map(|_| client.read_frame()).collect();
            let held_up = began.elapsed() > HELD_UP;
            for (login, reply) in asked.iter().zip(replies) {
                self.judge(login, &reply, nth, began_ns, held_up);
            }
        }
    }

    fn judge(&self, login: &Login, reply: &[u8], nth: usize, began_ns: u64, held_up: bool) {
        let findings = &self.findings;
        if reply.starts_with(b"*-1") || reply.starts_with(b"$-1") {
            findings.over.fetch_add(1, Relaxed);
            assert_ne!(login.end_begun.load(Relaxed), 0, "a session that nobody ended is over");
            return;
        }
        assert!(reply.starts_with(b"*6"), "{}", reply.escape_ascii());
        findings.valid.fetch_add(1, Relaxed);
        let acknowledged = login.end_acknowledged.load(Relaxed);
        if acknowledged == 0 || acknowledged >= began_ns {
            return;
        }
        let age = Duration::from_nanos(began_ns - acknowledged);
        assert_ne!(login.ended_by, nth, "{age:?} after its own logout daemon {nth} calls the session valid");
        if held_up {
            findings.held_up.fetch_add(1, Relaxed);
            return;
        }
        findings.outdated.fetch_add(1, Relaxed);
        findings.age_max_ns.fetch_max(age.as_nanos() as u64, Relaxed);
        assert!(age <= AGE_MAX, "daemon {nth} calls a session valid {age:?} after its end");
    }
}

#[test]
fn a_logout_is_seen_by_a_busy_daemon_within_the_bound_and_by_its_own_at_once() {
    let redis = Redis::start();
    let daemons = [Daemon::start(&redis), Daemon::start(&redis)];
    let scene = Scene {
        start: Instant::now(),
        logins: Mutex::default(),
        ended: AtomicBool::new(false),
        findings: Findings::default(),
    };
    let mut clients = daemons.each_ref().map(Daemon::client);
    (0..SESSIONS).for_each(|at| scene.log_in(&mut clients[at % 2], at % 2));
    let logouts = std::thread::scope(|scope| {
        let scene = &scene;
        let writer = scope.spawn(move || {
            let mut round = 0;
            while !scene.ended.load(Relaxed) {
                scene.log_out(&mut clients, round);
                round += 1;
                // The pace of the load: some hundred logouts a second.
                std::thread::sleep(Duration::from_millis(2));
            }
            round
        });
        let readers: Vec<_> = (0..2)
            .map(|nth| {
                let daemon = &daemons[nth];
                scope.spawn(move || scene.validate(daemon, nth))
            })
            .collect();
        let failed = readers.into_iter().map(|reader| reader.join()).filter(Result::is_err).count();
        scene.ended.store(true, Relaxed);
        assert_eq!(failed, 0, "readers that found something wrong");
        writer.join().expect("the writer ended well")
    });
    let findings = &scene.findings;
    let of = |number: &AtomicUsize| number.load(Relaxed);
    let each_second = VALIDATIONS as f64 / scene.start.elapsed().as_secs_f64();
    eprintln!(
        "{each_second:.0} validations a second at each daemon beside {logouts} logouts: {} valid, {} over, {} outdated, \
         by {:?} at most; {} more not judged, as the reader was held up",
        of(&findings.valid),
        of(&findings.over),
        of(&findings.outdated),
        Duration::from_nanos(findings.age_max_ns.load(Relaxed)),
        of(&findings.held_up),
    );
    assert!(of(&findings.over) > 0 && logouts > 0, "nothing was logged out");
    assert!(of(&findings.held_up) < 2 * VALIDATIONS / 100, "too many samples were not judged");
}
