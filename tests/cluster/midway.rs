//! What clients see of a slot that is half moved, or moves to and fro: nothing is executed twice or in part, no redirection
//! reaches them, and one wait is enough for all that they have sent.

use std::time::{Duration, Instant};

use crate::support::cluster::RedisCluster;
use crate::support::{Client, Daemon, encode, eventually};

/// A client is told after two seconds; for all that it sent at once that is enough.
const PATIENCE_MAX: Duration = Duration::from_secs(4);

/// Both, and the one that the slot goes to.
fn moving(cluster: &RedisCluster, key: &str) -> (u16, usize, usize) {
    let slot = cluster.slot(key);
    let from = cluster.owner(slot);
    (slot, from, (from + 1) % 3)
}

/// The tokens of so many sessions of one user, and the tag of their keys.
fn sessions(client: &mut Client, count: usize) -> (Vec<String>, String) {
    let mut create = || client.text(&["SESSION.CREATE", "ann"]).split("\r\n").nth(2).unwrap().to_owned();
    let tokens: Vec<String> = (0..count).map(|_| create()).collect();
    let tag = tokens[0].rsplit('.').next().unwrap().to_owned();
    (tokens, tag)
}

fn replies(client: &mut Client, requests: &[Vec<&str>]) -> Vec<String> {
    client.send_raw(&requests.iter().flat_map(|words| encode(words)).collect::<Vec<u8>>()).unwrap();
    requests.iter().map(|_| String::from_utf8(client.read_frame()).unwrap().trim_end().to_owned()).collect()
}

#[test]
fn a_script_whose_own_error_reads_like_a_redirection_is_executed_once_while_its_slot_moves() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut client = daemon.client();
    let (slot, _, to) = moving(&cluster, "k");
    assert_eq!(client.text(&["SET", "k", "0"]), "+OK");
    cluster.begin_move(slot, to);
    let port = cluster.node(to).port;
    let words = ["TRYAGAIN the queue is full".to_owned(), format!("MOVED {slot} 127.0.0.1:{port}")];
    for (count, word) in (1..).zip(words.iter().chain(&words)) {
        let script = "redis.call('INCR', KEYS[1]) return redis.error_reply(ARGV[1])";
        assert_eq!(client.text(&["EVAL", script, "1", "k", word]), format!("-{word}"));
        assert_eq!(client.text(&["GET", "k"]), count.to_string(), "{word}");
    }
}

#[test]
fn a_script_does_not_follow_a_redirection_that_holds_no_more() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    for round in 0..3 {
        let key = format!("key:{round}");
        let mut client = daemon.client();
        let (slot, from, to) = moving(&cluster, &key);
        assert_eq!(client.text(&["SET", &key, "100"]), "+OK");
        cluster.begin_move(slot, to);
        assert_eq!(cluster.move_keys(slot, to, 1), 1);
        let before = daemon.stat("redirects");
        client.send(&["EVAL", "return redis.call('INCR', KEYS[1])", "1", &key]);
        eventually("the node sends it elsewhere", || daemon.stat("redirects") > before);
        // While the daemon asks how it is, the key comes back, and the slot is on its way again without it.
        let (text, port) = (slot.to_string(), cluster.node(from).port.to_string());
        let back: [(usize, &[&str]); 3] = [
            (from, &["CLUSTER", "SETSLOT", &text, "STABLE"]),
            (to, &["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]),
            (to, &["CLUSTER", "SETSLOT", &text, "STABLE"]),
        ];
        for (at, words) in back {
            assert_eq!(cluster.client(at).text(words), "+OK", "{words:?}");
        }
        cluster.begin_move(slot, to);
        let reply = String::from_utf8(client.read_frame()).unwrap();
        cluster.finish_move(slot, to);
        // Where the nodes were asked between the two moves, its word could have been the script's own.
        let expected = if reply.starts_with("-ASK ") { "100" } else { "101" };
        assert_eq!(client.text(&["GET", &key]), expected, "round {round}: {reply}");
        assert!(expected == "100" || reply == ":101\r\n", "round {round}: {reply}");
    }
}

#[test]
fn a_block_of_a_half_moved_slot_shows_no_redirection() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut client = daemon.client();
    let (slot, _, to) = moving(&cluster, "{t}a");
    assert_eq!(client.text(&["MSET", "{t}a", "1", "{t}b", "2", "{t}c", "3"]), "+OK");
    cluster.begin_move(slot, to);
    cluster.move_keys(slot, to, 1);
    let block = [
        vec!["MULTI"],
        vec!["MGET", "{t}a", "{t}b", "{t}c"],
        vec!["GET", "{t}a"],
        vec!["GET", "{t}b"],
        vec!["GET", "{t}c"],
        vec!["EXEC"],
        // Those that are still here are answered at once, so that the block cannot be sent again ahead of them.
        vec!["INCR", "{t}a"],
        vec!["INCR", "{t}b"],
        vec!["INCR", "{t}c"],
    ];
    for _ in 0..3 {
        let replies = replies(&mut client, &block);
        let shows = |reply: &String| reply.starts_with("-ASK") || reply.starts_with("-MOVED");
        assert!(!replies.iter().any(shows), "{replies:?}");
        assert!(replies[5].starts_with("-EXECABORT"), "{replies:?}");
    }
}

