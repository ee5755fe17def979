//! What the daemon does for locks between commands: it wakes waiters, keeps their order, renews, tells of losses, and lets go
//! of what belonged to a client that left.

use std::time::{Duration, Instant};

use crate::support::{Client, Daemon, Redis, eventually};
use crate::{Listener, fields, send, shown};

pub fn waiters(client: &mut Client, name: &str) -> String {
    fields(client, &format!("LOCK.INFO {name}")).pop().unwrap()
}

/// Reads what ACQUIRE answers to a waiter: the token and the fence.
pub fn granted(client: &mut Client) -> (String, u64) {
    let text = crate::transcript::shown(&client.read_frame());
    let words: Vec<&str> = text.trim_matches(['[', ']']).split(' ').collect();
    assert_eq!(words[0], "1", "{text}");
    (words[1].trim_matches('\'').to_owned(), words[2].parse().unwrap())
}

#[test]
fn a_release_through_another_daemon_wakes_a_waiter_at_once() {
    let redis = Redis::start();
    let (here, there) = (Daemon::start(&redis), Daemon::start(&redis));
    let (mut holder, mut waiter) = (here.client(), there.client());
    for name in ["a", "b", "c"] {
        let held = fields(&mut holder, &format!("LOCK.ACQUIRE {name} 30000 TOKEN mine"));
        assert_eq!(held[0], "1");
        send(&mut waiter, &format!("LOCK.ACQUIRE {name} 30000 WAIT 15000"));
        eventually("somebody waits", || waiters(&mut holder, name) == "1");
        let began = Instant::now();
        assert_eq!(shown(&mut holder, &format!("LOCK.RELEASE {name} mine")), "0");
        let (_, fence) = granted(&mut waiter);
        // Without a message it would look again after a second.
        assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
        assert!(fence > held[2].parse().unwrap());
    }
}

#[test]
fn a_waiter_whom_no_message_reaches_looks_again_within_about_a_second() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let (mut foreign, mut waiter) = (redis.client(), daemon.client());
    assert_eq!(foreign.text(&["SET", "lock:a", "theirs"]), "+OK");
    send(&mut waiter, "LOCK.ACQUIRE a 30000 WAIT 15000");
    let mut other = daemon.client();
    eventually("somebody waits", || waiters(&mut other, "a") == "1");
    // Nobody is told of this.
    assert_eq!(foreign.text(&["DEL", "lock:a"]), ":1");
    let began = Instant::now();
    granted(&mut waiter);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn fair_waiters_of_two_daemons_are_granted_in_the_order_in_which_they_came() {
    let redis = Redis::start();
    let daemons = [Daemon::start(&redis), Daemon::start(&redis)];
    let mut holder = daemons[0].client();
    fields(&mut holder, "LOCK.ACQUIRE a 30000 TOKEN first");
    let mut line = Vec::new();
    for at in 0..5 {
        let mut waiter = daemons[at % 2].client();
        send(&mut waiter, "LOCK.ACQUIRE a 30000 WAIT 15000 FAIR");
        eventually("it stands in line", || waiters(&mut holder, "a") == (at + 1).to_string());
        line.push(waiter);
    }
    let (mut token, mut last_fence) = ("first".to_owned(), 0);
    for waiter in &mut line {
        assert_eq!(shown(&mut holder, &format!("LOCK.RELEASE a {token}")), "0");
        let fence;
        (token, fence) = granted(waiter);
        assert!(fence > last_fence, "granted out of order");
        last_fence = fence;
    }
}

#[test]
fn a_waiter_whose_client_left_never_keeps_the_lock() {
    let redis = Redis::start();
    let (here, there) = (Daemon::start(&redis), Daemon::start(&redis));
    let mut client = here.client();
    for round in 0..8 {
        // The last round's leaver may stand in line for a moment still.
        send(&mut client, "LOCK.ACQUIRE a 30000 TOKEN mine WAIT 10000");
        granted(&mut client);
        let mut leaver = there.client();
        send(&mut leaver, "LOCK.ACQUIRE a 30000 WAIT 15000 FAIR");
        eventually("it stands in line", || waiters(&mut client, "a") == "1");
        // It leaves before the release, behind it, or about then.
        match round % 3 {
            0 => {
                drop(leaver);
                eventually("it left the line", || waiters(&mut client, "a") == "0");
                assert_eq!(shown(&mut client, "LOCK.RELEASE a mine"), "0");
            }
            1 => {
                drop(leaver);
                assert_eq!(shown(&mut client, "LOCK.RELEASE a mine"), "0");
            }
            _ => {
                send(&mut client, "LOCK.RELEASE a mine");
                drop(leaver);
                assert_eq!(client.read_frame(), b":0\r\n");
            }
        }
        // One that was granted before its client left is a lock like any other, and ends with its ttl: it did not ask for
        // BIND. What nobody was told of is nobody's.
        if round % 3 == 0 {
            assert_eq!(shown(&mut client, "LOCK.INFO a"), "nil");
        }
        if round % 3 != 2 {
            let began = Instant::now();
            send(&mut client, "LOCK.ACQUIRE a 30000 TOKEN next WAIT 10000");
            granted(&mut client);
            assert!(began.elapsed() < Duration::from_secs(5), "round {round}: {:?}", began.elapsed());
        }
        shown(&mut client, "LOCK.FORCE a");
        eventually("the lock is free", || shown(&mut client, "LOCK.INFO a") == "nil");
    }
}

