//! The daemon without a Redis, and the one before a Redis, beside a real redis-server: what their sessions answer must be
//! what Redis answers a client.

mod support;

use std::collections::BTreeMap;

use madcache::resp::{Value, parse};
use support::{Client, Daemon, Redis};

/// One client of Redis, of a daemon before a Redis of its own, and of a daemon without one.
struct Three {
    redis: Redis,
    _behind: Redis,
    before: Daemon,
    without: Daemon,
}

impl Three {
    fn start() -> Three {
        let behind = Redis::start();
        Three {
            redis: Redis::start(),
            before: Daemon::start(&behind),
            without: Daemon::start_with("", &[]),
            _behind: behind,
        }
    }

    /// Each request on connections of its own: the daemons' replies must be Redis's.
    fn all_answer_alike(&self, requests: &str) {
        let mut differences = Vec::new();
        for line in requests.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let request: Vec<&str> = line.split(' ').collect();
            let reply = |mut client: Client| client.call(&request);
            let expected = reply(self.redis.client());
            for (name, client) in [("before", self.before.client()), ("without", self.without.client())] {
                let answer = reply(client);
                if answer != expected {
                    differences.push(format!("{line} {name} a Redis: {answer:?}, but Redis: {expected:?}"));
                }
            }
        }
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}

#[test]
fn mistakes_in_client_commands_are_told_in_the_words_of_redis() {
    Three::start().all_answer_alike(
        "CLIENT UNBLOCK asd
         CLIENT UNBLOCK 01
         CLIENT UNBLOCK +1
         CLIENT UNBLOCK -5
         CLIENT UNBLOCK 99999999999999999999
         CLIENT UNBLOCK 999999
         CLIENT UNBLOCK 5 whatever
         CLIENT UNBLOCK asd whatever
         CLIENT UNBLOCK 5 timeout extra
         client unblock 5 timeout extra
         CLIENT UNBLOCK
         CLIENT KILL ID x
         CLIENT KILL ID 0
         CLIENT KILL ID -1
         CLIENT KILL ID 01
         CLIENT KILL ID 999999
         CLIENT KILL ID 999999 ID
         CLIENT KILL TYPE wrong
         CLIENT KILL TYPE pubsub ID 999999
         CLIENT KILL USER wrong
         CLIENT KILL USER wrong TYPE wrong
         CLIENT KILL USER default ID 999999
         CLIENT KILL ID 999999 SKIPME maybe
         CLIENT KILL ID 999999 SKIPME no
         CLIENT KILL wrong 1
         CLIENT KILL
         CLIENT KILL 127.0.0.1:1
         CLIENT LIST ID +1
         CLIENT LIST ID 01
         CLIENT LIST ID 999999
         CLIENT LIST ID 1 x
         CLIENT LIST TYPE wrong
         CLIENT LIST TYPE",
    );
}

/// What a client hears of its subscriptions that wants no replies.
fn hears_with_replies_off(
    connect: &dyn Fn() -> Client,
    protocol: &str,
    how: &str,
    prefix: &str,
) -> Vec<Vec<u8>> {
    let mut client = connect();
    client.call(&["HELLO", protocol]);
    let hush = |client: &mut Client| client.send(&["CLIENT", "REPLY", how]);
    let named = |word: &str| format!("{prefix}{word}");
    hush(&mut client);
    client.send(&[&named("SUBSCRIBE"), "channel", "other"]);
    let mut heard = vec![client.read_frame(), client.read_frame()];
    let publish = if prefix == "S" { "SPUBLISH" } else { "PUBLISH" };
    heard.push(connect().call(&[publish, "channel", "hello"]));
    heard.push(client.read_frame());
    hush(&mut client);
    client.send(&[&named("UNSUBSCRIBE"), "channel"]);
    heard.push(client.read_frame());
    hush(&mut client);
    client.send(&[&named("UNSUBSCRIBE")]);
    heard.push(client.read_frame());
    // Errors are no pushes, nor is what a transaction says of a command in it.
    hush(&mut client);
    client.send(&[named("SUBSCRIBE")]);
    client.send(&["CLIENT", "REPLY", "ON"]);
    heard.push(client.read_frame());
    client.send(&["MULTI"]);
    heard.push(client.read_frame());
    hush(&mut client);
    client.send(&[&named("SUBSCRIBE"), "channel"]);
    client.send(&["CLIENT", "REPLY", "ON"]);
    client.send(&["DISCARD"]);
    heard.push(client.read_frame());
    heard
}

