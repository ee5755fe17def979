//! `redis-sentinel://`: sentinels, and the service whose master they know. Asks nobody.
use std::fmt;

use super::target::{Parts, Plus, db, decode, host_and_port};
use super::value::Secret;
use super::{Endpoint, Error, Target};

const PORT_DEFAULT: u16 = 26379;
/// Sentinels of one URL.
const ADDRESSES_MAX: usize = 32;
const EXAMPLE: &str = "write redis-sentinel://host:26379,host:26379/service";

/// Where a server listens; `host` without brackets where it is an IPv6 address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

/// Whom to ask for a master, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentinels {
    /// What the sentinels call the master and its replicas.
    pub service: String,
    pub addresses: Vec<Address>,
    /// None with a password: the user `default`.
    pub username: Option<String>,
    pub password: Option<Secret>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> = self.addresses.iter().map(Address::to_string).collect();
        write!(f, "{} (Sentinel at {})", self.service, addresses.join(", "))
    }
}

impl Target {
    /// The sentinels that know where it is.
    pub fn sentinels(&self) -> Option<&Sentinels> {
        match &self.endpoint {
            Endpoint::Sentinel(sentinels) => Some(sentinels),
            _ => None,
        }
    }

    /// The same user and database, there.
    pub fn at(&self, address: &Address) -> Target {
        let endpoint = Endpoint::Tcp { host: address.host.clone(), port: address.port };
        Target { endpoint, ..self.clone() }
    }

    /// One of its sentinels.
    pub fn sentinel(&self, sentinels: &Sentinels, address: &Address) -> Target {
        let (username, password) = (sentinels.username.clone(), sentinels.password.clone());
        Target { db: 0, username, password, ..self.at(address) }
    }
}

/// What stands behind the scheme: `[user[:password]@]host:port,host:port/service[/db][?query]`.
pub(super) fn parse(name: &str, rest: &str) -> Result<Target, Error> {
    let parts = Parts::split(name, rest)?;
    if parts.path.contains('@') || parts.query.contains('@') {
        return Err(Error::new(
            format!("{name} has an @ behind / or ?"),
            "write / ? @ in a user or password as %2F %3F %40",
        ));
    }
    let path = parts.path.trim_start_matches('/').trim_end_matches('/');
    let (service, path_db) = path.split_once('/').map_or((path, None), |(service, db)| (service, Some(db)));
    let service = decode(name, service, Plus::Literal)?;
    if service.is_empty() {
        return Err(Error::new(format!("{name} names no service behind its sentinels"), EXAMPLE));
    }
    let path_db = path_db.map(|text| db(name, text)).transpose()?;
    let addresses = addresses(name, parts.host)?;
    let sentinels = Sentinels { service, addresses, username: None, password: None };
    let mut target = Target {
        endpoint: Endpoint::Sentinel(Box::new(sentinels)),
        db: 0,
        username: parts.username.clone(),
        password: parts.password.clone(),
        tls: None,
    };
    let query_db = parts.query(name, &mut target)?;
    target.db = match (path_db, query_db) {
        (Some(path), Some(query)) if path != query => {
            return Err(Error::new(format!("{name} names two databases"), "keep the one in the path"));
        }
        (path, query) => path.or(query).unwrap_or(0),
    };
    Ok(target)
}

