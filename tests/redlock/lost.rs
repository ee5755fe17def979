//! Masters that lost what they knew: no lock is granted twice by them, and no fence is given again.

use std::time::{Duration, Instant};

use crate::support::eventually;
use crate::{KEEPS_ALL, Masters, granted, granted_at_last, season, shown, until_counting, until_member};

const WINDOW: &str = "redlock_ttl_max_ms = 3000";

#[test]
fn a_master_that_restarts_with_nothing_helps_nobody_to_what_it_had_granted() {
    let mut masters = Masters::start(5);
    let daemon = masters.daemon(WINDOW);
    let (mut holder, mut other) = (daemon.client(), daemon.client());
    until_counting(&daemon, 5);
    masters.pause(&[3, 4]);
    let fence = granted(&mut holder, "LOCK.ACQUIRE a 3000 TOKEN t");
    let asked = Instant::now();
    masters.restart(&[2]);
    masters.wake(&[3, 4]);
    eventually("they hold nothing", || masters.holding("a", "t") == 2);
    // Three of five are free, and one of them does not know why it should not be.
    let later = granted_at_last_behind_denials(&mut other, "LOCK.ACQUIRE a 1000");
    assert!(later > fence);
    assert!(asked.elapsed() > Duration::from_millis(2900), "granted twice: {:?}", asked.elapsed());
}

/// Until it is granted there are only denials and the lack of a majority.
fn granted_at_last_behind_denials(client: &mut crate::Client, line: &str) -> u64 {
    let mut fence = None;
    eventually("it is granted", || {
        let reply = shown(client, line);
        assert!(["[1 ", "[0 ", "-NOQUORUM"].iter().any(|start| reply.starts_with(start)), "{reply}");
        fence = reply.starts_with("[1 ").then(|| reply.split(' ').nth(2).unwrap().parse().unwrap());
        fence.is_some()
    });
    fence.unwrap()
}

#[test]
fn so_it_is_where_it_was_flushed_and_where_it_restarts_with_what_it_had() {
    let mut masters = Masters::start_with(3, &KEEPS_ALL);
    let daemon = masters.daemon(WINDOW);
    let mut client = daemon.client();
    until_counting(&daemon, 3);
    masters.kill(&[2]);
    granted(&mut client, "LOCK.ACQUIRE a 3000 TOKEN t");
    let asked = Instant::now();
    masters.restart(&[2]);
    assert_eq!(masters.0[1].client().text(&["FLUSHALL"]), "+OK");
    granted_at_last_behind_denials(&mut client, "LOCK.ACQUIRE a 1000");
    assert!(asked.elapsed() > Duration::from_millis(2900), "granted twice: {:?}", asked.elapsed());
}

/// A master that has given a fence far ahead of the clocks, as one does whose clock is.
fn give_far_fence(masters: &Masters, at: usize) {
    masters.0[at].client().call(&["HSET", "x:{lock:a}:grant", "fence", FAR]);
}

const FAR: &str = "4000000000000000";

#[test]
fn a_fence_is_known_to_a_majority_before_anybody_is_told_of_it() {
    let mut masters = Masters::start(5);
    let daemon = masters.daemon("");
    let mut client = daemon.client();
    until_counting(&daemon, 5);
    give_far_fence(&masters, 0);
    masters.pause(&[3, 4]);
    let fence = granted_at_last(&mut client, "LOCK.ACQUIRE a 20000 TOKEN t");
    assert!(fence > FAR.parse().unwrap(), "{fence}");
    assert_eq!(shown(&mut client, "LOCK.RELEASE a t"), "0");
    masters.wake(&[3, 4]);
    masters.kill(&[0, 1]);
    let next = granted_at_last(&mut client, "LOCK.ACQUIRE a 20000 TOKEN u");
    assert!(next > fence, "{next} is not above {fence}");
}

#[test]
fn a_master_that_lost_all_learns_the_fences_of_the_others_before_it_counts() {
    let mut masters = Masters::start(5);
    let daemon = masters.daemon("redlock_ttl_max_ms = 1000");
    let mut client = daemon.client();
    until_counting(&daemon, 5);
    masters.pause(&[3, 4]);
    give_far_fence(&masters, 0);
    let fence = granted_at_last(&mut client, "LOCK.ACQUIRE a 1000 TOKEN t");
    shown(&mut client, "LOCK.RELEASE a t");
    masters.wake(&[3, 4]);
    // Now those that granted it go away, but for one that has come back with nothing.
    masters.restart(&[2]);
    until_member(&masters, 2);
    masters.kill(&[0, 1]);
    let next = granted_at_last(&mut client, "LOCK.ACQUIRE a 1000 TOKEN u");
    assert!(next > fence, "{next} is not above {fence}");
}

#[test]
fn daemons_wait_for_the_longest_ttl_of_any_of_them() {
    let mut masters = Masters::start(3);
    let (long, short) =
        (masters.daemon("redlock_ttl_max_ms = 4000"), masters.daemon("redlock_ttl_max_ms = 100"));
    until_counting(&long, 3);
    until_counting(&short, 3);
    masters.kill(&[2]);
    granted(&mut long.client(), "LOCK.ACQUIRE a 4000 TOKEN t");
    let asked = Instant::now();
    masters.restart(&[1]);
    masters.restart(&[2]);
    season(&masters.0[2]);
    granted_at_last_behind_denials(&mut short.client(), "LOCK.ACQUIRE a 100");
    assert!(asked.elapsed() > Duration::from_millis(3900), "granted twice: {:?}", asked.elapsed());
}
