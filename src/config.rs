//! Declares every setting once: name, type, default, range, documentation, and whether it can change live. Parsing,
//! variable names, error hints, reload and `conf/madcache.toml` follow from this declaration. Has no effects.
mod check;
mod declare;
mod document;
mod file;
mod kinds;
mod nearest;
mod sentinel;
mod source;
mod target;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;

use declare::{choice, section};

pub use check::{Changes, live_changes};
pub use declare::{Key, Live, Section};
pub use document::document;
pub use kinds::{Kind, REDLOCK, Residence, Residences};
pub use sentinel::{Address, Sentinels};
pub use source::{Flags, Source};
pub use target::{Endpoint, Target, Tls};
pub use value::{Raw, Secret};

/// A setting that cannot be used: what is wrong, and what to do. Holds no secret and no line break.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {remedy}")]
pub struct Error {
    pub what: String,
    pub remedy: String,
}

impl Error {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const YEARS_TEN_SECONDS: u64 = 10 * 365 * 24 * 3600;

choice! {
    /// Where a part keeps its state.
    Driver {
        /// For `[cache]`: what the URL names. For the other sections: the cache's.
        Auto = "auto",
        Redis = "redis",
        /// A Redis whose master sentinels know: the URL must name them.
        RedisSentinel = "redis-sentinel",
        RedisCluster = "redis-cluster",
        /// The embedded engine: for `[cache]` in the place of a Redis, for the other sections also beside one.
        Memory = "memory",
        /// For `[cache]`: L2 without L1. For the other sections: disabled.
        None = "none",
    }
}

choice! {
    /// How errors about the upstream read.
    ErrorsStyle {
        /// As Redis's own, so that client libraries do what they do when Redis dies.
        Redis = "redis",
        /// `-UPSTREAMDOWN` and `-UPSTREAMLOST`.
        Named = "named",
    }
}

choice! {
    /// What a cached read gets while L2 is away.
    OnL2Down {
        Error = "error",
        ServeStale = "serve-stale",
    }
}

choice! {
    /// What a rate limit answers while L2 is away.
    LimitOnL2Down {
        Open = "open",
        Closed = "closed",
        /// The limit divided by `ratelimit.nodes`, counted in this process.
        Local = "local",
    }
}

choice! {
    /// How a rate limit counts.
    LimitAlgorithm {
        /// This window's count and the last one's, by how much of it is still within reach.
        Sliding = "sliding",
        /// Evenly spaced, with `burst` at once.
        Gcra = "gcra",
        /// Windows that begin anew together.
        Fixed = "fixed",
        /// Every single event, exactly.
        Log = "log",
    }
}

choice! {
    /// What stands in a user session's key for its token.
    SessionKeyMode {
        /// Its SHA-256: whoever reads keys, logs or a dump learns no token.
        Hash = "hash",
        /// The token itself.
        Plain = "plain",
    }
}

choice! {
    /// At which read of a key its reply is stored.
    Admission {
        Second = "second",
        First = "first",
    }
}

choice! {
    /// Whether clients must show a certificate.
    TlsAuthClients {
        No = "no",
        /// One that is shown must be good.
        Optional = "optional",
        Yes = "yes",
    }
}

choice! {
    LogFormat {
        Text = "text",
        Json = "json",
    }
}

choice! {
    LogLevel {
        Error = "error",
        Warn = "warn",
        Info = "info",
        Debug = "debug",
        Trace = "trace",
    }
}

section! {
    /// Where clients connect, and what they may do.
    Server {
        /// IP addresses to listen on; "*" is every IPv4 address.
        bind: Vec<String> = vec!["127.0.0.1".to_owned()], Restart;
        /// TCP port; 0 = no TCP.
        port: u64 = 6379, Restart in 0..=65535;
        /// TCP port for TLS, beside the plain one or (port = 0) instead of it; 0 = no TLS.
        tls_port: u64 = 0, Restart in 0..=65535;
        /// Certificate that clients are shown, with those that it is signed by behind it (PEM). Files are read again when
        /// they change.
        tls_cert_file: Option<String> = None, Now;
        /// Its private key (PEM).
        tls_key_file: Option<String> = None, Now;
        /// Authorities of clients' certificates (PEM).
        tls_ca_file: Option<String> = None, Now;
        /// Whether clients need a certificate: "no", "optional" (one that is shown must be good), or "yes".
        tls_auth_clients: TlsAuthClients = TlsAuthClients::No, Now;
        /// Path of a unix socket (mode 0600); "" = none.
        unixsocket: Option<String> = None, Restart;
        /// Threads that serve clients; 0 = half the cores, 1 to 4.
        workers: usize = workers_default(), Restart in 0..=256 => "0";
        /// One more client than this gets an error.
        clients_max: usize = 10_000, Now in 1..=1_000_000;
        /// Password that clients must give with AUTH; "" = none.
        requirepass: Option<Secret> = None, Now;
        /// Commands that are refused with -NOPERM; [] = none (in the environment: none).
        deny_commands: Vec<String> = deny_commands_default(), Now;
        /// A client idle for longer is closed; 0 = never.
        timeout_seconds: u64 = 0, Now;
        /// Probing of idle client connections; 0 = off.
        tcp_keepalive_seconds: u64 = 300, Now in 0..=32_767;
        /// Time that SIGTERM leaves to requests under way.
        drain_seconds: u64 = 10, Now in 0..=3600;
        /// Refuse to listen beyond this machine without a password or TLS.
        protected_mode: bool = true, Now;
    }
}

section! {
    /// The Redis behind the cache (L2).
    Upstream {
        /// redis://[user[:password]@]host[:port][/db], rediss:// for TLS, unix:///path[?db=1&user=..&pass=..],
        /// redis-sentinel://[user[:password]@]host[:port],host[:port]/service[/db][?sentinel_user=..&sentinel_password=..],
        /// redis-cluster://[user[:password]@]host[:port],host[:port]; rediss-sentinel:// and rediss-cluster:// by TLS.
        /// Also as REDIS_URL.
        url: Option<Secret> = None, Restart;
        /// Password for the URL's user; wins over one in the URL.
        password: Option<Secret> = None, Restart;
        /// Authorities of Redis's certificate (PEM), for each url_override too; "" = the system's. Files are read again when
        /// they change.
        tls_ca_file: Option<String> = None, Now;
        /// Certificate of this daemon (PEM), if Redis asks for one.
        tls_cert_file: Option<String> = None, Now;
        /// Its private key (PEM).
        tls_key_file: Option<String> = None, Now;
        /// Name that the certificate of the URL's Redis must bear; "" = the URL's host.
        tls_server_name: Option<String> = None, Restart;
        /// Deadline for opening a link.
        connect_timeout_ms: u64 = 1000, Now in 1..=600_000;
        /// Deadline for one request; 0 = none.
        request_timeout_ms: u64 = 0, Now;
        /// Without a byte for so long while requests wait, L2 counts as away.
        silence_max_ms: u64 = 10_000, Now in 100..=3_600_000;
        /// Shared links.
        links_max: usize = 512, Now in 4..=65_535;
        /// Links of single sessions (MULTI, SUBSCRIBE, BLPOP, ...).
        pinned_links_max: usize = 4096, Now in 1..=65_535;
        /// Links of a (user, database) unused for so long are closed.
        links_idle_seconds: u64 = 60, Now in 1..=YEARS_TEN_SECONDS;
        /// An idle link is probed by PING this often.
        probe_seconds: u64 = 30, Now in 1..=86_400;
        /// Requests and replies of this size travel apart from the others.
        huge_bytes: u64 = 64 * KIB, Now in 1..=1 << 40;
        /// Links opened beside a slow shared one.
        spill_links_max: usize = 8, Now in 0..=1024;
        /// How upstream failures read: "redis" (as Redis's own) or "named" (-UPSTREAMDOWN, -UPSTREAMLOST).
        errors: ErrorsStyle = ErrorsStyle::Redis, Now;
    }
}

section! {
    /// The cache in this process (L1).
    Cache {
        /// "auto" (what the URL names), "redis", "redis-sentinel", "redis-cluster", or "none" (no L1).
        driver: Driver = Driver::Auto, Restart;
        /// Whether replies are cached at all.
        l1: bool = true, Restart;
        /// Longest life of an entry, besides its TTL in L2. Also as CACHE_TTL_SECONDS.
        ttl_seconds: u64 = 3600, Now in 1..=YEARS_TEN_SECONDS;
        /// Longest life of "there is no such key"; 0 = not cached.
        negative_ttl_seconds: u64 = 60, Now;
        /// Memory for entries.
        bytes_max: u64 = 256 * MIB, Restart in 64 * KIB..=1 << 50;
        /// A longer reply is not cached.
        reply_bytes_max: u64 = MIB, Now in 1..=1 << 40;
        /// Longest time that an entry may differ from L2 when messages are lost.
        max_staleness_ms: u64 = 1000, Now in 10..=3_600_000;
        /// Messages and blocking pops wait until every client of the daemon sees the writes before them.
        notify_barrier: bool = true, Now;
        /// While L2 is away: "error", or "serve-stale".
        on_l2_down: OnL2Down = OnL2Down::Error, Now;
        /// Age up to which serve-stale answers.
        stale_max_seconds: u64 = 60, Now in 1..=YEARS_TEN_SECONDS;
        /// Store a reply at the "second" or at the "first" read of its key.
        admission: Admission = Admission::Second, Now;
        /// Lives are shortened at random by up to this share, so that entries do not end together.
        jitter_percent: u64 = 10, Now in 0..=100;
        /// Longest life of entries of users other than the daemon's own.
        foreign_ttl_seconds: u64 = 60, Now in 1..=YEARS_TEN_SECONDS;
        /// Hot keys are touched in L2 this often, so that it does not evict them; 0 = never.
        touch_seconds: u64 = 5, Now;
    }
}

section! {
    /// Other settings for keys that match a pattern; the first match wins.
    Rule {
        /// Glob over the whole key: * ? [a-z] [^a-z] and \ as in KEYS.
        pattern: String = String::new(), Now;
        /// false = never cached.
        cache: Option<bool> = None, Now;
        /// Instead of cache.ttl_seconds.
        ttl_seconds: Option<u64> = None, Now in 1..=YEARS_TEN_SECONDS;
        /// Instead of cache.negative_ttl_seconds.
        negative_ttl_seconds: Option<u64> = None, Now;
        /// Instead of cache.on_l2_down.
        on_l2_down: Option<OnL2Down> = None, Now;
    }
}

section! {
    /// What one client, one link and all of them together may take.
    Limits {
        /// Arguments of one request.
        args_max: u64 = 2_147_483_647, Now in 1..=2_147_483_647;
        /// One argument.
        bulk_bytes_max: u64 = 512 * MIB, Now in MIB..=1 << 40;
        /// One inline request.
        inline_bytes_max: u64 = 64 * KIB, Now in KIB..=GIB;
        /// Unparsed input of one client.
        query_buffer_bytes_max: u64 = GIB, Now in MIB..=1 << 40;
        /// Arguments of one request before authentication.
        unauth_args_max: u64 = 10, Now in 1..=2_147_483_647;
        /// One argument before authentication.
        unauth_bulk_bytes_max: u64 = 16 * KIB, Now in 1..=1 << 40;
        /// Unread output before authentication.
        unauth_output_bytes_max: u64 = KIB, Now in 1..=1 << 40;
        /// Time to authenticate; 0 = no limit.
        unauth_seconds_max: u64 = 5, Now;
        /// Unread output of a normal client; 0 = no limit.
        normal_output_bytes_max: u64 = 0, Now;
        /// Unread output of a subscriber; 0 = no limit.
        pubsub_output_bytes_max: u64 = 32 * MIB, Now;
        /// Unread output of a subscriber that is closed after pubsub_output_soft_seconds; 0 = no limit.
        pubsub_output_soft_bytes: u64 = 8 * MIB, Now;
        /// How long a subscriber may stay above pubsub_output_soft_bytes.
        pubsub_output_soft_seconds: u64 = 60, Now;
        /// All buffers together; above it slow readers are closed, largest first.
        buffers_bytes_max: u64 = GIB, Now in MIB..=1 << 50;
        /// Unanswered requests of one client, beyond which it is not read.
        client_in_flight_max: usize = 1024, Now in 1..=1 << 20;
        /// Unanswered requests of one link, beyond which its clients are not read.
        link_in_flight_max: usize = 16_384, Now in 1..=1 << 24;
        /// A longer request is not cached.
        cached_request_bytes_max: u64 = 4 * KIB, Now in 1..=MIB;
    }
}

section! {
    /// HTTP for operators: /metrics, /healthz, /readyz, status.
    Admin {
        /// Address and port; "" = off (in the environment: off).
        bind: String = "127.0.0.1:9380".to_owned(), Restart;
        /// Bearer token that requests must carry; "" = none.
        token: Option<Secret> = None, Now;
    }
}

section! {
    /// LOCK.* commands.
    Lock {
        /// "auto" (url_override's, else the cache's), "redis", "redis-sentinel", "redis-cluster", "memory" (this process alone), or "none" (disabled).
        driver: Driver = Driver::Auto, Restart;
        /// Put before the whole key.
        prefix: String = String::new(), Restart;
        /// A Redis of its own, as upstream.url; "" = the cache's.
        url_override: Option<Secret> = None, Restart;
        /// Locks never serve stale answers: only "error".
        on_l2_down: OnL2Down = OnL2Down::Error, Now;
        /// Redlock: at least three independent masters, of which a majority must agree on each lock; an odd number, each on a
        /// machine of its own. The same in all daemons. [] = locks live in one Redis.
        redlock: Vec<Secret> = Vec::new(), Restart;
        /// What a master has not said after so long is not waited for: small beside ttls, large beside the network's delays.
        redlock_timeout_ms: u64 = 50, Now in 1..=10_000;
        /// Longest ttl with redlock. A master that restarts counts again only after so long. The same in all daemons.
        redlock_ttl_max_ms: u64 = 60_000, Restart in 10..=86_400_000;
    }
}

section! {
    /// SESSION.* commands: logins of users.
    Session {
        /// "auto" (url_override's, else the cache's), "redis", "redis-sentinel", "redis-cluster", "memory" (this process alone), or "none" (disabled).
        driver: Driver = Driver::Auto, Restart;
        /// Put before the whole key.
        prefix: String = String::new(), Restart;
        /// A Redis of its own, as upstream.url; "" = the cache's.
        url_override: Option<Secret> = None, Restart;
        /// User sessions never serve stale answers: only "error".
        on_l2_down: OnL2Down = OnL2Down::Error, Now;
        /// A session unused for so long ends.
        ttl_seconds: u64 = 3600, Now in 1..=YEARS_TEN_SECONDS;
        /// A session ends so long after its creation.
        absolute_ttl_seconds: u64 = 30 * 24 * 3600, Now in 1..=YEARS_TEN_SECONDS;
        /// session:<hash of the token> ("hash"), or session:<token> for readers that know the token ("plain").
        key_mode: SessionKeyMode = SessionKeyMode::Hash, Restart;
    }
}

section! {
    /// PRESENCE.* commands: who is online.
    Presence {
        /// "auto" (url_override's, else the cache's), "redis", "redis-sentinel", "redis-cluster", "memory" (this process alone), or "none" (disabled).
        driver: Driver = Driver::Auto, Restart;
        /// Put before the whole key.
        prefix: String = String::new(), Restart;
        /// A Redis of its own, as upstream.url; "" = the cache's.
        url_override: Option<Secret> = None, Restart;
        /// Presence never serves stale answers: only "error".
        on_l2_down: OnL2Down = OnL2Down::Error, Now;
        /// A connection without a heartbeat for so long has left.
        ttl_seconds: u64 = 60, Now in 1..=YEARS_TEN_SECONDS;
    }
}

section! {
    /// RATELIMIT.* and CL.THROTTLE commands.
    Ratelimit {
        /// "auto" (url_override's, else the cache's), "redis", "redis-sentinel", "redis-cluster", "memory" (this process alone), or "none" (all is allowed).
        driver: Driver = Driver::Auto, Restart;
        /// Put before the whole key.
        prefix: String = String::new(), Restart;
        /// A Redis of its own, as upstream.url; "" = the cache's.
        url_override: Option<Secret> = None, Restart;
        /// While L2 is away: "open", "closed", or "local" (the limit divided by nodes, counted in this daemon).
        on_l2_down: LimitOnL2Down = LimitOnL2Down::Open, Now;
        /// Daemons that share the limits.
        nodes: u64 = 1, Now in 1..=10_000;
        /// IPv6 subjects are counted by this much of their address.
        ipv6_prefix_bits: u64 = 64, Now in 1..=128;
    }
}

section! {
    /// A limit with a name, for RATELIMIT.CHECK .. POLICY <name>. Only in this file.
    Policy {
        /// So many within window_ms.
        limit: u64 = 0, Now in 1..=1 << 53;
        /// Length of the window.
        window_ms: u64 = 0, Now in 1..=YEARS_TEN_SECONDS * 1000;
        /// So many at once (algo "gcra"); without it: limit.
        burst: Option<u64> = None, Now in 1..=1 << 53;
        /// "sliding", "gcra", "fixed" or "log"; without it "sliding", with a burst "gcra".
        algo: Option<LimitAlgorithm> = None, Now;
        /// Instead of ratelimit.on_l2_down.
        on_l2_down: Option<LimitOnL2Down> = None, Now;
    }
}

section! {
    /// What the daemon says on stderr.
    Log {
        /// "error", "warn", "info", "debug" or "trace".
        level: LogLevel = LogLevel::Info, Now;
        /// "text" or "json".
        format: LogFormat = LogFormat::Text, Restart;
    }
}

section! {
    /// The embedded engine, which serves where no Redis is configured.
    Memory {
        /// As Redis's maxmemory; 0 = no limit.
        bytes_max: u64 = 0, Restart;
        /// As Redis's maxmemory-policy.
        policy: String = "noeviction".to_owned(), Restart;
        /// Number of databases.
        databases: u64 = 16, Restart in 1..=65_536;
    }
}

macro_rules! config {
    ($($field:ident : $Section:ident,)*) => {
        /// Every setting, validated when it came from `Source::load`.
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct Config {
            $( pub $field: $Section, )*
            pub rules: Vec<Rule>,
            /// `[ratelimit.policies.<name>]`.
            pub policies: BTreeMap<String, Policy>,
        }

        impl Config {
            /// The sections by name, in the order of `conf/madcache.toml`; not the rules and policies.
            pub fn sections(&self) -> Vec<(&'static str, &dyn Section)> {
                vec![$( (stringify!($field), &self.$field as &dyn Section), )*]
            }

            /// What a reload makes of this running configuration: `new`, except for what only a restart changes.
            pub fn reloaded(&self, mut new: Config) -> Config {
                $( new.$field.keep_until_restart(&self.$field); )*
                new
            }

            fn section_mut(&mut self, name: &str) -> Option<&mut dyn Section> {
                match name {
                    $( stringify!($field) => Some(&mut self.$field), )*
                    _ => None,
                }
            }
        }
    };
}

config! {
    server: Server,
    upstream: Upstream,
    cache: Cache,
    limits: Limits,
    admin: Admin,
    lock: Lock,
    session: Session,
    presence: Presence,
    ratelimit: Ratelimit,
    log: Log,
    memory: Memory,
}

fn deny_commands_default() -> Vec<String> {
    crate::command::DENIED_BY_DEFAULT.iter().map(|name| (*name).to_owned()).collect()
}

/// Half the cores, 1 to 4: the others are for Redis and the application beside the daemon.
pub fn workers_default() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    (cores / 2).clamp(1, 4)
}
