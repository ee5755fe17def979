//! The same before a Redis Cluster of three masters, where locks, rooms and users live on different nodes: waiting, leaving,
//! logouts and limits. What the commands answer there, `commands.rs` plays.

use std::time::{Duration, Instant};

use crate::locks::{granted, waiters};
use crate::support::cluster::RedisCluster;
use crate::support::{Client, Daemon, eventually};
use crate::{Listener, ask, fields, send, shown};

/// Enough that each of three nodes has some: the slots of these names are spread.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn daemons(cluster: &RedisCluster) -> [Daemon; 2] {
    [(); 2].map(|()| Daemon::start_with(&cluster.url(), &[]))
}

#[test]
fn releases_through_another_daemon_wake_the_waiters_of_locks_on_every_node() {
    let cluster = RedisCluster::start(3);
    let [here, there] = daemons(&cluster);
    let mut holder = here.client();
    let owners: std::collections::BTreeSet<usize> =
        NAMES.iter().map(|name| cluster.owner(cluster.slot(&format!("lock:{name}")))).collect();
    assert_eq!(owners.len(), 3, "the names lie on all nodes");
    for name in NAMES {
        let held = fields(&mut holder, &format!("LOCK.ACQUIRE {name} 30000 TOKEN mine"));
        assert_eq!(held[0], "1");
        let mut waiter = there.client();
        send(&mut waiter, &format!("LOCK.ACQUIRE {name} 30000 WAIT 15000"));
        eventually("somebody waits", || waiters(&mut holder, name) == "1");
        let began = Instant::now();
        assert_eq!(shown(&mut holder, &format!("LOCK.RELEASE {name} mine")), "0");
        let (_, fence) = granted(&mut waiter);
        // Without a message it would look again after a second.
        assert!(began.elapsed() < Duration::from_millis(700), "{name}: {:?}", began.elapsed());
        assert!(fence > held[2].parse().unwrap());
    }
}

#[test]
fn fair_waiters_of_two_daemons_are_granted_locks_of_every_node_in_their_order() {
    let cluster = RedisCluster::start(3);
    let daemons = daemons(&cluster);
    let mut holder = daemons[0].client();
    for name in &NAMES[..3] {
        fields(&mut holder, &format!("LOCK.ACQUIRE {name} 30000 TOKEN first"));
        let mut line = Vec::new();
        for at in 0..5 {
            let mut waiter = daemons[at % 2].client();
            send(&mut waiter, &format!("LOCK.ACQUIRE {name} 30000 WAIT 15000 FAIR"));
            eventually("it stands in line", || waiters(&mut holder, name) == (at + 1).to_string());
            line.push(waiter);
        }
        let (mut token, mut last_fence) = ("first".to_owned(), 0);
        for waiter in &mut line {
            assert_eq!(shown(&mut holder, &format!("LOCK.RELEASE {name} {token}")), "0");
            let fence;
            (token, fence) = granted(waiter);
            assert!(fence > last_fence, "granted out of order");
            last_fence = fence;
        }
    }
}

#[test]
fn bound_locks_of_every_node_end_with_their_connection_and_renewed_ones_stay() {
    let cluster = RedisCluster::start(3);
    let [here, there] = daemons(&cluster);
    let (mut bound, mut other) = (here.client(), there.client());
    for name in NAMES {
        let line = format!("LOCK.ACQUIRE {name} 600 TOKEN t BIND RENEW");
        assert_eq!(fields(&mut bound, &line)[0], "1");
    }
    let until = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < until {
        for name in NAMES {
            assert_eq!(fields(&mut other, &format!("LOCK.CHECK {name} t"))[0], "1", "{name}");
        }
    }
    drop(bound);
    for name in NAMES {
        eventually("the lock is free", || shown(&mut other, &format!("LOCK.INFO {name}")) == "nil");
    }
}

