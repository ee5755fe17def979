//! Rate limits by the policies of a configuration file, and what they answer while Redis is away.

use crate::support::{Daemon, Redis, eventually};
use crate::{daemon_with_file, shown};

const FILE: &str = "[ratelimit]\non_l2_down = \"closed\"\n\
    [upstream]\nsilence_max_ms = 300\n\
    [ratelimit.policies.open]\nlimit = 3\nwindow_ms = 604800000\non_l2_down = \"open\"\n\
    [ratelimit.policies.closed]\nlimit = 5\nwindow_ms = 604800000\non_l2_down = \"closed\"\n\
    [ratelimit.policies.default]\nlimit = 7\nwindow_ms = 604800000\n";

const AWAY: [(&str, &str); 5] = [
    ("POLICY open", "[1 3 3 -1 0]"),
    ("POLICY closed", "[0 5 0 1000 1000]"),
    ("POLICY closed SHADOW", "[1 5 5 -1 0]"),
    ("POLICY default", "[0 7 0 1000 1000]"),
    ("LIMIT 9 WINDOW 60000", "[0 9 0 1000 1000]"),
];

fn answers_by_policy(daemon: &Daemon) {
    let mut client = daemon.client();
    for (terms, answer) in AWAY {
        for verb in ["CHECK", "PEEK"] {
            assert_eq!(
                shown(&mut client, &format!("RATELIMIT.{verb} user u {terms}")),
                answer,
                "{verb} {terms}"
            );
        }
    }
    assert!(shown(&mut client, "LOCK.ACQUIRE a 1000").starts_with('-'));
}

#[test]
fn without_redis_a_check_answers_as_its_policy_says() {
    let mut redis = Redis::start();
    let daemon = daemon_with_file(&redis, FILE);
    let mut client = daemon.client();
    let line = "RATELIMIT.CHECK user u POLICY closed";
    assert!(shown(&mut client, line).starts_with("[1 5 4 -1"));
    redis.process.kill();
    answers_by_policy(&daemon);
    redis.restart();
    eventually("Redis is asked again", || shown(&mut client, line).starts_with("[1 5 4 -1"));
}

#[test]
fn so_it_does_where_redis_went_before_the_first_check() {
    let mut redis = Redis::start();
    let daemon = daemon_with_file(&redis, FILE);
    redis.process.kill();
    answers_by_policy(&daemon);
}

#[test]
fn so_it_does_where_redis_is_silent() {
    let redis = Redis::start();
    let daemon = daemon_with_file(&redis, FILE);
    let mut client = daemon.client();
    assert!(shown(&mut client, "RATELIMIT.CHECK user u POLICY open").starts_with("[1 3 2 -1"));
    redis.process.signal("STOP");
    assert_eq!(shown(&mut client, "RATELIMIT.CHECK user u POLICY open"), "[1 3 3 -1 0]");
    assert_eq!(shown(&mut client, "RATELIMIT.CHECK user u POLICY closed"), "[0 5 0 1000 1000]");
    redis.process.signal("CONT");
}

#[test]
fn kinds_that_are_disabled_say_so_and_limits_allow() {
    let redis = Redis::start();
    let drivers =
        ["lock", "ratelimit", "presence", "session"].map(|kind| format!("[{kind}]\ndriver = \"none\"\n"));
    let daemon = daemon_with_file(&redis, &drivers.concat());
    let mut client = daemon.client();
    for (line, answer) in [
        ("LOCK.ACQUIRE a 1000", "-ERR lock is disabled"),
        ("PRESENCE.COUNT room", "-ERR presence is disabled"),
        ("SESSION.COUNT ann", "-ERR session is disabled"),
        ("RATELIMIT.CHECK user u LIMIT 3 WINDOW 1000 COST 5", "[1 3 3 -1 0]"),
        ("RATELIMIT.RESET user u", "0"),
        ("DBSIZE", "0"),
    ] {
        assert_eq!(shown(&mut client, line), answer, "{line}");
    }
}

#[test]
fn a_changed_plan_counts_what_was_used_from_the_moment_the_configuration_is_read_again() {
    let redis = Redis::start();
    let file = redis.dir().join("plan.toml");
    let plan = |limit: u64| format!("[ratelimit.policies.free]\nlimit = {limit}\nwindow_ms = 604800000\n");
    std::fs::write(&file, plan(3)).unwrap();
    let daemon = Daemon::spawn_as(&redis.url(), &[], |command| {
        command.arg("--config").arg(&file);
    })
    .ready();
    let mut client = daemon.client();
    assert!(shown(&mut client, "RATELIMIT.CHECK user u POLICY free COST 3").starts_with("[1 3 0 -1"));
    assert!(shown(&mut client, "RATELIMIT.CHECK user u POLICY free").starts_with("[0 3 0 "));
    for (limit, left) in [(5, "[1 5 2 -1"), (2, "[0 2 0 ")] {
        std::fs::write(&file, plan(limit)).unwrap();
        daemon.process.signal("HUP");
        eventually("the plan is changed", || {
            shown(&mut client, "RATELIMIT.PEEK user u POLICY free").starts_with(left)
        });
    }
}
