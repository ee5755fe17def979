//! Reads an upstream URL into what a link needs. Resolves no names, opens nothing, prints no password.
use std::fmt;

use super::sentinel::{self, Address, Sentinels};
use super::value::Secret;
use super::{Config, Error, Upstream};

const SUPPORTED: &str = "this release supports redis://[user[:password]@]host[:port][/db], unix:///path[?db=n], \
     redis-cluster://host:port,host:port and redis-sentinel://host:port,host:port/service[/db]; by TLS rediss://, \
     rediss-cluster:// and rediss-sentinel://";

/// An L2, and who we are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub endpoint: Endpoint,
    /// None: plain text.
    pub tls: Option<Tls>,
    pub db: u32,
    /// None with a password: the user `default`.
    pub username: Option<String>,
    pub password: Option<Secret>,
}

/// An L2 that is reached by TLS, and by nothing else. Holds for every node that is found through it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// The name that its certificate must bear; None: the host that is connected to.
    pub server_name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `host` without brackets where it is an IPv6 address.
    Tcp {
        host: String,
        port: u16,
    },
    Unix {
        path: String,
    },
    /// Redis Cluster: some of its nodes, from which the others are learned.
    Cluster {
        seeds: Vec<Address>,
    },
    /// Wherever these sentinels say that the master is.
    Sentinel(Box<Sentinels>),
    /// The embedded engine: nothing is connected to.
    Memory,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp { host, port } => Address { host: host.clone(), port: *port }.fmt(f),
            Endpoint::Cluster { seeds } => {
                f.write_str("the cluster of ")?;
                let seeds: Vec<String> = seeds.iter().map(Address::to_string).collect();
                f.write_str(&seeds.join(", "))
            }
            Endpoint::Unix { path } => f.write_str(path),
            Endpoint::Sentinel(sentinels) => sentinels.fmt(f),
            Endpoint::Memory => f.write_str("the embedded engine"),
        }
    }
}

impl Config {
    /// Where commands are executed: by the Redis of the URL, or without one in this process.
    pub fn target(&self) -> Result<Target, Error> {
        match self.is_embedded() {
            true => {
                Ok(Target { endpoint: Endpoint::Memory, tls: None, db: 0, username: None, password: None })
            }
            false => self.upstream.target(),
        }
    }
}

impl Upstream {
    pub fn target(&self) -> Result<Target, Error> {
        let Some(url) = &self.url else {
            return Err(Error::new(
                "cache.driver asks for Redis, and no upstream is set",
                "set REDIS_URL, or upstream.url in a file given by --config, for example redis://127.0.0.1:6379; or leave \
                 cache.driver at \"auto\" for the embedded engine",
            ));
        };
        let mut target = parse("upstream.url", url)?;
        if let Some(password) = &self.password {
            target.password = Some(password.clone());
        }
        if let Some(tls) = &mut target.tls {
            tls.server_name.clone_from(&self.tls_server_name);
        }
        Ok(target)
    }

    /// Whether the URL names a cluster, as its driver says.
    pub(super) fn cluster_target(&self) -> Result<Target, Error> {
        match &self.url {
            Some(url) => of_cluster("upstream.url", url),
            None => self.target(),
        }
    }
}

/// The same where the driver says that it is a cluster.
pub(super) fn of_cluster(name: &str, url: &Secret) -> Result<Target, Error> {
    let target = parse(name, url)?;
    match target.endpoint {
        Endpoint::Cluster { .. } => Ok(target),
        _ => Err(Error::new(
            format!("{name} names no cluster, and the driver is \"redis-cluster\""),
            "write redis-cluster://host:port,host:port, or set the driver to \"auto\"",
        )),
    }
}

/// `name` is the key that the URL came from, for error messages.
pub(super) fn parse(name: &str, url: &Secret) -> Result<Target, Error> {
    let text = url.expose().trim();
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(Error::new(format!("{name} is not a URL"), SUPPORTED));
    };
    let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(rest, tail)| (rest, Some(tail)));
    if fragment.is_some() {
        return Err(Error::new(format!("{name} has a fragment (#)"), "write # in a password as %23"));
    }
    match scheme.to_ascii_lowercase().as_str() {
        "redis" | "valkey" => tcp(name, rest),
        "rediss" | "valkeys" => Ok(Target { tls: Some(Tls::default()), ..tcp(name, rest)? }),
        "unix" | "redis+unix" | "valkey+unix" => unix(name, rest),
        "redis-cluster" | "valkey-cluster" => cluster(name, rest),
        "redis-sentinel" => sentinel::parse(name, rest),
        "rediss-cluster" | "valkeys-cluster" => {
            Ok(Target { tls: Some(Tls::default()), ..cluster(name, rest)? })
        }
        "rediss-sentinel" => Ok(Target { tls: Some(Tls::default()), ..sentinel::parse(name, rest)? }),
        _ => Err(Error::new(format!("{name} has an unknown scheme"), SUPPORTED)),
    }
}