#[test]
fn users_of_a_killed_daemon_leave_rooms_of_every_node_in_time_and_once() {
    const TTL: Duration = Duration::from_millis(1500);
    let cluster = RedisCluster::start(3);
    let [mut killed, sweeper] = daemons(&cluster);
    let second_sweeper = Daemon::start_with(&cluster.url(), &[]);
    let mut others = [sweeper.client(), second_sweeper.client()];
    let mut events: Vec<Listener> = (NAMES.iter())
        // A message is told at every node.
        .map(|room| Listener::of(cluster.node(0), &format!("events:presence:{room}")))
        .collect();
    let mut bound = killed.client();
    for (room, events) in NAMES.iter().zip(&mut events) {
        ask(&mut others[0], &format!("PRESENCE.COUNT {room}"));
        ask(&mut others[1], &format!("PRESENCE.COUNT {room}"));
        ask(&mut bound, &format!("PRESENCE.JOIN {room} ann c1 TTL {} BIND", TTL.as_millis()));
        events.next_of("join");
    }
    assert_eq!(fields(&mut others[0], "PRESENCE.CHANNELS ann").len(), NAMES.len());
    let at = Instant::now();
    killed.process.signal("KILL");
    killed.process.wait();
    for (room, events) in NAMES.iter().zip(&mut events) {
        let (left, when) = events.next_of("leave");
        assert!(left.ends_with(r#","cause":"expired"}"#), "{room}: {left}");
        assert!(when - at < TTL + Duration::from_secs(2), "{room}: they left after {:?}", when - at);
        // Had two sweepers announced the same, that would come now.
        ask(&mut others[0], &format!("PRESENCE.JOIN {room} end c2"));
        assert!(events.next().contains(r#""type":"join","user":"end""#));
    }
    assert_eq!(shown(&mut others[1], "PRESENCE.CHANNELS ann"), "[]");
}

#[test]
fn logouts_of_users_of_every_node_are_seen_by_the_other_daemon() {
    let cluster = RedisCluster::start(3);
    let [here, there] = daemons(&cluster);
    let (mut one, mut other) = (here.client(), there.client());
    for (user, logout) in NAMES.iter().zip(["DESTROY", "REVOKE", "DESTROYALL", "ROTATE"].iter().cycle()) {
        let login = fields(&mut one, &format!("SESSION.CREATE {user}"));
        let (token, id) = (&login[0], &login[1]);
        let validate = format!("SESSION.VALIDATE {token}");
        for _ in 0..5 {
            assert_eq!(fields(&mut other, &validate)[0], *id);
        }
        let subject = match *logout {
            "REVOKE" => id,
            "DESTROYALL" => *user,
            _ => token,
        };
        assert!(!shown(&mut one, &format!("SESSION.{logout} {subject}")).starts_with('-'));
        assert_eq!(shown(&mut other, &format!("{validate} STRICT")), "nil", "{logout}");
        eventually("the session is over", || shown(&mut other, &validate) == "nil");
        assert_eq!(shown(&mut one, &validate), "nil", "{logout}");
    }
}

#[test]
fn limits_on_every_node_are_exact_over_two_daemons() {
    const LIMIT: usize = 50;
    let cluster = RedisCluster::start(3);
    let daemons = daemons(&cluster);
    let allowed: Vec<usize> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|at| {
                let mut client = daemons[at % 2].client();
                scope.spawn(move || {
                    let mut allowed = [0; NAMES.len()];
                    for _ in 0..LIMIT {
                        for (name, allowed) in NAMES.iter().zip(&mut allowed) {
                            let line = format!("RATELIMIT.CHECK user {name} LIMIT {LIMIT} WINDOW 604800000");
                            *allowed += usize::from(fields(&mut client, &line)[0] == "1");
                        }
                    }
                    allowed
                })
            })
            .collect();
        let each: Vec<_> = clients.into_iter().map(|client| client.join().expect("a client")).collect();
        (0..NAMES.len()).map(|at| each.iter().map(|allowed| allowed[at]).sum()).collect()
    });
    assert_eq!(allowed, [LIMIT; NAMES.len()]);
}

#[test]
fn an_answer_that_the_daemon_keeps_is_queued_like_others_in_a_transaction() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]);
    let mut client = daemon.client();
    let login = fields(&mut client, "SESSION.CREATE ann");
    let validate = format!("SESSION.VALIDATE {}", login[0]);
    for _ in 0..5 {
        assert_eq!(fields(&mut client, &validate)[0], login[1]);
    }
    assert_eq!(shown(&mut client, "MULTI"), "+OK");
    assert_eq!(shown(&mut client, &validate), "+QUEUED");
    let executed = shown(&mut client, "EXEC");
    assert!(executed.starts_with(&format!("[['{}' 'ann' ", login[1])), "{executed}");
}

#[test]
fn the_first_request_to_a_daemon_finds_the_nodes_known() {
    let cluster = RedisCluster::start(3);
    for _ in 0..10 {
        let daemon = Daemon::spawn(&cluster.url(), &[]);
        let mut client = None;
        eventually("it accepts", || {
            client = std::net::TcpStream::connect(("127.0.0.1", daemon.port)).ok();
            client.is_some()
        });
        let mut client = Client::over(client.expect("connected"));
        assert_eq!(client.text(&["SET", "k", "v"]), "+OK");
    }
}
