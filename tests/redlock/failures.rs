//! A minority of masters that is away changes nothing but times; a majority that is away grants nothing.

use std::time::{Duration, Instant};

use crate::support::{Redis, eventually};
use crate::{Masters, fields, granted, granted_at_last, send, shown};

#[test]
fn a_stopped_minority_costs_an_acquire_no_more_than_the_time_that_it_is_waited_for() {
    let masters = Masters::start(5);
    let daemon = masters.daemon("redlock_timeout_ms = 2000");
    let mut client = daemon.client();
    granted(&mut client, "LOCK.ACQUIRE warm 1000");
    masters.pause(&[0, 1]);
    for round in 0..20 {
        let began = Instant::now();
        granted(&mut client, &format!("LOCK.ACQUIRE a{round} 20000 TOKEN t"));
        assert_eq!(fields(&mut client, &format!("LOCK.ACQUIRE a{round} 20000"))[0], "0");
        assert_eq!(fields(&mut client, &format!("LOCK.CHECK a{round} t"))[0], "1");
        assert_eq!(shown(&mut client, &format!("LOCK.RELEASE a{round} t")), "0");
        // A majority has answered long before.
        assert!(began.elapsed() < Duration::from_millis(1900), "{:?}", began.elapsed());
    }
    masters.wake(&[0, 1]);
    // What they were sent meanwhile was told them in order: nothing of it is held.
    eventually("nothing is held anywhere", || {
        (0..20).all(|round| masters.holding(&format!("a{round}"), "t") == 0)
    });
    eventually("all five hold the next one", || {
        granted(&mut client, "LOCK.ACQUIRE b 20000 TOKEN u");
        masters.holding("b", "u") == 5
    });
}

#[test]
fn three_of_five_away_is_a_clear_error_and_no_grant() {
    let mut masters = Masters::start_with(5, &crate::KEEPS_ALL);
    let daemon = masters.daemon("redlock_ttl_max_ms = 1500");
    let mut client = daemon.client();
    granted(&mut client, "LOCK.ACQUIRE held 1500 TOKEN t");
    masters.kill(&[0, 1, 2]);
    for line in [
        "LOCK.ACQUIRE a 1000",
        "LOCK.ACQUIRE a 1000 WAIT 300",
        "LOCK.EXTEND held t 1000",
        "LOCK.CHECK held t",
        "LOCK.RELEASE held t",
        "LOCK.INFO held",
        "LOCK.FORCE held",
    ] {
        let reply = shown(&mut client, line);
        let expected = "-NOQUORUM 3 of the 5 masters of locks must agree: 3 did not answer in time";
        assert_eq!(reply, expected, "{line}");
    }
    // What two granted was given back at once.
    let free = |at: usize| masters.0[at].client().text(&["EXISTS", "lock:a"]) == ":0";
    eventually("nothing is left of it", || free(3) && free(4));
    masters.restart(&[0, 1, 2]);
    granted_at_last(&mut client, "LOCK.ACQUIRE a 1000");
}

#[test]
fn a_waiter_goes_on_waiting_while_a_majority_is_away() {
    let masters = Masters::start(3);
    let daemon = masters.daemon("");
    let mut client = daemon.client();
    masters.pause(&[0, 1]);
    send(&mut client, "LOCK.ACQUIRE a 10000 WAIT 15000");
    client.expect_silence(Duration::from_millis(800));
    masters.wake(&[0, 1]);
    assert!(client.read_frame().starts_with(b"*4\r\n:1\r\n"));
}

#[test]
fn locks_go_on_where_only_l2_is_away() {
    let mut redis = Redis::start();
    let masters = Masters::start(3);
    let daemon = masters.daemon_before(&redis.url(), "");
    let mut client = daemon.client();
    granted(&mut client, "LOCK.ACQUIRE a 20000 TOKEN t");
    redis.process.kill();
    eventually("L2 is seen to be away", || daemon.http("/readyz").0 == 503);
    assert_eq!(fields(&mut client, "LOCK.CHECK a t")[0], "1");
    granted(&mut daemon.client(), "LOCK.ACQUIRE b 20000 TOKEN t");
    assert!(shown(&mut client, "GET k").starts_with('-'));
}

#[test]
fn one_of_the_masters_may_be_the_caches_redis() {
    let masters = Masters::start(3);
    let daemon = masters.daemon_before(&masters.0[0].url(), "");
    let mut client = daemon.client();
    for round in 0..3 {
        granted(&mut client, &format!("LOCK.ACQUIRE a 20000 TOKEN t{round}"));
        // A majority has decided; this master may be the one that answers later.
        eventually("the lock is seen", || shown(&mut client, "GET lock:a") == format!("'t{round}'"));
        for _ in 0..3 {
            assert_eq!(shown(&mut client, "GET lock:a"), format!("'t{round}'"));
        }
        assert_eq!(shown(&mut client, &format!("LOCK.RELEASE a t{round}")), "0");
        eventually("its end is seen", || shown(&mut client, "GET lock:a") == "nil");
    }
}
