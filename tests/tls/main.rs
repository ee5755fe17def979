//! TLS on both sides, with certificates made here: to a real redis-server, and from clients of several kinds. What is refused is
//! refused in words that say what to do; what is let through behaves as plain text does, also where bytes come one by one,
//! where nobody reads, and while certificates are exchanged.

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod exchange;
mod pki;
mod refusals;
mod secure;
mod strangers;
mod traffic;

use pki::{Authority, Pki};
use support::{Daemon, Redis, free_port};

/// A redis-server with a port for TLS beside the plain one.
pub struct SecureRedis {
    pub redis: Redis,
    pub port: u16,
}

impl SecureRedis {
    /// Shows the certificate of the files called `server`; `clients` as its tls-auth-clients.
    pub fn start(pki: &Pki, clients: &str) -> SecureRedis {
        let port = free_port();
        let options = [
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &pki.cert("server"),
            "--tls-key-file",
            &pki.key("server"),
            "--tls-ca-cert-file",
            &pki.authority(),
            "--tls-auth-clients",
            clients,
        ];
        SecureRedis { redis: Redis::start_with(&options), port }
    }

    pub fn url(&self) -> String {
        format!("rediss://localhost:{}", self.port)
    }
}

/// A daemon with a port for TLS beside the plain one.
pub struct SecureDaemon {
    pub daemon: Daemon,
    pub port: u16,
}

impl SecureDaemon {
    /// Before `url`, with the certificate of the files called `server`, and trusting the authority of the same `pki`.
    pub fn start(pki: &Pki, url: &str, more: &[(&str, &str)]) -> SecureDaemon {
        let port = free_port();
        let (tls_port, cert, key, ca) =
            (port.to_string(), pki.cert("server"), pki.key("server"), pki.authority());
        let settings = [
            ("MADCACHE_SERVER_TLS_PORT", tls_port.as_str()),
            ("MADCACHE_SERVER_TLS_CERT_FILE", cert.as_str()),
            ("MADCACHE_SERVER_TLS_KEY_FILE", key.as_str()),
            ("MADCACHE_UPSTREAM_TLS_CA_FILE", ca.as_str()),
        ];
        let settings: Vec<(&str, &str)> = settings.into_iter().chain(more.iter().copied()).collect();
        SecureDaemon { daemon: Daemon::start_with(url, &settings), port }
    }

    /// A client that trusts the authority, and has no certificate of its own.
    pub fn client(&self, authority: &Authority) -> secure::Client {
        secure::Client::connect(self.port, secure::trusting(authority, None)).expect("a handshake")
    }
}
