//! Where transcripts are played: daemons, and what is behind them.

use crate::support::cluster::RedisCluster;
use crate::support::sentinel::Sentinel;
use crate::support::{Client, Daemon, Redis};
use crate::{daemon_at, daemon_with_file, one_node_cluster};

/// What keeps the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    Redis,
    /// A Redis that a sentinel names.
    Sentinel,
    /// A Redis in cluster mode that has all slots.
    Cluster,
    /// A Redis Cluster of three masters.
    Masters,
    /// The engine within the daemon.
    Nothing,
}

#[derive(Debug, Clone, Copy)]
pub struct Stand {
    pub behind: Behind,
    /// Clients are connected to them in turn, so with two of them each line is answered by another one than the line before.
    pub daemons: usize,
}

pub const STANDS: [Stand; 9] = [
    Stand { behind: Behind::Redis, daemons: 1 },
    Stand { behind: Behind::Redis, daemons: 2 },
    Stand { behind: Behind::Sentinel, daemons: 1 },
    Stand { behind: Behind::Sentinel, daemons: 2 },
    Stand { behind: Behind::Cluster, daemons: 1 },
    Stand { behind: Behind::Cluster, daemons: 2 },
    Stand { behind: Behind::Masters, daemons: 1 },
    Stand { behind: Behind::Masters, daemons: 2 },
    Stand { behind: Behind::Nothing, daemons: 1 },
];

/// A stand with its servers.
pub struct Running {
    pub daemons: Vec<Daemon>,
    _redis: Option<Redis>,
    _sentinel: Option<Sentinel>,
    _masters: Option<RedisCluster>,
}

impl Stand {
    /// With a configuration file of these lines for each daemon.
    pub fn start(self, lines: &str) -> Running {
        let redis = match self.behind {
            Behind::Redis | Behind::Sentinel => Some(Redis::start()),
            Behind::Cluster => Some(one_node_cluster()),
            Behind::Masters | Behind::Nothing => None,
        };
        let masters = (self.behind == Behind::Masters).then(|| RedisCluster::start(3));
        let watched = redis.as_ref().filter(|_| self.behind == Behind::Sentinel);
        let sentinel = watched.map(|redis| Sentinel::start(redis.port, 1, ""));
        let daemon = |_| match (&redis, &sentinel, &masters) {
            (Some(redis), None, _) => daemon_with_file(redis, lines),
            (Some(redis), Some(sentinel), _) => daemon_at(&sentinel.url(), redis, lines),
            (None, _, Some(masters)) => daemon_at(&masters.url(), masters.node(0), lines),
            (None, _, None) => embedded_with_file(lines),
        };
        let daemons = (0..self.daemons).map(daemon).collect();
        Running { daemons, _redis: redis, _sentinel: sentinel, _masters: masters }
    }
}

impl Running {
    /// One client of each daemon, the first of `first`, on an empty keyspace.
    pub fn clients(&self, resp3: bool, first: usize) -> Vec<Client> {
        let count = self.daemons.len();
        let client = |at: usize| {
            let daemon = &self.daemons[(first + at) % count];
            if resp3 { crate::resp3(daemon) } else { daemon.client() }
        };
        let mut clients: Vec<Client> = (0..count).map(client).collect();
        assert_eq!(clients[0].text(&["FLUSHALL"]), "+OK");
        clients
    }
}

/// A daemon without a Redis.
pub fn embedded_with_file(lines: &str) -> Daemon {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("madcache.toml");
    std::fs::write(&file, lines).unwrap();
    Daemon::spawn_as("", &[], |command| {
        command.env_remove("MADCACHE_UPSTREAM_URL").arg("--config").arg(&file);
    })
    .ready()
}
