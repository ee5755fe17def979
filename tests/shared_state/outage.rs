//! Locks while Redis is killed and started again under fifty clients of two daemons: with all that it had, and with nothing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::support::fenced::{Grant, Resource};
use crate::support::{Client, Daemon, Redis, eventually};
use crate::transcript;
use crate::{Listener, fields, send, shown};

const CLIENTS: usize = 50;
const TTL: Duration = Duration::from_millis(500);
const OUTAGES: usize = 3;
/// What a busy machine may take to run a thread that is due.
const HELD_UP_MAX: Duration = Duration::from_secs(1);
const KEEPS_ALL: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// One client's whole life: it asks, writes, sometimes too late, and lets go.
fn contend(daemon: &Daemon, number: usize, ended: &AtomicBool, resource: &Mutex<Resource>) -> Vec<Grant> {
    let mut client = daemon.client();
    let mut grants = Vec::new();
    let mut round = number;
    while !ended.load(Relaxed) {
        round += 1;
        let fair = if round.is_multiple_of(2) { " FAIR" } else { "" };
        let asked = Instant::now();
        let Some(reply) =
            try_ask(&mut client, daemon, &format!("LOCK.ACQUIRE r {} WAIT 2000{fair}", TTL.as_millis()))
        else {
            continue;
        };
        let told = Instant::now();
        let words: Vec<&str> = reply.trim_matches(['[', ']']).split(' ').collect();
        if words[0] != "1" {
            continue;
        }
        let (token, fence): (&str, u64) = (words[1].trim_matches('\''), words[2].parse().unwrap());
        resource.lock().unwrap().write(fence);
        let late = round.is_multiple_of(17);
        // The work of a holder; one in seventeen is stopped past its ttl, and writes then.
        std::thread::sleep(if late { TTL * 3 / 2 } else { Duration::from_millis(3) });
        let over = Instant::now().min(asked + TTL);
        resource.lock().unwrap().write(fence);
        grants.push(Grant { fence, asked, told, over });
        try_ask(&mut client, daemon, &format!("LOCK.RELEASE r {token}"));
    }
    grants
}

/// The reply, or nothing where the connection was closed, as it is when an outcome is unknown.
fn try_ask(client: &mut Client, daemon: &Daemon, line: &str) -> Option<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let asked = client.send_raw(&crate::support::encode(&words)).and_then(|()| client.try_read_frame());
    match asked {
        Ok(frame) => {
            let text = transcript::shown(&frame);
            // Not sent: a client tries again a little later.
            text.starts_with("-LOADING").then(|| std::thread::sleep(Duration::from_millis(20)));
            Some(text)
        }
        Err(_) => {
            *client = daemon.client();
            None
        }
    }
}

/// Runs the clients while Redis is killed and started again; gives all grants in the order of their fences.
fn outages(arguments: &[&str]) -> (Vec<Grant>, Resource) {
    let mut redis = Redis::start_with(arguments);
    let daemons = [Daemon::start(&redis), Daemon::start(&redis)];
    let (ended, resource) = (AtomicBool::new(false), Mutex::new(Resource::default()));
    let mut grants: Vec<Grant> = std::thread::scope(|scope| {
        let (ended, resource) = (&ended, &resource);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let daemon = &daemons[number % 2];
                scope.spawn(move || contend(daemon, number, ended, resource))
            })
            .collect();
        for _ in 0..OUTAGES {
            let so_far = resource.lock().unwrap().writes;
            eventually("the lock goes round", || resource.lock().unwrap().writes > so_far + 50);
            redis.process.kill();
            redis.restart();
        }
        let so_far = resource.lock().unwrap().writes;
        eventually("the lock goes round again", || resource.lock().unwrap().writes > so_far + 50);
        ended.store(true, Relaxed);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    grants.sort_by_key(|grant| grant.fence);
    (grants, resource.into_inner().unwrap())
}

/// Whoever asks after somebody was granted the lock gets a larger fence, so that the resource tells them apart.
fn fences_grow(grants: &[Grant]) {
    assert!(grants.len() > 100, "{} grants", grants.len());
    let mut newest_asked = grants[0].asked;
    for pair in grants.windows(2) {
        assert!(pair[0].fence < pair[1].fence, "two grants have one fence: {pair:?}");
        newest_asked = newest_asked.max(pair[0].asked);
        assert!(pair[1].told > newest_asked, "told of a fence before a smaller one was asked for: {pair:?}");
    }
}

#[test]
fn no_older_holder_is_accepted_after_a_newer_one_while_redis_dies_and_comes_back_with_everything() {
    let (grants, resource) = outages(&KEEPS_ALL);
    fences_grow(&grants);
    for pair in grants.windows(2) {
        assert!(pair[0].over <= pair[1].told, "two held the lock at once: {pair:?}");
    }
    eprintln!("{} grants, {} writes, {} refused", grants.len(), resource.writes, resource.refusals);
}

