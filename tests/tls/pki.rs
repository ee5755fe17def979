//! Certificates for a test: authorities, what they sign, and the files that settings name.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
    key: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Pair {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(vec!["localhost".to_string()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let (pem, key_pem) = (params.self_signed(&key).unwrap().pem(), key.serialize_pem());
        Authority { issuer: Issuer::new(params, key), pem, key: key_pem }
    }

    /// Its own certificate in the place of a server's.
    pub fn as_server(&self) -> Pair {
        Pair { cert: self.pem.clone(), key: self.key.clone() }
    }

    fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "madcache test");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }

    pub fn server(&self, names: &[&str]) -> Pair {
        self.sign(names, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])
    }

    pub fn expired_server(&self, names: &[&str]) -> Pair {
        self.sign(names, expired)
    }

    pub fn client(&self) -> Pair {
        self.sign(&["client"], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    pub fn expired_client(&self) -> Pair {
        self.sign(&["client"], expired)
    }
}

fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
}

/// Files in a directory of their own.
pub struct Pki {
    pub authority: Authority,
    dir: tempfile::TempDir,
}

impl Pki {
    /// An authority, and a certificate of it for this machine: the files called `server`.
    pub fn new() -> Pki {
        let pki = Pki { authority: Authority::new("first"), dir: tempfile::tempdir().unwrap() };
        pki.write_authority(&pki.authority);
        pki.write("server", &pki.authority.server(&["localhost", "127.0.0.1"]));
        pki
    }

    pub fn write(&self, name: &str, pair: &Pair) {
        self.replace(&format!("{name}.crt"), &pair.cert);
        self.replace(&format!("{name}.key"), &pair.key);
    }

    pub fn write_authority(&self, authority: &Authority) {
        self.replace("ca.crt", &authority.pem);
    }

    /// As those who renew certificates do it: a new file in the place of the old one.
    fn replace(&self, name: &str, text: &str) {
        let new = self.dir.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.dir.path().join(name)).unwrap();
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_string()
    }
    pub fn cert(&self, name: &str) -> String {
        self.path(&format!("{name}.crt"))
    }
    pub fn key(&self, name: &str) -> String {
        self.path(&format!("{name}.key"))
    }
    pub fn authority(&self) -> String {
        self.path("ca.crt")
    }
}
