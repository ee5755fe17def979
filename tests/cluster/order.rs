//! What a client sends in one go has the effects that it has one command after the other, wherever its nodes send it.

use std::time::Duration;

use crate::support::cluster::RedisCluster;
use crate::support::{self, Client, Daemon, eventually};

/// Sends all of it at once.
fn batch(client: &mut Client, commands: &[&[&str]]) -> Vec<String> {
    let bytes: Vec<u8> = commands.iter().flat_map(|words| support::encode(words)).collect();
    client.send_raw(&bytes).unwrap();
    let reply = |_: &_| String::from_utf8_lossy(&client.read_frame()).trim_end().to_owned();
    commands.iter().map(reply).collect()
}

fn list(client: &mut Client, key: &str) -> Vec<String> {
    let reply = client.text(&["LRANGE", key, "0", "-1"]);
    reply.split("\r\n").skip(1).filter(|line| !line.starts_with('$')).map(str::to_owned).collect()
}

/// A slot of this node that the key is not in.
fn another_slot(cluster: &RedisCluster, key: &str) -> u16 {
    let slot = cluster.slot(key);
    [slot + 1, slot - 1].into_iter().find(|other| cluster.owner(*other) == cluster.owner(slot)).unwrap()
}

#[test]
fn a_batch_is_executed_in_its_order_where_the_cluster_was_down() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut client = daemon.client();
    let key = cluster.key_of(0, "list");
    let missing = another_slot(&cluster, &key).to_string();
    for round in 0..3 {
        assert_eq!(cluster.client(0).text(&["CLUSTER", "DELSLOTS", &missing]), "+OK");
        eventually("the node is down", || {
            cluster.client(0).text(&["CLUSTER", "INFO"]).contains("cluster_state:fail")
        });
        let numbers: Vec<String> = (0..30).map(|number| number.to_string()).collect();
        let pushes: Vec<[&str; 3]> = numbers.iter().map(|number| ["RPUSH", &key, number]).collect();
        let bytes: Vec<u8> = pushes.iter().flat_map(|words| support::encode(words)).collect();
        client.send_raw(&bytes).unwrap();
        client.expect_silence(Duration::from_millis(100));
        assert_eq!(cluster.client(0).text(&["CLUSTER", "ADDSLOTS", &missing]), "+OK");
        for number in 1..=30 {
            assert_eq!(*client.read_frame(), *format!(":{number}\r\n").as_bytes(), "round {round}");
        }
        assert_eq!(list(&mut client, &key), numbers, "round {round}");
        assert_eq!(client.text(&["DEL", &key]), ":1");
        // So is one of a client that leaves, or that says that it is its last.
        for last in [&[][..], &["QUIT"]] {
            assert_eq!(cluster.client(0).text(&["CLUSTER", "DELSLOTS", &missing]), "+OK");
            let mut leaving = daemon.client();
            leaving.send_raw(&bytes).unwrap();
            leaving.expect_silence(Duration::from_millis(50));
            let stays = if last.is_empty() {
                drop(leaving);
                None
            } else {
                leaving.send(last);
                Some(leaving)
            };
            assert_eq!(cluster.client(0).text(&["CLUSTER", "ADDSLOTS", &missing]), "+OK");
            eventually("all of it is executed", || client.text(&["LLEN", &key]) == ":30");
            assert_eq!(list(&mut client, &key), numbers, "round {round}, {last:?}");
            assert_eq!(client.text(&["DEL", &key]), ":1");
            if let Some(mut leaving) = stays {
                assert!(leaving.read_to_end().ends_with(b":30\r\n+OK\r\n"));
            }
        }
        eventually("nobody else is left but who asks", || daemon.stat("clients") == 2);
    }
}

