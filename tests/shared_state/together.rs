//! Checks that reach Redis together are one run of their script: only Redis's statistics tell.

use crate::support::{Client, Daemon, Redis, encode};
use crate::{daemon_at, daemon_with_file, one_node_cluster, transcript, words};

/// Workers take turns with connections: with one all checks meet.
const ONE_WORKER: &str = "[server]\nworkers = 1\n";

/// Sends all lines at once; their replies as short texts, of a limit without its times, which pass.
fn at_once(client: &mut Client, lines: &[String]) -> Vec<String> {
    let wire: Vec<u8> = lines.iter().flat_map(|line| encode(&words(line))).collect();
    client.send_raw(&wire).unwrap();
    lines.iter().map(|_| timeless(&client.read_frame())).collect()
}

fn one_by_one(client: &mut Client, lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| timeless(&client.call(&words(line)))).collect()
}

fn timeless(frame: &[u8]) -> String {
    let text = transcript::shown(frame);
    match text.starts_with(['[', '{']) {
        true => text.split(' ').take(3).collect::<Vec<_>>().join(" "),
        false => text,
    }
}

/// A client of a daemon that knows already whether checks may go together: it has asked behind the first one.
fn client_of(daemon: &Daemon) -> Client {
    let mut client = daemon.client();
    for _ in 0..2 {
        client.call(&words("RATELIMIT.CHECK user first LIMIT 3 WINDOW 604800000"));
    }
    client
}

/// How many scripts Redis has run since it was started.
fn runs(redis: &Redis) -> u64 {
    let stats = redis.client().text(&["INFO", "commandstats"]);
    let calls = |name: &str| {
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
        line.map_or(0, |line| line.split(',').next().unwrap().parse::<u64>().unwrap())
    };
    calls("eval") + calls("evalsha")
}

/// Checks of all kinds, among them ones that are denied, ones that fail, and others' commands between.
fn all_kinds() -> Vec<String> {
    let mut lines = Vec::new();
    for round in 0..20 {
        for terms in [
            "LIMIT 15",
            "LIMIT 12 ALGO fixed",
            "LIMIT 9 ALGO log COST 2",
            "LIMIT 30 BURST 4",
            "LIMIT 3 SHADOW",
        ] {
            lines.push(format!("RATELIMIT.CHECK user u{} WINDOW 604800000 {terms}", round % 2));
        }
        for bad in ["bad", "worse"] {
            lines.push(format!("RATELIMIT.CHECK user {bad} LIMIT 5 WINDOW 604800000"));
        }
        if round % 7 == 3 {
            lines.push("HLEN ratelimit:user:u0".into());
            lines.push("RATELIMIT.PEEK user u1 LIMIT 15 WINDOW 604800000".into());
        }
    }
    lines
}

/// Two keys that cannot be counted in: one is no hash, of the other one the list of counters makes the script fail.
fn with_bad_keys() -> (Redis, Daemon, Client) {
    let redis = Redis::start();
    let daemon = daemon_with_file(&redis, ONE_WORKER);
    let mut client = client_of(&daemon);
    assert_eq!(client.text(&["SET", "ratelimit:user:bad", "text"]), "+OK");
    assert_eq!(client.text(&["HSET", "ratelimit:user:worse", "counters", "x:1"]), ":1");
    (redis, daemon, client)
}

#[test]
fn checks_that_come_together_are_one_run_and_answered_each_by_itself() {
    let lines = all_kinds();
    let (_alone, _daemon, mut client) = with_bad_keys();
    let wanted = one_by_one(&mut client, &lines);
    assert!(wanted.iter().any(|reply| reply.starts_with("[0 ")), "none is denied");
    assert!(wanted.iter().any(|reply| reply.starts_with("-WRONGTYPE")), "none is refused by Redis");
    assert!(wanted.iter().any(|reply| reply.starts_with("-ERR")), "none fails in the script");
    let (together, _daemon, mut client) = with_bad_keys();
    let before = runs(&together);
    assert_eq!(at_once(&mut client, &lines), wanted);
    let runs = runs(&together) - before;
    assert!(runs < lines.len() as u64 / 3, "{runs} runs for {} checks", lines.len());
}

