//! A Redis Cluster as all workers know it: which node serves which slot. Talks to nobody.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache, Guard};
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::{Leader, Remote};
use crate::command::SLOTS;
use crate::config::{Address, Endpoint, Target};

pub struct Cluster {
    /// Who we are on every node.
    target: Target,
    seeds: Vec<Address>,
    topology: Arc<ArcSwap<Topology>>,
    /// Held while the topology is changed; and every node that was ever seen.
    nodes: Mutex<HashMap<Address, Arc<Remote>>>,
    names: ArcSwap<HashMap<Address, Address>>,
    /// How often the nodes have been asked.
    looks: AtomicU64,
    /// Told when a node has said something else than the topology.
    pub doubts: Notify,
}

/// Which node serves which slot, at one moment.
#[derive(Clone, Default)]
pub struct Topology {
    /// Moves on with every change.
    pub version: u64,
    /// Every master that serves a slot, in the order of its first one.
    pub nodes: Vec<Arc<Remote>>,
    /// In the order of their slots. There are few of them, and every request looks its slot up.
    runs: SmallVec<[Run; 8]>,
    /// Slots that are on their way from one node to another.
    unstable: HashSet<u16>,
}

/// Slots of one owner, one behind the other.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Run {
    first: u16,
    /// The owner's position in `Topology::nodes`, or `NOBODY`.
    at: u16,
    /// Its number; 0 is nobody's.
    node: u32,
}

/// One worker's view of the topology in force: it costs less than `Cluster::topology`, and every request looks its slot up.
pub struct Watch(RefCell<Cache<Arc<ArcSwap<Topology>>, Arc<Topology>>>);

/// Who serves a slot.
#[derive(Clone, Copy)]
pub struct Owner {
    /// Of the topology that says so.
    pub version: u64,
    /// The number of the node; 0 where nobody serves the slot.
    pub node: u32,
}

impl Watch {
    #[inline]
    pub fn owner_of(&self, slot: u16) -> Owner {
        let mut cache = self.0.borrow_mut();
        let topology = cache.load();
        Owner { version: topology.version, node: topology.run(slot).map_or(0, |run| run.node) }
    }
}

const NOBODY: u16 = u16::MAX;

const LOOK_PACE: Duration = Duration::from_millis(5);
const LOOK_PATIENCE: Duration = Duration::from_secs(1);

/// What the nodes say of the slots.
#[derive(Default)]
pub struct View {
    /// Runs of slots in their order, from the first slot on: where each begins, and whose it is.
    pub owners: Vec<(u16, Option<Address>)>,
    pub unstable: HashSet<u16>,
    /// Every node of the cluster, by each name that others have for it: where it is reached.
    pub names: HashMap<Address, Address>,
}

/// The nodes that do not vouch any more for what was read from them.
pub type Outdated = Vec<u32>;

impl Topology {
    #[inline]
    fn run(&self, slot: u16) -> Option<&Run> {
        let behind = self.runs.partition_point(|run| run.first <= slot);
        self.runs.get(behind.checked_sub(1)?)
    }

    pub fn owner(&self, slot: u16) -> Option<&Arc<Remote>> {
        self.nodes.get(usize::from(self.run(slot)?.at))
    }

    /// Whether the slot is on its way from one node to another.
    pub fn is_unstable(&self, slot: u16) -> bool {
        !self.unstable.is_empty() && self.unstable.contains(&slot)
    }

    pub fn is_complete(&self) -> bool {
        !self.runs.is_empty() && self.runs.iter().all(|run| run.at != NOBODY)
    }

    pub fn serves(&self, node: &Remote) -> bool {
        self.nodes.iter().any(|other| other.number == node.number)
    }

    /// The lowest slot that a node serves.
    pub fn first_slot(&self, node: &Remote) -> Option<u16> {
        let at = self.nodes.iter().position(|other| other.number == node.number)?;
        self.runs.iter().find(|run| usize::from(run.at) == at).map(|run| run.first)
    }

    /// Of runs in their order; neighbours of one owner become one.
    fn of(
        owners: impl IntoIterator<Item = (u16, Option<Arc<Remote>>)>,
        unstable: HashSet<u16>,
        version: u64,
    ) -> Topology {
        let mut nodes: Vec<Arc<Remote>> = Vec::new();
        let mut runs = SmallVec::<[Run; 8]>::new();
        for (first, owner) in owners {
            let node = owner.as_ref().map_or(0, |owner| owner.number);
            if runs.last().is_some_and(|last| last.node == node) {
                continue;
            }
            let at = owner.map_or(NOBODY, |owner| {
                let known = nodes.iter().position(|node| node.number == owner.number);
                known.unwrap_or_else(|| {
                    nodes.push(owner);
                    nodes.len() - 1
                }) as u16
            });
            runs.push(Run { first, at, node });
        }
        Topology { version, nodes, runs, unstable }
    }