fn tcp(name: &str, rest: &str) -> Result<Target, Error> {
    let parts = Parts::split(name, rest)?;
    if parts.path.contains('@') || parts.query.contains('@') {
        return Err(Error::new(
            format!("{name} has an @ behind / or ?"),
            "write / ? @ in a user or password as %2F %3F %40",
        ));
    }
    let (host, port) = host_and_port(name, parts.host, 6379)?;
    let path_db = match parts.path.trim_start_matches('/') {
        "" => None,
        text => Some(db(name, text)?),
    };
    let mut target = Target {
        endpoint: Endpoint::Tcp { host, port },
        tls: None,
        db: 0,
        username: parts.username.clone(),
        password: parts.password.clone(),
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

fn cluster(name: &str, rest: &str) -> Result<Target, Error> {
    let parts = Parts::split(name, rest)?;
    let seed = |text| host_and_port(name, text, 6379).map(|(host, port)| Address { host, port });
    let seeds = parts.host.split(',').map(seed).collect::<Result<_, _>>()?;
    let mut target = Target {
        endpoint: Endpoint::Cluster { seeds },
        db: 0,
        username: parts.username.clone(),
        password: parts.password.clone(),
        tls: None,
    };
    let path_db = Some(parts.path.trim_matches('/')).filter(|path| !path.is_empty());
    let path_db = path_db.map(|text| db(name, text)).transpose()?;
    if parts.query(name, &mut target)?.or(path_db).unwrap_or(0) != 0 {
        return Err(Error::new(
            format!("{name} names a database, and a cluster has only number 0"),
            "write redis-cluster://host:port,host:port",
        ));
    }
    Ok(target)
}

fn unix(name: &str, rest: &str) -> Result<Target, Error> {
    let parts = Parts::split(name, rest)?;
    if !parts.host.is_empty() && parts.host != "localhost" {
        return Err(Error::new(
            format!("{name} has a host before its path"),
            "write unix:///path/to/redis.sock",
        ));
    }
    let path = decode(name, parts.path, Plus::Literal)?;
    if path.trim_matches('/').is_empty() || path.contains('\0') {
        return Err(Error::new(format!("{name} has no path"), "write unix:///path/to/redis.sock"));
    }
    if path.len() > UNIX_PATH_BYTES_MAX {
        return Err(Error::new(
            format!("{name} has a path longer than {UNIX_PATH_BYTES_MAX} bytes"),
            "the system allows no longer one",
        ));
    }
    let mut target = Target {
        endpoint: Endpoint::Unix { path },
        tls: None,
        db: 0,
        username: parts.username.clone(),
        password: parts.password.clone(),
    };
    target.db = parts.query(name, &mut target)?.unwrap_or(0);
    Ok(target)
}

/// `sun_path` without its terminating zero.
pub(super) const UNIX_PATH_BYTES_MAX: usize = 107;

/// A URL behind its scheme.
pub(super) struct Parts<'a> {
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
}

impl<'a> Parts<'a> {
    pub(super) fn split(name: &str, rest: &'a str) -> Result<Self, Error> {
        let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
        let slash = before_query.find('/').unwrap_or(before_query.len());
        let (authority, path) = before_query.split_at(slash);
        let (user_info, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (username, password) = match user_info.split_once(':') {
            Some((user, password)) => (user, Some(Secret::new(decode(name, password, Plus::Literal)?))),
            None => (user_info, None),
        };
        let username = Some(decode(name, username, Plus::Literal)?).filter(|user| !user.is_empty());
        let password = password.filter(|password| !password.expose().is_empty() || username.is_some());
        Ok(Self { username, password, host, path, query })
    }

    /// Takes user and password over into `target` and gives the database, if the query names one.
    pub(super) fn query(&self, name: &str, target: &mut Target) -> Result<Option<u32>, Error> {
        let mut found = None;
        for pair in self.query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, text) = pair.split_once('=').unwrap_or((pair, ""));
            let text = decode(name, text, Plus::Space)?;
            match key {
                "db" => found = Some(db(name, &text)?),
                "user" | "username" => target.username = Some(text),
                "pass" | "password" => target.password = Some(Secret::new(text)),
                // What the redis crate accepts: each session's protocol is its own here.
                "protocol" => {}
                _ => {
                    if let Endpoint::Sentinel(sentinels) = &mut target.endpoint
                        && sentinels.set(key, &text)
                    {
                        continue;
                    }
                    return Err(Error::new(
                        format!("{name} has an unknown parameter in its query"),
                        "db, user and pass are known, and before Sentinel sentinel_user and sentinel_password",
                    ));
                }
            }
        }
        Ok(found)
    }
}

