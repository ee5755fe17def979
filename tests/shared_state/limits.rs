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
    for (line, answer) in [
        ("RATELIMIT.MULTI 2 user a open 1 user b open 2", "[1 -1 [[1 3 3 -1 0] [1 3 3 -1 0]]]"),
        ("RATELIMIT.MULTI 2 user a open 1 user b closed 1", "[0 1 [[1 3 3 -1 0] [0 5 0 1000 1000]]]"),
        ("RATELIMIT.REFUND user u 2 POLICY open", "0"),
        ("RATELIMIT.REFUND user u 2 POLICY closed", "0"),
        ("CL.THROTTLE k 2 1 60", "[1 3 0 1 1]"),
    ] {
        assert_eq!(shown(&mut client, line), answer, "{line}");
    }
    // What it promises to be gone is not.
    assert!(shown(&mut client, "RATELIMIT.RESET user u").starts_with('-'));
    assert!(shown(&mut client, "LOCK.ACQUIRE a 1000").starts_with('-'));
}

#[test]
fn a_throttle_without_a_word_on_outages_allows() {
    let mut redis = Redis::start();
    let daemon = daemon_with_file(&redis, "");
    let mut client = daemon.client();
    assert_eq!(shown(&mut client, "CL.THROTTLE k 2 1 3600"), "[0 3 2 -1 3600]");
    redis.process.kill();
    for _ in 0..5 {
        assert_eq!(shown(&mut client, "CL.THROTTLE k 2 1 3600"), "[0 3 3 -1 0]");
    }
}

const LOCAL: &str = "[server]\nworkers = 3\n[ratelimit]\non_l2_down = \"local\"\nnodes = 2\n\
    [ratelimit.policies.six]\nlimit = 6\nwindow_ms = 604800000\n\
    [ratelimit.policies.log]\nlimit = 4\nwindow_ms = 604800000\nalgo = \"log\"\n\
    [ratelimit.policies.shut]\nlimit = 6\nwindow_ms = 604800000\non_l2_down = \"closed\"\n";

/// The first fields of an answer about a limit: allowed, limit, remaining, retry.
fn standing(daemon: &Daemon, line: &str) -> Vec<String> {
    // Connections are dealt to the workers in turn.
    let mut fields = crate::fields(&mut daemon.client(), line);
    fields.truncate(4);
    fields
}

#[test]
fn a_local_policy_counts_this_daemons_share_for_all_of_its_workers() {
    let mut redis = Redis::start();
    let daemon = daemon_with_file(&redis, LOCAL);
    let check = "RATELIMIT.CHECK user u POLICY six";
    assert_eq!(standing(&daemon, check), ["1", "6", "5", "-1"]);
    redis.process.kill();
    for left in ["2", "1", "0"] {
        assert_eq!(standing(&daemon, check), ["1", "3", left, "-1"]);
    }
    for _ in 0..4 {
        assert_eq!(standing(&daemon, check)[..3], ["0", "3", "0"]);
    }
    assert_eq!(standing(&daemon, "RATELIMIT.CHECK user other POLICY six"), ["1", "3", "2", "-1"]);
    assert_eq!(shown(&mut daemon.client(), "RATELIMIT.REFUND user u 1 POLICY six"), "1");
    assert_eq!(standing(&daemon, "RATELIMIT.PEEK user u POLICY six"), ["1", "3", "1", "-1"]);
    assert_eq!(standing(&daemon, check), ["1", "3", "0", "-1"]);
    // Above this daemon's share, but not above the limit: it may fit later.
    assert_eq!(standing(&daemon, "RATELIMIT.CHECK user v POLICY six COST 4"), ["0", "3", "3", "1000"]);
    assert_eq!(standing(&daemon, "RATELIMIT.CHECK user v POLICY six COST 7"), ["0", "3", "3", "-2"]);
    redis.restart();
    eventually("Redis counts again", || standing(&daemon, check) == ["1", "6", "5", "-1"]);
}

#[test]
fn local_counts_of_several_limits_are_used_all_or_not_at_all() {
    let mut redis = Redis::start();
    let daemon = daemon_with_file(&redis, LOCAL);
    redis.process.kill();
    let mut client = daemon.client();
    let multi = |client: &mut _, line: &str| shown(client, &format!("RATELIMIT.MULTI {line}"));
    let both = "2 user m six 1 user m log 1";
    assert!(multi(&mut client, both).starts_with("[1 -1 [[1 3 2 -1"), "{both}");
    assert!(multi(&mut client, both).starts_with("[1 -1 [[1 3 1 -1"), "{both}");
    assert!(multi(&mut client, both).starts_with("[0 1 [[1 3 "), "the log's share is used up");
    assert!(multi(&mut client, "2 user m six 1 user m shut 1").starts_with("[0 1 [[1 3 1 -1"));
    assert_eq!(standing(&daemon, "RATELIMIT.CHECK user m POLICY six"), ["1", "3", "0", "-1"]);
}

#[test]
fn a_local_throttle_counts_a_share_too() {
    let mut redis = Redis::start();
    let daemon = daemon_with_file(&redis, LOCAL);
    redis.process.kill();
    let throttle = "CL.THROTTLE k 3 2 3600";
    assert_eq!(standing(&daemon, throttle), ["0", "2", "1", "-1"]);
    assert_eq!(standing(&daemon, throttle), ["0", "2", "0", "-1"]);
    assert_eq!(standing(&daemon, throttle)[..3], ["1", "2", "0"]);
}

#[test]
fn a_throttle_that_redis_knows_is_forwarded_as_it_is() {
    // As if the module were there: what is renamed answers in its own way.
    let redis = Redis::start_from_file("rename-command RPUSH CL.THROTTLE\n");
    let daemon = daemon_with_file(&redis, "[ratelimit]\nprefix = \"app:\"\n");
    let mut client = daemon.client();
    assert_eq!(shown(&mut client, "CL.THROTTLE k 15 30 60"), "3");
    assert_eq!(shown(&mut client, "LRANGE k 0 -1"), "['15' '30' '60']");
    for (line, reply) in [("MULTI", "+OK"), ("CL.THROTTLE k 1 2 3 4", "+QUEUED"), ("EXEC", "[7]")] {
        assert_eq!(shown(&mut client, line), reply);
    }
    // A read that hits sees what it wrote.
    for _ in 0..3 {
        assert_eq!(shown(&mut client, "LLEN k"), "7");
    }
    assert_eq!(shown(&mut client, "CL.THROTTLE k 1 2 3"), "10");
    assert_eq!(shown(&mut client, "LLEN k"), "10");
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
        ("CL.THROTTLE k 2 1 60 9", "[0 3 3 -1 0]"),
        ("CL.THROTTLE k 15 30 60 99", "[0 16 16 -1 0]"),
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
