//! A switch from one living master to another that has other values, so that everything old would be seen. The sentinel says
//! what the test wants.

use std::time::Duration;

use crate::support::sentinel::FakeSentinel;
use crate::support::{Client, Daemon, Redis, eventually};
use crate::{ask, expect_service, told};

/// Two masters that differ, and a daemon in front of the first.
struct Switch {
    old: Redis,
    new: Redis,
    sentinel: FakeSentinel,
    daemon: Daemon,
}

impl Switch {
    fn start(settings: &[(&str, &str)]) -> Switch {
        let (old, new) = (Redis::start(), Redis::start());
        for (redis, value) in [(&old, "old"), (&new, "new")] {
            redis.client().call(&["MSET", "k", value, "other", value]);
        }
        let sentinel = FakeSentinel::naming(&old, 1);
        let daemon = Daemon::start_with(&sentinel.url(), settings);
        expect_service(&daemon);
        Switch { old, new, sentinel, daemon }
    }

    fn switch(&self) {
        self.sentinel.say(&self.new, 2, None);
    }

    /// The same, and waits until the daemon has left the old master: before that it still serves from there.
    fn switch_through(&self) {
        self.switch();
        eventually("the new master leads", || self.is_at(&self.new));
        expect_service(&self.daemon);
    }

    fn is_at(&self, redis: &Redis) -> bool {
        told(&self.daemon, "master") == format!("127.0.0.1:{}", redis.port)
    }

    /// Keeps reading until reads come from L1.
    fn warm(&self, client: &mut Client, key: &str) {
        let before = self.daemon.stat("l1_hits");
        eventually("it is served from L1", || {
            client.call(&["GET", key]);
            self.daemon.stat("l1_hits") > before
        });
    }
}

#[test]
fn what_the_old_master_filled_is_gone_before_the_new_one_is_read() {
    let stand = Switch::start(&[("MADCACHE_SERVER_WORKERS", "2")]);
    let mut clients: Vec<Client> = (0..4).map(|_| stand.daemon.client()).collect();
    for round in 0..10u64 {
        let (from, to) = if round % 2 == 0 { (&stand.old, &stand.new) } else { (&stand.new, &stand.old) };
        let value = if round % 2 == 0 { ["old", "new"] } else { ["new", "old"] };
        for client in &mut clients {
            stand.warm(client, "k");
            stand.warm(client, "missing");
            assert_eq!(client.text(&["GET", "k"]), value[0]);
        }
        assert!(stand.is_at(from));
        stand.sentinel.say(to, round + 2, None);
        // As soon as one of them has read at the new one, nobody sees the old one's any more.
        eventually("the new one is read", || {
            ask(stand.daemon.port, &["GET", "other"]).is_some_and(|reply| reply.ends_with(value[1]))
        });
        for client in &mut clients {
            let reply = client.text(&["GET", "k"]);
            assert_eq!(reply, value[1], "in round {round}");
        }
    }
    assert_eq!(stand.daemon.stat("failovers"), 10);
}

#[test]
fn an_old_master_that_still_answers_gets_nothing_after_the_switch() {
    let stand = Switch::start(&[]);
    let mut client = stand.daemon.client();
    stand.warm(&mut client, "k");
    stand.switch();
    eventually("it is left", || stand.is_at(&stand.new));
    let mut old = stand.old.client();
    let madcache = |list: &str| list.lines().filter(|line| line.contains("name=madcache")).count();
    eventually("no link is left there", || madcache(&old.text(&["CLIENT", "LIST"])) == 0);
    old.call(&["CONFIG", "RESETSTAT"]);
    for n in 0..200 {
        assert_eq!(client.text(&["SET", "k", &n.to_string()]), "+OK");
        assert_eq!(client.text(&["GET", "k"]), n.to_string());
    }
    let stats = old.text(&["INFO", "commandstats"]);
    for command in ["cmdstat_set:", "cmdstat_get:", "cmdstat_hello:", "cmdstat_ping:"] {
        assert!(!stats.contains(command), "{stats}");
    }
}

#[test]
fn sessions_with_a_link_of_their_own_are_closed_and_others_stay() {
    let stand = Switch::start(&[]);
    let (mut watching, mut waiting, mut listening) =
        (stand.daemon.client(), stand.daemon.client(), stand.daemon.client());
    assert_eq!(watching.text(&["WATCH", "k"]), "+OK");
    waiting.send(&["BLPOP", "queue", "0"]);
    listening.call(&["SUBSCRIBE", "news"]);
    let mut plain = stand.daemon.client();
    assert_eq!(plain.text(&["GET", "k"]), "old");
    eventually("the pop waits at Redis", || {
        stand.old.client().text(&["CLIENT", "LIST"]).contains("cmd=blpop")
    });
    stand.switch();
    for closed in [&mut watching, &mut waiting, &mut listening] {
        assert_eq!(closed.read_to_end(), b"", "it learns it by a closed connection");
    }
    expect_service(&stand.daemon);
    assert_eq!(plain.text(&["GET", "k"]), "new", "who had nothing pending stays");
}