    fn owners(&self) -> Vec<Option<Arc<Remote>>> {
        (0..SLOTS).map(|slot| self.owner(slot).cloned()).collect()
    }

    /// Nodes that lost a slot on the way to `new`, or have one that moves since.
    fn outdated_by(&self, new: &Topology) -> Outdated {
        let mut outdated = HashSet::new();
        for slot in 0..SLOTS {
            let Some(before) = self.owner(slot) else { continue };
            let lost = new.owner(slot).is_none_or(|after| after.number != before.number);
            if lost || new.is_unstable(slot) != self.is_unstable(slot) {
                outdated.insert(before.number);
            }
        }
        outdated.into_iter().collect()
    }
}

impl Cluster {
    /// `target` names the seeds.
    pub fn new(target: &Target) -> Option<Cluster> {
        let Endpoint::Cluster { seeds } = &target.endpoint else { return None };
        Some(Cluster {
            target: target.clone(),
            seeds: seeds.clone(),
            topology: Arc::default(),
            nodes: Mutex::default(),
            names: ArcSwap::default(),
            looks: AtomicU64::new(0),
            doubts: Notify::new(),
        })
    }

    pub fn seeds(&self) -> &[Address] {
        &self.seeds
    }

    pub fn watch(&self) -> Watch {
        Watch(RefCell::new(Cache::new(self.topology.clone())))
    }

    #[inline]
    pub fn topology(&self) -> Guard<Arc<Topology>> {
        self.topology.load()
    }