pub(super) fn host_and_port(name: &str, text: &str, port_default: u16) -> Result<(String, u16), Error> {
    let port_error = || {
        Error::new(
            format!("{name} has a port that is not a number from 1 to 65535"),
            "write redis://host:port (and : / ? # @ % in a password as %3A %2F %3F %23 %40 %25)",
        )
    };
    let (host, port) = match text.strip_prefix('[') {
        Some(inner) => {
            let (address, tail) = inner
                .split_once(']')
                .ok_or_else(|| Error::new(format!("{name} has [ without ]"), "write redis://[::1]:6379"))?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(Error::new(
                    format!("{name} has something else than an IPv6 address in brackets"),
                    "write redis://[::1]:6379",
                ));
            }
            match tail.strip_prefix(':') {
                Some(port) => (address.to_owned(), Some(port)),
                None if tail.is_empty() => (address.to_owned(), None),
                None => return Err(port_error()),
            }
        }
        None if text.matches(':').count() > 1 => {
            return Err(Error::new(
                format!("{name} has more than one : in its host"),
                "write an IPv6 address in brackets: redis://[::1]:6379",
            ));
        }
        None => match text.split_once(':') {
            Some((host, port)) => (decode(name, host, Plus::Literal)?, Some(port)),
            None => (decode(name, text, Plus::Literal)?, None),
        },
    };
    if host.is_empty() {
        return Err(Error::new(format!("{name} has no host"), "write redis://127.0.0.1:6379"));
    }
    match port {
        None | Some("") => Ok((host, port_default)),
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port != 0 => Ok((host, port)),
            _ => Err(port_error()),
        },
    }
}

pub(super) fn db(name: &str, text: &str) -> Result<u32, Error> {
    match text.parse::<u32>() {
        Ok(db) if db <= i32::MAX as u32 && text.bytes().all(|c| c.is_ascii_digit()) => Ok(db),
        _ => Err(Error::new(
            format!("{name} has a database that is not a number from 0 to {}", i32::MAX),
            "write redis://host:port/0 (and / in a password as %2F)",
        )),
    }
}

/// What `+` means: a space in a query, itself elsewhere.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Plus {
    Literal,
    Space,
}

