//! From clients: who is let in, and what those are told who are not, in the log and where they can see it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use crate::pki::{Authority, Pair, Pki};
use crate::secure::{self, trusting};
use crate::support::{Client, Daemon, PATIENCE, Redis, eventually};
use crate::{SecureDaemon, SecureRedis};

/// With `server.tls_auth_clients` set so.
fn asking(pki: &Pki, redis: &Redis, how: &str) -> SecureDaemon {
    let ca = pki.authority();
    let settings = [("MADCACHE_SERVER_TLS_AUTH_CLIENTS", how), ("MADCACHE_SERVER_TLS_CA_FILE", ca.as_str())];
    SecureDaemon::start(pki, &redis.url(), &settings)
}

/// Whether a client with this certificate can ask for anything.
fn is_served(daemon: &SecureDaemon, pki: &Pki, own: Option<&Pair>) -> bool {
    let Ok(mut client) = secure::Client::connect(daemon.port, trusting(&pki.authority, own)) else {
        return false;
    };
    // The daemon looks at the certificate when the client takes the handshake for done.
    client.send_raw(b"PING\r\n").is_ok() && client.try_read_frame().is_ok_and(|reply| reply == b"+PONG\r\n")
}

#[test]
fn a_client_needs_a_certificate_of_the_authority_where_it_is_asked_for_one() {
    let (pki, redis) = (Pki::new(), Redis::start());
    let daemon = asking(&pki, &redis, "yes");
    let log = || daemon.daemon.stderr();
    assert!(is_served(&daemon, &pki, Some(&pki.authority.client())));
    assert!(!is_served(&daemon, &pki, None));
    eventually("a client without a certificate is named", || log().contains("it showed no certificate"));
    assert!(!is_served(&daemon, &pki, Some(&Authority::new("other").client())));
    eventually("one of another authority is", || log().contains("name its authority in server.tls_ca_file"));
    assert!(!is_served(&daemon, &pki, Some(&pki.authority.expired_client())));
    eventually("one that has expired is", || log().contains("the client's certificate has expired"));
    assert_eq!(daemon.daemon.stat("refused_tls"), 3);
    // Of many of the same kind the log has one line.
    for _ in 0..20 {
        assert!(!is_served(&daemon, &pki, None));
    }
    eventually("all are counted", || daemon.daemon.stat("refused_tls") == 23);
    assert_eq!(log().matches("it showed no certificate").count(), 1);
}

#[test]
fn an_optional_certificate_may_be_missing_but_not_be_bad() {
    let (pki, redis) = (Pki::new(), Redis::start());
    let daemon = asking(&pki, &redis, "optional");
    assert!(is_served(&daemon, &pki, None));
    assert!(is_served(&daemon, &pki, Some(&pki.authority.client())));
    assert!(!is_served(&daemon, &pki, Some(&Authority::new("other").client())));
}

#[test]
fn a_client_that_does_not_trust_the_daemon_is_named_in_the_log() {
    let (pki, redis) = (Pki::new(), Redis::start());
    let daemon = SecureDaemon::start(&pki, &redis.url(), &[]);
    let refused = secure::Client::connect(daemon.port, trusting(&Authority::new("other"), None));
    assert!(refused.is_err());
    eventually("the log says what to do", || {
        daemon.daemon.stderr().contains("it does not accept server.tls_cert_file (UnknownCA)")
    });
}

#[test]
fn plain_text_on_the_port_for_tls_is_told_so_and_closed() {
    let (pki, redis) = (Pki::new(), Redis::start());
    let daemon = SecureDaemon::start(&pki, &redis.url(), &[]);
    for request in ["*1\r\n$4\r\nPING\r\n", "PING\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut client = Client::connect(daemon.port);
        client.send_raw(request.as_bytes()).unwrap();
        let answer = String::from_utf8_lossy(&client.read_to_end()).into_owned();
        assert_eq!(answer, "-ERR this port speaks TLS: connect with TLS (rediss://, redis-cli --tls)\r\n");
    }
    eventually("the log names the port", || {
        daemon.daemon.stderr().contains("does not speak TLS to server.tls_port")
    });
    // Whoever only looks whether the port is open is not worth a line, nor a count.
    drop(TcpStream::connect(("127.0.0.1", daemon.port)).unwrap());
    assert_eq!(daemon.daemon.stat("refused_tls"), 3);
}

