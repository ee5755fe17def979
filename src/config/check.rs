//! Says whether merged settings fit together, and what a reload would change. Opens nothing.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::declare::Live;
use super::target::UNIX_PATH_BYTES_MAX;
use super::{
    Admin, Config, Driver, Error, Kind, LimitAlgorithm, OnL2Down, Policy, Rule, Server, TlsAuthClients,
    workers_default,
};

impl Server {
    /// The addresses of `bind`.
    pub fn addresses(&self) -> Result<Vec<IpAddr>, Error> {
        self.bind.iter().map(|text| address(text)).collect()
    }
}

impl Server {
    /// Whether anybody on another machine may be let in without a password and without a certificate.
    pub fn lets_strangers_in(&self) -> bool {
        let by_tls = self.tls_port != 0 && self.tls_auth_clients != TlsAuthClients::Yes;
        let exposed = self.addresses().is_ok_and(|all| all.iter().any(|address| !address.is_loopback()));
        exposed && self.requirepass.is_none() && (self.port != 0 || by_tls)
    }
}

impl Admin {
    /// None = off.
    pub fn address(&self) -> Result<Option<SocketAddr>, Error> {
        if self.bind.is_empty() {
            return Ok(None);
        }
        let parsed = match self.bind.rsplit_once(':') {
            Some((host, port)) => {
                let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
                address(host).ok().zip(port.parse().ok()).map(SocketAddr::from)
            }
            None => None,
        };
        parsed.map(Some).ok_or_else(|| {
            Error::new(
                format!("admin.bind = {:?} is not an address with a port", self.bind),
                "write it like 127.0.0.1:9380, or off",
            )
        })
    }
}

fn address(text: &str) -> Result<IpAddr, Error> {
    match text {
        "*" => Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => text.parse().map_err(|_| {
            Error::new(
                format!("server.bind names {text:?}, which is not an IP address"),
                "write one such as 127.0.0.1 or ::1; the port goes into server.port",
            )
        }),
    }
}

impl Config {
    /// Whether replies are cached in this process.
    pub fn l1_enabled(&self) -> bool {
        self.cache.l1 && self.cache.driver != Driver::None && !self.is_embedded()
    }

    /// Whether commands are executed in this process, and not by a Redis.
    pub fn is_embedded(&self) -> bool {
        self.cache.driver == Driver::Memory
            || (self.cache.driver == Driver::Auto && self.upstream.url.is_none())
    }

    /// Brings values into the one form that the rest of the program expects.
    pub(super) fn normalize(&mut self) {
        if self.server.workers == 0 {
            self.server.workers = workers_default();
        }
        if self.admin.bind.eq_ignore_ascii_case("off") {
            self.admin.bind.clear();
        }
        for name in &mut self.server.deny_commands {
            *name =
                name.replace('|', " ").split_whitespace().collect::<Vec<_>>().join("|").to_ascii_uppercase();
        }
    }

    /// What single values cannot say. `known_command` takes names in upper case, such as `CONFIG|SET`.
    pub fn validate(&self, known_command: impl Fn(&str) -> bool) -> Result<(), Error> {
        self.check_drivers()?;
        self.check_prefixes()?;
        self.residences()?;
        self.check_listeners()?;
        self.check_tls()?;
        self.check_protected_mode()?;
        self.check_sizes()?;
        self.rules.iter().try_for_each(Rule::check)?;
        match self.server.deny_commands.iter().find(|name| !known_command(name)) {
            Some(name) => Err(Error::new(
                format!("server.deny_commands names {name:?}, which is not a command"),
                "write a name such as DEBUG or CONFIG|SET",
            )),
            None => Ok(()),
        }
    }