#[test]
fn all_that_a_client_sent_at_once_waits_once_for_a_half_moved_slot() {
    let cluster = RedisCluster::start(3);
    for l1 in ["true", "false"] {
        let daemon = Daemon::start_with(&cluster.url(), &[("MADCACHE_CACHE_L1", l1)]).ready();
        let mut client = daemon.client();
        let key = format!("{{{l1}}}");
        let (one, other) = (format!("{key}a"), format!("{key}b"));
        let (slot, _, to) = moving(&cluster, &key);
        assert_eq!(client.text(&["MSET", &one, "1", &other, "2"]), "+OK");
        cluster.begin_move(slot, to);
        cluster.move_keys(slot, to, 1);
        let kinds: [Vec<&str>; 4] = [
            vec!["MGET", &one, &other],
            vec!["SUNION", &one, &other],
            vec!["RENAMENX", &one, &other],
            vec!["EVAL", "return redis.call('MGET', KEYS[1], KEYS[2])", "2", &one, &other],
        ];
        for kind in kinds {
            let begun = Instant::now();
            let replies = replies(&mut client, &vec![kind.clone(); 100]);
            assert!(replies.iter().all(|reply| reply.starts_with("-TRYAGAIN ")), "L1 {l1}: {replies:?}");
            assert!(begun.elapsed() < PATIENCE_MAX, "L1 {l1}, {kind:?}: {:?}", begun.elapsed());
        }
    }
}

#[test]
fn a_session_ends_whole_or_not_at_all_while_its_slot_moves() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut client = daemon.client();
    let (tokens, tag) = sessions(&mut client, 3);
    let (slot, _, to) = moving(&cluster, &format!("{{{tag}}}"));
    cluster.begin_move(slot, to);
    assert_eq!(cluster.move_keys(slot, to, 2), 2);
    let is_there =
        |client: &mut Client, token: &String| client.text(&["SESSION.VALIDATE", token]).contains("ann");
    let ended: Vec<bool> = tokens
        .iter()
        .map(|token| match client.text(&["SESSION.DESTROY", token]).as_str() {
            ":1" => true,
            refused => {
                assert!(refused.starts_with("-TRYAGAIN "), "{refused}");
                false
            }
        })
        .collect();
    let all = client.text(&["SESSION.DESTROYALL", "ann"]);
    assert!(all.starts_with("-TRYAGAIN "), "{all}");
    cluster.finish_move(slot, to);
    for (token, ended) in tokens.iter().zip(&ended) {
        assert_ne!(is_there(&mut client, token), *ended, "{ended:?}");
    }
    let left = ended.iter().filter(|ended| !**ended).count();
    assert_eq!(client.text(&["SESSION.DESTROYALL", "ann"]), format!(":{left}"));
}

#[test]
fn sessions_whose_index_went_ahead_of_them_are_not_taken_for_gone() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut client = daemon.client();
    let (tokens, tag) = sessions(&mut client, 2);
    let validated = client.text(&["SESSION.VALIDATE", &tokens[0]]);
    let id = validated.split("\r\n").nth(2).unwrap();
    let (slot, from, to) = moving(&cluster, &format!("{{{tag}}}"));
    cluster.begin_move(slot, to);
    let [index, names] = ["index", "names"].map(|name| format!("x:session:{{{tag}}}:{name}"));
    let port = cluster.node(to).port.to_string();
    let migrate = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS", &index, &names];
    assert_eq!(cluster.client(from).text(&migrate), "+OK");
    let requests = [
        vec!["SESSION.COUNT", "ann"],
        vec!["SESSION.LIST", "ann"],
        vec!["SESSION.REVOKE", id],
        vec!["SESSION.DESTROYALL", "ann"],
    ];
    // One wait is enough for all of them.
    for reply in replies(&mut client, &requests) {
        assert!(reply.starts_with("-TRYAGAIN "), "{reply}");
    }
    cluster.finish_move(slot, to);
    assert_eq!(client.text(&["SESSION.COUNT", "ann"]), ":2");
    assert_eq!(client.text(&["SESSION.REVOKE", id]), ":1");
    assert_eq!(client.text(&["SESSION.DESTROYALL", "ann"]), ":1");
}