#[test]
fn tls_on_the_port_for_plain_text_is_closed_and_named_once() {
    let (pki, redis) = (Pki::new(), Redis::start());
    let daemon = SecureDaemon::start(&pki, &redis.url(), &[]);
    for _ in 0..3 {
        assert!(secure::Client::connect(daemon.daemon.port, trusting(&pki.authority, None)).is_err());
    }
    eventually("the log names the port", || daemon.daemon.stderr().contains("use server.tls_port"));
    assert_eq!(daemon.daemon.stderr().matches("use server.tls_port").count(), 1);
}

#[test]
fn a_handshake_that_never_ends_is_closed_and_holds_nobody_up() {
    let (pki, redis) = (Pki::new(), Redis::start());
    let daemon = SecureDaemon::start(&pki, &redis.url(), &[("MADCACHE_LIMITS_UNAUTH_SECONDS_MAX", "1")]);
    let mut hello = Vec::new();
    secure::connection(trusting(&pki.authority, None)).write_tls(&mut hello).unwrap();
    let mut stuck: Vec<TcpStream> = Vec::new();
    for len in [0, 1, 3, 5, 20, hello.len() - 1, hello.len()] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(("127.0.0.1", daemon.port)).unwrap();
            stream.write_all(&hello[..len]).unwrap();
            stuck.push(stream);
        }
    }
    let mut served = daemon.client(&pki.authority);
    assert_eq!(served.text(&["SET", "k", "v"]), "+OK");
    for stream in &mut stuck {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // What the daemon had to say before is its half of the handshake.
        assert!(stream.read_to_end(&mut Vec::new()).is_ok(), "still open after {PATIENCE:?}");
    }
    assert_eq!(served.text(&["GET", "k"]), "v");
    eventually("they are gone", || daemon.daemon.stat("clients") <= 2);
    assert_eq!(daemon.daemon.stat("refused_tls"), stuck.len() as u64);
    assert_eq!(daemon.daemon.stderr().matches("longer than limits.unauth_seconds_max").count(), 1);
}

#[test]
fn one_client_too_many_is_closed() {
    let (pki, redis) = (Pki::new(), Redis::start());
    let daemon = SecureDaemon::start(&pki, &redis.url(), &[("MADCACHE_SERVER_CLIENTS_MAX", "3")]);
    let mut clients: Vec<secure::Client> = (0..3).map(|_| daemon.client(&pki.authority)).collect();
    assert!(secure::Client::connect(daemon.port, trusting(&pki.authority, None)).is_err());
    for client in &mut clients {
        assert_eq!(client.text(&["PING"]), "+PONG");
    }
}

#[test]
fn the_port_for_plain_text_can_be_closed() {
    let pki = Pki::new();
    let redis = SecureRedis::start(&pki, "no");
    // The daemon that is started here would be waited for on its plain port.
    let other = SecureDaemon::start(&pki, &redis.url(), &[]);
    let config = pki.dir().join("madcache.toml");
    let text = format!(
        "[server]\nport = 0\ntls_port = {}\ntls_cert_file = '{}'\ntls_key_file = '{}'\n[admin]\nbind = 'off'\n\
         [upstream]\nurl = '{}'\ntls_ca_file = '{}'\n",
        crate::support::free_port(),
        pki.cert("server"),
        pki.key("server"),
        redis.url(),
        pki.authority(),
    );
    std::fs::write(&config, &text).unwrap();
    let port = text.split("tls_port = ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
    let _daemon = crate::support::Process::spawn(
        plain_command().arg("--config").arg(&config).stderr(std::process::Stdio::null()),
    );
    eventually("it serves TLS", || {
        secure::Client::connect(port, trusting(&pki.authority, None))
            .is_ok_and(|mut client| client.text(&["SET", "k", "v"]) == "+OK")
    });
    assert_eq!(other.client(&pki.authority).text(&["GET", "k"]), "v");
}

/// The daemon without the settings of whoever runs the test.
fn plain_command() -> Command {
    let binary = std::env::var("MADCACHE_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_madcache").into());
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MADCACHE_") || name == "REDIS_URL")
    {
        command.env_remove(name);
    }
    command
}

