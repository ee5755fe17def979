//! What waits for the next reply of a cluster's nodes: requests for a node that has little to do meanwhile, since to wake it
//! costs more than to serve them, and replies of a session that are followed by others'.

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
    /// Requests were written on this link.
    pub fn link_is_busy(&self, link: Rc<Link>) {
        self.holds.busy.borrow_mut().push(link);
    }

    /// Whether near nodes are about to give so many replies. Each may bring requests for others.
    pub fn replies_are_near(&self, wanted: usize) -> bool {
        let mut near = 0;
        let now = self.now();
        self.holds.busy.borrow_mut().retain(|link| {
            // Those behind the wanted ones are looked at another time.
            if near >= wanted {
                return true;
            }
            near += link.replies_near(now);
            link.stays_busy()
        });
        near >= wanted
    }

    /// Looks at this link again at the next reply of a node.
    pub fn hold_link(self: &Rc<Self>, link: Rc<Link>) {
        self.holds.links.borrow_mut().push(link);
        self.watch_holds();
    }

    /// The same of a session's replies.
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
                worker.look_at_holds();
            });
        }
    }

    /// They decide anew at the end of this tick.
    pub fn look_at_holds(&self) {
        let links = self.holds.links.take();
        links.iter().for_each(|link| link.look_at_hold(self));
        let mut sessions = self.holds.sessions.borrow_mut();
        if !sessions.is_empty() {
            self.tick.sessions.borrow_mut().append(&mut sessions);
            self.wake_tick();
        }
    }
}