pub(super) fn decode(name: &str, text: &str, plus: Plus) -> Result<String, Error> {
    let broken =
        || Error::new(format!("{name} has a % that two hexadecimal digits do not follow"), "write % as %25");
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let digits = bytes.get(at + 1..at + 3).ok_or_else(broken)?;
                let high = char::from(digits[0]).to_digit(16).ok_or_else(broken)?;
                let low = char::from(digits[1]).to_digit(16).ok_or_else(broken)?;
                decoded.push((high * 16 + low) as u8);
                at += 2;
            }
            b'+' if plus == Plus::Space => decoded.push(b' '),
            byte => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8(decoded).map_err(|_| {
        Error::new(format!("{name} decodes to something else than UTF-8"), "correct its % escapes")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, Error> {
        Upstream { url: Some(Secret::new(url)), ..Upstream::default() }.target()
    }

    fn on(
        endpoint: &str,
        db: u32,
        username: Option<&str>,
        password: Option<&str>,
    ) -> (String, u32, [Option<String>; 2]) {
        (endpoint.to_owned(), db, [username, password].map(|text| text.map(str::to_owned)))
    }

    #[test]
    fn urls_say_where_and_as_whom() {
        let cases = [
            ("redis://127.0.0.1", on("127.0.0.1:6379", 0, None, None)),
            ("redis://host:7000/3", on("host:7000", 3, None, None)),
            ("REDIS://host/", on("host:6379", 0, None, None)),
            ("valkey://host", on("host:6379", 0, None, None)),
            (" redis://host\n", on("host:6379", 0, None, None)),
            ("redis://:secret@host", on("host:6379", 0, None, Some("secret"))),
            ("redis://ann@host", on("host:6379", 0, Some("ann"), None)),
            ("redis://ann:se:cr@t@host:1/2", on("host:1", 2, Some("ann"), Some("se:cr@t"))),
            ("redis://a%3Ab:%2F%3f%25+%C3%A9@host", on("host:6379", 0, Some("a:b"), Some("/?%+é"))),
            ("redis://[::1]:7000/1", on("[::1]:7000", 1, None, None)),
            ("redis://[::1]", on("[::1]:6379", 0, None, None)),
            ("redis://host?db=4", on("host:6379", 4, None, None)),
            ("redis://host/4?db=4&protocol=resp3", on("host:6379", 4, None, None)),
            ("unix:///run/redis.sock", on("/run/redis.sock", 0, None, None)),
            ("unix:///run/@x%20y?db=1&user=ann&pass=p%2B+q", on("/run/@x y", 1, Some("ann"), Some("p+ q"))),
            ("unix://ann:pw@/run/redis.sock", on("/run/redis.sock", 0, Some("ann"), Some("pw"))),
            ("redis+unix:///r.sock?password=pw", on("/r.sock", 0, None, Some("pw"))),
        ];
        for (url, expected) in cases {
            let target = target(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            let password = target.password.map(|password| password.expose().to_owned());
            assert_eq!(
                (target.endpoint.to_string(), target.db, [target.username, password]),
                expected,
                "{url}"
            );
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_is_refused_in_one_line_without_its_secret() {
        let cases = [
            ("redis-cluster://:hunter2@h:1,h:2/1", "only number 0"),
            ("redis-cluster://:hunter2@h:1,:2", "no host"),
            ("http://:hunter2@host", "supports redis://"),
            ("127.0.0.1:6379", "not a URL"),
            ("hunter2", "not a URL"),
            ("redis://", "no host"),
            ("redis://:hunter2@:6379", "no host"),
            ("redis://:hunter2@host:0", "port"),
            ("redis://:hunter2@host:65536", "port"),
            ("redis://:hun/ter2@host", "%2F"),
            ("redis://:hun?ter2@host", "%3F"),
            ("redis://:hun#ter2@host", "%23"),
            ("redis://:hun%zzter2@host", "%25"),
            ("redis://:%ff@host", "UTF-8"),
            ("redis://::1:6379", "brackets"),
            ("redis://[::1", "]"),
            ("redis://[nohost]", "IPv6"),
            ("redis://host/one", "database"),
            ("redis://host/-1", "database"),
            ("redis://host/+1", "database"),
            ("redis://host/2147483648", "database"),
            ("redis://host/1?db=2", "two databases"),
            ("redis://host?hunter2=1", "unknown parameter"),
            ("unix://host/run/redis.sock", "host before its path"),
            ("unix://", "no path"),
        ];
        for (url, part) in cases {
            let error = target(url).expect_err(url).to_string();
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("ter2") && !error.contains('\n'), "{url}: {error}");
        }
    }

    #[test]
    fn a_cluster_is_given_by_some_of_its_nodes() {
        let target = target("redis-cluster://ann:secret@one:7001,[::1]:7002,three").unwrap();
        assert_eq!(target.endpoint.to_string(), "the cluster of one:7001, [::1]:7002, three:6379");
        assert_eq!((target.db, target.username.as_deref()), (0, Some("ann")));
    }

    #[test]
    fn a_unix_path_longer_than_the_system_allows_is_refused() {
        assert!(target(&format!("unix:///{}", "x".repeat(106))).is_ok());
        assert!(target(&format!("unix:///{}", "x".repeat(107))).is_err());
    }

    #[test]
    fn the_password_key_wins_over_the_url() {
        let upstream = Upstream {
            url: Some(Secret::new("redis://ann:old@host")),
            password: Some(Secret::new("new")),
            ..Upstream::default()
        };
        assert_eq!(upstream.target().unwrap().password, Some(Secret::new("new")));
    }

    #[test]
    fn without_a_url_the_error_says_how_to_give_one() {
        let error = Upstream::default().target().unwrap_err().to_string();
        for way in ["REDIS_URL", "upstream.url", "--config"] {
            assert!(error.contains(way), "{error}");
        }
    }
}