#[test]
fn in_resp3_too() {
    let redis = Redis::start();
    let daemon = daemon_with_file(&redis, ONE_WORKER);
    let mut client = daemon.client();
    client.call(&["HELLO", "3"]);
    let line = "RATELIMIT.CHECK user u LIMIT 3 WINDOW 604800000".to_owned();
    let wanted = [
        "{allowed=1 limit=3 remaining=2",
        "{allowed=1 limit=3 remaining=1",
        "{allowed=1 limit=3 remaining=0",
    ];
    for _ in 0..2 {
        let replies = at_once(&mut client, &vec![line.clone(); 40]);
        assert_eq!(replies[..3], wanted);
        assert!(replies[3..].iter().all(|reply| reply == "{allowed=0 limit=3 remaining=0"), "{replies:?}");
        assert_eq!(client.text(&["DEL", "ratelimit:user:u"]), ":1");
    }
    assert!(runs(&redis) < 60, "{} runs for 80 checks", runs(&redis));
}

#[test]
fn a_run_keeps_its_place_among_the_commands_of_its_client() {
    let redis = Redis::start();
    let daemon = daemon_with_file(&redis, ONE_WORKER);
    let mut client = client_of(&daemon);
    let check = "RATELIMIT.CHECK user u LIMIT 50 WINDOW 604800000".to_owned();
    let mut lines = Vec::new();
    for _ in 0..20 {
        lines.extend([check.clone(), check.clone(), "RATELIMIT.RESET user u".into(), check.clone()]);
        lines.extend(["EXISTS ratelimit:user:u".into(), "DEL ratelimit:user:u".into()]);
    }
    let wanted = ["[1 50 49", "[1 50 48", "1", "[1 50 49", "1", "1"];
    for (at, reply) in at_once(&mut client, &lines).iter().enumerate() {
        assert_eq!(reply, wanted[at % wanted.len()], "{at}");
    }
}

#[test]
fn checks_of_many_clients_count_each_once() {
    let redis = Redis::start();
    let daemon = daemon_with_file(&redis, ONE_WORKER);
    drop(client_of(&daemon));
    let before = runs(&redis);
    let line = "RATELIMIT.CHECK user all LIMIT 500 WINDOW 604800000".to_owned();
    let mut clients: Vec<Client> = (0..60).map(|_| daemon.client()).collect();
    let allowed = std::thread::scope(|scope| {
        let one = |client| scope.spawn(|| at_once(client, &vec![line.clone(); 10]));
        let all: Vec<_> = clients.iter_mut().map(one).collect();
        let replies = all.into_iter().flat_map(|client| client.join().unwrap());
        replies.filter(|reply| reply.starts_with("[1 500 ")).count()
    });
    assert_eq!(allowed, 500);
    assert!(runs(&redis) - before < 400, "{} runs for 600 checks", runs(&redis) - before);
}

#[test]
fn checks_of_a_log_go_alone_as_one_may_have_to_read_all_of_it() {
    let redis = Redis::start();
    let daemon = daemon_with_file(&redis, ONE_WORKER);
    let mut client = client_of(&daemon);
    let before = runs(&redis);
    at_once(&mut client, &vec!["RATELIMIT.CHECK user u LIMIT 100 WINDOW 604800000 ALGO log".to_owned(); 50]);
    assert_eq!(runs(&redis) - before, 50);
}

/// Checks of which the first of three is of another scope.
fn of_two_scopes() -> Vec<String> {
    let scope = |n: usize| if n.is_multiple_of(3) { "other" } else { "user" };
    (0..30).map(|n| format!("RATELIMIT.CHECK {} u LIMIT 30 WINDOW 604800000", scope(n))).collect()
}

fn assert_that_only_the_other_scope_is_refused(replies: &[String], before: usize) {
    for (at, reply) in replies.iter().enumerate() {
        let used = before + at - at / 3;
        match at % 3 {
            0 => assert!(reply.starts_with("-NOPERM"), "{at}: {reply}"),
            _ => assert_eq!(*reply, format!("[{} 30 {}", usize::from(used <= 30), 30 - used.min(30)), "{at}"),
        }
    }
}

