//! The nodes of a cluster: this worker's links to each, found by slot.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use crate::clock::Moment;
use crate::config::Address;
use crate::shared::{Cluster, Remote};
use crate::upstream::{Failure, Link, Upstream};

#[derive(Default)]
pub(super) struct Nodes {
    /// By the number of the node; those of all clusters.
    by_number: RefCell<HashMap<u32, Node>>,
    /// By the number of the cluster: the node that takes what concerns no key.
    chosen: RefCell<HashMap<u32, Rc<Upstream>>>,
}

struct Node {
    upstream: Rc<Upstream>,
    whole: Rc<Upstream>,
    replaced_since: Cell<Option<Moment>>,
}

impl Node {
    fn is_replaced(&self) -> bool {
        let cluster = self.whole.remote.cluster.as_ref();
        let topology = cluster.map(|cluster| cluster.topology());
        topology.is_some_and(|topology| !topology.nodes.is_empty() && !topology.serves(&self.upstream.remote))
    }
}

impl Worker {
    /// What has links: every Redis, and every node of a cluster.
    pub fn upstreams(&self) -> Vec<Rc<Upstream>> {
        let nodes = self.nodes.by_number.borrow();
        let nodes = nodes.values().map(|node| &node.upstream);
        std::iter::once(&self.upstream).chain(&self.own).chain(nodes).cloned().collect()
    }

    /// Every tracked link of this worker that may have filled entries.
    pub fn filled_links(&self) -> Vec<Rc<Link>> {
        if !self.upstream.is_whole() {
            return self.upstream.filled_links();
        }
        let nodes = self.nodes.by_number.borrow();
        nodes.values().flat_map(|node| node.upstream.filled_links()).collect()
    }

    /// The links to one node of this cluster.
    pub fn node(&self, whole: &Rc<Upstream>, remote: &Arc<Remote>) -> Rc<Upstream> {
        let mut nodes = self.nodes.by_number.borrow_mut();
        let new = || Node {
            upstream: Rc::new(Upstream::new(remote.clone())),
            whole: whole.clone(),
            replaced_since: Cell::default(),
        };
        nodes.entry(remote.number).or_insert_with(new).upstream.clone()
    }

    /// The cluster that a node belongs to.
    pub fn whole_of(&self, node: &Upstream) -> Option<Rc<Upstream>> {
        let nodes = self.nodes.by_number.borrow();
        nodes.get(&node.remote.number).map(|node| node.whole.clone())
    }

    /// Another node of the same cluster.
    pub fn node_at(&self, node: &Upstream, address: &Address) -> Result<Rc<Upstream>, Failure> {
        let whole = self.whole_of(node).ok_or_else(|| not_known(&node.remote))?;
        let cluster = cluster_of(&whole)?;
        Ok(self.node(&whole, &cluster.node(address)))
    }

    /// Who serves this slot.
    #[inline]
    pub fn node_of(&self, whole: &Rc<Upstream>, slot: u16) -> Result<Rc<Upstream>, Failure> {
        let cluster = cluster_of(whole)?;
        let topology = cluster.topology();
        match topology.owner(slot) {
            Some(owner) => Ok(self.node(whole, owner)),
            None if topology.nodes.is_empty() => Err(not_known(&whole.remote)),
            None => Err(Failure::NotSent("no node of the cluster serves the key's hash slot".into())),
        }
    }

    /// A node that can be reached, always the same as long as it can be.
    pub fn any_node_of(&self, whole: &Rc<Upstream>) -> Result<Rc<Upstream>, Failure> {
        let cluster = cluster_of(whole)?;
        let topology = cluster.topology();
        let mut chosen = self.nodes.chosen.borrow_mut();
        if let Some(node) = chosen.get(&whole.remote.number)
            && !node.is_failing()
            && topology.serves(&node.remote)
        {
            return Ok(node.clone());
        }
        let mut failure = None;
        for at in 0..topology.nodes.len() {
            let remote = &topology.nodes[(at + usize::from(self.id)) % topology.nodes.len()];
            let node = self.node(whole, remote);
            match node.failure() {
                None => {
                    chosen.insert(whole.remote.number, node.clone());
                    return Ok(node);
                }
                Some(why) => failure = Some(why),
            }
        }
        Err(failure.unwrap_or_else(|| not_known(&whole.remote)))
    }

    /// Every master of the cluster.
    pub fn nodes_of(&self, whole: &Rc<Upstream>) -> Vec<Rc<Upstream>> {
        let Some(cluster) = &whole.remote.cluster else { return Vec::new() };
        cluster.topology().nodes.iter().map(|remote| self.node(whole, remote)).collect()
    }

    /// A node that was removed from its cluster hears nothing of it any more: what clients have there is over, so that they
    /// begin anew elsewhere. One that only serves nothing hears everything.
    pub(super) fn end_links_to_removed_nodes(&self) {
        let nodes = self.nodes.by_number.borrow();
        for node in nodes.values().filter(|node| node.upstream.remote.leader.lack().is_some()) {
            node.upstream.end_own_links();
        }
    }

    /// How long this node of a cluster has been seen to serve nothing, while others serve.
    pub(super) fn replaced_for(&self, upstream: &Upstream) -> Duration {
        let nodes = self.nodes.by_number.borrow();
        let Some(node) = nodes.get(&upstream.remote.number) else { return Duration::ZERO };
        let since = node.is_replaced().then(|| node.replaced_since.get().unwrap_or(self.now()));
        node.replaced_since.set(since);
        since.map_or(Duration::ZERO, |since| self.now().since(since))
    }

    /// Links to nodes that serve nothing any more are closed once they owe nothing.
    pub(super) fn leave_nodes(&self) {
        let nodes = self.nodes.by_number.borrow();
        for node in nodes.values().filter(|node| node.is_replaced()) {
            let links: Vec<Rc<Link>> = node.upstream.links.borrow().values().cloned().collect();
            for link in links.iter().filter(|link| link.pending_len() == 0 && link.pinned.owner().is_none()) {
                link.retire();
            }
        }
    }
}

fn cluster_of(whole: &Upstream) -> Result<&Cluster, Failure> {
    whole.remote.cluster.as_ref().ok_or_else(|| not_known(&whole.remote))
}

fn not_known(remote: &Remote) -> Failure {
    let reason = remote.leader.lack();
    Failure::NotSent(
        reason.map_or("the nodes of the cluster are not known yet".into(), |reason| (*reason).into()),
    )
}