#[test]
fn files_that_cannot_be_used_are_named_at_start_and_by_check_config() {
    let pki = Pki::new();
    pki.write("other", &pki.authority.server(&["localhost"]));
    let garbage = pki.dir().join("garbage");
    std::fs::write(&garbage, "-----BEGIN NOTHING-----\n").unwrap();
    let garbage = garbage.to_str().unwrap();
    let nowhere = pki.dir().join("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    let (cert, key) = (pki.cert("server"), pki.key("server"));
    let cases = [
        (nowhere, key.as_str(), "", "server.tls_cert_file: cannot read"),
        (garbage, &key, "", "holds no certificate"),
        (&cert, nowhere, "", "server.tls_key_file: cannot read"),
        (&cert, garbage, "", "holds no private key"),
        (&cert, &pki.key("other"), "", "server.tls_key_file is not the key of server.tls_cert_file"),
        (&cert, &key, garbage, "server.tls_ca_file"),
    ];
    for (cert, key, ca, part) in cases {
        let check = |more: &[&str]| {
            let output = plain_command()
                .args(more)
                .args(["--port", "0", "--admin-bind", "off"])
                .env("MADCACHE_SERVER_TLS_PORT", crate::support::free_port().to_string())
                .env("MADCACHE_SERVER_TLS_CERT_FILE", cert)
                .env("MADCACHE_SERVER_TLS_KEY_FILE", key)
                .env("MADCACHE_SERVER_TLS_CA_FILE", ca)
                .env("MADCACHE_SERVER_TLS_AUTH_CLIENTS", if ca.is_empty() { "no" } else { "yes" })
                .output()
                .unwrap();
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        for more in [&["--check-config"][..], &[]] {
            let (is_fine, error) = check(more);
            assert!(!is_fine && error.contains(part), "{part}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}

#[test]
fn unix_sockets_stay_as_they_were_beside_tls() {
    let (pki, redis) = (Pki::new(), Redis::start());
    let path = pki.dir().join("m.sock");
    let daemon =
        SecureDaemon::start(&pki, &redis.url(), &[("MADCACHE_SERVER_UNIXSOCKET", path.to_str().unwrap())]);
    assert_eq!(daemon.client(&pki.authority).text(&["SET", "k", "v"]), "+OK");
    let mut local = std::os::unix::net::UnixStream::connect(&path).unwrap();
    local.write_all(b"GET k\r\n").unwrap();
    let mut answer = [0; 7];
    local.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"$1\r\nv\r\n");
    assert_eq!(daemon.daemon.client().text(&["GET", "k"]), "v");
}

#[test]
fn without_a_redis_the_engine_serves_by_tls_too() {
    let pki = Pki::new();
    let (port, cert, key) = (crate::support::free_port().to_string(), pki.cert("server"), pki.key("server"));
    let settings = [
        ("MADCACHE_SERVER_TLS_PORT", port.as_str()),
        ("MADCACHE_SERVER_TLS_CERT_FILE", &cert),
        ("MADCACHE_SERVER_TLS_KEY_FILE", &key),
    ];
    let _daemon = Daemon::spawn_as("", &settings, |command| {
        command.env_remove("MADCACHE_UPSTREAM_URL");
    })
    .ready();
    let mut client = secure::Client::connect(port.parse().unwrap(), trusting(&pki.authority, None)).unwrap();
    assert_eq!(client.text(&["SET", "k", "v"]), "+OK");
    assert_eq!(client.text(&["GET", "k"]), "v");
}
