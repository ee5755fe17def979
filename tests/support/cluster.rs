//! A real Redis Cluster, and what an operator does to it: ends and restarts nodes, fails over, moves slots.

use std::time::{Duration, Instant};

use madcache::resp::{Value, parse};

use super::{Client, Redis, encode, eventually, free_port};

/// Slots of a cluster.
pub const SLOTS: u16 = 16_384;

/// Masters that share all slots evenly, in order, and behind them, if asked for, one replica each in the same order.
pub struct RedisCluster {
    nodes: Vec<Node>,
    masters: usize,
}

struct Node {
    redis: Redis,
    bus_port: u16,
    id: String,
    /// It runs and was not stopped.
    answers: bool,
}

impl RedisCluster {
    pub fn start(masters: usize) -> RedisCluster {
        RedisCluster::start_with(masters, false, &[])
    }

    /// With a replica for each master.
    pub fn start_with_replicas(masters: usize) -> RedisCluster {
        RedisCluster::start_with(masters, true, &[])
    }

    /// With further `--option value` arguments for each node.
    pub fn start_with(masters: usize, replicas: bool, args: &[&str]) -> RedisCluster {
        let count = if replicas { masters * 2 } else { masters };
        let nodes = std::thread::scope(|scope| {
            let starting: Vec<_> = (0..count).map(|_| scope.spawn(|| Node::start(args))).collect();
            starting.into_iter().map(|node| node.join().expect("a node starts")).collect()
        });
        let cluster = RedisCluster { nodes, masters };
        cluster.share_slots();
        cluster.introduce();
        for replica in masters..count {
            let master = cluster.id(replica - masters).to_owned();
            // The node has to have heard of its master.
            eventually("a replica finds its master", || {
                cluster.client(replica).text(&["CLUSTER", "REPLICATE", &master]) == "+OK"
            });
        }
        cluster.settle();
        cluster
    }

    fn share_slots(&self) {
        for at in 0..self.masters {
            let bound = |at: usize| usize::from(SLOTS) * at / self.masters;
            let (first, last) = (bound(at), bound(at + 1) - 1);
            self.must(at, &["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
            self.must(at, &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        }
    }

    /// Everybody to everybody: gossip would take its time.
    fn introduce(&self) {
        for at in 0..self.nodes.len() {
            let mut client = self.client(at);
            for other in &self.nodes[..at] {
                let (port, bus) = (other.redis.port.to_string(), other.bus_port.to_string());
                assert_eq!(client.text(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]), "+OK");
            }
        }
    }

    /// What a daemon in front of it is told: every node.
    pub fn url(&self) -> String {
        let hosts: Vec<String> =
            self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.redis.port)).collect();
        format!("redis-cluster://{}", hosts.join(","))
    }

