//! Servers for commands that one Redis as it comes cannot show: with a configuration file, a module, a replica, a
//! second cluster node. Starts and connects them; what is said to them stands in `tests/transcripts/special`.

use std::path::Path;
use std::process::Command;

use crate::support::{Redis, eventually};

/// Servers that belong together.
pub struct SetUp {
    /// The one that clients, or the daemon, speak to.
    pub redis: Redis,
    pub others: Vec<Redis>,
    /// What a transcript may say as `$(name)`.
    pub values: Vec<(&'static str, String)>,
}

impl SetUp {
    pub fn alone(redis: Redis) -> SetUp {
        SetUp { redis, others: Vec::new(), values: Vec::new() }
    }

    fn with_own_values(redis: Redis) -> SetUp {
        let directory = redis.dir().canonicalize().expect("its directory");
        let directory = directory.to_str().expect("a path in UTF-8").to_string();
        let values = vec![("port", redis.port.to_string()), ("dir", directory)];
        SetUp { redis, others: Vec::new(), values }
    }
}

pub fn with_a_file() -> SetUp {
    SetUp::with_own_values(Redis::start_from_file("# A comment stays.\nmaxmemory 100mb\nhz 20\n"))
}

/// A replica gets what clients write, and no PING between.
pub fn without_pings() -> SetUp {
    let options = ["--repl-ping-replica-period", "3600", "--repl-diskless-sync-delay", "0"];
    SetUp::alone(Redis::start_with(&options))
}

/// The module is compiled here, from `tests/differential/module.c`.
pub fn with_a_module() -> SetUp {
    let mut set_up = SetUp::with_own_values(Redis::start_with(&["--enable-module-command", "yes"]));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/module.c");
    let module = set_up.redis.dir().join("module.so");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&module, &source]).status();
    assert!(compiled.expect("a C compiler, cc").success(), "cc {source:?}");
    set_up.values.insert(0, ("module", module.to_str().expect("a path in UTF-8").to_string()));
    set_up
}

pub fn master_and_replica() -> SetUp {
    let redis = Redis::start_with(&["--repl-diskless-sync-delay", "0"]);
    let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &redis.port.to_string()]);
    eventually("the replica follows", || {
        let info = redis.client().text(&["INFO", "replication"]);
        info.lines().any(|line| line.starts_with("slave0:") && line.contains("state=online"))
    });
    let mut set_up = SetUp::with_own_values(redis);
    set_up.values.push(("other-port", replica.port.to_string()));
    set_up.others.push(replica);
    set_up
}

/// The other one owns all slots.
pub fn two_masters() -> SetUp {
    let options = ["--cluster-enabled", "yes", "--repl-diskless-sync-delay", "0"];
    let (redis, other) = (Redis::start_with(&options), Redis::start_with(&options));
    let (id, other_id) = (id(&redis), id(&other));
    must(&other, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    must(&redis, &["CLUSTER", "MEET", "127.0.0.1", &other.port.to_string()]);
    for (node, peer) in [(&redis, &other_id), (&other, &id)] {
        eventually("each node knows the other", || knows(node, peer, " master "));
        eventually("the cluster is up", || {
            node.client().text(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
        });
    }
    let mut set_up = SetUp::with_own_values(redis);
    let other_port = other.port.to_string();
    set_up.values.extend([("id", id), ("other-id", other_id), ("other-port", other_port)]);
    set_up.others.push(other);
    set_up
}

pub fn replica_of_a_cluster_master() -> SetUp {
    let set_up = two_masters();
    let (redis, other) = (&set_up.redis, &set_up.others[0]);
    let (id, other_id) = (id(redis), id(other));
    must(redis, &["CLUSTER", "REPLICATE", &other_id]);
    eventually("the replica follows", || {
        redis.client().text(&["INFO", "replication"]).contains("master_link_status:up")
    });
    // It would not listen to a failover that another node begins.
    eventually("the master knows its replica", || knows(other, &id, &format!(" slave {other_id} ")));
    set_up
}

fn id(node: &Redis) -> String {
    node.client().text(&["CLUSTER", "MYID"])
}

fn must(node: &Redis, command: &[&str]) {
    assert_eq!(node.client().text(command), "+OK", "{command:?}");
}

/// Whether a node has a connection to that peer and sees this in it.
fn knows(node: &Redis, peer: &str, what: &str) -> bool {
    let nodes = node.client().text(&["CLUSTER", "NODES"]);
    let mut lines = nodes.lines();
    lines.any(|line| line.starts_with(peer) && line.contains(what) && line.contains(" connected"))
}
