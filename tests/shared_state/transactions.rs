//! Shared-state commands between MULTI and EXEC that follow indexes, act on many keys, or are answered without a script.

use std::time::Duration;

use crate::stands::embedded_with_file;
use crate::support::{Client, Daemon, Redis};
use crate::{Listener, ask, daemon_with_file, one_node_cluster, resp3, shown};

/// The reply of EXEC to these lines.
fn executed(client: &mut Client, lines: &[&str]) -> String {
    assert_eq!(shown(client, "MULTI"), "+OK");
    for line in lines {
        assert_eq!(shown(client, line), "+QUEUED", "{line}");
    }
    shown(client, "EXEC")
}

fn with_and_without_a_redis(lines: &str, test: impl Fn(&Daemon)) {
    let redis = Redis::start();
    test(&daemon_with_file(&redis, lines));
    test(&embedded_with_file(lines));
}

#[test]
fn leaveall_and_channels_follow_their_indexes_in_a_transaction() {
    with_and_without_a_redis("[presence]\nprefix = \"app:\"\n", |daemon| {
        let mut client = resp3(daemon);
        let mut events = Listener { client: daemon.client() };
        events.client.call(&["SUBSCRIBE", "app:events:presence:r%1"]);
        for line in ["r%1 a:{n} c", "r%1 a:{n} d", "r2 a:{n} c", "r2 bob c"] {
            ask(&mut client, &format!("PRESENCE.JOIN {line}"));
        }
        assert!(events.next().contains("\"join\""));
        let lines = ["PRESENCE.CHANNELS a:{n}", "SET k v", "PRESENCE.LEAVEALL c", "PRESENCE.CHANNELS a:{n}"];
        let reply = executed(&mut client, &lines);
        assert!(reply.starts_with("[['r%1' 'r2'] +OK 3 ['r%1']]"), "{reply}");
        let count =
            executed(&mut client, &["PRESENCE.COUNT r%1", "PRESENCE.COUNT r2", "PRESENCE.LEAVEALL c"]);
        assert_eq!(count, "[{users=1 connections=1} {users=0 connections=0} 0]");
        assert_eq!(shown(&mut client, "PRESENCE.LEAVEALL d"), "1");
        let event = events.next();
        assert!(event.contains("\"leave\"") && event.ends_with("\"cause\":\"client\"}"), "{event}");
    });
}

#[test]
fn bound_entries_that_left_in_a_transaction_are_not_joined_again() {
    with_and_without_a_redis("", |daemon| {
        for leave in ["PRESENCE.LEAVEALL c1", "PRESENCE.LEAVE room ann c1"] {
            let mut client = daemon.client();
            ask(&mut client, "PRESENCE.JOIN room ann c1 TTL 300 BIND");
            let mut events = Listener { client: daemon.client() };
            events.client.call(&["SUBSCRIBE", "events:presence:room"]);
            executed(&mut client, &[leave]);
            assert!(events.next().contains("\"leave\""), "{leave}");
            // Beats come each 100 ms, and find that the entry is gone.
            events.client.expect_silence(Duration::from_millis(500));
            assert_eq!(shown(&mut client, "PRESENCE.COUNT room"), "[0 0]", "{leave}");
        }
    });
}

#[test]
fn many_heartbeats_are_one_command_of_a_transaction() {
    with_and_without_a_redis("", |daemon| {
        let mut client = daemon.client();
        ask(&mut client, "PRESENCE.JOIN room17 ann c");
        let pairs: Vec<String> = (0..500).map(|at| format!("room{at} ann")).collect();
        let reply = executed(&mut client, &[&format!("PRESENCE.HEARTBEAT c {}", pairs.join(" "))]);
        let beats: Vec<&str> = reply.trim_matches(['[', ']']).split(' ').collect();
        assert_eq!(beats.len(), 500);
        assert_eq!(beats.iter().position(|beat| *beat == "1"), Some(17));
        assert_eq!(beats.iter().filter(|beat| **beat == "1").count(), 1);
    });
}

#[test]
fn what_is_answered_without_a_script_stands_in_its_place() {
    with_and_without_a_redis("[ratelimit]\ndriver = \"none\"\n", |daemon| {
        let mut client = resp3(daemon);
        let lines = [
            "INCR k",
            "RATELIMIT.CHECK user u LIMIT 3 WINDOW 1000",
            "CL.THROTTLE k 2 1 60",
            "RATELIMIT.RESET user u",
            "INCR k",
        ];
        let open = "{allowed=1 limit=3 remaining=3 retry_after_ms=-1 reset_ms=0}";
        assert_eq!(executed(&mut client, &lines), format!("[1 {open} [0 3 3 -1 0] 0 2]"));
    });
}

#[test]
fn in_a_cluster_keys_in_other_slots_fail_with_its_error_and_nothing_changes() {
    let redis = one_node_cluster();
    let daemon = daemon_with_file(&redis, crate::transcripts::POLICIES);
    let mut client = daemon.client();
    ask(&mut client, "PRESENCE.JOIN room ann c");
    ask(&mut client, "PRESENCE.JOIN hall ann c");
    for line in ["PRESENCE.LEAVEALL c", "PRESENCE.CHANNELS ann"] {
        let reply = executed(&mut client, &[line]);
        assert!(reply.contains("keys that do not hash to the same slot"), "{line}: {reply}");
    }
    for line in ["RATELIMIT.MULTI 2 user a free 1 user b free 1", "PRESENCE.HEARTBEAT c room ann hall ann"] {
        assert_eq!(shown(&mut client, "MULTI"), "+OK");
        assert_eq!(
            shown(&mut client, line),
            "-CROSSSLOT Keys in request don't hash to the same slot",
            "{line}"
        );
        assert!(shown(&mut client, "EXEC").starts_with("-EXECABORT"), "{line}");
    }
    assert_eq!(shown(&mut client, "PRESENCE.COUNT room"), "[1 1]");
    assert_eq!(shown(&mut client, "PRESENCE.COUNT hall"), "[1 1]");
}
