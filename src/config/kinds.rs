//! The kinds of shared state, and where each lives: with the cache, in a Redis of its own, in this process, nowhere.
use super::target::{self, Target};
use super::{Config, Driver, Error, Secret};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Lock,
    Session,
    Presence,
    Ratelimit,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Lock, Kind::Session, Kind::Presence, Kind::Ratelimit];

    /// Its section of the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Lock => "lock",
            Kind::Session => "session",
            Kind::Presence => "presence",
            Kind::Ratelimit => "ratelimit",
        }
    }

    /// The key of the configuration that gives it a Redis of its own.
    pub fn url_override(self) -> &'static str {
        match self {
            Kind::Lock => "lock.url_override",
            Kind::Session => "session.url_override",
            Kind::Presence => "presence.url_override",
            Kind::Ratelimit => "ratelimit.url_override",
        }
    }
}

/// Where the state of a kind is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Residence {
    /// Where the cache's keys are: in L2, or in the engine that stands in its place.
    Shared,
    /// In a Redis of its own.
    Own(Target),
    /// In this process, beside L2.
    Memory,
    /// It is disabled.
    Nowhere,
}

/// Where everything is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Residences {
    pub upstream: Target,
    kinds: [Residence; Kind::ALL.len()],
}

impl Residences {
    pub fn of(&self, kind: Kind) -> &Residence {
        &self.kinds[kind as usize]
    }

    /// Whether any Redis is reached by TLS.
    pub fn speak_tls(&self) -> bool {
        let own = self.kinds.iter().filter_map(|residence| match residence {
            Residence::Own(target) => Some(target),
            _ => None,
        });
        own.chain([&self.upstream]).any(|target| target.tls.is_some())
    }
}

impl Config {
    pub fn residences(&self) -> Result<Residences, Error> {
        let [lock, session, presence, ratelimit] = Kind::ALL.map(|kind| self.residence(kind));
        Ok(Residences { upstream: self.target()?, kinds: [lock?, session?, presence?, ratelimit?] })
    }

    /// What is put before the keys of a kind.
    pub fn prefix(&self, kind: Kind) -> &str {
        match kind {
            Kind::Lock => &self.lock.prefix,
            Kind::Session => &self.session.prefix,
            Kind::Presence => &self.presence.prefix,
            Kind::Ratelimit => &self.ratelimit.prefix,
        }
    }

    fn driver(&self, kind: Kind) -> (Driver, Option<&Secret>) {
        match kind {
            Kind::Lock => (self.lock.driver, self.lock.url_override.as_ref()),
            Kind::Session => (self.session.driver, self.session.url_override.as_ref()),
            Kind::Presence => (self.presence.driver, self.presence.url_override.as_ref()),
            Kind::Ratelimit => (self.ratelimit.driver, self.ratelimit.url_override.as_ref()),
        }
    }

    fn residence(&self, kind: Kind) -> Result<Residence, Error> {
        let (section, name) = (kind.name(), kind.url_override());
        let (driver, url) = self.driver(kind);
        match (driver, url) {
            (Driver::None, _) => Ok(Residence::Nowhere),
            (Driver::RedisSentinel | Driver::RedisCluster, _) => Err(Error::new(
                format!("{section}.driver = \"{}\" is not in this release", driver.word()),
                "use \"auto\", \"redis\", \"memory\" or \"none\"",
            )),
            (Driver::Auto | Driver::Redis, Some(url)) => Ok(Residence::Own(target::parse(name, url)?)),
            (Driver::Memory, Some(_)) => Err(Error::new(
                format!("{section}.driver = \"memory\" and {name} contradict each other"),
                format!("leave one of them out, or set {section}.driver = \"redis\""),
            )),
            (Driver::Redis, None) if self.is_embedded() => Err(Error::new(
                format!("{section}.driver = \"redis\", and the cache has no Redis"),
                format!("set {name}, for example redis://127.0.0.1:6379, or REDIS_URL for all"),
            )),
            (Driver::Memory, None) if !self.is_embedded() => Ok(Residence::Memory),
            (Driver::Auto | Driver::Redis | Driver::Memory, None) => Ok(Residence::Shared),
        }
    }
}
