//! To Redis: what is wrong is said in the reply and in the log, with what to do; nothing is sent as plain text instead.

use crate::pki::{Authority, Pair, Pki};
use crate::support::{Daemon, Redis, eventually};
use crate::{SecureDaemon, SecureRedis};

/// The reply of a daemon that cannot reach its Redis holds each of these, and its log one line with the first.
fn is_told(daemon: &Daemon, parts: &[&str]) {
    let mut client = daemon.client();
    let mut reply = String::new();
    eventually(&format!("the reply names {parts:?}; it is {}", daemon.stderr()), || {
        reply = client.text(&["GET", "k"]);
        parts.iter().all(|part| reply.contains(part))
    });
    assert!(reply.starts_with("-LOADING madcache: not sent: cannot reach Redis at localhost:"), "{reply}");
    eventually("the log says it too", || daemon.stderr().contains(parts[0]));
}

/// A daemon before a Redis that shows this certificate, and trusts the authority of `pki`.
fn before_redis_with(pki: &Pki, shown: &Pair) -> (SecureRedis, Daemon) {
    pki.write("server", shown);
    let redis = SecureRedis::start(pki, "no");
    let daemon = Daemon::start_with(&redis.url(), &[("MADCACHE_UPSTREAM_TLS_CA_FILE", &pki.authority())]);
    (redis, daemon)
}

#[test]
fn a_redis_of_an_unknown_authority_is_refused() {
    let pki = Pki::new();
    let (_redis, daemon) = before_redis_with(&pki, &Authority::new("other").server(&["localhost"]));
    is_told(&daemon, &["not signed by an authority that is trusted here", "upstream.tls_ca_file"]);
}

#[test]
fn a_cluster_that_cannot_be_asked_by_tls_is_not_just_unknown() {
    let pki = Pki::new();
    let redis = SecureRedis::start(&pki, "no");
    let other = Pki::new();
    let not_known = "-LOADING madcache: not sent: the nodes of the cluster are not known: ";
    let no_cluster = format!(
        "the Redis at localhost:{} is no cluster (ERR This instance has cluster support disabled): \
         write rediss:// instead of rediss-cluster://",
        redis.port
    );
    let stranger =
        format!("no node answers, the one at localhost:{} for this reason: its certificate", redis.port);
    for (trusted, reason) in [(&pki, &no_cluster), (&other, &stranger)] {
        let settings = [("MADCACHE_UPSTREAM_TLS_CA_FILE", &*trusted.authority())];
        let daemon = Daemon::start_with(&format!("rediss-cluster://localhost:{}", redis.port), &settings);
        eventually("clients are told", || {
            daemon.client().text(&["GET", "k"]).starts_with(&format!("{not_known}{reason}"))
        });
        assert!(daemon.stderr().contains(reason), "{}", daemon.stderr());
    }
}

#[test]
fn without_a_file_of_authorities_those_of_the_system_are_asked() {
    let pki = Pki::new();
    let redis = SecureRedis::start(&pki, "no");
    let system = Daemon::spawn_as(&redis.url(), &[], |command| {
        command.env("SSL_CERT_FILE", pki.authority()).env_remove("SSL_CERT_DIR");
    })
    .ready();
    assert_eq!(system.client().text(&["SET", "k", "v"]), "+OK");
    let none = pki.dir().join("none.crt");
    std::fs::write(&none, "").unwrap();
    let mut daemon = Daemon::spawn_as(&redis.url(), &[], |command| {
        command.env("SSL_CERT_FILE", &none).env_remove("SSL_CERT_DIR");
    });
    assert!(!daemon.process.wait().success());
    assert!(daemon.stderr().contains("set upstream.tls_ca_file"), "{}", daemon.stderr());
}

#[test]
fn a_redis_with_a_certificate_of_another_host_is_refused_unless_its_name_is_set() {
    let pki = Pki::new();
    let (redis, daemon) = before_redis_with(&pki, &pki.authority.server(&["redis.internal"]));
    is_told(&daemon, &["redis.internal", "not for localhost", "upstream.tls_server_name"]);
    let settings = [
        ("MADCACHE_UPSTREAM_TLS_CA_FILE", pki.authority()),
        ("MADCACHE_UPSTREAM_TLS_SERVER_NAME", "redis.internal".to_string()),
    ];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let named = Daemon::start_with(&redis.url(), &settings);
    assert_eq!(named.client().text(&["SET", "k", "v"]), "+OK");
    eventually("the daemon's own connection is there", || named.http("/readyz").0 == 200);
}

#[test]
fn a_redis_with_an_expired_certificate_is_refused() {
    let pki = Pki::new();
    let (_redis, daemon) = before_redis_with(&pki, &pki.authority.expired_server(&["localhost"]));
    is_told(&daemon, &["has expired", "renew it"]);
}

