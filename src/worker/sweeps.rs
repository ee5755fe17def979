//! Sweeps of presence: connections whose heartbeats stopped leave. Each daemon does it about each second, in the databases
//! where its own clients use presence; the scripts see to it that each leave is announced once.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use super::{Home, Worker};
use crate::config::Kind;
use crate::state::Naming;
use crate::state::presence::hints::Hint;
use crate::state::presence::sweep::{self, Due, Look};
use crate::upstream::Failure;

const PACE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Sweeps {
    databases: RefCell<HashSet<u32>>,
}

impl Worker {
    /// Presence is used in this database: it is swept from now on.
    pub fn presence_is_used(self: &Rc<Self>, db: u32) {
        if self.sweeps.databases.borrow_mut().insert(db) {
            tokio::task::spawn_local(self.clone().sweep(db));
        }
    }

    async fn sweep(self: Rc<Self>, db: u32) {
        loop {
            tokio::time::sleep(self.jitter(PACE)).await;
            let home = self.home(Kind::Presence, &self.links_of(self.own_user(), db), db);
            let Some(tagged) = home.tagged() else { continue };
            let naming = Naming { prefix: self.live().config.presence.prefix.clone().into_bytes(), tagged };
            // What fails now is done in the next round.
            while self.sweep_once(&home, &naming).await.unwrap_or(0) >= sweep::CHANNELS_MAX {}
        }
    }

    /// How many channels were due.
    async fn sweep_once(self: &Rc<Self>, home: &Home, naming: &Naming) -> Result<usize, Failure> {
        let frame = self.call(home, &sweep::due(naming)).await?;
        let due = Due::parse_all(&frame).unwrap_or_default();
        for due in &due {
            self.sweep_channel(home, naming, due).await?;
        }
        Ok(due.len())
    }

    async fn sweep_channel(self: &Rc<Self>, home: &Home, naming: &Naming, due: &Due) -> Result<(), Failure> {
        let mut expired = Vec::new();
        loop {
            let frame = self.call(home, &due.look(naming, &expired)).await?;
            let Ok(look) = Look::parse(&frame) else { return Ok(()) };
            let hints: Vec<Hint> = look.hints(&due.channel);
            for call in Hint::forget(naming, &hints, Duration::ZERO) {
                self.call(home, &call).await?;
            }
            expired = look.expired;
            if expired.is_empty() {
                self.call(home, &due.settle(naming, look.next_ms)).await?;
                return Ok(());
            }
        }
    }
}
