//! Where the commands of a kind are executed: in a Redis, over links, or by an engine in this process.

use std::rc::Rc;

use crate::memory::Engine;
use crate::upstream::LinkSet;

#[derive(Clone)]
pub enum Home {
    /// As the user and in the database of these links.
    Redis(Rc<LinkSet>),
    Engine {
        engine: Engine,
        db: u32,
    },
}

impl Home {
    pub fn db(&self) -> u32 {
        match self {
            Home::Redis(links) => links.db,
            Home::Engine { db, .. } => *db,
        }
    }

    /// Whether keys of one script must share a slot; `None`: not known yet.
    pub fn tagged(&self) -> Option<bool> {
        match self {
            Home::Redis(links) => links.upstream.remote.slots().tagged(),
            Home::Engine { .. } => Some(false),
        }
    }
}