fn addresses(name: &str, text: &str) -> Result<Vec<Address>, Error> {
    let mut addresses: Vec<Address> = Vec::new();
    for part in text.split(',') {
        if part.is_empty() {
            return Err(Error::new(format!("{name} lacks the host of a sentinel"), EXAMPLE));
        }
        let (host, port) = host_and_port(name, part, PORT_DEFAULT)?;
        let address = Address { host, port };
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.len() > ADDRESSES_MAX {
        return Err(Error::new(
            format!("{name} names more than {ADDRESSES_MAX} sentinels"),
            "name some of them: each tells of the others",
        ));
    }
    Ok(addresses)
}

impl Sentinels {
    /// A parameter of the query that is about the sentinels themselves; false if it is not.
    pub(super) fn set(&mut self, key: &str, text: &str) -> bool {
        match key {
            "sentinel_user" | "sentinel_username" => self.username = Some(text.to_owned()),
            "sentinel_pass" | "sentinel_password" => self.password = Some(Secret::new(text)),
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Upstream;

    fn target(url: &str) -> Result<Target, Error> {
        Upstream { url: Some(Secret::new(url)), ..Upstream::default() }.target()
    }

    #[test]
    fn a_sentinel_url_says_whom_to_ask_for_what_and_as_whom() {
        let cases = [
            ("redis-sentinel://h/mymaster", "h:26379", "mymaster", 0, [None; 4]),
            ("redis-sentinel://h:1,i,j:3/m/4", "h:1,i:26379,j:3", "m", 4, [None; 4]),
            ("redis-sentinel://h:1,h:1/m/", "h:1", "m", 0, [None; 4]),
            ("Redis-Sentinel://[::1]:5,[fe80::1]/m?db=2", "[::1]:5,[fe80::1]:26379", "m", 2, [None; 4]),
            ("redis-sentinel://:pw@h/m", "h:26379", "m", 0, [None, Some("pw"), None, None]),
            (
                "redis-sentinel://ann:p%40w@h,i/a%2Fb/1",
                "h:26379,i:26379",
                "a/b",
                1,
                [Some("ann"), Some("p@w"), None, None],
            ),
            (
                "redis-sentinel://ann:a@h/m/1?sentinel_user=sue&sentinel_password=s+%26",
                "h:26379",
                "m",
                1,
                [Some("ann"), Some("a"), Some("sue"), Some("s &")],
            ),
            (
                "redis-sentinel://h/m?sentinel_username=sue&sentinel_pass=s&user=ann&password=a",
                "h:26379",
                "m",
                0,
                [Some("ann"), Some("a"), Some("sue"), Some("s")],
            ),
        ];
        for (url, addresses, service, db, users) in cases {
            let target = target(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            let sentinels = target.sentinels().unwrap();
            let found: Vec<String> = sentinels.addresses.iter().map(Address::to_string).collect();
            assert_eq!(
                (found.join(","), sentinels.service.as_str(), target.db),
                (addresses.into(), service, db),
                "{url}"
            );
            let secret = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
            let found = [
                target.username.clone(),
                secret(&target.password),
                sentinels.username.clone(),
                secret(&sentinels.password),
            ];
            assert_eq!(found, users.map(|text| text.map(str::to_owned)), "{url}");
        }
    }

    #[test]
    fn the_master_and_the_sentinels_have_credentials_of_their_own() {
        let target = target("redis-sentinel://ann:a@h:1/m/3?sentinel_user=sue&sentinel_password=s").unwrap();
        let master = target.at(&Address { host: "10.0.0.1".into(), port: 7 });
        assert_eq!((master.endpoint.to_string(), master.db), ("10.0.0.1:7".into(), 3));
        assert_eq!((master.username.as_deref(), master.password), (Some("ann"), Some(Secret::new("a"))));
        let sentinels = target.sentinels().unwrap();
        let sentinel = target.sentinel(sentinels, &sentinels.addresses[0]);
        assert_eq!((sentinel.endpoint.to_string(), sentinel.db), ("h:1".into(), 0));
        assert_eq!((sentinel.username.as_deref(), sentinel.password), (Some("sue"), Some(Secret::new("s"))));
    }

    #[test]
    fn a_sentinel_url_that_cannot_be_used_is_refused_in_one_line_without_its_secret() {
        let cases = [
            ("redis-sentinel://:hunter2@h:1,h:2", "names no service"),
            ("redis-sentinel://:hunter2@h:1/", "names no service"),
            ("redis-sentinel://:hunter2@/mymaster", "lacks the host of a sentinel"),
            ("redis-sentinel://:hunter2@h,,i/mymaster", "lacks the host of a sentinel"),
            ("redis-sentinel://:hunter2@h,i,/mymaster", "lacks the host of a sentinel"),
            ("redis-sentinel://:hunter2@h,:5/mymaster", "no host"),
            ("redis-sentinel://:hunter2@h:0/mymaster", "port"),
            ("redis-sentinel://:hunter2@h:1,i:x/mymaster", "port"),
            ("redis-sentinel://:hunter2@::1/mymaster", "brackets"),
            ("redis-sentinel://:hunter2@[::1/mymaster", "]"),
            ("redis-sentinel://:hunter2@h/mymaster/one", "database"),
            ("redis-sentinel://:hunter2@h/mymaster/1/2", "database"),
            ("redis-sentinel://:hunter2@h/mymaster/1?db=2", "two databases"),
            ("redis-sentinel://:hun/ter2@h/mymaster", "%2F"),
            ("redis-sentinel://h/mymaster?sentinel_key=hunter2", "unknown parameter"),
            ("redis://h/1?sentinel_password=hunter2", "unknown parameter"),
        ];
        for (url, part) in cases {
            let error = target(url).expect_err(url).to_string();
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("hunter2") && !error.contains('\n'), "{url}: {error}");
        }
        let many: Vec<String> = (1..=33).map(|port| format!("h:{port}")).collect();
        let error = target(&format!("redis-sentinel://{}/m", many.join(","))).unwrap_err().to_string();
        assert!(error.contains("more than 32 sentinels"), "{error}");
    }
}
