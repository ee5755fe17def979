//! Clients as people use them: redis-cli, the redis crate, the typed client. (redis-py and node-redis: `tests/run sessions`.)

use std::process::Command;

use madcache::client::{Certificates, Client, DistributedLock, SessionManager};

use crate::pki::{Authority, Pki};
use crate::{SecureDaemon, SecureRedis};

#[test]
fn redis_cli_speaks_tls_with_and_without_a_certificate() {
    let pki = Pki::new();
    let redis = SecureRedis::start(&pki, "no");
    let ca = pki.authority();
    let settings = [("MADCACHE_SERVER_TLS_AUTH_CLIENTS", "optional"), ("MADCACHE_SERVER_TLS_CA_FILE", &ca)];
    let daemon = SecureDaemon::start(&pki, &redis.url(), &settings);
    pki.write("client", &pki.authority.client());
    let cli = |more: &[&str], words: &[&str]| {
        let output = Command::new("redis-cli")
            .args(["-h", "localhost", "-p", &daemon.port.to_string(), "--tls", "--cacert", &ca])
            .args(more)
            .args(words)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim_end().to_string()
    };
    let (cert, key) = (pki.cert("client"), pki.key("client"));
    let certificate = ["--cert", cert.as_str(), "--key", &key];
    assert_eq!(cli(&[], &["SET", "greeting", "hello"]), "OK");
    assert_eq!(cli(&certificate, &["-3", "-r", "3", "GET", "greeting"]), "hello\nhello\nhello");
    let big = "x".repeat(100_000);
    assert_eq!(cli(&certificate, &["SET", "big", &big]), "OK");
    assert_eq!(cli(&[], &["GET", "big"]), big);
}

fn certificates(pki: &Pki, own: bool) -> Certificates {
    let pair = pki.authority.client();
    Certificates {
        authorities: Some(pki.authority.pem.clone().into_bytes()),
        own: own.then(|| (pair.cert.into_bytes(), pair.key.into_bytes())),
    }
}

#[tokio::test]
async fn the_typed_client_reaches_a_daemon_and_a_redis_by_tls() {
    let pki = Pki::new();
    let redis = SecureRedis::start(&pki, "yes");
    let ca = pki.authority();
    pki.write("own", &pki.authority.client());
    let (cert, key) = (pki.cert("own"), pki.key("own"));
    let settings = [
        ("MADCACHE_UPSTREAM_TLS_CERT_FILE", cert.as_str()),
        ("MADCACHE_UPSTREAM_TLS_KEY_FILE", &key),
        ("MADCACHE_SERVER_TLS_AUTH_CLIENTS", "yes"),
        ("MADCACHE_SERVER_TLS_CA_FILE", &ca),
    ];
    let daemon = SecureDaemon::start(&pki, &redis.url(), &settings);
    let through_url = format!("rediss://localhost:{}", daemon.port);
    let through = Client::open_with(&through_url, &certificates(&pki, true)).unwrap();
    let direct = Client::open_with(&redis.url(), &certificates(&pki, true)).unwrap();
    let token = SessionManager::new(through.clone()).create_session("ann", "a@b.c", "member").await.unwrap();
    let found = SessionManager::new(direct.clone()).validate_session(&token).await.unwrap().unwrap();
    assert_eq!(found.user_id, "ann");
    let (here, there) = (DistributedLock::new(through, "job", 30), DistributedLock::new(direct, "job", 30));
    assert!(here.acquire().await.unwrap());
    assert!(!there.acquire().await.unwrap());
    here.release().await.unwrap();
    // Who has no certificate, or does not trust the daemon, is not let in.
    let without = Client::open_with(&through_url, &certificates(&pki, false)).unwrap();
    assert!(without.ping().await.is_err());
    let mut distrustful = certificates(&pki, true);
    distrustful.authorities = Some(Authority::new("other").pem.into_bytes());
    assert!(Client::open_with(&through_url, &distrustful).unwrap().ping().await.is_err());
    assert!(Client::open("rediss://localhost:1").is_ok());
    assert!(Client::open_with("redis://localhost:1", &certificates(&pki, false)).is_err());
}

#[tokio::test]
async fn the_redis_crate_speaks_tls_in_both_protocols() {
    let pki = Pki::new();
    let redis = SecureRedis::start(&pki, "no");
    let daemon = SecureDaemon::start(&pki, &redis.url(), &[]);
    Client::open("rediss://localhost:1").expect("chooses the ciphers of this process");
    for protocol in ["resp2", "resp3"] {
        let url = format!("rediss://localhost:{}/?protocol={protocol}", daemon.port);
        let certificates = redis::TlsCertificates {
            client_tls: None,
            root_cert: Some(pki.authority.pem.clone().into_bytes()),
        };
        let client = redis::Client::build_with_tls(url, certificates).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut pipe = redis::pipe();
        for n in 0..1000 {
            pipe.cmd("SET").arg(format!("k{n}")).arg(n).ignore().cmd("GET").arg(format!("k{n}"));
        }
        let values: Vec<u64> = pipe.query_async(&mut connection).await.unwrap();
        assert_eq!(values, (0..1000).collect::<Vec<u64>>());
        let fields: std::collections::HashMap<String, u64> = redis::pipe()
            .cmd("HSET")
            .arg(&["h", "a", "1", "b", "2"])
            .ignore()
            .cmd("HGETALL")
            .arg("h")
            .query_async::<(std::collections::HashMap<String, u64>,)>(&mut connection)
            .await
            .unwrap()
            .0;
        assert_eq!(fields.len(), 2);
    }
}
