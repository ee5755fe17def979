//! A server that no longer leads is left: all links to it end, and nothing that they filled is shown any more. Nobody
//! connects to its successor before every worker has done so (`l2`), so no read of the old one comes after one of the new.

use std::rc::Rc;

use super::{Link, Upstream};
use crate::worker::Worker;

impl Upstream {
    pub(super) fn has(&self, link: &Link) -> bool {
        self.links.borrow().contains_key(&link.id)
    }

    /// Ends every link. What was sent has an unknown outcome, and reads that were to fill are sent again to whoever leads
    /// then.
    pub fn leave(&self, worker: &Rc<Worker>) {
        let links: Vec<Rc<Link>> = self.links.borrow().values().cloned().collect();
        // All of them at first: what is read again must not go to one that is about to end.
        let shared: Vec<_> = links.into_iter().filter(|link| !link.purpose.is_own()).collect();
        shared.iter().for_each(|link| link.begin_leaving());
        self.end_own_links();
        shared.iter().for_each(|link| link.end_left(worker));
    }

    /// Ends the links that sessions have of their own. A session that has a state there ends with it, once it has been told
    /// what came before.
    pub fn end_own_links(&self) {
        let links: Vec<Rc<Link>> = self.links.borrow().values().cloned().collect();
        for link in links.iter().filter(|link| link.purpose.is_own()) {
            link.set.forget(link);
            link.shutdown();
        }
    }
}

impl Link {
    /// A master of a service says in this reply that it is one no more: it is left, and its successor looked for.
    pub(super) fn is_demoted(&self, reply: &[u8]) -> bool {
        let remote = &self.set.upstream.remote;
        let demoted = reply.starts_with(b"-READONLY") && remote.is_elected();
        if demoted {
            remote.leader.doubt();
            self.shutdown();
        }
        demoted
    }
}
