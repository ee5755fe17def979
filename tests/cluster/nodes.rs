//! Nodes that are removed from their cluster, and clusters whose nodes say nothing of use: clients are not left alone with it.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::support::cluster::RedisCluster;
use crate::support::{Client, Daemon, Redis, eventually, free_port};

const NOT_KNOWN: &str = "the nodes of the cluster are not known";

fn subscriber(daemon: &Daemon) -> Client {
    let mut client = daemon.client();
    assert_eq!(client.text(&["SUBSCRIBE", "news"]), "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1");
    client
}

#[test]
fn subscribers_hear_everything_until_their_node_is_removed_and_begin_anew_then() {
    let mut cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[("MADCACHE_SERVER_WORKERS", "1")]);
    let mut subscribers: Vec<Client> = (0..8).map(|_| subscriber(&daemon)).collect();
    let heard_at = |at: &usize| cluster.client(*at).text(&["PUBSUB", "NUMSUB", "news"]).ends_with(":8");
    let node = (0..3).find(heard_at).expect("all subscribe at one node");
    // The daemon itself hears there of locks that are released, as long as somebody waits for one.
    let elsewhere = |name: &String| cluster.owner(cluster.slot(&format!("lock:{name}"))) != node;
    let lock = (0..1000).map(|n| format!("lock{n}")).find(elsewhere).expect("a lock of another node");
    assert!(daemon.client().text(&["LOCK.ACQUIRE", &lock, "60000"]).starts_with("*4\r\n:1"));
    let mut waiter = daemon.client();
    waiter.send(&["LOCK.ACQUIRE", &lock, "60000", "WAIT", "60000"]);
    let channels = |at| cluster.client(at).text(&["PUBSUB", "CHANNELS"]);
    eventually("it listens at the same node", || channels(node).starts_with("*2\r\n"));
    cluster.give_slots(node, (node + 1) % 3);
    // Longer than it takes to notice that a node is gone. One that only serves nothing is not.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        cluster.client((node + 1) % 3).text(&["PUBLISH", "news", "here"]);
        for subscriber in &mut subscribers {
            assert_eq!(*subscriber.read_frame(), *b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$4\r\nhere\r\n");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let removed = cluster.remove(node);
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.try_read_frame().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
    let mut again = subscriber(&daemon);
    assert_eq!(daemon.client().text(&["PUBLISH", "news", "back"]), ":1");
    assert_eq!(*again.read_frame(), *b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$4\r\nback\r\n");
    eventually("nobody but this test talks with the removed node", || {
        removed.client().text(&["CLIENT", "LIST"]).lines().count() == 1
    });
}

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

#[test]
fn a_script_is_killed_on_whichever_node_it_runs() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut operator = daemon.client();
    assert_eq!(operator.text(&["CONFIG", "SET", "busy-reply-threshold", "1"]), "+OK");
    let idle = "-NOTBUSY No scripts in execution right now.";
    assert_eq!(operator.text(&["SCRIPT", "KILL"]), idle);
    for node in 0..3 {
        let key = cluster.key_of(node, "key");
        let mut client = daemon.client();
        client.send(&["EVAL", "while true do end", "1", &key]);
        eventually("the script runs", || cluster.client(node).text(&["PING"]).starts_with("-BUSY"));
        assert_eq!(operator.text(&["SCRIPT", "KILL"]), "+OK", "node {node}");
        let reply = String::from_utf8(client.read_frame()).unwrap();
        assert!(reply.contains("killed by user with SCRIPT KILL"), "node {node}: {reply}");
    }
    assert_eq!(operator.text(&["FUNCTION", "KILL"]), idle);
}
