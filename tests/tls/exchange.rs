//! Certificates that are exchanged while the daemon runs: new connections see the new ones, open ones stay, and files that
//! cannot be used change nothing.

use std::time::Duration;

use crate::pki::{Authority, Pki};
use crate::secure::{self, trusting};
use crate::support::{Daemon, Redis, eventually};
use crate::{SecureDaemon, SecureRedis};

const CLIENTS: usize = 1000;

/// For tests that hold many connections in one process.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}

/// What a new connection is shown.
fn shown(daemon: &SecureDaemon, authority: &Authority) -> Option<Vec<u8>> {
    let client = secure::Client::connect(daemon.port, trusting(authority, None));
    client.ok().map(|client| client.certificate())
}

#[test]
fn a_thousand_clients_stay_while_the_daemons_certificate_is_exchanged() {
    raise_file_limit();
    let (pki, redis) = (Pki::new(), Redis::start());
    let daemon = SecureDaemon::start(&pki, &redis.url(), &[]);
    let mut clients: Vec<secure::Client> = (0..CLIENTS).map(|_| daemon.client(&pki.authority)).collect();
    let all_work = |clients: &mut Vec<secure::Client>, round: &str| {
        // All at once, and each gets its own answer.
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(&["SET", &format!("k{n}"), round]);
            client.send(&["GET", &format!("k{n}")]);
        }
        for (n, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.read_frame(), b"+OK\r\n", "client {n}, {round}");
            assert!(client.read_frame().ends_with(format!("{round}\r\n").as_bytes()), "client {n}, {round}");
        }
    };
    all_work(&mut clients, "before");
    let old = clients[0].certificate();
    // By SIGHUP, signed by another authority.
    let second = Authority::new("second");
    pki.write("server", &second.server(&["localhost"]));
    daemon.daemon.process.signal("HUP");
    eventually("new connections see the new certificate", || {
        shown(&daemon, &second).is_some_and(|new| new != old)
    });
    assert!(shown(&daemon, &pki.authority).is_none(), "the old one is still shown");
    all_work(&mut clients, "after SIGHUP");
    // And by the change of the files alone.
    let third = Authority::new("third");
    pki.write("server", &third.server(&["localhost"]));
    eventually("the change of the files is noticed", || shown(&daemon, &third).is_some());
    all_work(&mut clients, "after the change");
    assert_eq!(clients[0].certificate(), old);
}

#[test]
fn files_that_cannot_be_used_change_nothing_and_are_named() {
    let (pki, redis) = (Pki::new(), Redis::start());
    let daemon = SecureDaemon::start(&pki, &redis.url(), &[]);
    let mut client = daemon.client(&pki.authority);
    let old = client.certificate();
    let good = pki.authority.server(&["localhost"]);
    let mut torn = good.clone();
    torn.key = pki.authority.server(&["localhost"]).key;
    pki.write("server", &torn);
    daemon.daemon.process.signal("HUP");
    eventually("the pair that does not fit is named", || {
        let log = daemon.daemon.stderr();
        log.contains("the old settings stay") && log.contains("is not the key of server.tls_cert_file")
    });
    assert_eq!(shown(&daemon, &pki.authority), Some(old.clone()));
    // Without SIGHUP it is named too, and once.
    torn.cert = "nothing".into();
    pki.write("server", &torn);
    eventually("the file is named", || daemon.daemon.stderr().contains("the old ones stay"));
    assert_eq!(shown(&daemon, &pki.authority), Some(old.clone()));
    assert_eq!(client.text(&["PING"]), "+PONG");
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(daemon.daemon.stderr().matches("holds no certificate in PEM").count(), 1);
    pki.write("server", &good);
    eventually("the good pair is taken", || shown(&daemon, &pki.authority).is_some_and(|new| new != old));
    assert_eq!(client.text(&["PING"]), "+PONG");
}

#[test]
fn who_may_sign_clients_certificates_is_exchanged_too() {
    let (pki, redis) = (Pki::new(), Redis::start());
    let second = Authority::new("second");
    let ca = pki.authority();
    let settings = [("MADCACHE_SERVER_TLS_AUTH_CLIENTS", "yes"), ("MADCACHE_SERVER_TLS_CA_FILE", &ca)];
    let daemon = SecureDaemon::start(&pki, &redis.url(), &settings);
    let (old, new) = (pki.authority.client(), second.client());
    let connect = |own| {
        let mut client = secure::Client::connect(daemon.port, trusting(&pki.authority, Some(own))).ok()?;
        client.send_raw(b"PING\r\n").ok()?;
        client.try_read_frame().ok().map(|_| client)
    };
    let mut stays = connect(&old).unwrap();
    assert!(connect(&new).is_none());
    pki.write_authority(&second);
    daemon.daemon.process.signal("HUP");
    eventually("a client of the new authority is let in", || connect(&new).is_some());
    assert!(connect(&old).is_none(), "one of the old authority still is");
    assert_eq!(stays.text(&["PING"]), "+PONG");
}

#[test]
fn what_redis_is_shown_and_whom_the_daemon_trusts_is_exchanged_and_links_stay() {
    let pki = Pki::new();
    pki.write("own", &pki.authority.client());
    let (ca, cert, key) = (pki.authority(), pki.cert("own"), pki.key("own"));
    let settings = [
        ("MADCACHE_UPSTREAM_TLS_CA_FILE", ca.as_str()),
        ("MADCACHE_UPSTREAM_TLS_CERT_FILE", &cert),
        ("MADCACHE_UPSTREAM_TLS_KEY_FILE", &key),
    ];
    let mut redis = SecureRedis::start(&pki, "yes");
    let daemon = Daemon::start_with(&redis.url(), &settings);
    let mut client = daemon.client();
    assert_eq!(client.text(&["SET", "k", "v"]), "+OK");
    let links = || {
        let list = redis.redis.client().text(&["CLIENT", "LIST"]);
        let ids = list.lines().filter(|line| line.contains("name=madcache"));
        ids.map(|line| line.split_whitespace().next().unwrap().to_string()).collect::<Vec<_>>()
    };
    let before = links();
    assert!(!before.is_empty());
    daemon.process.signal("HUP");
    eventually("it is read again", || daemon.stderr().contains("configuration reloaded"));
    assert_eq!(client.text(&["GET", "k"]), "v");
    assert!(before.iter().all(|link| links().contains(link)), "a link was closed");
    // Redis comes back with a certificate of another authority, and asks for one of that authority.
    let second = Authority::new("second");
    pki.write("server", &second.server(&["localhost"]));
    pki.write_authority(&second);
    redis.redis.restart();
    pki.write("own", &second.client());
    daemon.process.signal("HUP");
    eventually("Redis is reached again", || client.text(&["SET", "k", "new"]) == "+OK");
    eventually("the daemon's own connection too", || {
        client.text(&["INFO", "madcache"]).contains("l2_reachable:1")
    });
}