#[test]
fn renew_keeps_a_lock_past_its_ttl_and_its_loss_is_pushed_and_published() {
    let redis = Redis::start();
    let (here, there) = (Daemon::start(&redis), Daemon::start(&redis));
    let mut events = Listener::of(&redis, "events:lock:a");
    let (mut holder, mut old_holder, mut other) = (crate::resp3(&here), here.client(), there.client());
    assert!(shown(&mut holder, "LOCK.ACQUIRE a 600 TOKEN t RENEW").starts_with("{granted=1"));
    assert_eq!(fields(&mut old_holder, "LOCK.ACQUIRE b 600 TOKEN u RENEW")[0], "1");
    let until = Instant::now() + Duration::from_millis(2000);
    while Instant::now() < until {
        assert_eq!(fields(&mut other, "LOCK.CHECK a t")[0], "1");
        assert_eq!(fields(&mut other, "LOCK.CHECK b u")[0], "1");
        std::thread::sleep(Duration::from_millis(20));
    }
    let fence = fields(&mut other, "LOCK.INFO a")[1].clone();
    let forced = Instant::now();
    assert_eq!(shown(&mut other, "LOCK.FORCE a"), "1");
    assert_eq!(holder.read_frame(), b">3\r\n$9\r\nlock-lost\r\n$1\r\na\r\n$1\r\nt\r\n");
    assert!(forced.elapsed() < Duration::from_millis(1600), "{:?}", forced.elapsed());
    let (event, _) = events.next_of("lost");
    assert_eq!(event, format!(r#"{{"type":"lost","fence":{fence}}}"#));

    // RESP2 has no pushes: only the event.
    let mut events = Listener::of(&redis, "events:lock:b");
    assert_eq!(shown(&mut other, "LOCK.FORCE b"), "1");
    events.next_of("lost");
    assert_eq!(shown(&mut old_holder, "PING"), "+PONG");
}

#[test]
fn renew_ends_with_the_release_and_with_the_client() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let (mut holder, mut other) = (crate::resp3(&daemon), daemon.client());
    shown(&mut holder, "LOCK.ACQUIRE a 300 TOKEN t RENEW");
    assert_eq!(shown(&mut holder, "LOCK.RELEASE a t"), "0");
    fields(&mut other, "LOCK.ACQUIRE a 30000 TOKEN u");
    holder.expect_silence(Duration::from_millis(600));
    shown(&mut holder, "LOCK.ACQUIRE b 400 TOKEN t RENEW");
    drop(holder);
    eventually("nobody extends it any more", || shown(&mut other, "LOCK.INFO b") == "nil");
}

#[test]
fn a_bound_lock_is_released_with_its_connection_but_not_one_taken_anew_elsewhere() {
    let redis = Redis::start();
    let (here, there) = (Daemon::start(&redis), Daemon::start(&redis));
    let (mut bound, mut other) = (here.client(), there.client());
    for name in ["a", "z"] {
        let line = format!("LOCK.ACQUIRE {name} 60000 TOKEN t BIND");
        assert_eq!(fields(&mut bound, &line)[0], "1");
    }
    assert_eq!(shown(&mut other, "LOCK.FORCE a"), "1");
    assert_eq!(fields(&mut other, "LOCK.ACQUIRE a 60000 TOKEN t")[0], "1");
    drop(bound);
    // Both are ended in the order in which they were granted.
    eventually("the bound lock is free", || shown(&mut other, "LOCK.INFO z") == "nil");
    assert_eq!(fields(&mut other, "LOCK.CHECK a t")[0], "1");
}

#[test]
fn bind_and_renew_begin_after_exec() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let (mut holder, mut other) = (daemon.client(), daemon.client());
    for line in ["MULTI", "LOCK.ACQUIRE a 500 TOKEN t RENEW", "LOCK.ACQUIRE b 60000 TOKEN t BIND WAIT 5000"] {
        shown(&mut holder, line);
    }
    assert_eq!(shown(&mut other, "LOCK.INFO b"), "nil");
    shown(&mut holder, "EXEC");
    let until = Instant::now() + Duration::from_millis(1200);
    while Instant::now() < until {
        assert_eq!(fields(&mut other, "LOCK.CHECK a t")[0], "1");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(fields(&mut other, "LOCK.CHECK b t")[0], "1");
    drop(holder);
    eventually("what was bound in a transaction is free", || shown(&mut other, "LOCK.INFO b") == "nil");
}
