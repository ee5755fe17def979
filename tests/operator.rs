//! What an operator sees: the same numbers everywhere, pages behind a token, and a word about each change of Redis.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use support::{Daemon, PATIENCE, Redis, eventually};

/// The whole answer of the admin server.
fn ask(daemon: &Daemon, method: &str, path: &str, header: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", daemon.admin_port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let end = if header.is_empty() { "" } else { "\r\n" };
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}{end}\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// Name and value of each number in INFO, in order.
fn info(daemon: &Daemon) -> Vec<(String, u64)> {
    let text = daemon.client().text(&["INFO", "madcache"]);
    let pairs = text.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| *name != "version");
    pairs.map(|(name, value)| (name.to_string(), value.parse().unwrap())).collect()
}

/// The names in MADCACHE STATS, in order.
fn stats(daemon: &Daemon) -> Vec<String> {
    let frame = daemon.client().call(&["MADCACHE", "STATS"]);
    let text = String::from_utf8(frame).unwrap();
    let is_name = |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase());
    text.lines().filter(is_name).map(String::from).collect()
}

/// The samples of /metrics by name and labels as written.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pairs = lines.map(|line| line.rsplit_once(' ').expect("a value"));
    pairs.map(|(name, value)| (name.to_string(), value.parse().unwrap())).collect()
}

/// How a number of INFO is called in /metrics; None: it is a sum of others there.
fn series(name: &str) -> Option<String> {
    let states = [
        "clients",
        "monitors",
        "workers",
        "l1_entries",
        "l1_bytes",
        "buffered_bytes",
        "l2_reachable",
        "tracking_alive",
        "lock_masters",
        "uptime_seconds",
    ];
    Some(match name {
        "links" => return None,
        "staleness_ms" => "madcache_staleness_seconds".into(),
        "closed_slow_readers" => "madcache_refused_total{reason=\"slow_reader\"}".into(),
        _ if states.contains(&name) => format!("madcache_{name}"),
        _ => match name.split_once('_') {
            Some(("refused", reason)) => format!("madcache_refused_total{{reason=\"{reason}\"}}"),
            Some(("commands", group)) => format!("madcache_commands_total{{group=\"{group}\"}}"),
            Some((kind, "reachable")) => format!("madcache_kind_reachable{{kind=\"{kind}\"}}"),
            Some(("links", kind)) => format!("madcache_links{{kind=\"{kind}\"}}"),
            _ => format!("madcache_{name}_total"),
        },
    })
}

#[test]
fn info_stats_metrics_and_the_status_page_show_the_same_numbers() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut client = daemon.client();
    client.call(&["SET", "k", "v"]);
    eventually("a read is a hit", || {
        client.call(&["GET", "k"]);
        daemon.stat("l1_hits") > 0
    });
    let info = info(&daemon);
    let names: Vec<&str> = info.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(stats(&daemon), names);
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "a name stands twice");

    let (_, text) = daemon.http("/metrics");
    let shown = samples(&text);
    let expected: BTreeSet<String> = names.iter().filter_map(|name| series(name)).collect();
    let about_numbers = |name: &&String| {
        !name.starts_with("madcache_l2_latency_seconds") && !name.starts_with("madcache_build_info")
    };
    assert_eq!(shown.keys().filter(about_numbers).cloned().collect::<BTreeSet<_>>(), expected);
    for (name, value) in &info {
        // Nothing moves these any more.
        let still = [
            "l1_hits",
            "l1_misses",
            "l1_fills",
            "l1_invalidations",
            "l1_entries",
            "commands_write",
            "workers",
        ];
        if still.contains(&name.as_str()) {
            assert_eq!(shown[&series(name).unwrap()], *value as f64, "{name}");
        }
    }

    let page = daemon.http("/").1;
    for name in names {
        let line = page.lines().find(|line| line.split(' ').next() == Some(name));
        let help = line.unwrap_or_else(|| panic!("no {name} in\n{page}")).split_whitespace().nth(2);
        assert!(help.is_some(), "{name} has no help");
    }
}