#[test]
fn a_batch_is_executed_in_its_order_while_its_slot_moves() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut client = daemon.client();
    for round in 0..4 {
        let [key, value] = ["list", "value"].map(|name| format!("{{round:{round}}}{name}"));
        let script = "return redis.call('RPUSH', KEYS[1], ARGV[1])";
        let pushes: [&[&str]; 8] = [
            &["RPUSH", &key, "1"],
            &["MULTI"],
            &["RPUSH", &key, "2"],
            &["EXEC"],
            &["RPUSH", &key, "3"],
            &["EVAL", script, "1", &key, "4"],
            &["LPUSHX", &key, "0"],
            &["RPUSH", &key, "5"],
        ];
        let sets: [&[&str]; 7] = [
            &["SET", &value, "new"],
            &["MULTI"],
            &["GET", &value],
            &["DEL", &value],
            &["EXEC"],
            &["SET", &value, "newest"],
            &["GET", &value],
        ];
        let slot = cluster.slot(&key);
        let to = (cluster.owner(slot) + 1) % 3;
        cluster.begin_move(slot, to);
        for state in ["its keys are elsewhere", "it has moved"] {
            assert_eq!(batch(&mut client, &pushes)[4..], [":3", ":4", ":5", ":6"], "{state}");
            assert_eq!(list(&mut client, &key), ["0", "1", "2", "3", "4", "5"], "{state}");
            let replies = batch(&mut client, &sets);
            assert_eq!(replies[4..], ["*2\r\n$3\r\nnew\r\n:1", "+OK", "$6\r\nnewest"], "{state}");
            assert_eq!(client.text(&["UNLINK", &key, &value]), ":2");
            if state.starts_with("its") {
                // The daemon learns it from the first of the next batch.
                cluster.end_move(slot, to);
            }
        }
    }
}

#[test]
fn nothing_overtakes_a_request_whose_keys_are_on_two_nodes() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    for round in 0..4 {
        let [a, b] = ["a", "b"].map(|name| format!("{{keys:{round}}}{name}"));
        let slot = cluster.slot(&a);
        let to = (cluster.owner(slot) + 1) % 3;
        let mut client = daemon.client();
        assert_eq!(client.text(&["SET", &a, "there"]), "+OK");
        cluster.begin_move(slot, to);
        let sets: [&[&str]; 3] =
            [&["MSET", &a, "first", &b, "first"], &["SET", &a, "second"], &["SET", &b, "second"]];
        let bytes: Vec<u8> = sets.iter().flat_map(|words| support::encode(words)).collect();
        client.send_raw(&bytes).unwrap();
        if round % 2 == 0 {
            cluster.finish_move(slot, to);
        }
        // What was sent behind it has been executed: it is not any more, unless it was before.
        let reply = String::from_utf8_lossy(&client.read_frame()).into_owned();
        assert!(reply.starts_with("-TRYAGAIN ") || reply == "+OK\r\n", "{reply}");
        assert_eq!(*client.read_frame(), *b"+OK\r\n");
        assert_eq!(*client.read_frame(), *b"+OK\r\n");
        for key in [&a, &b] {
            assert_eq!(client.text(&["GET", key]), "second", "round {round}");
        }
        if round % 2 == 1 {
            // Nor would it be right to answer the first read with what was written after the second.
            let replies = batch(&mut client, &[&["MGET", &a, &b], &["GET", &a]]);
            assert!(replies[0].starts_with("-TRYAGAIN ") && replies[1] == "$6\r\nsecond", "{replies:?}");
            // Alone it waits until its keys are together.
            client.send_raw(&support::encode(&["MGET", &a, &b])).unwrap();
            cluster.finish_move(slot, to);
            assert_eq!(*client.read_frame(), *b"*2\r\n$6\r\nsecond\r\n$6\r\nsecond\r\n");
        }
    }
}

#[test]
fn no_client_is_sent_to_another_node() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut client = daemon.client();
    let [here, there] = [0, 1].map(|node| cluster.key_of(node, "key"));
    // A block with keys of two nodes.
    let block: [&[&str]; 4] = [&["MULTI"], &["SET", &here, "v"], &["GET", &there], &["EXEC"]];
    let replies = batch(&mut client, &block);
    assert_eq!(replies[..2], ["+OK", "+QUEUED"]);
    assert!(replies[2].starts_with("-CROSSSLOT ") && replies[3].starts_with("-EXECABORT "), "{replies:?}");
    // Keys that are missing on both nodes of a slot that moves.
    let slot = cluster.slot("{missing}");
    cluster.begin_move(slot, (cluster.owner(slot) + 1) % 3);
    let requests: [&[&str]; 3] = [
        &["MGET", "{missing}a", "{missing}b"],
        &["MSET", "{missing}a", "1", "{missing}b", "2"],
        &["EVAL", "return redis.call('EXISTS', KEYS[1], KEYS[2])", "2", "{missing}a", "{missing}b"],
    ];
    for request in requests {
        let reply = client.text(request);
        assert!(reply.starts_with("-TRYAGAIN "), "{request:?}: {reply}");
    }
}

