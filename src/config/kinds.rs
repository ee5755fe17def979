//! The kinds of shared state, and where each lives: with the cache, in a Redis of its own, in this process, nowhere.
use super::target::{self, Target};
use super::{Config, Driver, Error, Lock, Secret};

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
    /// In several independent ones, of which a majority decides.
    Masters(Vec<Target>),
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
        if kind == Kind::Lock && !self.lock.redlock.is_empty() && driver != Driver::None {
            return self.lock.masters().map(Residence::Masters);
        }
        match (driver, url) {
            (Driver::None, _) => Ok(Residence::Nowhere),
            (Driver::RedisSentinel, _) => self.residence_by_sentinel(section, name, url),
            (Driver::RedisCluster, Some(url)) => target::of_cluster(name, url).map(Residence::Own),
            (Driver::RedisCluster, None) => match self.upstream.url.as_ref() {
                Some(url) if !self.is_embedded() => {
                    target::of_cluster("upstream.url", url).map(|_| Residence::Shared)
                }
                _ => Err(Error::new(
                    format!("{section}.driver = \"redis-cluster\", and no cluster is set"),
                    format!("set {name}, for example redis-cluster://10.0.0.1:6379,10.0.0.2:6379"),
                )),
            },
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
    fn residence_by_sentinel(
        &self,
        section: &str,
        name: &str,
        url: Option<&Secret>,
    ) -> Result<Residence, Error> {
        let (by, target) = match url {
            Some(url) => (name, target::parse(name, url)?),
            None => ("upstream.url", self.target()?),
        };
        if target.sentinels().is_none() {
            return Err(Error::new(
                format!("{section}.driver = \"redis-sentinel\", and {by} names no sentinels"),
                format!("set {name}, for example redis-sentinel://host:26379,host:26379/service"),
            ));
        }
        Ok(if url.is_some() { Residence::Own(target) } else { Residence::Shared })
    }
}

/// The key of the configuration that names the masters of locks.
pub const REDLOCK: &str = "lock.redlock";

impl Lock {
    /// Each master of `redlock`; they must be as many, and as different, as a majority needs.
    fn masters(&self) -> Result<Vec<Target>, Error> {
        if !matches!(self.driver, Driver::Auto | Driver::Redis) {
            return Err(Error::new(
                format!("lock.driver = \"{}\" and {REDLOCK} contradict each other", self.driver.word()),
                format!("leave one of them out, or set lock.driver = \"redis\" to keep {REDLOCK}"),
            ));
        }
        if self.url_override.is_some() {
            return Err(Error::new(
                format!("lock.url_override and {REDLOCK} contradict each other"),
                format!("leave url_override out: {REDLOCK} names all Redis servers where locks live"),
            ));
        }
        let count = self.redlock.len();
        if !(MASTERS_MIN..=MASTERS_MAX).contains(&count) {
            return Err(Error::new(
                format!("{REDLOCK} names {count} masters, where {MASTERS_MIN} to {MASTERS_MAX} make sense"),
                "name 3 or 5 independent masters, or one Redis in lock.url_override",
            ));
        }
        let mut masters: Vec<Target> = Vec::with_capacity(count);
        for (at, url) in self.redlock.iter().enumerate() {
            let target = target::parse(&format!("{REDLOCK}, its URL {}", at + 1), url)?;
            if let Some(other) = masters.iter().position(|known| known.endpoint == target.endpoint) {
                return Err(Error::new(
                    format!("{REDLOCK} names {} twice (URLs {} and {})", target.endpoint, other + 1, at + 1),
                    "name each master once: one that counts twice is no majority",
                ));
            }
            masters.push(target);
        }
        Ok(masters)
    }
}

/// Two masters are no more than one: a majority of them is both.
const MASTERS_MIN: usize = 3;
/// Each lock costs each of them two scripts.
const MASTERS_MAX: usize = 15;
