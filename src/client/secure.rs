//! TLS of a client's connections: which certificates, and whose ciphers. The redis crate does the rest.

use redis::{ClientTlsConfig, TlsCertificates};
use rustls::crypto::{CryptoProvider, ring};

/// Certificates in PEM, as files hold them.
#[derive(Clone, Default)]
pub struct Certificates {
    /// Who may have signed the server's; `None`: whom the system trusts.
    pub authorities: Option<Vec<u8>>,
    /// This client's certificate and its private key, where the server asks for one.
    pub own: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Certificates {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

impl From<&Certificates> for TlsCertificates {
    fn from(certificates: &Certificates) -> TlsCertificates {
        let own = certificates.own.clone();
        TlsCertificates {
            client_tls: own.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key }),
            root_cert: certificates.authorities.clone(),
        }
    }
}

/// The redis crate takes the process's ciphers, and a program that holds several implementations must say which: these,
/// unless it has.
pub fn choose_ciphers() {
    if CryptoProvider::get_default().is_none() {
        // Another thread may just have chosen.
        let _ = ring::default_provider().install_default();
    }
}