#[test]
fn where_a_divided_request_was_not_sent_in_part_its_error_says_so() {
    let mut cluster = RedisCluster::start(3);
    cluster.at_every_master(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let [here, there] = [0, 1].map(|node| cluster.key_of(node, "key"));
    let mut client = daemon.client();
    assert_eq!(client.text(&["MSET", &here, "1", &there, "1"]), "+OK");
    cluster.kill(1);
    eventually("a part is not sent", || {
        let reply = client.text(&["MSET", &here, "2", &there, "2"]);
        reply.contains("not sent") && reply.contains("done in part")
    });
    assert_eq!(client.text(&["GET", &here]), "2");
}

#[test]
fn what_waits_for_another_request_goes_to_whoever_serves_its_slot_then() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut client = daemon.client();
    let slot = cluster.slot("{slot}");
    let (from, to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
    assert_eq!(client.text(&["SET", "{slot}a", "v"]), "+OK");
    cluster.begin_move(slot, to);
    let requests: [&[&str]; 3] =
        [&["MGET", "{slot}a", "{slot}b"], &["SET", "{slot}c", "mine"], &["GET", "{slot}c"]];
    let bytes: Vec<u8> = requests.iter().flat_map(|words| support::encode(words)).collect();
    client.send_raw(&bytes).unwrap();
    client.expect_silence(Duration::from_millis(100));
    // It does not move after all; the other node still waits for it.
    assert_eq!(cluster.client(from).text(&["CLUSTER", "SETSLOT", &slot.to_string(), "STABLE"]), "+OK");
    for reply in [&b"*2\r\n$1\r\nv\r\n$-1\r\n"[..], b"+OK\r\n", b"$4\r\nmine\r\n"] {
        assert_eq!(client.read_frame(), reply);
    }
    assert_eq!(cluster.client(from).text(&["GET", "{slot}c"]), "mine");
}

#[test]
fn a_block_whose_link_is_lost_ends_its_connection() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut client = daemon.client();
    let key = cluster.key_of(0, "key");
    cluster.at_every_master(&["CLIENT", "PAUSE", "3000", "WRITE"]);
    let block: [&[&str]; 4] = [&["MULTI"], &["SET", &key, "v"], &["EXEC"], &["PING"]];
    let bytes: Vec<u8> = block.iter().flat_map(|words| support::encode(words)).collect();
    client.send_raw(&bytes).unwrap();
    let mut node = cluster.client(0);
    let mut blocked = String::new();
    eventually("it is being executed", || {
        let clients = node.text(&["CLIENT", "LIST"]);
        let block = clients.lines().find(|line| !line.contains(" multi=-1 "));
        blocked = block.map_or(String::new(), |line| line.split(' ').next().unwrap().replace("id=", ""));
        !blocked.is_empty()
    });
    assert_eq!(node.text(&["CLIENT", "KILL", "ID", &blocked]), ":1");
    assert_eq!(client.read_to_end(), b"+OK\r\n");
}

#[test]
fn a_subscriber_reads_and_writes_while_a_slot_moves() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    for node in 0..3 {
        let key = cluster.key_of(node, "key");
        let slot = cluster.slot(&key);
        cluster.begin_move(slot, (node + 1) % 3);
        let mut client = daemon.client();
        client.send(&["HELLO", "3"]);
        client.read_frame();
        let replies = batch(&mut client, &[&["SUBSCRIBE", "channel"], &["SET", &key, "v"], &["GET", &key]]);
        assert_eq!(replies[1..], ["+OK", "$1\r\nv"], "node {node}");
    }
    let [a, b] = [0, 1].map(|node| cluster.key_of(node, "other"));
    let mut client = daemon.client();
    let unsubscribed: [&[&str]; 3] =
        [&["SUBSCRIBE", "channel"], &["UNSUBSCRIBE", "channel"], &["MSET", &a, "1", &b, "2"]];
    assert_eq!(batch(&mut client, &unsubscribed)[2], "+OK");
    let replies = batch(&mut client, &[&["SUBSCRIBE", "channel"], &["MGET", &a, &b], &["UNSUBSCRIBE"]]);
    assert!(replies[1].starts_with("-ERR Can't execute 'mget'"), "{replies:?}");
    let replies = batch(&mut client, &[&["SUBSCRIBE", "channel"], &["SSUBSCRIBE", &a, &b]]);
    assert!(replies[1].starts_with("-CROSSSLOT "), "{replies:?}");
}