#[test]
fn so_it_is_where_redis_comes_back_with_nothing() {
    let (grants, resource) = outages(&[]);
    fences_grow(&grants);
    assert!(resource.refusals > 0, "holders that were stopped past their ttl are refused");
    eprintln!("{} grants, {} writes, {} refused", grants.len(), resource.writes, resource.refusals);
}

/// Clients that stand in line for `a`, one behind the other.
fn line_up(daemons: &[Daemon], count: usize) -> Vec<Client> {
    let mut other = daemons[0].client();
    let mut standing = |count: usize| {
        eventually("so many stand in line", || {
            *fields(&mut other, "LOCK.INFO a").last().unwrap() == count.to_string()
        });
    };
    standing(0);
    let waiter = |at: usize| {
        let mut waiter = daemons[at % 2].client();
        send(&mut waiter, "LOCK.ACQUIRE a 60000 WAIT 18000 FAIR");
        standing(at + 1);
        waiter
    };
    (0..count).map(waiter).collect()
}

/// Each in its turn is granted the lock and lets it go, but for the last one, who keeps it: its token.
fn pass_on(line: &mut [Client]) -> String {
    let (mut last_fence, mut token) = (0, String::new());
    let count = line.len();
    for (at, waiter) in line.iter_mut().enumerate() {
        let text = transcript::shown(&waiter.read_frame());
        let words: Vec<&str> = text.trim_matches(['[', ']']).split(' ').collect();
        assert_eq!(words[0], "1", "{at}: {text}");
        let fence: u64 = words[2].parse().unwrap();
        assert!(fence > last_fence, "granted out of order");
        last_fence = fence;
        token = words[1].trim_matches('\'').to_owned();
        if at + 1 < count {
            assert_eq!(shown(waiter, &format!("LOCK.RELEASE a {token}")), "0");
        }
    }
    token
}

#[test]
fn fifty_fair_waiters_keep_their_order_and_an_outage_tells_all_who_wait_and_frees_nothing() {
    let mut redis = Redis::start_with(&KEEPS_ALL);
    let daemons = [Daemon::start(&redis), Daemon::start(&redis)];
    let mut holder = daemons[0].client();
    assert_eq!(fields(&mut holder, "LOCK.ACQUIRE a 60000 TOKEN first")[0], "1");
    let mut line = line_up(&daemons, CLIENTS);
    assert_eq!(shown(&mut holder, "LOCK.RELEASE a first"), "0");
    let token = pass_on(&mut line[..20]);
    redis.process.kill();
    // Nobody is left in doubt: not sent, or closed, as the outcome is unknown.
    for waiter in &mut line[20..] {
        if let Ok(frame) = waiter.try_read_frame() {
            assert!(frame.starts_with(b"-LOADING madcache: not sent"), "{}", frame.escape_ascii());
        }
    }
    redis.restart();
    let mut other = daemons[1].client();
    // Each daemon finds it by itself.
    for daemon in &daemons {
        let mut client = daemon.client();
        eventually("Redis is found again", || {
            try_ask(&mut client, daemon, &format!("LOCK.CHECK a {token}"))
                .is_some_and(|r| r.starts_with("[1 "))
        });
    }
    // They come again, and stand where they come now; what was left of their first line holds nobody up.
    let mut again = line_up(&daemons, CLIENTS - 20);
    assert_eq!(shown(&mut other, &format!("LOCK.RELEASE a {token}")), "0");
    pass_on(&mut again);
}

#[test]
fn a_loss_is_told_in_time_while_redis_is_away_and_published_where_it_came_back_empty() {
    const LONG_TTL: Duration = Duration::from_millis(3000);
    let mut redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut holder = crate::resp3(&daemon);
    let lost = |name: &str| format!(">3\r\n$9\r\nlock-lost\r\n$1\r\n{name}\r\n$1\r\nt\r\n").into_bytes();

    // Nobody can extend it: by then it may be somebody else's.
    assert!(
        shown(&mut holder, &format!("LOCK.ACQUIRE a {} TOKEN t RENEW", TTL.as_millis()))
            .starts_with("{granted=1")
    );
    let killed = Instant::now();
    redis.process.kill();
    assert_eq!(holder.read_frame(), lost("a"));
    assert!(killed.elapsed() < TTL + HELD_UP_MAX, "told after {:?}", killed.elapsed());
    redis.restart();

    eventually("Redis is found again", || daemon.client().text(&["PING"]) == "+PONG");
    let mut holder = crate::resp3(&daemon);
    let line = format!("LOCK.ACQUIRE b {} TOKEN t RENEW", LONG_TTL.as_millis());
    assert!(shown(&mut holder, &line).starts_with("{granted=1"));
    let killed = Instant::now();
    redis.process.kill();
    redis.restart();
    let mut events = Listener::of(&redis, "events:lock:b");
    assert_eq!(holder.read_frame(), lost("b"));
    assert!(killed.elapsed() < LONG_TTL + HELD_UP_MAX, "told after {:?}", killed.elapsed());
    let (event, at) = events.next_of("lost");
    assert!(event.contains("\"type\":\"lost\""), "{event}");
    assert!(at - killed < LONG_TTL + HELD_UP_MAX, "published after {:?}", at - killed);
}