#[test]
fn every_declared_number_has_a_help_that_is_a_sentence() {
    for row in madcache::metrics::COUNTERS {
        assert!(row.help.ends_with('.') && row.help.len() > 10, "{}: {:?}", row.name, row.help);
        assert!(row.help.starts_with(|c: char| c.is_ascii_uppercase()), "{}: {:?}", row.name, row.help);
    }
    let redis = Redis::start();
    let (_, text) = Daemon::start(&redis).http("/metrics");
    for line in text.lines().filter(|line| line.starts_with("# HELP")) {
        assert!(line.ends_with('.'), "{line}");
    }
}

#[test]
fn latencies_count_every_reply_of_redis() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut client = daemon.client();
    let count = || samples(&daemon.http("/metrics").1)["madcache_l2_latency_seconds_count{group=\"write\"}"];
    let before = count();
    for _ in 0..100 {
        client.call(&["SET", "k", "v"]);
    }
    assert_eq!(count(), before + 100.0);
    let shown = samples(&daemon.http("/metrics").1);
    let sum = shown["madcache_l2_latency_seconds_sum{group=\"write\"}"];
    assert!(sum > 0.0 && sum < PATIENCE.as_secs_f64(), "{sum} s for 100 writes");
    assert_eq!(shown["madcache_l2_latency_seconds_bucket{group=\"write\",le=\"+Inf\"}"], before + 100.0);
}

#[test]
fn a_token_guards_all_but_the_health() {
    let redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url(), &[("MADCACHE_ADMIN_TOKEN", "zztoken")]);
    eventually("ready", || status(&ask(&daemon, "GET", "/readyz", "Authorization: Bearer zztoken")) == 200);
    assert_eq!(status(&ask(&daemon, "GET", "/healthz", "")), 200);
    for path in ["/", "/metrics", "/readyz", "/nowhere"] {
        for header in
            ["", "Authorization: Bearer zztokem", "Authorization: Bearer", "Authorization: Basic zztoken"]
        {
            let answer = ask(&daemon, "GET", path, header);
            assert_eq!(status(&answer), 401, "{path} {header}: {answer}");
            assert!(answer.to_ascii_lowercase().contains("www-authenticate: bearer"), "{answer}");
            assert!(!answer.contains("zztoken") && !answer.contains("madcache_"), "{answer}");
        }
        let expected = if path == "/nowhere" { 404 } else { 200 };
        let answer = ask(&daemon, "GET", path, "Authorization: bearer zztoken");
        assert_eq!(status(&answer), expected, "{path}: {answer}");
        assert!(!answer.contains("zztoken"), "{answer}");
    }
}

#[test]
fn an_unknown_page_names_the_known_ones_and_head_has_no_body() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    eventually("ready", || daemon.http("/readyz").0 == 200);
    let lost = ask(&daemon, "GET", "/metric", "");
    assert_eq!(status(&lost), 404);
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert!(body(&lost).contains(path), "{lost}");
        let answer = ask(&daemon, "HEAD", path, "");
        assert_eq!((status(&answer), body(&answer)), (200, ""), "{path}: {answer}");
        assert_eq!(status(&ask(&daemon, "POST", path, "Content-Length: 0")), 405);
    }
    let answer = ask(&daemon, "HEAD", "/nowhere", "");
    assert_eq!((status(&answer), body(&answer)), (404, ""));
    let answer = ask(&daemon, "GET", "/metrics", "");
    assert!(answer.contains("text/plain; version=0.0.4"), "{answer}");
}

#[test]
fn no_page_shows_a_password() {
    let redis = Redis::start_with(&["--requirepass", "zzredis"]);
    let url = format!("redis://:zzredis@127.0.0.1:{}", redis.port);
    let daemon = Daemon::start_with(&url, &[("MADCACHE_SERVER_REQUIREPASS", "zzclients")]);
    eventually("ready", || daemon.http("/readyz").0 == 200);
    for path in ["/", "/metrics", "/readyz", "/healthz"] {
        let (_, text) = daemon.http(path);
        assert!(!text.contains("zzredis") && !text.contains("zzclients"), "{path}: {text}");
    }
    assert!(!daemon.stderr().contains("zzredis"), "{}", daemon.stderr());
}

