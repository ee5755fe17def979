//! The two sides of the comparison: Redis alone, or the daemon with a Redis of its own behind it. Starts servers when
//! a section first asks for their kind, and brings a side back to an empty state between sections.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use super::cluster;
use super::run::REPLY_TIME_MAX;
use super::special::{self, SetUp};
use crate::support::cluster::RedisCluster;
use crate::support::{Client, Daemon, Redis};

/// The password of the server kind that has one.
pub const PASSWORD: &str = "sesame";

/// The line of INFO clients that `:blocked N` waits for.
const BLOCKED: &str = "blocked_clients:";

/// What a transcript is played to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    Redis,
    Daemon {
        l1: bool,
    },
    /// The daemon with L1, before a Redis Cluster of three masters.
    Cluster,
}

/// How the Redis of a section is configured (`:server NAME` in a transcript).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    Plain,
    /// One node that may own every slot.
    Cluster,
    /// With an ACL file, so that ACL LOAD and ACL SAVE work.
    AclFile,
    /// With `requirepass`; the daemon asks its clients for the same password.
    Password,
    /// Started from a configuration file.
    ConfigFile,
    /// May load modules; `$(module)` is the path of one.
    Modules,
    /// A master with a replica on `$(other-port)`.
    Replicated,
    /// A cluster node without slots that knows a master with all of them: `$(other-id)` on `$(other-port)`.
    TwoMasters,
    /// The same, and the node is that master's replica.
    ClusterReplica,
    /// Sends replicas nothing but what clients caused.
    ReplicationStream,
}

impl Server {
    pub fn named(name: &str) -> Option<Server> {
        Some(match name {
            "cluster" => Server::Cluster,
            "aclfile" => Server::AclFile,
            "password" => Server::Password,
            "configfile" => Server::ConfigFile,
            "modules" => Server::Modules,
            "replicated" => Server::Replicated,
            "two-masters" => Server::TwoMasters,
            "cluster-replica" => Server::ClusterReplica,
            "replication-stream" => Server::ReplicationStream,
            _ => return None,
        })
    }
}

/// Where to connect, for one kind of server.
pub struct Side {
    /// What the transcript's clients talk to.
    pub port: u16,
    server: Server,
    counts_hits: bool,
    /// A section has been played to it.
    used: Cell<bool>,
    kept: Kept,
    /// What the transcript may say as `$(name)`. The two sides have other ones, of the same length.
    pub values: Vec<(&'static str, String)>,
    _others: Vec<Redis>,
    _daemon: Option<Daemon>,
    _directory: tempfile::TempDir,
}

/// What keeps the keys of one side.
enum Kept {
    Redis(Redis),
    Cluster(RedisCluster),
}

impl Kept {
    fn nodes(&self) -> Vec<&Redis> {
        match self {
            Kept::Redis(redis) => vec![redis],
            Kept::Cluster(cluster) => (0..cluster.len()).map(|at| cluster.node(at)).collect(),
        }
    }

