//! What the daemon keeps up for a client over several masters: waiting, RENEW, BIND.

use std::time::{Duration, Instant};

use crate::support::{Client, eventually};
use crate::{Masters, fields, granted, resp3, send, shown};

fn waiters(client: &mut Client, name: &str) -> String {
    fields(client, &format!("LOCK.INFO {name}")).pop().unwrap()
}

#[test]
fn a_release_through_another_daemon_wakes_a_waiter_at_once() {
    let masters = Masters::start(5);
    let (here, there) = (masters.daemon(""), masters.daemon(""));
    let (mut holder, mut waiter) = (here.client(), there.client());
    for name in ["a", "b", "c"] {
        let fence = granted(&mut holder, &format!("LOCK.ACQUIRE {name} 30000 TOKEN mine"));
        send(&mut waiter, &format!("LOCK.ACQUIRE {name} 30000 WAIT 15000"));
        eventually("somebody waits", || waiters(&mut holder, name) == "1");
        let began = Instant::now();
        assert_eq!(shown(&mut holder, &format!("LOCK.RELEASE {name} mine")), "0");
        let reply = crate::transcript::shown(&waiter.read_frame());
        // Without a message it would look again after a second.
        assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
        assert!(reply.starts_with("[1 ") && reply.split(' ').nth(2).unwrap().parse::<u64>().unwrap() > fence);
        eventually("nobody is left in line", || waiters(&mut holder, name) == "0");
    }
}

#[test]
fn a_waiter_whose_time_is_over_or_whose_client_left_leaves_no_trace() {
    let masters = Masters::start(3);
    let daemon = masters.daemon("");
    let (mut holder, mut waiter) = (daemon.client(), daemon.client());
    granted(&mut holder, "LOCK.ACQUIRE a 30000 TOKEN mine");
    assert_eq!(fields(&mut waiter, "LOCK.ACQUIRE a 30000 WAIT 100")[0], "0");
    eventually("it is in line no more", || waiters(&mut holder, "a") == "0");
    send(&mut waiter, "LOCK.ACQUIRE a 30000 WAIT 15000");
    eventually("it waits", || waiters(&mut holder, "a") == "1");
    drop(waiter);
    eventually("it left", || waiters(&mut holder, "a") == "0");
    assert_eq!(shown(&mut holder, "LOCK.RELEASE a mine"), "0");
    assert_eq!(shown(&mut holder, "LOCK.INFO a"), "nil");
    granted(&mut holder, "LOCK.ACQUIRE a 30000");
}

#[test]
fn renew_keeps_a_lock_while_a_minority_is_away_and_tells_of_its_loss_in_time() {
    const TTL: Duration = Duration::from_millis(1500);
    let mut masters = Masters::start(5);
    let daemon = masters.daemon("");
    let (mut holder, mut other) = (resp3(&daemon), daemon.client());
    let reply = shown(&mut holder, &format!("LOCK.ACQUIRE a {} TOKEN t RENEW", TTL.as_millis()));
    assert!(reply.starts_with("{granted=1"), "{reply}");
    masters.kill(&[0]);
    masters.pause(&[1]);
    let until = Instant::now() + TTL * 3;
    while Instant::now() < until {
        assert_eq!(fields(&mut other, "LOCK.CHECK a t")[0], "1");
        std::thread::sleep(Duration::from_millis(50));
    }
    let killed = Instant::now();
    masters.kill(&[2]);
    assert_eq!(holder.read_frame(), b">3\r\n$9\r\nlock-lost\r\n$1\r\na\r\n$1\r\nt\r\n");
    assert!(killed.elapsed() < TTL + Duration::from_secs(1), "{:?}", killed.elapsed());
    masters.wake(&[1]);
}

#[test]
fn renew_ends_with_the_release_and_a_force_is_told_as_a_loss() {
    let masters = Masters::start(3);
    let daemon = masters.daemon("");
    let (mut holder, mut other) = (resp3(&daemon), daemon.client());
    shown(&mut holder, "LOCK.ACQUIRE a 900 TOKEN t RENEW");
    assert_eq!(shown(&mut holder, "LOCK.RELEASE a t"), "0");
    granted(&mut other, "LOCK.ACQUIRE a 30000 TOKEN u");
    holder.expect_silence(Duration::from_millis(1200));
    shown(&mut holder, "LOCK.ACQUIRE b 900 TOKEN t RENEW");
    assert_eq!(shown(&mut other, "LOCK.FORCE b"), "1");
    assert_eq!(holder.read_frame(), b">3\r\n$9\r\nlock-lost\r\n$1\r\nb\r\n$1\r\nt\r\n");
}

#[test]
fn a_bound_lock_ends_everywhere_with_its_connection_but_not_one_taken_anew() {
    let masters = Masters::start(5);
    let (here, there) = (masters.daemon(""), masters.daemon(""));
    let (mut bound, mut other) = (here.client(), there.client());
    for name in ["a", "z"] {
        granted(&mut bound, &format!("LOCK.ACQUIRE {name} 60000 TOKEN t BIND"));
    }
    assert_eq!(shown(&mut other, "LOCK.FORCE a"), "1");
    granted(&mut other, "LOCK.ACQUIRE a 60000 TOKEN t");
    masters.pause(&[4]);
    drop(bound);
    // Both are ended in the order in which they were granted.
    eventually("the bound lock is free", || shown(&mut other, "LOCK.INFO z") == "nil");
    masters.wake(&[4]);
    eventually("it is free everywhere", || masters.holding("z", "t") == 0);
    assert_eq!(masters.holding("a", "t"), 5);
}

#[test]
fn a_repeated_acquire_keeps_its_fence_and_what_it_held_when_the_repetition_fails() {
    let mut masters = Masters::start(5);
    let daemon = masters.daemon("redlock_timeout_ms = 200");
    let mut client = daemon.client();
    let fence = granted(&mut client, "LOCK.ACQUIRE a 60000 TOKEN t");
    assert_eq!(granted(&mut client, "LOCK.ACQUIRE a 60000 TOKEN t"), fence);
    assert_eq!(granted(&mut client, "LOCK.ACQUIRE a 60000 TOKEN t REENTRANT"), fence);
    assert_eq!(shown(&mut client, "LOCK.RELEASE a t"), "1");
    masters.kill(&[0, 1]);
    masters.pause(&[2]);
    for _ in 0..3 {
        assert!(shown(&mut client, "LOCK.ACQUIRE a 60000 TOKEN t").starts_with("-NOQUORUM"));
    }
    masters.wake(&[2]);
    eventually("it is held still", || shown(&mut client, "LOCK.CHECK a t").starts_with("[1 "));
    assert_eq!(masters.0[2..].iter().filter(|m| m.client().text(&["GET", "lock:a"]) == "t").count(), 3);
}