    pub fn node(&self, address: &Address) -> Arc<Remote> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        self.node_among(&mut nodes, address)
    }

    fn node_among(&self, nodes: &mut HashMap<Address, Arc<Remote>>, address: &Address) -> Arc<Remote> {
        let new = || Arc::new(Remote::node(self.target.at(address)));
        nodes.entry(address.clone()).or_insert_with(new).clone()
    }

    /// Where the node is reached that somebody calls so; `None`: the cluster's nodes know of none. Whoever is sent to a stranger
    /// does not go there.
    pub fn known(&self, name: &Address) -> Option<Address> {
        self.names.load().get(name).cloned()
    }

    /// Where every node is that was ever seen and does not count as removed.
    pub fn members(&self) -> Vec<Address> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let there = nodes.iter().filter(|(_, node)| node.leader.lack().is_none());
        there.map(|(address, _)| address.clone()).collect()
    }

    /// The node belongs to the cluster no more, until it is learned of again: nobody connects to it, and workers end what
    /// clients have there.
    pub fn remove(&self, address: &Address) {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = nodes.get(address) {
            let reason = format!("{address} does not belong to the cluster any more");
            node.leader.set(Leader::Nobody(reason.into()));
        }
    }

    pub fn is_removed(&self, address: &Address) -> bool {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.get(address).is_some_and(|node| node.leader.lack().is_some())
    }

    /// The nodes have been asked once more.
    pub fn looked(&self) {
        self.looks.fetch_add(1, SeqCst);
    }

    /// Comes back when they have been asked since this call; or when that takes too long.
    pub async fn look_again(&self) {
        // The next look may be under way already.
        let enough = self.looks.load(SeqCst) + 2;
        let begun = Instant::now();
        while self.looks.load(SeqCst) < enough && begun.elapsed() < LOOK_PATIENCE {
            self.doubts.notify_one();
            tokio::time::sleep(LOOK_PACE).await;
        }
    }

    /// The nodes themselves say how it is. The caller sees to it that nothing is shown any more that the nodes vouched for
    /// whose numbers it gets.
    pub fn learn(&self, view: View) -> Outdated {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = nodes.iter().filter(|(_, node)| node.leader.lack().is_some());
        for (_, node) in removed.filter(|(address, _)| view.names.contains_key(address)) {
            node.leader.set(Leader::Known(Arc::new(node.target.clone())));
        }
        self.names.store(Arc::new(view.names));
        let mut owner = |address: Address| self.node_among(&mut nodes, &address);
        let runs = view.owners.into_iter();
        let owners: Vec<_> = runs.map(|(first, address)| (first, address.map(&mut owner))).collect();
        self.change(|old| Topology::of(owners, view.unstable, old.version))
    }

    /// A node has said that another one serves this slot.
    pub fn moved(&self, slot: u16, to: &Address) -> Outdated {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let node = self.node_among(&mut nodes, to);
        self.doubts.notify_one();
        // Each request that was under way to the node that had it brings the same word.
        if self.topology().owner(slot).is_some_and(|owner| Arc::ptr_eq(owner, &node)) {
            return Outdated::new();
        }
        self.change(|old| {
            let mut owners = old.owners();
            if let Some(owner) = owners.get_mut(usize::from(slot)) {
                *owner = Some(node);
            }
            Topology::of((0..).zip(owners), old.unstable.clone(), old.version)
        })
    }

    /// A node has said that this slot is on its way elsewhere.
    pub fn moves(&self, slot: u16) -> Outdated {
        if self.topology().is_unstable(slot) {
            return Outdated::new();
        }
        let _changing = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        self.doubts.notify_one();
        self.change(|old| {
            let mut new = old.clone();
            new.unstable.insert(slot);
            new
        })
    }

    /// Under the lock of `nodes`.
    fn change(&self, make: impl FnOnce(&Topology) -> Topology) -> Outdated {
        let old = self.topology.load_full();
        let mut new = make(&old);
        if old.runs == new.runs && old.unstable == new.unstable {
            return Outdated::new();
        }
        new.version = old.version + 1;
        let outdated = old.outdated_by(&new);
        self.topology.store(Arc::new(new));
        outdated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Cluster {
        let seeds = vec![address("one")];
        let target = Target {
            endpoint: Endpoint::Cluster { seeds },
            db: 0,
            username: None,
            password: None,
            tls: None,
        };
        Cluster::new(&target).unwrap()
    }

    fn address(name: &str) -> Address {
        Address { host: name.to_owned(), port: 1 }
    }

    /// `one` has the lower half of the slots and `two` the upper.
    fn halves(unstable: &[u16]) -> View {
        View {
            owners: vec![(0, Some(address("one"))), (SLOTS / 2, Some(address("two")))],
            unstable: unstable.iter().copied().collect(),
            names: HashMap::new(),
        }
    }

    fn numbers(cluster: &Cluster, names: &[&str]) -> Vec<u32> {
        names.iter().map(|name| cluster.node(&address(name)).number).collect()
    }

    #[test]
    fn a_node_that_loses_a_slot_does_not_vouch_any_more() {
        let cluster = cluster();
        assert!(!cluster.topology().is_complete());
        assert_eq!(cluster.learn(halves(&[])), Outdated::new());
        assert!(cluster.topology().is_complete());
        assert_eq!(cluster.moved(3, &address("two")), numbers(&cluster, &["one"]));
        assert_eq!(cluster.topology().owner(3).unwrap().number, numbers(&cluster, &["two"])[0]);
        // The same word again changes nothing.
        let version = cluster.topology().version;
        assert_eq!(cluster.moved(3, &address("two")), Outdated::new());
        assert_eq!(cluster.topology().version, version);
    }

    #[test]
    fn a_slot_that_begins_to_move_outdates_its_node_and_so_does_the_end_of_it() {
        let cluster = cluster();
        cluster.learn(halves(&[]));
        assert_eq!(cluster.moves(9000), numbers(&cluster, &["two"]));
        assert!(cluster.topology().is_unstable(9000));
        assert_eq!(cluster.moves(9000), Outdated::new());
        assert_eq!(cluster.learn(halves(&[])), numbers(&cluster, &["two"]));
        assert!(!cluster.topology().is_unstable(9000));
    }

    #[test]
    fn a_node_is_known_by_all_its_names_and_a_stranger_is_not() {
        let cluster = cluster();
        let mut view = halves(&[]);
        view.names.insert(address("one"), address("one"));
        view.names.insert(address("one.example"), address("one"));
        cluster.learn(view);
        assert_eq!(cluster.known(&address("one.example")), Some(address("one")));
        assert_eq!(cluster.known(&address("stranger")), None);
    }

    #[test]
    fn a_node_that_was_removed_is_used_again_once_it_is_back() {
        let cluster = cluster();
        cluster.learn(halves(&[]));
        let two = address("two");
        cluster.remove(&two);
        assert!(cluster.is_removed(&two));
        assert_eq!(cluster.members(), [address("one")]);
        assert!(matches!(cluster.node(&two).leader.now(), Leader::Nobody(_)));
        let mut view = halves(&[]);
        view.names.insert(two.clone(), two.clone());
        cluster.learn(view);
        assert!(!cluster.is_removed(&two));
        assert!(matches!(cluster.node(&two).leader.now(), Leader::Known(_)));
    }

    #[test]
    fn the_lowest_slot_of_a_node_is_told() {
        let cluster = cluster();
        cluster.learn(halves(&[]));
        cluster.moved(3, &address("two"));
        let topology = cluster.topology();
        assert_eq!(topology.first_slot(&cluster.node(&address("two"))), Some(3));
        assert_eq!(topology.first_slot(&cluster.node(&address("three"))), None);
    }
}
