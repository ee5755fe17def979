//! Promise 10: a cached reply crosses neither users nor databases. Whatever the daemon answers a user is what Redis
//! itself answers that user.

use std::time::{Duration, Instant};

use crate::kit::{HitsCount, Setup, all_see, bulk, ok, rounds, show, warm, words};
use crate::support::Client;

const USERS: &[&str] = &[
    "ACL SETUSER all on >pw ~* &* +@all",
    "ACL SETUSER only-a on >pw ~a:* &* +@all",
    "ACL SETUSER reads on >pw ~* +@read +@connection",
    "ACL SETUSER no-get on >pw ~* +@all -get",
    "ACL SETUSER no-tracking on >pw ~* +@read -client",
    "ACL SETUSER no-pttl on >pw ~* +@all -pttl",
    "ACL SETUSER no-ping on >pw ~* +@all -ping",
    "ACL SETUSER write-only on >pw %W~* +@all",
    "ACL SETUSER nothing on >pw",
];

const READS: &[&str] = &[
    "GET a:1",
    "GET b:1",
    "GET missing",
    "STRLEN a:1",
    "STRLEN b:1",
    "MGET a:1 a:2",
    "MGET a:1 b:1",
    "EXISTS a:1 b:1",
    "TYPE b:1",
    "HGETALL a:h",
    "HGETALL b:h",
    "HMGET b:h f",
    "LRANGE a:l 0 -1",
    "LRANGE b:l 0 -1",
    "SMEMBERS b:s",
    "ZRANGE b:z 0 -1 WITHSCORES",
    "XRANGE b:x - +",
];

fn login(mut client: Client, user: &str, protocol: usize) -> Client {
    let reply = match protocol {
        2 => client.text(&["AUTH", user, "pw"]),
        _ => client.text(&["HELLO", "3", "AUTH", user, "pw"]),
    };
    // A user without the right to HELLO may be refused: then as Redis refuses it.
    if reply.starts_with("-NOPERM") {
        assert_eq!(client.text(&["AUTH", user, "pw"]), "+OK");
    }
    client
}

fn populate(direct: &mut Client) {
    for prefix in ["a", "b"] {
        for line in [
            "SET %:1 one",
            "SET %:2 two",
            "HSET %:h f 1",
            "RPUSH %:l x y",
            "SADD %:s m",
            "ZADD %:z 1 m",
            "XADD %:x 1-1 f v",
        ] {
            ok(direct, &line.replace('%', prefix));
        }
    }
}

#[test]
fn every_user_gets_for_every_read_what_redis_answers_that_user() {
    let setup = Setup::new();
    let mut direct = setup.direct();
    populate(&mut direct);
    USERS.iter().for_each(|line| ok(&mut direct, line));
    let names: Vec<String> = USERS.iter().map(|line| words(line)[2].clone()).collect();
    // The daemon's own user has everything cached before the others come.
    let mut first = setup.daemon.client();
    for read in READS {
        warm(&setup.daemon, &mut first, &words(read).iter().map(String::as_str).collect::<Vec<_>>());
    }
    let hits = HitsCount::from_now(&setup.daemon);
    for protocol in [2, 3] {
        let mut straight: Vec<_> =
            names.iter().map(|name| login(Client::connect(setup.redis.port), name, protocol)).collect();
        let mut sessions: Vec<Vec<Client>> = (0..2)
            .map(|_| names.iter().map(|name| login(setup.daemon.client(), name, protocol)).collect())
            .collect();
        // Several passes: the first replies pass, the next fill, the last hit; users take turns at each read.
        for pass in 0..5 {
            for read in READS {
                for (user, name) in names.iter().enumerate() {
                    let expected = straight[user].call(&words(read));
                    let reply = sessions[pass % 2][user].call(&words(read));
                    assert_eq!(
                        show(&reply),
                        show(&expected),
                        "{read} of {name} in pass {pass} by RESP{protocol}"
                    );
                }
            }
        }
    }
    hits.at_least(2 * READS.len() as u64, "the matrix");
}

#[test]
fn a_right_that_is_revoked_through_the_daemon_is_gone_at_once() {
    let setup = Setup::new();
    let mut direct = setup.direct();
    let mut admin = setup.daemon.client();
    populate(&mut direct);
    let revocations = ["-get", "resetkeys", "-@read", "nocommands", "%W~*"];
    for (i, revocation) in revocations.into_iter().enumerate() {
        let user = format!("user{i}");
        ok(&mut admin, &format!("ACL SETUSER {user} on >pw ~* +@all"));
        let mut sessions: Vec<_> = (0..4).map(|_| login(setup.daemon.client(), &user, 2)).collect();
        warm(&setup.daemon, &mut sessions[0], &["GET", "a:1"]);
        all_see(&mut sessions, &["GET", "a:1"], &bulk("one"), "before the revocation");
        let line = match revocation {
            "%W~*" => format!("ACL SETUSER {user} resetkeys %W~*"),
            _ => format!("ACL SETUSER {user} {revocation}"),
        };
        ok(&mut admin, &line);
        for session in &mut sessions {
            let reply = session.text(&["GET", "a:1"]);
            assert!(reply.starts_with("-NOPERM"), "{line}, then GET: {reply}");
        }
    }
}

