//! Checks that reach Redis together are one run of their script: nobody can tell, but by Redis's statistics.

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
    match text.starts_with('[') {
        true => text.split(' ').take(3).collect::<Vec<_>>().join(" "),
        false => text,
    }
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
        lines.push("RATELIMIT.CHECK user bad LIMIT 5 WINDOW 604800000".into());
        if round % 7 == 3 {
            lines.push("HLEN ratelimit:user:u0".into());
            lines.push("RATELIMIT.PEEK user u1 LIMIT 15 WINDOW 604800000".into());
        }
    }
    lines
}

fn with_a_bad_key() -> (Redis, Daemon, Client) {
    let redis = Redis::start();
    let daemon = daemon_with_file(&redis, ONE_WORKER);
    let mut client = daemon.client();
    assert_eq!(client.text(&["SET", "ratelimit:user:bad", "text"]), "+OK");
    (redis, daemon, client)
}

#[test]
fn checks_that_come_together_are_one_run_and_answered_each_by_itself() {
    let lines = all_kinds();
    let (_alone, _daemon, mut client) = with_a_bad_key();
    let wanted = one_by_one(&mut client, &lines);
    assert!(wanted.iter().any(|reply| reply.starts_with("[0 ")), "none is denied");
    assert!(wanted.iter().any(|reply| reply.starts_with("-WRONGTYPE")), "none fails");
    let (together, _daemon, mut client) = with_a_bad_key();
    assert_eq!(at_once(&mut client, &lines), wanted);
    let runs = runs(&together);
    assert!(runs < lines.len() as u64 / 3, "{runs} runs for {} checks", lines.len());
}

#[test]
fn checks_of_many_clients_count_each_once() {
    let redis = Redis::start();
    let daemon = daemon_with_file(&redis, ONE_WORKER);
    let line = "RATELIMIT.CHECK user all LIMIT 500 WINDOW 604800000".to_owned();
    let mut clients: Vec<Client> = (0..60).map(|_| daemon.client()).collect();
    let allowed = std::thread::scope(|scope| {
        let one = |client| scope.spawn(|| at_once(client, &vec![line.clone(); 10]));
        let all: Vec<_> = clients.iter_mut().map(one).collect();
        let replies = all.into_iter().flat_map(|client| client.join().unwrap());
        replies.filter(|reply| reply.starts_with("[1 500 ")).count()
    });
    assert_eq!(allowed, 500);
}

#[test]
fn a_key_that_is_forbidden_harms_no_other_check() {
    let redis = Redis::start();
    redis.client().call(&["ACL", "SETUSER", "ann", "on", ">pw", "~ratelimit:user:*", "+@all"]);
    let url = redis.url_for_daemon().replace("redis://", "redis://ann:pw@");
    let daemon = daemon_at(&url, &redis, ONE_WORKER);
    let mut client = daemon.client();
    let lines: Vec<String> = (0..30)
        .map(|n| {
            let scope = if n % 3 == 0 { "other" } else { "user" };
            format!("RATELIMIT.CHECK {scope} u LIMIT 30 WINDOW 604800000")
        })
        .collect();
    // Twice: afterwards it is known.
    for before in [0, 20] {
        for (at, reply) in at_once(&mut client, &lines).iter().enumerate() {
            match at % 3 {
                0 => assert!(reply.starts_with("-NOPERM"), "{at}: {reply}"),
                _ => {
                    let used = before + at - at / 3;
                    let wanted = format!("[{} 30 {}", usize::from(used <= 30), 30 - used.min(30));
                    assert_eq!(*reply, wanted, "{at}");
                }
            }
        }
    }
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
    let mut client = daemon.client();
    let lines = vec!["RATELIMIT.CHECK user u LIMIT 100 WINDOW 604800000".to_owned(); 20];
    for round in 0..5 {
        let wanted: Vec<String> = (1..=20).map(|n| format!("[1 100 {}", 100 - round * 20 - n)).collect();
        assert_eq!(at_once(&mut client, &lines), wanted);
        assert_eq!(redis.client().text(&["SCRIPT", "FLUSH"]), "+OK");
    }
}

#[test]
fn checks_that_were_not_written_when_redis_went_away_are_not_lost() {
    let mut redis = Redis::start();
    let daemon = daemon_with_file(&redis, "[server]\nworkers = 1\n[ratelimit]\non_l2_down = \"closed\"\n");
    let mut client = daemon.client();
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
