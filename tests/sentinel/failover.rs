//! Masters that are killed, stopped and replaced on request under load, one after the other on the same servers.

use std::time::{Duration, Instant};

use crate::following::Way;
use crate::haproxy::{self, HAProxy};
use crate::load::Load;
use crate::support::sentinel::{SERVICE, Service, eventually_elected, role_and_calls};
use crate::support::{Client, Daemon};
use crate::told;

/// What the daemon may add to the time that nobody can write.
const ADDED_MAX: Duration = Duration::from_secs(1);
/// The commands that its load writes with.
const WRITES: [&str; 4] = ["rpush", "set", "eval", "evalsha"];

/// One after another; more of them in `tests/long`.
fn rounds() -> usize {
    std::env::var("SENTINEL_ROUNDS").map_or(1, |text| text.parse().expect("SENTINEL_ROUNDS is a number"))
}

#[derive(Debug, Clone, Copy)]
enum Blow {
    Killed,
    Stopped,
    Replaced,
}

struct Trial {
    service: Service,
    daemon: Daemon,
    /// The daemon itself follows the sentinels.
    follows: bool,
}

impl Trial {
    /// Takes the master away, and gives the node that led and the one that leads.
    fn strike(&mut self, blow: Blow, load: &Load) {
        let old = self.service.settled();
        load.expect_progress();
        let began = Instant::now();
        match blow {
            Blow::Killed => self.service.nodes[old].process.kill(),
            Blow::Stopped => self.service.nodes[old].process.signal("STOP"),
            Blow::Replaced => {
                // What README.md says: what it acknowledges while its successor is promoted would be lost.
                assert_eq!(
                    self.service.nodes[old].client().text(&["CLIENT", "PAUSE", "5000", "WRITE"]),
                    "+OK"
                );
                self.service.sentinels[0].ask(&["FAILOVER", SERVICE]);
            }
        }
        eventually_elected("another master is named", || self.service.named().is_some_and(|new| new != old));
        load.expect_progress();
        let (through, direct) = load.gaps(began);
        println!(
            "sentinel: {blow:?}, follows: {}: no write for {through:?}, without the daemon {direct:?}",
            self.follows
        );
        assert!(through <= direct + ADDED_MAX, "no write for {through:?}, without the daemon {direct:?}");
        if self.follows {
            let new = self.service.named().expect("a master");
            assert!(told(&self.daemon, "master").ends_with(&format!(":{}", self.service.nodes[new].port)));
        }
        match blow {
            Blow::Killed => self.service.nodes[old].restart(),
            Blow::Stopped => self.service.nodes[old].process.signal("CONT"),
            Blow::Replaced => {}
        }
        self.old_master_is_left_alone(old);
        load.expect_progress();
    }

    /// A master that comes back says for a while that it is one. Nobody believes it.
    fn old_master_is_left_alone(&self, old: usize) {
        let mut first = None;
        eventually_elected("the old master is demoted", || {
            let mut client = Client::connect(self.service.nodes[old].port);
            // Its sentinels close connections when they demote it.
            while let Ok((role, calls)) = role_and_calls(&mut client, &WRITES) {
                if role != "master" {
                    return true;
                }
                let before = *first.get_or_insert(calls);
                assert_eq!(calls, before, "the old master was written to");
                std::thread::sleep(Duration::from_millis(10));
            }
            false
        });
    }
}

fn run(through: impl FnOnce(&Service) -> (Option<HAProxy>, String)) {
    let service = Service::start();
    let (haproxy, url) = through(&service);
    let follows = haproxy.is_none();
    let daemon = Daemon::start_with(&url, &[("MADCACHE_SERVER_WORKERS", "2")]);
    crate::expect_service(&daemon);
    let way = match &haproxy {
        Some(haproxy) => Way::Address(haproxy.port),
        None => Way::Sentinels(service.sentinels.iter().map(|sentinel| sentinel.port).collect()),
    };
    let mut trial = Trial { service, daemon, follows };
    let blows = [Blow::Killed, Blow::Stopped, Blow::Replaced];
    let load = Load::run(trial.daemon.port, way, |load| {
        for _ in 0..rounds() {
            blows.iter().for_each(|blow| trial.strike(*blow, load));
        }
    });
    let master = trial.service.settled();
    load.check(&trial.service.nodes[master]);
    assert!(trial.daemon.stat("l1_hits") > 100, "too little came from L1");
    if follows {
        assert!(trial.daemon.stat("failovers") >= (rounds() * blows.len()) as u64);
    }
    assert!(!trial.daemon.stderr().contains("panicked"), "{}", trial.daemon.stderr());
}

#[test]
fn no_confirmed_write_is_lost_and_nothing_stale_is_read_when_masters_fail() {
    run(|service| (None, service.url()));
}

#[test]
fn behind_haproxy_neither() {
    if !haproxy::is_installed() {
        return println!("left out: there is no haproxy");
    }
    run(|service| {
        let haproxy = HAProxy::before(service);
        let url = haproxy.url();
        (Some(haproxy), url)
    });
}
