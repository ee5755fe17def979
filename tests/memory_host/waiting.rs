//! Requests that wait for keys.

use super::both::in_both_protocols;

#[test]
fn who_waits_first_is_served_first() {
    in_both_protocols(|both| {
        both.block("x", "BLPOP l m 0");
        both.block("y", "BRPOP l 0");
        both.block("z", "BLMOVE l dst LEFT RIGHT 0");
        both.say("RPUSH l 1 2 3 4");
        ["x", "y", "z"].into_iter().for_each(|name| both.receive(name));
        both.say("LRANGE l 0 -1");
        both.say("LRANGE dst 0 -1");
    });
}

#[test]
fn nobody_is_served_within_a_transaction_or_script() {
    in_both_protocols(|both| {
        both.block("x", "BLPOP l m 0");
        for request in ["MULTI", "LPUSH m 1", "LPUSH l 2", "DEL l", "LPUSH l 3", "EXEC"] {
            both.say(request);
        }
        both.receive("x");
        both.block("x", "BLPOP k 0");
        both.eval("redis.call('lpush','k','a') redis.call('del','k') return 1");
        both.eval("redis.call('lpush','k','a','b') return redis.call('llen','k')");
        both.receive("x");
        both.say("LRANGE k 0 -1");
    });
}

#[test]
fn one_who_is_served_may_serve_another() {
    in_both_protocols(|both| {
        both.block("x", "BLPOP dst 0");
        both.block("y", "BRPOPLPUSH src dst 0");
        both.say("LPUSH src v");
        both.receive("y");
        both.receive("x");
        both.block("x", "BZPOPMIN z 0");
        both.block("y", "BZMPOP 0 2 y z MAX COUNT 2");
        both.say("LPUSH z nolist");
        both.say("DEL z");
        both.say("ZADD z 1 a 2.5 b 3 c");
        both.receive("x");
        both.receive("y");
    });
}

#[test]
fn waits_end_with_their_time_or_by_another() {
    in_both_protocols(|both| {
        both.block("x", "BLPOP l 0.05");
        both.block("y", "BLMOVE l d LEFT LEFT 0.05");
        both.block("z", "BZPOPMIN zz 0.05");
        std::thread::sleep(std::time::Duration::from_millis(60));
        both.engine.upkeep();
        ["x", "y", "z"].into_iter().for_each(|name| both.receive(name));
        assert_eq!(both.engine.next_deadline_ms(), None);
    });
}

#[test]
fn who_leaves_waits_no_more() {
    let mut both = super::both::Both::start(false);
    both.block("x", "BLPOP l 0");
    let id = both.id_of("x");
    assert!(both.engine.is_blocked(id));
    both.disconnect("x");
    assert!(!both.engine.is_blocked(id) && !both.engine.unblock(id, true));
    both.finish();
}

#[test]
fn another_may_end_a_wait() {
    in_both_protocols(|both| {
        let id = both.redis_id("x");
        for (request, with_error) in
            [("BLPOP l 0", false), ("BLMOVE l d LEFT LEFT 0", true), ("BZPOPMIN z 0", false)]
        {
            both.block("x", request);
            both.unblock(id, "x", with_error);
            both.receive("x");
        }
        both.say_as("x", "PING");
    });
}