/// Lines of the log that tell that Redis is gone, and that it is there.
fn told(daemon: &Daemon) -> (usize, usize) {
    let log = daemon.stderr();
    let lines = |words: [&str; 2]| log.lines().filter(|l| words.iter().any(|word| l.contains(word))).count();
    (lines(["L2 does not answer", "L2 is away"]), lines(["L2 is reachable", "L2 is back"]))
}

#[test]
fn a_stopped_redis_ends_readiness_and_each_change_is_told_once() {
    let mut redis = Redis::start();
    let daemon = Daemon::start(&redis);
    eventually("it is told that Redis is there", || told(&daemon) == (0, 1));
    assert_eq!(daemon.http("/readyz").0, 200);
    redis.process.signal("STOP");
    eventually("not ready while Redis is stopped", || daemon.http("/readyz").0 == 503);
    let reason = daemon.http("/readyz").1;
    assert!(reason.contains(&format!("127.0.0.1:{} does not answer", redis.port)), "{reason}");
    assert_eq!(daemon.http("/healthz").0, 200);
    // Time for more rounds of the watch, which must say nothing new.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(told(&daemon), (1, 1), "{}", daemon.stderr());
    redis.process.signal("CONT");
    eventually("ready again", || daemon.http("/readyz").0 == 200);
    assert_eq!(told(&daemon), (1, 2), "{}", daemon.stderr());

    redis.process.kill();
    eventually("not ready without Redis", || daemon.http("/readyz").0 == 503);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(told(&daemon), (2, 2), "{}", daemon.stderr());
    redis.restart();
    eventually("ready with the new Redis", || daemon.http("/readyz").0 == 200);
    assert_eq!(told(&daemon), (2, 3), "{}", daemon.stderr());
}

#[test]
fn a_wrong_password_is_told_with_its_reason() {
    let redis = Redis::start_with(&["--requirepass", "zzredis"]);
    let url = format!("redis://:zzwrong@127.0.0.1:{}", redis.port);
    let daemon = Daemon::spawn(&url, &[]);
    eventually("the reason is logged", || {
        let log = daemon.stderr();
        log.lines().any(|line| line.contains("L2 does not answer") && line.to_lowercase().contains("auth"))
    });
    assert_eq!(daemon.http("/readyz").0, 503);
    assert!(!daemon.stderr().contains("zzwrong"), "{}", daemon.stderr());
}

#[test]
fn a_draining_daemon_is_well_but_not_ready() {
    let redis = Redis::start();
    let mut daemon = Daemon::start(&redis);
    eventually("ready", || daemon.http("/readyz").0 == 200);
    let (mut client, mut aside) = (daemon.client(), redis.client());
    assert_eq!(client.text(&["PING"]), "+PONG");
    aside.call(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    client.send(&["SET", "k", "v"]);
    eventually("the write waits in Redis", || aside.text(&["INFO", "clients"]).contains("blocked_clients:1"));
    daemon.process.signal("TERM");
    let draining = (503, "draining: the daemon is about to end\n".to_string());
    eventually("not ready while it drains", || daemon.http("/readyz") == draining);
    assert_eq!(daemon.http("/healthz").0, 200);
    aside.call(&["CLIENT", "UNPAUSE"]);
    assert_eq!(client.read_frame(), b"+OK\r\n", "what was read is answered");
    assert!(daemon.process.wait().success());
}

#[test]
fn redis_is_warned_of_once_when_most_of_its_connections_are_taken() {
    let redis = Redis::start_with(&["--maxclients", "20"]);
    let crowd: Vec<_> = (0..15).map(|_| redis.client()).collect();
    let mut aside = redis.client();
    eventually("they are connected", || aside.text(&["INFO", "clients"]).contains("connected_clients:16"));
    let daemon = Daemon::start(&redis);
    eventually("it is warned of", || daemon.stderr().contains("80 % of the connections"));
    drop(crowd);
}