#[test]
fn a_redis_that_shows_the_certificate_of_an_authority_is_refused_with_what_to_do() {
    let pki = Pki::new();
    let (_redis, daemon) = before_redis_with(&pki, &pki.authority.as_server());
    is_told(&daemon, &["CA:TRUE", "upstream.tls_ca_file"]);
}

#[test]
fn a_redis_that_asks_for_a_certificate_gets_one_or_says_so() {
    let pki = Pki::new();
    let redis = SecureRedis::start(&pki, "yes");
    let ca = pki.authority();
    let without = Daemon::start_with(&redis.url(), &[("MADCACHE_UPSTREAM_TLS_CA_FILE", &ca)]);
    is_told(&without, &["client certificate", "upstream.tls_cert_file"]);
    let with = |name: &str| {
        let settings = [
            ("MADCACHE_UPSTREAM_TLS_CA_FILE", ca.clone()),
            ("MADCACHE_UPSTREAM_TLS_CERT_FILE", pki.cert(name)),
            ("MADCACHE_UPSTREAM_TLS_KEY_FILE", pki.key(name)),
        ];
        let settings: Vec<(&str, &str)> = settings.iter().map(|(key, text)| (*key, text.as_str())).collect();
        Daemon::start_with(&redis.url(), &settings)
    };
    pki.write("good", &pki.authority.client());
    pki.write("bad", &Authority::new("other").client());
    assert_eq!(with("good").client().text(&["SET", "k", "v"]), "+OK");
    is_told(&with("bad"), &["upstream.tls_cert_file"]);
}

#[test]
fn tls_to_a_redis_without_tls_is_refused_and_nothing_is_sent_as_plain_text() {
    let pki = Pki::new();
    let redis = Redis::start();
    let url = format!("rediss://localhost:{}", redis.port);
    let daemon = Daemon::start_with(&url, &[("MADCACHE_UPSTREAM_TLS_CA_FILE", &pki.authority())]);
    is_told(&daemon, &["speak TLS"]);
    for command in ["hello", "set", "client|tracking", "ping"] {
        assert!(!redis.client().text(&["INFO", "commandstats"]).contains(&format!("cmdstat_{command}:")));
    }
}

#[test]
fn plain_text_to_a_redis_with_tls_says_that_tls_is_spoken_there() {
    let pki = Pki::new();
    let redis = SecureRedis::start(&pki, "no");
    let daemon = Daemon::start_with(&format!("redis://localhost:{}", redis.port), &[]);
    is_told(&daemon, &["rediss://"]);
}

#[test]
fn a_redis_that_never_answers_the_handshake_is_given_up() {
    let pki = Pki::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rediss://localhost:{}", silent.local_addr().unwrap().port());
    let settings = [
        ("MADCACHE_UPSTREAM_TLS_CA_FILE", pki.authority()),
        ("MADCACHE_UPSTREAM_CONNECT_TIMEOUT_MS", "200".to_string()),
    ];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, text)| (*key, text.as_str())).collect();
    let daemon = Daemon::start_with(&url, &settings);
    is_told(&daemon, &["does it speak TLS on this port", "no answer within 200ms"]);
}

#[test]
fn a_kind_with_a_redis_of_its_own_reaches_it_by_tls() {
    let pki = Pki::new();
    let (redis, own) = (Redis::start(), SecureRedis::start(&pki, "no"));
    let url = own.url();
    let settings = [("MADCACHE_LOCK_URL_OVERRIDE", url.as_str()), ("MADCACHE_RATELIMIT_URL_OVERRIDE", &url)];
    let daemon = SecureDaemon::start(&pki, &redis.url(), &settings).daemon;
    let mut client = daemon.client();
    let granted = String::from_utf8(client.call(&["LOCK.ACQUIRE", "job", "30000"])).unwrap();
    assert!(granted.starts_with("*4\r\n:1\r\n"), "{granted}");
    let token = granted.split("\r\n").nth(3).unwrap().to_string();
    assert_eq!(own.redis.client().text(&["DBSIZE"]), ":2", "the lock and its fence");
    assert_eq!(redis.client().text(&["DBSIZE"]), ":0");
    // The one who waits is woken through the daemon's subscription there.
    let mut waiting = daemon.client();
    waiting.send(&["LOCK.ACQUIRE", "job", "30000", "WAIT", "20000"]);
    let listening = || own.redis.client().text(&["PUBSUB", "CHANNELS"]).contains("lock");
    eventually("the daemon listens for releases", listening);
    assert_eq!(client.text(&["LOCK.RELEASE", "job", &token]), ":0");
    assert!(waiting.read_frame().starts_with(b"*4\r\n:1\r\n"));
}