#[test]
fn a_divided_request_stays_between_the_transactions_around_it() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut client = daemon.client();
    let [a, b, c] = [0, 1, 2].map(|node| cluster.key_of(node, "key"));
    let set: &[&str] = &["MSET", &b, "1", &c, "2", &a, "9"];
    let beginnings: [&[&[&str]]; 4] = [
        &[&["MULTI"], &["INCR", "{0}n"], &["DISCARD"]],
        &[&["MULTI"], &["LLEN", &a], &["NOSUCH"], &["EXEC"]],
        &[&["WATCH", &a], &["UNWATCH"]],
        &[&["SUBSCRIBE", "channel"], &["UNSUBSCRIBE", "channel"]],
    ];
    for (round, beginning) in beginnings.iter().cycle().take(40).enumerate() {
        assert_eq!(client.text(&["MSET", &a, "0", &b, "0", &c, "0"]), "+OK");
        let transaction: [&[&str]; 4] = [set, &["MULTI"], &["GETSET", &a, "10"], &["EXEC"]];
        let replies = batch(&mut client, &[beginning, &transaction[..]].concat());
        assert_eq!(replies.last().unwrap(), "*1\r\n$1\r\n9", "round {round}: {replies:?}");
        let watched: [&[&str]; 6] = [set, &["WATCH", &a], &["MULTI"], &["GET", &a], &["EXEC"], &["GET", &a]];
        let replies = batch(&mut client, &[beginning, &watched[..]].concat());
        assert_eq!(replies[replies.len() - 2..], ["*1\r\n$1\r\n9", "$1\r\n9"], "round {round}: {replies:?}");
    }
}

#[test]
fn transactions_of_different_slots_follow_each_other_in_one_batch() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut client = daemon.client();
    let [a, b, c] = [0, 1, 2].map(|node| cluster.key_of(node, "key"));
    let replies = batch(
        &mut client,
        &[
            &["WATCH", &a],
            &["MULTI"],
            &["EXEC"],
            &["MULTI"],
            &["INCR", &b],
            &["EXEC"],
            &["WATCH", &c],
            &["MULTI"],
            &["INCR", &c],
            &["EXEC"],
            &["SUBSCRIBE", "channel"],
            &["UNSUBSCRIBE", "channel"],
            &["MULTI"],
            &["INCR", &a],
            &["EXEC"],
        ],
    );
    assert_eq!(
        [&replies[2], &replies[5], &replies[9], &replies[14]],
        ["*0", "*1\r\n:1", "*1\r\n:1", "*1\r\n:1"]
    );
}

