//! What waits for the next reply of a cluster's nodes: requests for a node that has little to do meanwhile, since to wake it
//! costs more than to serve them, and replies of a session behind which more are about to come.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::Worker;
use crate::session::Session;
use crate::upstream::Link;

#[derive(Default)]
pub(super) struct Holds {
    /// Links that owed replies when they were last looked at.
    busy: RefCell<Vec<Rc<Link>>>,
    /// Who holds something.
    links: RefCell<Vec<Rc<Link>>>,
    sessions: RefCell<Vec<Rc<Session>>>,
    /// It will be looked at even if no reply comes.
    is_watched: Cell<bool>,
}

/// When they are looked at should no reply come at all.
const UNHEARD_MAX: Duration = Duration::from_millis(1);

impl Worker {
    /// This link may owe replies.
    pub fn link_is_busy(&self, link: Rc<Link>) {
        self.holds.busy.borrow_mut().push(link);
    }

    pub fn link_is_over(&self, link: &Rc<Link>) {
        self.holds.busy.borrow_mut().retain(|other| !Rc::ptr_eq(other, link));
    }

    /// How many replies near nodes are about to give. Each may bring requests for others.
    pub(super) fn replies_near(&self) -> usize {
        let now = self.now();
        let mut busy = self.holds.busy.borrow_mut();
        busy.retain(|link| link.renew_busy());
        busy.iter().map(|link| link.replies_near(now)).sum()
    }

    /// Looks at this link again at the next reply of a node.
    pub fn hold_link(self: &Rc<Self>, link: Rc<Link>) {
        self.holds.links.borrow_mut().push(link);
        self.watch_holds();
    }

    /// Looks at this session again should none of its replies come.
    pub fn hold_session(self: &Rc<Self>, session: Rc<Session>) {
        self.holds.sessions.borrow_mut().push(session);
        self.watch_holds();
    }

    fn watch_holds(self: &Rc<Self>) {
        if !self.holds.is_watched.replace(true) {
            let worker = self.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(UNHEARD_MAX).await;
                worker.holds.is_watched.set(false);
                worker.tick_clock();
                worker.look_at_held_links();
                let sessions = worker.holds.sessions.take();
                sessions.iter().for_each(|session| session.look_at_hold(&worker));
            });
        }
    }

    /// They decide anew at the end of this tick.
    pub fn look_at_held_links(&self) {
        self.holds.links.borrow_mut().drain(..).for_each(|link| link.look_at_hold(self));
    }
}