    /// The only one, or the first.
    fn redis(&self) -> &Redis {
        match self {
            Kept::Redis(redis) => redis,
            Kept::Cluster(cluster) => cluster.node(0),
        }
    }
}

impl Side {
    pub fn start(server: Server, behind: Behind) -> Side {
        if behind == Behind::Cluster {
            return Side::before_a_cluster(server);
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let acl_file = directory.path().join("users.acl");
        std::fs::write(&acl_file, "").expect("write the ACL file");
        let acl_file = acl_file.to_str().expect("a path in UTF-8");
        let SetUp { redis, others, values } = match server {
            Server::Plain => SetUp::alone(Redis::start()),
            Server::Cluster => SetUp::alone(Redis::start_with(&["--cluster-enabled", "yes"])),
            Server::AclFile => SetUp::alone(Redis::start_with(&["--aclfile", acl_file])),
            Server::Password => SetUp::alone(Redis::start_with(&["--requirepass", PASSWORD])),
            Server::ConfigFile => special::with_a_file(),
            Server::Modules => special::with_a_module(),
            Server::Replicated => special::master_and_replica(),
            Server::TwoMasters => special::two_masters(),
            Server::ClusterReplica => special::replica_of_a_cluster_master(),
            Server::ReplicationStream => special::without_pings(),
        };
        let daemon = match behind {
            Behind::Redis | Behind::Cluster => None,
            Behind::Daemon { l1 } => {
                let mut settings = vec![("MADCACHE_CACHE_L1", if l1 { "true" } else { "false" })];
                let mut url = redis.url();
                if server == Server::Password {
                    url = format!("redis://:{PASSWORD}@127.0.0.1:{}", redis.port);
                    settings.push(("MADCACHE_SERVER_REQUIREPASS", PASSWORD));
                }
                Some(Daemon::start_with(&url, &settings))
            }
        };
        Side {
            port: daemon.as_ref().map_or(redis.port, |daemon| daemon.port),
            server,
            counts_hits: behind == Behind::Daemon { l1: true },
            used: Cell::new(false),
            kept: Kept::Redis(redis),
            values,
            _others: others,
            _daemon: daemon,
            _directory: directory,
        }
    }

    fn before_a_cluster(server: Server) -> Side {
        assert_eq!(
            server,
            Server::Plain,
            "sections with a server of their own are not played before a cluster"
        );
        let cluster = RedisCluster::start(3);
        // Each worker has a node of its own for what names no key: with one it is the same in every run.
        let daemon = Daemon::start_with(&cluster.url(), &[("MADCACHE_SERVER_WORKERS", "1")]);
        Side {
            port: daemon.port,
            server,
            counts_hits: true,
            used: Cell::new(false),
            kept: Kept::Cluster(cluster),
            values: Vec::new(),
            _others: Vec::new(),
            _daemon: Some(daemon),
            _directory: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    /// Empties everything that a section could have left behind. Goes the way of the clients, so that the daemon
    /// sees what is emptied. Before the first section there is nothing.
    pub fn reset(&self) {
        if !self.used.replace(true) {
            return;
        }
        self.aside(self.port, |client| {
            for name in client.text(&["ACL", "USERS"]).lines().filter(|line| !line.starts_with(['*', '$'])) {
                if name != "default" {
                    client.call(&["ACL", "DELUSER", name]);
                }
            }
            for words in ["FLUSHALL", "SCRIPT FLUSH", "FUNCTION FLUSH", "ACL LOG RESET", "SLOWLOG RESET"] {
                let words: Vec<&str> = words.split(' ').collect();
                let reply = client.call(&words);
                assert_eq!(String::from_utf8_lossy(&reply), "+OK\r\n", "{words:?} between sections");
            }
        });
    }

    /// A digest of all data in the Redis of this side; of a cluster, what one Redis with all of it would say.
    pub fn digest(&self) -> String {
        let nodes = self.kept.nodes();
        let digests: Vec<String> = nodes
            .iter()
            .map(|node| self.aside(node.port, |client| client.text(&["DEBUG", "DIGEST"])))
            .collect();
        match &digests[..] {
            [one] => one.clone(),
            several => cluster::one_digest(several),
        }
    }

    /// Whether INFO of this side's Redis has that line, or one that starts as `line` does before its last `*`. Blocked
    /// clients of a cluster are added up; anything else all its nodes have to say.
    pub fn info_has(&self, section: &str, line: &str) -> bool {
        let infos: Vec<String> = (self.kept.nodes().iter())
            .map(|node| self.aside(node.port, |client| client.text(&["INFO", section])))
            .collect();
        if let Some(count) = line.strip_prefix(BLOCKED) {
            let of_one = |info: &String| {
                let count = info.lines().find_map(|line| line.strip_prefix(BLOCKED)?.parse().ok());
                count.unwrap_or(0usize)
            };
            return infos.iter().map(of_one).sum::<usize>().to_string() == count;
        }
        infos.iter().all(|info| {
            info.lines().any(|one| match line.strip_suffix('*') {
                Some(start) => one.starts_with(start),
                None => one == line,
            })
        })
    }

    /// A file in the directory of this side's Redis.
    pub fn file(&self, name: &str) -> PathBuf {
        self.kept.redis().dir().join(name)
    }

    /// Whether this side's Redis is there no more.
    pub fn has_ended(&self) -> bool {
        std::net::TcpStream::connect(("127.0.0.1", self.kept.redis().port)).is_err()
    }

    /// Writes the names of this side's values over the values, in the same length: what is RESP stays so.
    pub fn hide_values(&self, reply: &mut [u8]) {
        for (name, value) in &self.values {
            let instead: Vec<u8> = name.bytes().chain(std::iter::repeat(b'#')).take(value.len()).collect();
            for at in 0..(reply.len() + 1).saturating_sub(value.len()) {
                if reply[at..].starts_with(value.as_bytes()) {
                    reply[at..at + value.len()].copy_from_slice(&instead);
                }
            }
        }
    }

    /// How many reads L1 has answered so far; 0 for a side without L1.
    pub fn hits(&self) -> u64 {
        if !self.counts_hits {
            return 0;
        }
        let info = self.aside(self.port, |client| client.text(&["INFO", "madcache"]));
        info.lines().find_map(|line| line.strip_prefix("l1_hits:")?.trim().parse().ok()).unwrap_or(0)
    }

    /// Works over a connection that is gone again, also from CLIENT LIST, when this returns.
    fn aside<T>(&self, port: u16, work: impl FnOnce(&mut Client) -> T) -> T {
        let mut client = Client::connect(port);
        client.stream().set_read_timeout(Some(REPLY_TIME_MAX)).expect("a timeout");
        if self.server == Server::Password {
            client.call(&["AUTH", PASSWORD]);
        }
        let result = work(&mut client);
        client.send(&["QUIT"]);
        client.read_to_end();
        result
    }
}

/// The servers of one side, by kind.
pub struct Sides {
    behind: Behind,
    started: BTreeMap<Server, Side>,
}

impl Sides {
    pub fn new(behind: Behind) -> Sides {
        Sides { behind, started: BTreeMap::new() }
    }

    pub fn of(&mut self, server: Server) -> &Side {
        self.started.entry(server).or_insert_with(|| Side::start(server, self.behind))
    }
}
