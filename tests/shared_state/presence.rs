//! Presence that is bound to connections: it ends with them, outlives its ttl while they are there, and ends in time when a
//! daemon dies.

use std::time::{Duration, Instant};

use crate::support::{Daemon, Redis};
use crate::{Listener, ask, fields, shown};

const CHANNEL: &str = "events:presence:room";

#[track_caller]
fn is_event(event: &str, kind: &str, user: &str, cause: &str) {
    assert!(event.starts_with(&format!(r#"{{"type":"{kind}","user":"{user}","seq":"#)), "{event}");
    assert!(event.ends_with(&format!(r#","cause":"{cause}"}}"#)), "{event}");
}

fn seq(event: &str) -> u64 {
    event.split("\"seq\":").nth(1).unwrap().split(',').next().unwrap().parse().unwrap()
}

#[test]
fn a_bound_user_leaves_with_the_connection_and_is_announced_once() {
    let redis = Redis::start();
    let (here, there) = (Daemon::start(&redis), Daemon::start(&redis));
    let mut events = Listener::of(&redis, CHANNEL);
    let (mut tab, mut other_tab, mut other) = (here.client(), here.client(), there.client());
    ask(&mut tab, "PRESENCE.JOIN room ann c1 BIND");
    ask(&mut other_tab, "PRESENCE.JOIN room ann c2 BIND");
    is_event(&events.next(), "join", "ann", "client");
    drop(tab);
    crate::eventually("one connection left", || fields(&mut other, "PRESENCE.COUNT room") == ["1", "1"]);
    drop(other_tab);
    is_event(&events.next(), "leave", "ann", "closed");
    ask(&mut other, "PRESENCE.JOIN room bob c3");
    is_event(&events.next(), "join", "bob", "client");
    assert_eq!(shown(&mut other, "PRESENCE.MEMBERS room"), "['bob']");
    assert_eq!(shown(&mut other, "SMEMBERS presence:channel:room:users"), "['bob']");
    assert_eq!(shown(&mut other, "PRESENCE.CHANNELS ann"), "[]");
}

#[test]
fn a_connection_that_joined_again_elsewhere_stays_when_its_old_one_closes() {
    let redis = Redis::start();
    let (here, there) = (Daemon::start(&redis), Daemon::start(&redis));
    let (mut old, mut new) = (here.client(), there.client());
    ask(&mut old, "PRESENCE.JOIN room ann c1 BIND");
    ask(&mut old, "PRESENCE.JOIN room zoe c1 BIND");
    ask(&mut new, "PRESENCE.JOIN room ann c1 BIND");
    let mut events = Listener::of(&redis, CHANNEL);
    drop(old);
    is_event(&events.next(), "leave", "zoe", "closed");
    events.client.expect_silence(Duration::from_millis(300));
    assert_eq!(shown(&mut new, "PRESENCE.MEMBERS room"), "['ann']");
}

#[test]
fn heartbeats_keep_a_bound_entry_past_its_ttl() {
    let redis = Redis::start();
    let (here, there) = (Daemon::start(&redis), Daemon::start(&redis));
    let mut events = Listener::of(&redis, CHANNEL);
    let (mut bound, mut other) = (here.client(), there.client());
    ask(&mut bound, "PRESENCE.JOIN room ann c1 TTL 900 BIND");
    is_event(&events.next(), "join", "ann", "client");
    let until = Instant::now() + Duration::from_millis(2800);
    while Instant::now() < until {
        assert_eq!(fields(&mut other, "PRESENCE.COUNT room"), ["1", "1"]);
        assert_eq!(shown(&mut other, "SMEMBERS presence:channel:room:users"), "['ann']");
        std::thread::sleep(Duration::from_millis(30));
    }
    ask(&mut other, "PRESENCE.JOIN room end c2");
    is_event(&events.next(), "join", "end", "client");
}

#[test]
fn what_redis_forgot_is_joined_again_by_the_next_heartbeat() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut events = Listener::of(&redis, CHANNEL);
    let mut bound = daemon.client();
    ask(&mut bound, "PRESENCE.JOIN room ann c1 TTL 900 BIND");
    let before = events.next();
    redis.client().text(&["FLUSHALL"]);
    let again = events.next();
    is_event(&again, "join", "ann", "client");
    assert!(seq(&again) > seq(&before));
    assert_eq!(shown(&mut bound, "PRESENCE.CHANNELS ann"), "['room']");
}

#[test]
fn users_of_a_killed_daemon_leave_in_time_and_once() {
    const TTL: Duration = Duration::from_millis(1500);
    let redis = Redis::start();
    let mut killed = Daemon::start(&redis);
    let sweepers = [Daemon::start(&redis), Daemon::start(&redis)];
    let mut others: Vec<_> = sweepers.iter().map(Daemon::client).collect();
    for other in &mut others {
        shown(other, "PRESENCE.COUNT room");
    }
    let mut events = Listener::of(&redis, CHANNEL);
    let mut bound = killed.client();
    for user in ["ann", "bob"] {
        ask(&mut bound, &format!("PRESENCE.JOIN room {user} c1 TTL {} BIND", TTL.as_millis()));
        is_event(&events.next(), "join", user, "client");
    }
    let at = Instant::now();
    killed.process.signal("KILL");
    killed.process.wait();
    let mut left = [events.next(), events.next()];
    let took = at.elapsed();
    let limit = TTL + Duration::from_secs(2);
    assert!(took < limit, "they left after {took:?}");
    left.sort_by_key(|event| event.contains("bob"));
    is_event(&left[0], "leave", "ann", "expired");
    is_event(&left[1], "leave", "bob", "expired");
    // Had two sweepers announced the same, that would come now, and before what is swept later.
    ask(&mut others[0], "PRESENCE.JOIN room end c2 TTL 500");
    let joined = events.next();
    is_event(&joined, "join", "end", "client");
    let end = events.next();
    is_event(&end, "leave", "end", "expired");
    assert_eq!(seq(&end), seq(&joined) + 1);
    assert_eq!(shown(&mut others[1], "PRESENCE.COUNT room"), "[0 0]");
    assert_eq!(shown(&mut others[1], "SMEMBERS presence:channel:room:users"), "[]");
}