#[test]
fn who_has_a_link_for_a_command_is_answered_in_time_where_nodes_point_at_each_other() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let (slot, from, to) = moving(&cluster, "k");
    // The others hear of it much later: nobody's slots are newer than theirs.
    let text = slot.to_string();
    assert_eq!(cluster.client(from).text(&["CLUSTER", "SETSLOT", &text, "NODE", cluster.id(to)]), "+OK");
    for request in [&["WATCH", "k"][..], &["BLPOP", "k", "0"]] {
        let begun = Instant::now();
        let reply = daemon.client().text(request);
        assert!(reply.starts_with("-TRYAGAIN "), "{request:?}: {reply}");
        assert!(begun.elapsed() < PATIENCE_MAX, "{request:?}: {:?}", begun.elapsed());
    }
    // And each could wait for it.
    let mut client = daemon.client();
    client.send(&["BLPOP", "k", "0"]);
    client.expect_silence(Duration::from_millis(300));
    assert_eq!(cluster.client(to).text(&["CLUSTER", "SETSLOT", &text, "NODE", cluster.id(to)]), "+OK");
    assert_eq!(daemon.client().text(&["RPUSH", "k", "element"]), ":1");
    assert_eq!(String::from_utf8(client.read_frame()).unwrap(), "*2\r\n$1\r\nk\r\n$7\r\nelement\r\n");
}

#[test]
fn who_waits_for_an_element_goes_on_where_a_replica_takes_its_masters_place() {
    let cluster = RedisCluster::start_with_replicas(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let key = cluster.key_of(0, "queue");
    let mut client = daemon.client();
    client.send(&["BLPOP", &key, "0"]);
    let mut other = daemon.client();
    eventually("it waits", || other.text(&["CLIENT", "LIST"]).contains("cmd=blpop"));
    let replica = (3..cluster.len())
        .find(|&at| cluster.client(at).text(&["ROLE"]).contains(&cluster.node(0).port.to_string()));
    cluster.fail_over_to(replica.unwrap(), &[]);
    assert_eq!(other.text(&["RPUSH", &key, "element"]), ":1");
    assert!(String::from_utf8(client.read_frame()).unwrap().ends_with("$7\r\nelement\r\n"));
}

#[test]
fn a_subscriber_whose_watch_is_another_nodes_keeps_its_subscriptions() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let slot = cluster.slot("k");
    for round in 0..6 {
        let mut client = daemon.client();
        client.send(&["HELLO", "3"]);
        client.read_frame();
        client.send(&["SUBSCRIBE", "news"]);
        assert!(client.read_frame().starts_with(b">3"));
        cluster.move_slot(slot, (cluster.owner(slot) + 1) % 3);
        client.send(&["WATCH", "k"]);
        let reply = String::from_utf8(client.read_frame()).unwrap();
        daemon.client().text(&["PUBLISH", "news", "hello"]);
        let message = String::from_utf8(client.read_frame()).unwrap();
        assert!(message.ends_with("hello\r\n"), "round {round}: WATCH {reply}, then {message}");
    }
}

#[test]
fn a_watch_finds_its_slot_and_leaves_nothing_where_it_is_refused() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let (slot, from, to) = moving(&cluster, "k");
    assert_eq!(daemon.client().text(&["SET", "k", "1"]), "+OK");
    for to in [to, (to + 1) % 3, from] {
        cluster.move_slot(slot, to);
        // The daemon has not heard of it yet.
        let block = [vec!["WATCH", "k"], vec!["GET", "k"], vec!["MULTI"], vec!["INCR", "k"], vec!["EXEC"]];
        let replies = replies(&mut daemon.client(), &block);
        assert_eq!((replies[0].as_str(), replies[3].as_str()), ("+OK", "+QUEUED"), "{replies:?}");
        assert!(replies[4].starts_with("*1"), "{replies:?}");
    }
    cluster.begin_move(slot, to);
    let mut client = daemon.client();
    let refused = client.text(&["WATCH", "{k}missing"]);
    assert!(refused.starts_with("-TRYAGAIN "), "{refused}");
    assert_eq!(client.text(&["GET", "{k}missing"]), "$-1");
}

#[test]
fn a_divided_command_that_was_done_in_part_says_so() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut client = daemon.client();
    let (slot, from, to) = moving(&cluster, "{t}");
    let other = cluster.key_of(from, "other");
    assert_eq!(client.text(&["MSET", "{t}a", "1", "{t}b", "2", &other, "3"]), "+OK");
    cluster.begin_move(slot, to);
    cluster.move_keys(slot, to, 1);
    let reply = client.text(&["DEL", "{t}a", "{t}b", &other]);
    assert!(
        reply.starts_with("-TRYAGAIN ")
            && reply.ends_with("done in part: other nodes have executed their parts)"),
        "{reply}"
    );
    assert_eq!(client.text(&["EXISTS", &other]), ":0");
}