#[test]
fn while_a_master_is_being_replaced_nobody_writes_to_it() {
    let stand = Switch::start(&[]);
    let mut client = stand.daemon.client();
    assert_eq!(client.text(&["SET", "before", "1"]), "+OK");
    for step in ["select_slave", "send_slaveof_noone", "wait_promotion"] {
        stand.sentinel.say(&stand.old, 1, Some(step));
        eventually("nobody leads", || told(&stand.daemon, "master") == "none");
        let reply = client.text(&["SET", "during", "1"]);
        assert!(
            reply.starts_with("-LOADING madcache: not sent: no master of test-state: 127.0.0.1:"),
            "{reply}"
        );
        assert!(reply.ends_with("is being replaced"), "{reply}");
        // A step that decides nothing, or a failover that is given up.
        stand.sentinel.say(&stand.old, 1, Some("wait_start"));
        expect_service(&stand.daemon);
    }
    assert_eq!(stand.old.client().text(&["EXISTS", "during"]), ":0");
    assert_eq!(stand.daemon.stat("failovers"), 0);
    stand.switch();
    eventually("its successor leads", || stand.is_at(&stand.new));
}

#[test]
fn a_replica_that_is_named_is_not_used() {
    let stand = Switch::start(&[]);
    stand.new.client().call(&["REPLICAOF", "127.0.0.1", &stand.old.port.to_string()]);
    stand.switch();
    eventually("it is refused", || {
        let reply = ask(stand.daemon.port, &["GET", "k"]);
        reply.is_some_and(|reply| reply.ends_with(", which is named, is a replica"))
    });
    assert_eq!(told(&stand.daemon, "master"), "none");
    stand.new.client().call(&["REPLICAOF", "NO", "ONE"]);
    expect_service(&stand.daemon);
    assert!(stand.is_at(&stand.new));
}

#[test]
fn a_master_that_is_demoted_under_a_live_link_is_left_and_its_refused_writes_were_not_sent() {
    let stand = Switch::start(&[]);
    let mut client = stand.daemon.client();
    assert_eq!(client.text(&["SET", "a", "1"]), "+OK");
    stand.warm(&mut client, "k");
    stand.old.client().call(&["REPLICAOF", "127.0.0.1", &stand.new.port.to_string()]);
    eventually("writes are refused as not sent", || {
        // One that was under way when the link ended has an unknown outcome.
        let Some(reply) = ask(stand.daemon.port, &["SET", "b", "1"]) else { return false };
        assert!(reply.starts_with("-LOADING madcache: not sent: "), "{reply}");
        reply.contains("is a replica")
    });
    eventually("neither is it read", || {
        ask(stand.daemon.port, &["GET", "k"]).is_some_and(|reply| reply.starts_with("-LOADING"))
    });
    stand.switch_through();
    assert_eq!(client.text(&["GET", "k"]), "new");
    assert_eq!(stand.new.client().text(&["EXISTS", "b"]), ":0");
}

#[test]
fn a_master_demoted_unseen_is_left_within_a_second() {
    let stand = Switch::start(&[]);
    let mut client = stand.daemon.client();
    stand.warm(&mut client, "k");
    stand.old.client().call(&["REPLICAOF", "127.0.0.1", &stand.new.port.to_string()]);
    // Nobody writes; only reads, which a replica answers.
    eventually("it is noticed", || {
        ask(stand.daemon.port, &["GET", "k"]).is_some_and(|reply| reply.starts_with("-LOADING"))
    });
}

#[test]
fn wait_does_not_confirm_at_the_new_master_what_the_old_one_was_told() {
    let stand = Switch::start(&[]);
    let mut client = stand.daemon.client();
    assert_eq!(client.text(&["SET", "a", "1"]), "+OK");
    assert_eq!(client.text(&["WAIT", "0", "10"]), ":0");
    assert_eq!(client.text(&["SET", "a", "2"]), "+OK");
    stand.switch_through();
    assert_eq!(client.text(&["GET", "k"]), "new");
    client.send(&["WAIT", "0", "10"]);
    assert_eq!(client.read_to_end(), b"", "nobody can tell any more");
    let mut client = stand.daemon.client();
    assert_eq!(client.text(&["SET", "a", "3"]), "+OK");
    assert_eq!(client.text(&["WAIT", "0", "10"]), ":0");
}

#[test]
fn scripts_and_waiters_of_locks_go_on_at_the_new_master() {
    let stand = Switch::start(&[("MADCACHE_SERVER_WORKERS", "2")]);
    let acquire =
        |client: &mut Client, name: &str| client.call(&["LOCK.ACQUIRE", name, "60000", "TOKEN", "t"]);
    let (mut holder, mut waiter) = (stand.daemon.client(), stand.daemon.client());
    for n in 0..20 {
        assert!(acquire(&mut holder, &format!("a{n}")).starts_with(b"*4\r\n:1"));
    }
    stand.switch_through();
    assert!(stand.new.client().text(&["INFO", "stats"]).contains("total_commands_processed"));
    assert!(acquire(&mut holder, "a0").starts_with(b"*4\r\n:1"), "it is free there");
    waiter.send(&["LOCK.ACQUIRE", "a0", "60000", "WAIT", "15000"]);
    eventually("somebody waits and listens at the new master", || {
        stand.new.client().text(&["PUBSUB", "CHANNELS"]).contains("lock")
    });
    let began = std::time::Instant::now();
    assert_eq!(holder.text(&["LOCK.RELEASE", "a0", "t"]), ":0");
    assert!(waiter.read_frame().starts_with(b"*4\r\n:1"));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // A script of one's own too, whose reply waits for a barrier.
    let script = "redis.call('SET', 'k', ARGV[1]) return 1";
    for n in 0..50 {
        stand.warm(&mut holder, "k");
        assert_eq!(waiter.text(&["EVAL", script, "0", &n.to_string()]), ":1");
        assert_eq!(holder.text(&["GET", "k"]), n.to_string());
    }
}
