//! Clusters whose nodes say nothing of use: clients are told why.

use crate::support::{Daemon, Redis, eventually, free_port};

const NOT_KNOWN: &str = "the nodes of the cluster are not known";

/// The daemon's clients, its log and /readyz say why it knows no nodes.
fn is_told(daemon: &Daemon, reason: &str) {
    let reason = format!("{NOT_KNOWN}: {reason}");
    eventually("clients are told", || {
        daemon.client().text(&["GET", "k"]) == format!("-LOADING madcache: not sent: {reason}")
    });
    let (status, text) = daemon.http("/readyz");
    assert!(status == 503 && text.contains(&reason), "{text}");
    let log = daemon.stderr();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(&reason)).collect();
    assert!(
        lines.len() == 1 && lines[0].contains("ERROR") && lines[0].contains("check upstream.url"),
        "{log}"
    );
}

#[test]
fn whom_the_nodes_of_a_cluster_refuse_is_told_so_in_their_words() {
    let bus = free_port().to_string();
    let secured = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--requirepass", "of-the-nodes"];
    let redis = Redis::start_with(&secured);
    let at = format!("127.0.0.1:{}", redis.port);
    for (login, words) in [
        (":mistaken@", "WRONGPASS invalid username-password pair or user is disabled."),
        ("nobody:mistaken@", "WRONGPASS invalid username-password pair or user is disabled."),
        ("", "NOAUTH Authentication required."),
    ] {
        let daemon = Daemon::start_with(&format!("redis-cluster://{login}{at}"), &[]);
        is_told(&daemon, &format!("the node at {at} refuses to be asked: {words}"));
        assert!(!daemon.stderr().contains("mistaken"), "{}", daemon.stderr());
    }
    let daemon = Daemon::start_with(&format!("redis-cluster://:of-the-nodes@{at}"), &[]);
    let unserved =
        format!("-LOADING madcache: not sent: {NOT_KNOWN}: those that answer say that nobody serves a slot");
    eventually("a cluster without slots is called so", || daemon.client().text(&["GET", "k"]) == unserved);
    let mut node = redis.client();
    assert_eq!(node.text(&["AUTH", "of-the-nodes"]), "+OK");
    assert_eq!(node.text(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), "+OK");
    eventually("it is used as soon as there are some", || daemon.client().text(&["SET", "k", "v"]) == "+OK");
}

#[test]
fn a_redis_that_is_no_cluster_is_called_so() {
    let redis = Redis::start();
    let daemon = Daemon::start_with(&format!("redis-cluster://127.0.0.1:{}", redis.port), &[]);
    let expected = format!(
        "the Redis at 127.0.0.1:{} is no cluster (ERR This instance has cluster support disabled): \
         write redis:// instead of redis-cluster://",
        redis.port
    );
    is_told(&daemon, &expected);
}

#[test]
fn a_cluster_of_which_no_node_answers_is_found_later() {
    let bus = free_port().to_string();
    let mut redis = Redis::start_with(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
    assert_eq!(redis.client().text(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), "+OK");
    redis.process.kill();
    let at = format!("127.0.0.1:{}", redis.port);
    let daemon = Daemon::start_with(&format!("redis-cluster://{at}"), &[]);
    let reason = format!("{NOT_KNOWN}: no node answers, the one at {at} for this reason: Connection refused");
    eventually("clients are told", || {
        daemon.client().text(&["GET", "k"]).starts_with(&format!("-LOADING madcache: not sent: {reason}"))
    });
    redis.restart();
    eventually("it is found", || daemon.client().text(&["SET", "k", "v"]) == "+OK");
    assert!(!daemon.stderr().contains("ERROR"), "{}", daemon.stderr());
}
