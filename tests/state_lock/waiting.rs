//! Who stands in line for a lock, who comes next, who is woken, and what becomes of waiters and holders that left.
use super::support::scripts::shown;
use super::{LOST, Locks};
use madcache::resp::parse;

#[test]
fn waiters_with_fair_are_granted_the_lock_in_their_order() {
    let mut locks = Locks::start();
    locks.granted(1, "100000");
    for number in 2..7 {
        assert!(locks.acquire(number, "1000 WAIT 9000 FAIR").starts_with("[0"));
    }
    assert!(locks.run("INFO a").ends_with(" 5]"));
    let mut holder = 1;
    for number in 2..7 {
        assert_eq!(locks.run(&format!("RELEASE a t{holder}")), "0");
        for other in (number + 1..7).chain([99]) {
            assert_eq!(
                locks.acquire(other, "1000 WAIT 9000 FAIR"),
                "[0 ~ ~ 1000]",
                "{other} before {number}"
            );
        }
        // A newcomer without WAIT does not barge, and does not stand in line either.
        assert_eq!(locks.acquire(50, "1000"), "[0 ~ ~ 1000]");
        locks.granted(number, "1000 WAIT 9000 FAIR");
        holder = number;
    }
    assert!(locks.run("INFO a").ends_with(" 1]"), "only the late one still waits");
}

#[test]
fn five_dead_waiters_are_skipped_after_three_seconds() {
    let mut locks = Locks::start();
    locks.granted(1, "100000");
    for number in 2..7 {
        locks.acquire(number, "1000 WAIT 9000 FAIR");
    }
    locks.store.pass_ms(2000);
    locks.acquire(7, "1000 WAIT 9000 FAIR");
    assert_eq!(locks.run("RELEASE a t1"), "0");
    locks.store.pass_ms(999);
    assert_eq!(locks.acquire(7, "1000 WAIT 9000 FAIR"), "[0 ~ ~ 1000]");
    locks.store.pass_ms(1);
    assert!(locks.run("INFO a").starts_with('~'));
    locks.granted(7, "1000 WAIT 9000 FAIR");
    assert!(locks.run("INFO a").ends_with(" 0]"));
    // One that was only slow takes its place at the end.
    assert!(locks.acquire(2, "1000 WAIT 9000 FAIR").starts_with("[0"));
}

#[test]
fn without_fair_any_waiter_may_come_first_but_no_newcomer() {
    let mut locks = Locks::start();
    locks.granted(1, "100000");
    locks.acquire(2, "1000 WAIT 9000");
    locks.acquire(3, "1000 WAIT 9000");
    assert_eq!(locks.run("RELEASE a t1"), "0");
    assert_eq!(locks.acquire(4, "1000"), "[0 ~ ~ 1000]");
    assert_eq!(locks.acquire(5, "1000 WAIT 9000"), "[0 ~ ~ 1000]");
    locks.granted(3, "1000 WAIT 9000");
    // Plain SET NX may barge.
    assert_eq!(locks.run("RELEASE a t3"), "0");
    assert_eq!(locks.redis("SET lock:a theirs NX PX 1000"), "+OK");
}

#[test]
fn a_release_wakes_whoever_stood_in_line_before_it() {
    let mut locks = Locks::start();
    let mut wakes = locks.store.redis.client();
    wakes.call(&["SUBSCRIBE", "x:lock:wake"]);
    let mut next = || shown(&parse(&wakes.read_frame()).unwrap());
    let digits = |number: u8| format!("{number:02x}").repeat(16);

    // The check and the place in line are one script: there is no moment between them for a release to fall into.
    locks.granted(1, "1000");
    locks.acquire(2, "1000 WAIT 9000");
    locks.run("RELEASE a t1");
    assert_eq!(next(), "[message x:lock:wake * a]");
    locks.granted(2, "1000 WAIT 9000");
    locks.acquire(3, "1000 WAIT 9000 FAIR");
    locks.acquire(4, "1000 WAIT 9000 FAIR");
    locks.run("FORCE a");
    assert_eq!(next(), format!("[message x:lock:wake {} a]", digits(3)));
    // The first one's client leaves while the lock is free.
    assert_eq!(locks.cancel(3), "0");
    assert_eq!(next(), format!("[message x:lock:wake {} a]", digits(4)));
    locks.granted(4, "1000 WAIT 9000 FAIR");
    // Nobody waits: nobody is woken.
    locks.run("RELEASE a t4");
    locks.granted(5, "1000");
    locks.acquire(6, "1000 WAIT 9000");
    locks.run("RELEASE a t5");
    assert_eq!(next(), "[message x:lock:wake * a]");
}

#[test]
fn a_waiter_whose_client_left_is_removed_and_its_grant_released() {
    let mut locks = Locks::start();
    locks.granted(1, "100000");
    locks.acquire(2, "1000 WAIT 9000 FAIR");
    assert!(locks.run("INFO a").ends_with(" 1]"));
    assert_eq!(locks.cancel(2), "0");
    assert!(locks.run("INFO a").ends_with(" 0]"));
    locks.run("RELEASE a t1");
    // Its last attempt was still under way.
    assert!(locks.acquire(2, "1000 WAIT 9000 FAIR").starts_with("LOCKLOST"));
    // Or it was granted before the client was known to have left.
    locks.granted(3, "1000 WAIT 9000");
    assert_eq!(locks.cancel(3), "1");
    assert_eq!(locks.cancel(3), "0");
    assert_eq!(locks.run("INFO a"), "~");
}

#[test]
fn the_end_of_a_connection_leaves_a_lock_alone_that_was_taken_anew_with_the_same_token() {
    let mut locks = Locks::start();
    locks.granted(1, "1000 TOKEN t BIND");
    locks.granted(2, "1000 TOKEN t BIND");
    assert_eq!(locks.cancel(1), "0");
    assert_eq!(locks.redis("GET lock:a"), "t");
    assert_eq!(locks.cancel(2), "1");
    assert_eq!(locks.run("RELEASE a t"), LOST);

    locks.granted(3, "1000 TOKEN t BIND REENTRANT");
    locks.granted(4, "1000 TOKEN t REENTRANT");
    assert_eq!(locks.cancel(3), "1");
    assert_eq!(locks.cancel(3), "0");
    assert_eq!(locks.run("RELEASE a t"), "0", "one hold was left");

    locks.granted(5, "1000 TOKEN t BIND");
    locks.run("RELEASE a t");
    locks.granted(6, "1000 TOKEN t");
    assert_eq!(locks.cancel(5), "0");
    assert_eq!(locks.redis("GET lock:a"), "t");
}