    fn check_drivers(&self) -> Result<(), Error> {
        let driver = self.cache.driver;
        if driver == Driver::RedisSentinel && self.target()?.sentinels().is_none() {
            return Err(Error::new(
                "cache.driver = \"redis-sentinel\", and upstream.url names no sentinels",
                "write upstream.url as redis-sentinel://host:26379,host:26379/service",
            ));
        }
        if driver == Driver::RedisCluster {
            self.upstream.cluster_target()?;
        }
        let kinds = [
            ("lock", self.lock.on_l2_down),
            ("session", self.session.on_l2_down),
            ("presence", self.presence.on_l2_down),
        ];
        for (section, choice) in kinds {
            if choice == OnL2Down::ServeStale {
                return Err(Error::new(
                    format!("{section}.on_l2_down = \"serve-stale\" would answer what may no longer hold"),
                    "use \"error\"",
                ));
            }
        }
        Ok(())
    }

    /// Keys and their companions share a slot only if braces in a prefix are one whole hash tag, or none.
    fn check_prefixes(&self) -> Result<(), Error> {
        for kind in Kind::ALL {
            let (section, prefix) = (kind.name(), self.prefix(kind));
            let braces: String = prefix.chars().filter(|c| matches!(c, '{' | '}')).collect();
            if !braces.is_empty() && (braces != "{}" || prefix.contains("{}")) {
                return Err(Error::new(
                    format!("{section}.prefix = {prefix:?} holds braces that are no hash tag"),
                    "write it without braces, or with one tag such as \"{app}:\"",
                ));
            }
        }
        Ok(())
    }

    fn check_listeners(&self) -> Result<(), Error> {
        self.server.addresses()?;
        self.admin.address()?;
        let ports = [self.server.port, self.server.tls_port];
        let tcp = ports != [0, 0] && !self.server.bind.is_empty();
        if tcp && ports[0] == ports[1] {
            return Err(Error::new(
                format!("server.port and server.tls_port are both {}", ports[0]),
                "choose another one, or server.port = 0 for TLS alone",
            ));
        }
        match &self.server.unixsocket {
            None if !tcp => Err(Error::new(
                "no listener is set",
                "set server.port (or tls_port) and server.bind, or server.unixsocket",
            )),
            Some(path) if path.len() > UNIX_PATH_BYTES_MAX || path.contains('\0') => Err(Error::new(
                format!("server.unixsocket is longer than {UNIX_PATH_BYTES_MAX} bytes or holds a zero byte"),
                "choose a shorter path",
            )),
            _ => Ok(()),
        }
    }

    /// What TLS needs is there as a whole; the files themselves are read later.
    fn check_tls(&self) -> Result<(), Error> {
        let server = &self.server;
        let wrong = |what: &str, remedy: &str| Err(Error::new(what, remedy));
        if server.tls_cert_file.is_some() != server.tls_key_file.is_some() {
            return wrong(
                "of server.tls_cert_file and server.tls_key_file one is missing",
                "set both, or neither",
            );
        }
        if server.tls_port != 0 && server.tls_cert_file.is_none() {
            return wrong(
                "server.tls_port is set, and there is no certificate",
                "set server.tls_cert_file and server.tls_key_file",
            );
        }
        let asks = server.tls_auth_clients != TlsAuthClients::No;
        if asks && server.tls_ca_file.is_none() {
            return wrong(
                "server.tls_auth_clients asks for certificates that nobody could check",
                "set server.tls_ca_file",
            );
        }
        if !asks && server.tls_ca_file.is_some() {
            return wrong(
                "server.tls_ca_file is set, and clients are not asked for certificates",
                "set server.tls_auth_clients = \"yes\" (or \"optional\"), or leave tls_ca_file out",
            );
        }
        if self.upstream.tls_cert_file.is_some() != self.upstream.tls_key_file.is_some() {
            return wrong(
                "of upstream.tls_cert_file and upstream.tls_key_file one is missing",
                "set both, or neither",
            );
        }
        Ok(())
    }

