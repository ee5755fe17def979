//! Certificates, keys and authorities: reads their files, makes of them what rustls needs, and keeps what is in force, so that they
//! can be exchanged while connections stay open. Says in words what a failed handshake means. Moves no bytes of a connection.

mod files;
mod reasons;

pub use reasons::{Peer, closed_at_once, not_tls, reason, went_away};

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ServerConfig};

use crate::config::{Config, Server, Target, TlsAuthClients, Upstream};

/// A file that cannot be used: which setting names it, what is wrong, what to do.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {remedy}")]
pub struct Error {
    what: String,
    remedy: String,
}

impl Error {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error { what: what.into(), remedy: remedy.into() }
    }
}

/// What the files said when they were read.
pub struct Loaded {
    server: Option<Arc<ServerConfig>>,
    client: Option<Arc<ClientConfig>>,
}

impl Loaded {
    /// Reads the files that this configuration needs; none where nobody speaks TLS.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn read(config: &Config) -> Result<Loaded, Error> {
        let server = match &config.server {
            Server { tls_port: 0, .. } => None,
            server => Some(Arc::new(of_server(server)?)),
        };
        let wanted = config.residences().is_ok_and(|residences| residences.speak_tls());
        let client = match wanted {
            true => Some(Arc::new(of_upstream(&config.upstream)?)),
            false => None,
        };
        Ok(Loaded { server, client })
    }
}

/// What new connections are made with; those that are open keep what they began with.
#[derive(Default)]
pub struct InForce {
    server: ArcSwapOption<ServerConfig>,
    client: ArcSwapOption<ClientConfig>,
}

impl InForce {
    pub fn of(loaded: Loaded) -> InForce {
        let in_force = InForce::default();
        in_force.put(loaded);
        in_force
    }

    pub fn put(&self, loaded: Loaded) {
        self.server.store(loaded.server);
        self.client.store(loaded.client);
    }

    /// None: there is no port for TLS.
    pub fn server(&self) -> Option<Arc<ServerConfig>> {
        self.server.load_full()
    }

    /// How to reach this Redis, or a node that was found through it. None: by plain text.
    pub fn connector(&self, target: &Target) -> Option<Connector> {
        let tls = target.tls.as_ref()?;
        let config = self.client.load_full();
        let config = config.expect("where a Redis is reached by TLS, its settings were read at start");
        Some(Connector { config, name: tls.server_name.clone() })
    }
}

/// How to reach a Redis by TLS.
pub struct Connector {
    pub config: Arc<ClientConfig>,
    name: Option<String>,
}

impl Connector {
    /// The name that the certificate of a node at `host` must bear.
    pub fn name(&self, host: &str) -> Result<ServerName<'static>, String> {
        let name = self.name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned()).map_err(|_| {
            format!("{name:?} is no name that a certificate could bear: set upstream.tls_server_name")
        })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

const VERSIONS: &str = "ring has ciphers of TLS 1.2 and 1.3";

fn of_server(server: &Server) -> Result<ServerConfig, Error> {
    let (cert, key) = ("server.tls_cert_file", "server.tls_key_file");
    let chain = files::chain(cert, server.tls_cert_file.as_deref())?;
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.expect(VERSIONS);
    let builder = match server.tls_auth_clients {
        TlsAuthClients::No => builder.with_no_client_auth(),
        asked => {
            let roots = Arc::new(files::authorities("server.tls_ca_file", server.tls_ca_file.as_deref())?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            let verifier = match asked {
                TlsAuthClients::Optional => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            let verifier = verifier.build().map_err(|error| {
                Error::new(format!("server.tls_ca_file: {error}"), "name a file of authorities in PEM")
            })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key_read = files::key(key, server.tls_key_file.as_deref())?;
    let mut config =
        builder.with_single_cert(chain, key_read).map_err(|error| files::unfit(cert, key, &error))?;
    // One is enough to come back with.
    config.send_tls13_tickets = 1;
    Ok(config)
}

fn of_upstream(upstream: &Upstream) -> Result<ClientConfig, Error> {
    let (cert, key) = ("upstream.tls_cert_file", "upstream.tls_key_file");
    let roots = match &upstream.tls_ca_file {
        Some(path) => files::authorities("upstream.tls_ca_file", Some(path))?,
        None => files::authorities_of_the_system()?,
    };
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.expect(VERSIONS).with_root_certificates(roots);
    if upstream.tls_cert_file.is_none() {
        return Ok(builder.with_no_client_auth());
    }
    let chain = files::chain(cert, upstream.tls_cert_file.as_deref())?;
    let key_read = files::key(key, upstream.tls_key_file.as_deref())?;
    builder.with_client_auth_cert(chain, key_read).map_err(|error| files::unfit(cert, key, &error))
}

/// What tells that a file has changed, of all files that the configuration names. Follows links, as those are exchanged
/// where secrets are mounted.
#[derive(PartialEq, Eq, Clone)]
pub struct Look(Vec<Option<Stamp>>);

/// Device and inode, when it was written, its length.
type Stamp = (u64, u64, i64, i64, u64);

impl Look {
    pub fn at(config: &Config) -> Look {
        let (server, upstream) = (&config.server, &config.upstream);
        let files = [
            &server.tls_cert_file,
            &server.tls_key_file,
            &server.tls_ca_file,
            &upstream.tls_cert_file,
            &upstream.tls_key_file,
            &upstream.tls_ca_file,
        ];
        let stamp = |m: Metadata| -> Stamp { (m.dev(), m.ino(), m.mtime(), m.mtime_nsec(), m.size()) };
        Look(files.into_iter().flatten().map(|path| std::fs::metadata(path).ok().map(stamp)).collect())
    }
}