#[test]
fn the_whole_cluster_is_meant_beside_watched_keys_and_subscriptions() {
    let cluster = RedisCluster::start(3);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    let mut client = daemon.client();
    let keys: Vec<String> = (0..30).map(|number| format!("key:{number}")).collect();
    for beginning in [&["WATCH", "key:0"][..], &["SUBSCRIBE", "channel"]] {
        keys.iter().for_each(|key| assert_eq!(client.text(&["SET", key, "v"]), "+OK"));
        let mut busy = daemon.client();
        busy.send(&["HELLO", "3"]);
        busy.read_frame();
        busy.send(beginning);
        busy.read_frame();
        let count = |reply: &[u8]| String::from_utf8_lossy(reply).matches("key:").count();
        busy.send(&["KEYS", "*"]);
        assert_eq!(count(&busy.read_frame()), 30, "{beginning:?}");
        let mut scanned = 0;
        let mut cursor = "0".to_owned();
        loop {
            busy.send(&["SCAN", &cursor, "COUNT", "100"]);
            let reply = busy.read_frame();
            scanned += count(&reply);
            cursor = String::from_utf8_lossy(&reply).split("\r\n").nth(2).unwrap().to_owned();
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(scanned, 30, "{beginning:?}");
        let mut text = |words: &[&str]| busy.text(words);
        assert_eq!(text(&["DBSIZE"]), ":30", "{beginning:?}");
        assert_eq!(text(&["CLUSTER", "MYID"]), client.text(&["CLUSTER", "MYID"]), "{beginning:?}");
        assert!(text(&["CLIENT", "TRACKING", "ON"]).starts_with("-ERR "), "{beginning:?}");
        let sha = text(&["SCRIPT", "LOAD", "return 1"]);
        for key in &keys[..3] {
            assert_eq!(client.text(&["EVALSHA", &sha, "1", key]), ":1", "{beginning:?}");
        }
        assert_eq!(text(&["MSET", "key:1", "a", "key:2", "b"]), "+OK", "{beginning:?}");
        assert_eq!(text(&["FLUSHALL"]), "+OK", "{beginning:?}");
        assert_eq!(client.text(&["DBSIZE"]), ":0", "{beginning:?}");
    }
}

#[test]
fn one_session_goes_to_many_masters_in_order_as_who_it_is_and_wait_knows_where_it_wrote() {
    let cluster = RedisCluster::start(12);
    let daemon = Daemon::start_with(&cluster.url(), &[]).ready();
    cluster.at_every_master(&["ACL", "SETUSER", "reader", "on", ">secret", "~*", "-@all", "+@read", "+ping"]);
    let keys: Vec<String> = (0..cluster.len()).map(|at| cluster.key_of(at, "list")).collect();
    let numbers: Vec<String> = (1..=20).map(|number| number.to_string()).collect();
    let mut client = daemon.client();
    let push = "return redis.call('RPUSH', KEYS[1], ARGV[1])";
    // There and back, so that each node is asked beside all others, by commands and by scripts.
    for number in &numbers {
        let commands: Vec<Vec<&str>> = keys
            .iter()
            .chain(keys.iter().rev())
            .enumerate()
            .map(|(at, key)| match (at + number.len()) % 3 {
                0 => vec!["EVAL", push, "1", key, number],
                _ => vec!["RPUSH", key, number],
            })
            .collect();
        let commands: Vec<&[&str]> = commands.iter().map(Vec::as_slice).collect();
        let replies = batch(&mut client, &commands);
        let lens: Vec<i64> = replies.iter().map(|reply| reply[1..].parse().unwrap()).collect();
        let first = 2 * number.parse::<i64>().unwrap() - 1;
        assert!(lens[..keys.len()].iter().all(|len| *len == first), "{number}: {replies:?}");
        assert!(lens[keys.len()..].iter().all(|len| *len == first + 1), "{number}: {replies:?}");
    }
    let doubled: Vec<String> = numbers.iter().flat_map(|number| [number.clone(), number.clone()]).collect();
    keys.iter().for_each(|key| assert_eq!(list(&mut client, key), doubled));

    let pushes: Vec<[&str; 3]> = keys.iter().map(|key| ["RPUSH", key, "21"]).collect();
    let pushes: Vec<&[&str]> = pushes.iter().map(|push| push.as_slice()).collect();
    let all_begin = |client: &mut Client, with: &str| {
        let replies = batch(client, &pushes);
        assert!(replies.iter().all(|reply| reply.starts_with(with)), "{replies:?}");
    };
    assert_eq!(client.text(&["AUTH", "reader", "secret"]), "+OK");
    all_begin(&mut client, "-NOPERM ");
    assert_eq!(client.text(&["RESET"]), "+RESET");
    all_begin(&mut client, ":");
    // What concerns every node is asked as who the session is then, and nothing of that stays.
    assert_eq!(client.text(&["AUTH", "reader", "secret"]), "+OK");
    assert_eq!(client.text(&["DBSIZE"]), format!(":{}", keys.len()));
    assert_eq!(client.text(&["RESET"]), "+RESET");
    all_begin(&mut client, ":");

    for (at, key) in keys.iter().enumerate() {
        let mut client = daemon.client();
        (0..2).for_each(|_| all_begin(&mut client, ":"));
        assert_eq!(client.text(&["WAIT", "0", "10"]), ":0");
        cluster.client(at).text(&["CLIENT", "KILL", "TYPE", "normal"]);
        eventually("there is another link", || daemon.client().text(&["LLEN", key]).starts_with(':'));
        client.send(&["WAIT", "0", "10"]);
        assert!(client.try_read_frame().is_err(), "node {at}");
    }
}
