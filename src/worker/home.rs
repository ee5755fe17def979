//! Where the commands of a kind are executed: in a Redis, over links, or by an engine in this process.

use std::rc::Rc;
use std::sync::Arc;

use super::Worker;
use crate::config::Kind;
use crate::memory::Engine;
use crate::shared::Place;
use crate::shared::Remote;
use crate::upstream::LinkSet;

#[derive(Clone)]
pub enum Home {
    /// In each of these masters, of which a majority decides.
    Masters(Rc<[Rc<LinkSet>]>),
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
            Home::Masters(sets) => sets.first().map_or(0, |links| links.db),
            Home::Engine { db, .. } => *db,
        }
    }

    /// Whether keys of one script must share a slot; `None`: not known yet.
    pub fn tagged(&self) -> Option<bool> {
        match self {
            Home::Redis(links) => links.upstream.remote.slots().tagged(),
            // A master in cluster mode is none.
            Home::Masters(_) | Home::Engine { .. } => Some(false),
        }
    }
}

impl Worker {
    /// This Redis is led by another server from now on, or by none.
    pub fn leave(self: &Rc<Self>, remote: &Arc<Remote>) {
        for upstream in self.upstreams().iter().filter(|upstream| Arc::ptr_eq(&upstream.remote, remote)) {
            upstream.leave(self);
        }
        if remote.is_l2 {
            self.restart_barriers();
        }
    }

    /// Where commands of a kind run for a session with these links, in this database. A Redis of the kind's own knows
    /// neither: there it is the URL's user in the URL's database.
    pub fn home(&self, kind: Kind, links: &Rc<LinkSet>, db: u32) -> Home {
        let shared = &self.shared;
        let engine = match shared.places.of(kind) {
            Place::Own(at) => return Home::Redis(self.own[at].own_set()),
            Place::Masters => return Home::Masters(self.masters()),
            Place::Beside => &shared.beside,
            Place::Shared | Place::Nowhere => &shared.engine,
        };
        match engine {
            Some(engine) => Home::Engine { engine: engine.clone(), db },
            None if links.upstream.remote.is_node => Home::Redis(self.links_of(&links.user, links.db)),
            None => Home::Redis(links.clone()),
        }
    }
}