/// A daemon that is a user of its own at Redis, who may use these keys.
fn with_keys(keys: &str) -> (Redis, Daemon, Client) {
    let redis = Redis::start();
    redis.client().call(&["ACL", "SETUSER", "ann", "on", ">pw", keys, "+@all"]);
    let url = redis.url().replace("redis://", "redis://ann:pw@");
    let daemon = daemon_at(&url, &redis, ONE_WORKER);
    let client = client_of(&daemon);
    (redis, daemon, client)
}

#[test]
fn a_key_that_is_forbidden_harms_no_other_check() {
    let (redis, _daemon, mut client) = with_keys("~ratelimit:user:*");
    for before in [0, 20] {
        assert_that_only_the_other_scope_is_refused(&at_once(&mut client, &of_two_scopes()), before);
    }
    // Checks go alone where not all keys may be used: none is sent a second time.
    assert_eq!(runs(&redis), 2 + 40);
}

#[test]
fn a_key_that_is_forbidden_from_now_on_harms_no_other_check() {
    let (redis, _daemon, mut client) = with_keys("~*");
    redis.client().call(&["ACL", "SETUSER", "ann", "resetkeys", "~ratelimit:user:*"]);
    for before in [0, 20] {
        assert_that_only_the_other_scope_is_refused(&at_once(&mut client, &of_two_scopes()), before);
    }
}

#[test]
fn another_user_of_redis_has_its_checks_one_by_one() {
    let redis = Redis::start();
    redis.client().call(&["ACL", "SETUSER", "ann", "on", ">pw", "~ratelimit:user:*", "+@all"]);
    let daemon = daemon_with_file(&redis, ONE_WORKER);
    let mut client = daemon.client();
    assert_eq!(client.text(&["AUTH", "ann", "pw"]), "+OK");
    // A script's text that is refused is not known at Redis.
    client.call(&words("RATELIMIT.CHECK user first LIMIT 3 WINDOW 604800000"));
    for before in [0, 20] {
        assert_that_only_the_other_scope_is_refused(&at_once(&mut client, &of_two_scopes()), before);
    }
    assert_eq!(runs(&redis), 1 + 40);
}

#[test]
fn a_url_that_leads_to_a_node_of_a_cluster_gets_checks_one_by_one() {
    let redis = one_node_cluster();
    let daemon = daemon_with_file(&redis, ONE_WORKER);
    let lines: Vec<String> =
        (0..100).map(|n| format!("RATELIMIT.CHECK user u{n} LIMIT 3 WINDOW 604800000")).collect();
    for left in [2, 1, 0] {
        let wanted = vec![format!("[1 3 {left}"); lines.len()];
        assert_eq!(at_once(&mut daemon.client(), &lines), wanted);
    }
}

#[test]
fn checks_that_come_together_survive_scripts_that_are_flushed() {
    let redis = Redis::start();
    let daemon = daemon_with_file(&redis, ONE_WORKER);
    let mut client = client_of(&daemon);
    let lines = vec!["RATELIMIT.CHECK user u LIMIT 100 WINDOW 604800000".to_owned(); 20];
    for round in 0..5 {
        let wanted: Vec<String> = (1..=20).map(|n| format!("[1 100 {}", 100 - round * 20 - n)).collect();
        assert_eq!(at_once(&mut client, &lines), wanted);
        assert_eq!(redis.client().text(&["SCRIPT", "FLUSH"]), "+OK");
    }
}

#[test]
fn checks_whose_redis_went_away_are_answered_as_their_limit_says() {
    let mut redis = Redis::start();
    let daemon = daemon_with_file(&redis, "[server]\nworkers = 1\n[ratelimit]\non_l2_down = \"closed\"\n");
    let mut client = client_of(&daemon);
    let lines = vec!["RATELIMIT.CHECK user u LIMIT 1000 WINDOW 604800000".to_owned(); 100];
    assert_eq!(at_once(&mut client, &lines).len(), 100);
    redis.process.kill();
    for reply in at_once(&mut client, &lines) {
        assert_eq!(reply, "[0 1000 0");
    }
    redis.restart();
    crate::support::eventually("Redis counts again", || {
        at_once(&mut daemon.client(), &lines).iter().all(|reply| reply.starts_with("[1 1000 "))
    });
}