#[test]
fn client_reply_does_not_keep_confirmations_of_subscriptions_from_a_client() {
    let three = Three::start();
    for (protocol, prefix) in [("2", ""), ("2", "P"), ("2", "S"), ("3", ""), ("3", "P"), ("3", "S")] {
        for how in ["OFF", "SKIP"] {
            let heard = |connect: &dyn Fn() -> Client| hears_with_replies_off(connect, protocol, how, prefix);
            let expected = heard(&|| three.redis.client());
            let case = format!("{prefix}SUBSCRIBE with replies {how} in RESP{protocol}");
            assert_eq!(heard(&|| three.before.client()), expected, "{case} before a Redis");
            assert_eq!(heard(&|| three.without.client()), expected, "{case} without a Redis");
        }
    }
}

#[test]
fn without_a_redis_info_counts_the_clients_that_client_list_shows() {
    let daemon = Daemon::start_with("", &[]);
    let counted = |client: &mut Client| {
        let info = String::from_utf8(client.call(&["INFO", "clients"])).unwrap();
        let count = info.lines().find_map(|line| line.strip_prefix("connected_clients:"));
        count.unwrap().parse::<usize>().unwrap()
    };
    let mut clients: Vec<Client> = (0..4).map(|_| daemon.client()).collect();
    // Scripts and events of these are the daemon's own business.
    for client in &mut clients {
        client.call(&["LOCK.ACQUIRE", "name", "1000"]);
        client.call(&["PRESENCE.JOIN", "channel", "ann", "tab", "BIND"]);
        client.call(&["SUBSCRIBE", "events"]);
        client.call(&["UNSUBSCRIBE"]);
    }
    let listed = clients[0].text(&["CLIENT", "LIST"]).lines().filter(|line| line.contains("id=")).count();
    assert_eq!((counted(&mut clients[0]), listed), (4, 4));
    clients.truncate(2);
    support::eventually("two are gone", || counted(&mut clients[0]) == 2);
}

/// Name, arity, first key, last key, step of every command and subcommand that COMMAND tells of.
fn facts(client: &mut Client) -> BTreeMap<Vec<u8>, [Option<i64>; 4]> {
    fn note(of: &Value, facts: &mut BTreeMap<Vec<u8>, [Option<i64>; 4]>) {
        let fields = of.elements().unwrap();
        let name = fields[0].text().unwrap().to_vec();
        facts.insert(name, [1, 3, 4, 5].map(|at| fields[at].int()));
        fields[9].elements().unwrap().iter().for_each(|inner| note(inner, facts));
    }
    let mut facts = BTreeMap::new();
    let all = parse(&client.call(&["COMMAND"])).unwrap();
    all.elements().unwrap().iter().for_each(|command| note(command, &mut facts));
    facts
}

#[test]
fn without_a_redis_command_tells_of_arity_and_keys_what_redis_tells() {
    let (redis, daemon) = (Redis::start(), Daemon::start_with("", &[]));
    let theirs = facts(&mut redis.client());
    let ours = facts(&mut daemon.client());
    assert!(ours.len() > 200, "{}", ours.len());
    let listed = parse(&daemon.client().call(&["COMMAND", "LIST"])).unwrap();
    let mut listed: Vec<_> =
        listed.elements().unwrap().iter().map(|name| name.text().unwrap().to_vec()).collect();
    listed.sort();
    assert_eq!(
        listed,
        ours.keys().cloned().collect::<Vec<_>>(),
        "COMMAND LIST has subcommands too, as in Redis"
    );
    for (name, facts) in ours {
        let name_text = String::from_utf8_lossy(&name);
        assert_eq!(Some(&facts), theirs.get(&name), "{name_text}");
    }
}