    /// The ports of all nodes.
    pub fn peers(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.redis.port).collect()
    }

    /// How many nodes, masters first.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn masters(&self) -> usize {
        self.masters
    }

    pub fn node(&self, at: usize) -> &Redis {
        &self.nodes[at].redis
    }

    pub fn id(&self, at: usize) -> &str {
        &self.nodes[at].id
    }

    pub fn client(&self, at: usize) -> Client {
        self.nodes[at].redis.client()
    }

    /// The slot of a key, as Redis says it.
    pub fn slot(&self, key: &str) -> u16 {
        let reply = self.client(self.living()).text(&["CLUSTER", "KEYSLOT", key]);
        reply.strip_prefix(':').and_then(|slot| slot.parse().ok()).expect("a slot")
    }

    /// The node that serves a slot, as the nodes that answer see it.
    pub fn owner(&self, slot: u16) -> usize {
        let owned = self.owned_as_seen_by(self.living());
        let range = owned.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
        let (_, _, id) = range.unwrap_or_else(|| panic!("nobody has slot {slot}"));
        self.nodes.iter().position(|node| node.id == *id).expect("a node of this cluster")
    }

    /// A key `{N}name` that this node serves.
    pub fn key_of(&self, at: usize, name: &str) -> String {
        let owned = self.owned_as_seen_by(self.living());
        let mine = |slot: u16| {
            owned.iter().any(|(first, last, id)| (*first..=*last).contains(&slot) && *id == self.nodes[at].id)
        };
        let key = (0..1000).map(|n| format!("{{{n}}}{name}")).find(|key| mine(self.slot(key)));
        key.unwrap_or_else(|| panic!("node {at} serves too few slots"))
    }

    /// The answer of whoever serves the key.
    pub fn ask_owner(&self, key: &str, words: &[&str]) -> String {
        self.client(self.owner(self.slot(key))).text(words)
    }

    /// The same at every master, which all must answer OK.
    pub fn at_every_master(&self, words: &[&str]) {
        (0..self.len()).filter(|&at| self.is_master(at)).for_each(|at| self.must(at, words));
    }

    /// Whether it is a master that answers.
    pub fn is_master(&self, at: usize) -> bool {
        self.nodes[at].answers && self.client(at).text(&["INFO", "replication"]).contains("role:master\r\n")
    }

    // Faults.

    pub fn kill(&mut self, at: usize) {
        self.nodes[at].answers = false;
        self.nodes[at].redis.process.kill();
    }

    /// It holds its connections but does nothing (SIGSTOP).
    pub fn stop(&mut self, at: usize) {
        self.nodes[at].answers = false;
        self.nodes[at].redis.process.signal("STOP");
    }

    /// After `stop`.
    pub fn go_on(&mut self, at: usize) {
        self.nodes[at].redis.process.signal("CONT");
        self.nodes[at].answers = true;
    }

    /// After `kill`: with its id and its slots, as far as it still has them; its keys, if it persisted them.
    pub fn restart(&mut self, at: usize) {
        self.nodes[at].redis.restart();
        self.nodes[at].answers = true;
    }

    /// This replica takes the place of its master: `[]` after an agreement of both, else `["FORCE"]` or `["TAKEOVER"]`.
    /// Comes back when all nodes know.
    pub fn fail_over_to(&self, replica: usize, how: &[&str]) {
        let request = [&["CLUSTER", "FAILOVER"], how].concat();
        self.must(replica, &request);
        // Redis gives up, and says so in its log only, where the replica was not level with its master within 5 seconds.
        let mut asked = Instant::now();
        eventually("the replica is master", || {
            if asked.elapsed() > Duration::from_secs(6) {
                self.client(replica).text(&request);
                asked = Instant::now();
            }
            self.is_master(replica)
        });
        self.settle();
    }

    /// Waits until all nodes that answer serve, and say the same of who has which slots: nodes that answer have all of them.
    pub fn settle(&self) {
        let living: Vec<usize> = (0..self.len()).filter(|&at| self.nodes[at].answers).collect();
        eventually("the cluster serves all slots, and its nodes agree on who does", || {
            let views: Vec<Owned> = living.iter().map(|&at| self.owned_as_seen_by(at)).collect();
            let slots: u32 = views[0].iter().map(|(first, last, _)| u32::from(last - first) + 1).sum();
            let alive = |id: &str| living.iter().any(|&at| self.nodes[at].id == id);
            slots == u32::from(SLOTS)
                && views[0].iter().all(|(_, _, id)| alive(id))
                && views.iter().all(|view| *view == views[0])
                && living.iter().all(|&at| self.is_well(at))
        });
    }

    /// It knows all nodes, and if it is a replica it has its master's keys.
    fn is_well(&self, at: usize) -> bool {
        let mut client = self.client(at);
        let info = client.text(&["CLUSTER", "INFO"]);
        let known = format!("cluster_known_nodes:{}\r\n", self.len());
        let replication = client.text(&["INFO", "replication"]);
        info.contains("cluster_state:ok\r\n")
            && info.contains(&known)
            && (replication.contains("role:master\r\n") || replication.contains("master_link_status:up\r\n"))
    }

    // Slots that move.

    /// From here on the old owner answers ASK for keys that it has not.
    pub fn begin_move(&self, slot: u16, to: usize) {
        let from = self.owner(slot);
        let slot = slot.to_string();
        self.must(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", self.id(from)]);
        self.must(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", self.id(to)]);
    }

    /// Moves so many keys of the slot at most, and says how many it were.
    pub fn move_keys(&self, slot: u16, to: usize, count_max: usize) -> usize {
        let mut old = self.client(self.owner(slot));
        old.send(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), &count_max.to_string()]);
        let Some(Value::Array(keys)) = parse(&old.read_frame()) else {
            panic!("no keys of slot {slot}");
        };
        if keys.is_empty() {
            return 0;
        }
        let port = self.node(to).port.to_string();
        let mut request: Vec<Vec<u8>> =
            ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"].map(|word| word.into()).to_vec();
        request.extend(keys.iter().map(|key| match key {
            Value::Bulk(key) => key.to_vec(),
            other => panic!("a key: {other:?}"),
        }));
        assert_eq!(old.text(&request), "+OK");
        keys.len()
    }

    /// The slot belongs to the new owner, and all masters know.
    pub fn end_move(&self, slot: u16, to: usize) {
        let from = self.owner(slot);
        let (text, id) = (slot.to_string(), self.id(to).to_owned());
        let others = (0..self.len()).filter(|&at| at != to && at != from && self.is_master(at));
        for at in [to, from].into_iter().chain(others) {
            self.must(at, &["CLUSTER", "SETSLOT", &text, "NODE", &id]);
        }
    }

    /// All of it.
    pub fn move_slot(&self, slot: u16, to: usize) {
        self.begin_move(slot, to);
        self.finish_move(slot, to);
    }

    /// What is left to do behind `begin_move`.
    pub fn finish_move(&self, slot: u16, to: usize) {
        while self.move_keys(slot, to, 100) > 0 {}
        self.end_move(slot, to);
    }

    /// All slots of a master that has no keys.
    pub fn give_slots(&self, from: usize, to: usize) {
        let owned = self.owned_as_seen_by(from);
        let mine = owned.iter().filter(|(_, _, id)| id == self.id(from));
        let slots: Vec<u16> = mine.flat_map(|(first, last, _)| *first..=*last).collect();
        let others = (0..self.len()).filter(|&at| at != to && at != from && self.is_master(at));
        for at in [to, from].into_iter().chain(others) {
            let told = slots
                .iter()
                .flat_map(|slot| encode(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", self.id(to)]));
            let mut client = self.client(at);
            client.send_raw(&told.collect::<Vec<u8>>()).unwrap();
            slots.iter().for_each(|slot| assert_eq!(*client.read_frame(), *b"+OK\r\n", "slot {slot}"));
        }
        self.settle();
    }

    /// What `redis-cli --cluster del-node` does to a node without slots, which lives on by itself.
    pub fn remove(&mut self, at: usize) -> Redis {
        let removed = self.nodes.remove(at);
        self.masters -= usize::from(at < self.masters);
        (0..self.len()).for_each(|other| self.must(other, &["CLUSTER", "FORGET", &removed.id]));
        assert_eq!(removed.redis.client().text(&["CLUSTER", "RESET"]), "+OK");
        removed.redis
    }

    fn must(&self, at: usize, words: &[&str]) {
        assert_eq!(self.client(at).text(words), "+OK", "{words:?} at node {at}");
    }

    fn living(&self) -> usize {
        self.nodes.iter().position(|node| node.answers).expect("a node that answers")
    }

    fn owned_as_seen_by(&self, at: usize) -> Owned {
        let lines = self.client(at).text(&["CLUSTER", "NODES"]);
        let mut owned = Owned::new();
        for line in lines.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            for range in words.iter().skip(8).filter(|range| !range.starts_with('[')) {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                owned.push((first.parse().unwrap(), last.parse().unwrap(), words[0].to_owned()));
            }
        }
        owned.sort_unstable();
        owned
    }
}

/// Ranges of slots, and the id of the node that has them.
type Owned = Vec<(u16, u16, String)>;

impl Node {
    fn start(args: &[&str]) -> Node {
        let bus_port = free_port();
        let bus = bus_port.to_string();
        let options = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "1500"];
        // A replica takes over however long it has been without its master, and stays with the one it was given.
        let of_replicas =
            ["--cluster-replica-validity-factor", "0", "--cluster-allow-replica-migration", "no"];
        let at_once = ["--repl-diskless-sync-delay", "0"];
        let redis = Redis::start_with(&[&options[..], &of_replicas, &at_once, args].concat());
        let id = redis.client().text(&["CLUSTER", "MYID"]);
        Node { redis, bus_port, id, answers: true }
    }
}
