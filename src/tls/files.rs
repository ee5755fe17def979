//! Reads certificates, keys and authorities in PEM. Each error names the setting and the file; nothing of a key is shown.

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Error;

fn read(setting: &str, path: Option<&str>) -> Result<(String, Vec<u8>), Error> {
    let path = path.ok_or_else(|| Error::new(format!("{setting} is not set"), "name a file in PEM"))?;
    let bytes = std::fs::read(path).map_err(|error| {
        Error::new(format!("{setting}: cannot read {path}: {error}"), "name a file that this user may read")
    })?;
    Ok((format!("{setting}: {path}"), bytes))
}

/// The certificate, and those that it is signed by behind it.
pub fn chain(setting: &str, path: Option<&str>) -> Result<Vec<CertificateDer<'static>>, Error> {
    let (name, bytes) = read(setting, path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| {
        Error::new(
            format!("{name} holds no certificate in PEM, or one that is torn"),
            "openssl x509 -in FILE shows what it holds",
        )
    })
}

pub fn key(setting: &str, path: Option<&str>) -> Result<PrivateKeyDer<'static>, Error> {
    let (name, bytes) = read(setting, path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        Error::new(
            format!("{name} holds no private key in PEM that can be used without a password"),
            "openssl pkey -in FILE writes one",
        )
    })
}

pub fn authorities(setting: &str, path: Option<&str>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(setting, path)? {
        roots.add(certificate).map_err(|error| {
            Error::new(
                format!("{setting}: {}: {error}", path.unwrap_or_default()),
                "name a file of authorities in PEM",
            )
        })?;
    }
    Ok(roots)
}

/// Those that the machine's administrator trusts: unlike a list that is built in, they are kept up to date, and may hold a
/// company's own.
pub fn authorities_of_the_system() -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(Error::new(
            "this system trusts no authority, so no certificate of Redis could be checked",
            "install ca-certificates, or set upstream.tls_ca_file",
        ));
    }
    Ok(roots)
}

/// A certificate and a key that cannot be used together.
pub fn unfit(cert: &str, key: &str, error: &rustls::Error) -> Error {
    let what = match error {
        rustls::Error::InconsistentKeys(_) => format!("{key} is not the key of {cert}"),
        rustls::Error::InvalidCertificate(_) => {
            format!("{cert} is no certificate that can be used ({error})")
        }
        _ => format!("{key} is no key that can be used ({error})"),
    };
    Error::new(what, "give both of one pair: RSA of 2048 bits or more, ECDSA P-256 or P-384, or Ed25519")
}