    fn check_protected_mode(&self) -> Result<(), Error> {
        if !self.server.protected_mode {
            return Ok(());
        }
        let exposed = self.server.addresses()?.into_iter().find(|address| !address.is_loopback());
        if let Some(address) = exposed
            && self.server.port != 0
            && self.server.requirepass.is_none()
        {
            return Err(Error::new(
                format!("server.bind = {address} would let other machines in without a password"),
                "set server.requirepass, or TLS instead (server.tls_port, and server.port = 0), or bind 127.0.0.1, or set \
                 server.protected_mode = false",
            ));
        }
        let exposed = self.admin.address()?.filter(|address| !address.ip().is_loopback());
        if let Some(address) = exposed
            && self.admin.token.is_none()
        {
            return Err(Error::new(
                format!("admin.bind = {address} would let other machines in without a token"),
                "set admin.token, or bind 127.0.0.1, or set server.protected_mode = false",
            ));
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), Error> {
        let limits = &self.limits;
        let ordered = [
            ("cache.reply_bytes_max", self.cache.reply_bytes_max, "cache.bytes_max", self.cache.bytes_max),
            (
                "limits.unauth_bulk_bytes_max",
                limits.unauth_bulk_bytes_max,
                "limits.bulk_bytes_max",
                limits.bulk_bytes_max,
            ),
            ("limits.unauth_args_max", limits.unauth_args_max, "limits.args_max", limits.args_max),
        ];
        for (small, small_value, large, large_value) in ordered {
            if small_value > large_value {
                return Err(Error::new(
                    format!("{small} ({small_value}) is more than {large} ({large_value})"),
                    format!("lower {small} or raise {large}"),
                ));
            }
        }
        Ok(())
    }
}

impl Rule {
    /// A pattern that Redis would take as something else than was meant is refused.
    pub(super) fn check(&self) -> Result<(), Error> {
        let wrong = |what: &str, remedy: &str| {
            Err(Error::new(format!("rules.pattern {:?} {what}", self.pattern), remedy))
        };
        if self.pattern.is_empty() {
            return wrong("matches nothing", "give each rule a pattern such as \"user:*\"");
        }
        let mut in_class = false;
        let mut bytes = self.pattern.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'\\' if bytes.next().is_none() => {
                    return wrong("ends with a backslash", "write \\\\ for a backslash");
                }
                b'[' if !in_class => in_class = true,
                b']' => in_class = false,
                _ => {}
            }
        }
        if in_class { wrong("has [ without ]", "close it, or write \\[ for a bracket") } else { Ok(()) }
    }
}

impl Policy {
    /// How it counts: what `algo` says, or what follows from a burst.
    pub fn algorithm(&self) -> LimitAlgorithm {
        let default = if self.burst.is_some() { LimitAlgorithm::Gcra } else { LimitAlgorithm::Sliding };
        self.algo.unwrap_or(default)
    }

    /// `name` is how errors call it.
    pub(super) fn check(&self, name: &str) -> Result<(), Error> {
        if self.limit == 0 || self.window_ms == 0 {
            return Err(Error::new(format!("{name} lacks limit or window_ms"), "give it both"));
        }
        if self.burst.is_some() && self.algorithm() != LimitAlgorithm::Gcra {
            return Err(Error::new(format!("{name} has a burst"), "use algo = \"gcra\", or leave burst out"));
        }
        let most = self.limit.max(self.burst.unwrap_or(0));
        if most.checked_mul(self.window_ms).is_none_or(|product| product > 1 << 53) {
            return Err(Error::new(
                format!("{name}: limit (or burst) times window_ms is more than 2^53"),
                "choose a shorter window or a lower limit",
            ));
        }
        Ok(())
    }
}

/// Names (`section.key`, `rules` and `ratelimit.policies`) of what differs between two configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    pub applied: Vec<String>,
    pub needs_restart: Vec<String>,
}

/// What going from `old` to `new` changes now, and what only a restart changes. `Config::reloaded` does the former.
pub fn live_changes(old: &Config, new: &Config) -> Changes {
    let mut changes = Changes::default();
    for ((section, before), (_, after)) in old.sections().into_iter().zip(new.sections()) {
        for key in before.keys().iter().filter(|key| before.show(key) != after.show(key)) {
            let name = format!("{section}.{}", key.name);
            match key.live {
                Live::Now => changes.applied.push(name),
                Live::Restart => changes.needs_restart.push(name),
            }
        }
    }
    if old.rules != new.rules {
        changes.applied.push("rules".to_owned());
    }
    if old.policies != new.policies {
        changes.applied.push("ratelimit.policies".to_owned());
    }
    changes
}