#[test]
fn a_user_that_is_deleted_or_switched_off_through_the_daemon_reads_nothing_more() {
    let setup = Setup::new();
    let (mut direct, mut admin) = (setup.direct(), setup.daemon.client());
    populate(&mut direct);
    for line in ["ACL DELUSER gone", "ACL SETUSER gone off resetpass -@all"] {
        ok(&mut admin, "ACL SETUSER gone reset on >pw ~* +@all");
        let mut sessions: Vec<_> = (0..4).map(|_| login(setup.daemon.client(), "gone", 2)).collect();
        warm(&setup.daemon, &mut sessions[0], &["GET", "a:1"]);
        ok(&mut admin, line);
        for session in &mut sessions {
            let _ = session.send_raw(b"GET a:1\r\n");
            // Redis ends a deleted user's connections; an error is an answer too.
            if let Ok(reply) = session.try_read_frame() {
                assert_eq!(reply[0], b'-', "{line}, then GET: {}", show(&reply));
            }
        }
    }
}

/// Redis reports no change of its users: here only the cap of 60 s helps. It takes a minute, so only in full.
#[test]
fn a_right_that_is_revoked_straight_at_redis_is_gone_within_a_minute() {
    let setup = Setup::new();
    let mut direct = setup.direct();
    populate(&mut direct);
    ok(&mut direct, "ACL SETUSER guest on >pw ~* +@all");
    let mut session = login(setup.daemon.client(), "guest", 2);
    warm(&setup.daemon, &mut session, &["GET", "a:1"]);
    ok(&mut direct, "ACL SETUSER guest -get");
    let revoked = Instant::now();
    // In the suite: what is read for the first time is refused at once.
    assert!(session.text(&["GET", "a:2"]).starts_with("-NOPERM"));
    let time = Duration::from_secs(rounds(0, 61) as u64);
    while revoked.elapsed() < time && session.text(&["GET", "a:1"]) == "one" {
        std::thread::sleep(Duration::from_millis(50));
    }
    if !time.is_zero() {
        assert!(session.text(&["GET", "a:1"]).starts_with("-NOPERM"), "{:?} later", revoked.elapsed());
    }
}

#[test]
fn a_reply_never_crosses_databases() {
    let setup = Setup::new();
    let mut direct = setup.direct();
    let databases = [0, 1, 7, 15];
    let mut sessions: Vec<Vec<Client>> = databases
        .iter()
        .map(|db| {
            let mut sessions = setup.sessions(3);
            sessions.iter_mut().for_each(|session| ok(session, &format!("SELECT {db}")));
            sessions
        })
        .collect();
    for (i, db) in databases.iter().enumerate() {
        ok(&mut direct, &format!("SELECT {db}"));
        ok(&mut direct, &format!("SET k in{db}"));
        warm(&setup.daemon, &mut sessions[i][0], &["GET", "k"]);
    }
    for (i, db) in databases.iter().enumerate() {
        all_see(&mut sessions[i], &["GET", "k"], &bulk(&format!("in{db}")), "all databases are cached");
    }
    for (i, db) in databases.iter().enumerate() {
        ok(&mut sessions[i][1], &format!("SET k new{db}"));
        for (j, other) in databases.iter().enumerate() {
            let value = if j <= i { "new" } else { "in" };
            all_see(
                &mut sessions[j],
                &["GET", "k"],
                &bulk(&format!("{value}{other}")),
                "a write in one database",
            );
        }
    }
    // A session that goes from one to the next.
    let mut wanderer = setup.daemon.client();
    for _ in 0..5 {
        for db in databases {
            ok(&mut wanderer, &format!("SELECT {db}"));
            assert_eq!(wanderer.text(&["GET", "k"]), format!("new{db}"));
        }
    }
}

#[test]
fn a_session_that_changes_its_user_takes_no_entry_along() {
    let setup = Setup::new();
    let mut direct = setup.direct();
    populate(&mut direct);
    USERS.iter().for_each(|line| ok(&mut direct, line));
    let mut session = setup.daemon.client();
    for _ in 0..5 {
        assert_eq!(session.text(&["AUTH", "all", "pw"]), "+OK");
        warm(&setup.daemon, &mut session, &["GET", "b:1"]);
        assert_eq!(session.text(&["AUTH", "only-a", "pw"]), "+OK");
        assert!(session.text(&["GET", "b:1"]).starts_with("-NOPERM"));
        assert_eq!(session.text(&["RESET"]), "+RESET");
        assert_eq!(session.text(&["GET", "b:1"]), "one");
        assert!(session.text(&["AUTH", "all", "wrong"]).starts_with("-WRONGPASS"));
    }
}
