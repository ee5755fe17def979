//! How the daemon finds out who leads: sentinels that are not there yet, that die, that know no better, that ask for a password.

use std::time::Duration;

use crate::support::sentinel::{FakeSentinel, SERVICE, Sentinel, Service, eventually_elected};
use crate::support::{Daemon, Redis, eventually, free_port};
use crate::{ask, expect_service, told};

const NOT_SENT: &str = "-LOADING madcache: not sent: no master of test-state";

#[test]
fn a_daemon_that_was_started_before_its_sentinels_finds_the_master_later() {
    let redis = Redis::start();
    let port = free_port();
    let url = format!("redis-sentinel://127.0.0.1:{port}/{SERVICE}");
    let daemon = Daemon::start_with(&url, &[]);
    eventually("it says why", || {
        let reply = ask(daemon.port, &["SET", "k", "v"]).unwrap();
        assert!(reply.starts_with(NOT_SENT), "{reply}");
        reply.contains("no sentinel answers")
    });
    let (status, text) = daemon.http("/readyz");
    assert!(status == 503 && text.contains("no master of test-state: no sentinel answers"), "{text}");
    assert_eq!(told(&daemon, "master"), "none");
    let _sentinel = Sentinel::start_at(port, redis.port, 1, "");
    expect_service(&daemon);
    assert_eq!(told(&daemon, "master"), format!("127.0.0.1:{}", redis.port));
    assert_eq!(told(&daemon, "service"), SERVICE);
    eventually("it is ready", || daemon.http("/readyz").0 == 200);
    assert_eq!(daemon.stat("failovers"), 0);
}

#[test]
fn sentinels_that_die_one_by_one_take_nothing_along() {
    let mut service = Service::start();
    // Only one of them is named; the others are learned of.
    let url = format!("redis-sentinel://127.0.0.1:{}/{SERVICE}", service.sentinels[0].port);
    let daemon = Daemon::start_with(&url, &[("MADCACHE_LOG_LEVEL", "debug")]);
    expect_service(&daemon);
    eventually("it learns of the others", || daemon.stderr().matches("a further sentinel").count() == 2);
    service.sentinels[0].process.kill();
    let old = service.named_by(1).expect("a master");
    service.nodes[old].process.kill();
    let mut new = old;
    eventually_elected("the two others elect another one", || {
        new = service.named_by(1).unwrap_or(old);
        new != old && service.named_by(2) == Some(new)
    });
    expect_service(&daemon);
    eventually("it is followed there", || {
        told(&daemon, "master").ends_with(&format!(":{}", service.nodes[new].port))
    });
    for sentinel in &mut service.sentinels[1..] {
        sentinel.process.kill();
    }
    // Longer than it takes to notice.
    let end = std::time::Instant::now() + Duration::from_millis(1500);
    while std::time::Instant::now() < end {
        assert_eq!(ask(daemon.port, &["SET", "k", "v"]).as_deref(), Some("+OK"), "the master leads on");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(daemon.stat("failovers"), 1);
}

#[test]
fn a_sentinel_that_tells_of_an_older_master_is_not_believed() {
    let (old, new) = (Redis::start(), Redis::start());
    let sentinels =
        [FakeSentinel::naming(&old, 3), FakeSentinel::naming(&new, 7), FakeSentinel::naming(&new, 7)];
    let ports: Vec<String> =
        sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
    for turned in 0..3 {
        let mut ports = ports.clone();
        ports.rotate_left(turned);
        let daemon = Daemon::start_with(&format!("redis-sentinel://{}/{SERVICE}", ports.join(",")), &[]);
        expect_service(&daemon);
        // It says so again, as an event.
        for _ in 0..20 {
            sentinels[0].say(&old, 3, None);
            assert_eq!(ask(daemon.port, &["SET", "k", "v"]).as_deref(), Some("+OK"));
        }
        assert_eq!(told(&daemon, "master"), format!("127.0.0.1:{}", new.port));
        assert_eq!(daemon.stat("failovers"), 0);
    }
    assert_eq!(old.client().text(&["DBSIZE"]), ":0");
}

#[test]
fn a_service_that_no_sentinel_knows_is_named_in_the_log_and_to_clients() {
    let redis = Redis::start();
    let sentinel = Sentinel::start(redis.port, 1, "");
    let daemon = Daemon::start_with(&format!("redis-sentinel://127.0.0.1:{}/nosuch", sentinel.port), &[]);
    let reason = format!(
        "no master of nosuch: the sentinel at 127.0.0.1:{} knows no service called nosuch",
        sentinel.port
    );
    eventually("clients are told", || {
        ask(daemon.port, &["GET", "k"])
            .is_some_and(|reply| reply == format!("-LOADING madcache: not sent: {reason}"))
    });
    let log = daemon.stderr();
    let lines: Vec<&str> =
        log.lines().filter(|line| line.contains(&reason) && line.contains("ERROR")).collect();
    assert!(lines.len() == 1 && lines[0].contains("check upstream.url"), "{log}");
}

#[test]
fn sentinels_and_redis_may_ask_for_passwords_of_their_own() {
    let redis = Redis::start_with(&["--requirepass", "of-redis"]);
    let secrets = format!("requirepass of-sentinel\nsentinel auth-pass {SERVICE} of-redis");
    let sentinel = Sentinel::start(redis.port, 1, &secrets);
    let url =
        |query: &str| format!("redis-sentinel://:of-redis@127.0.0.1:{}/{SERVICE}/2{query}", sentinel.port);
    let daemon = Daemon::start_with(&url("?sentinel_password=of-sentinel"), &[]);
    expect_service(&daemon);
    let mut client = redis.client();
    assert_eq!(client.text(&["AUTH", "of-redis"]), "+OK");
    assert_eq!(client.text(&["SELECT", "2"]), "+OK");
    assert_eq!(client.text(&["GET", "served"]), "yes");
    for query in ["", "?sentinel_password=wrong", "?sentinel_user=nobody&sentinel_password=of-sentinel"] {
        let daemon = Daemon::start_with(&url(query), &[]);
        eventually("it says that it is refused", || {
            ask(daemon.port, &["GET", "k"]).is_some_and(|reply| reply.contains("refuses to be asked"))
        });
        let log = daemon.stderr();
        assert!(log.contains("check upstream.url") && !log.contains("of-sentinel"), "{log}");
    }
}

#[test]
fn a_kind_of_shared_state_follows_a_master_of_its_own() {
    let (redis, first, second) = (Redis::start(), Redis::start(), Redis::start());
    let sentinel = FakeSentinel::naming(&first, 1);
    let daemon = Daemon::start_with(&redis.url(), &[("MADCACHE_LOCK_URL_OVERRIDE", &sentinel.url())]);
    let acquire = |name| ask(daemon.port, &["LOCK.ACQUIRE", name, "60000", "TOKEN", "t"]);
    eventually("a lock is granted", || acquire("a").is_some_and(|reply| reply.starts_with("*4\r\n:1")));
    assert_eq!(first.client().text(&["GET", "lock:a"]), "t");
    sentinel.say(&second, 2, None);
    eventually("its successor grants", || {
        acquire("b").is_some_and(|reply| reply.starts_with("*4\r\n:1"))
            && second.client().text(&["GET", "lock:b"]) == "t"
    });
    assert_eq!(daemon.stat("failovers"), 1);
    assert_eq!(redis.client().text(&["DBSIZE"]), ":0");
}
