//! Sessions that hold replies because other nodes of a cluster are about to answer what is behind them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::Worker;
use crate::session::Session;

#[derive(Default)]
pub(super) struct Holds {
    sessions: RefCell<Vec<Rc<Session>>>,
    is_watched: Cell<bool>,
}

/// When they are looked at should no reply come.
const UNHEARD_MAX: Duration = Duration::from_millis(1);

impl Worker {
    /// Looks at this session again should none of its replies come.
    pub fn hold_session(self: &Rc<Self>, session: Rc<Session>) {
        self.holds.sessions.borrow_mut().push(session);
        if !self.holds.is_watched.replace(true) {
            let worker = self.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(UNHEARD_MAX).await;
                worker.holds.is_watched.set(false);
                worker.tick_clock();
                let sessions = worker.holds.sessions.take();
                sessions.iter().for_each(|session| session.look_at_hold(&worker));
            });
        }
    }
}
