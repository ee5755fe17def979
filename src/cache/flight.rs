//! Flights: reads under way that will fill an entry. One per request in the whole daemon; others follow it.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Place;

use super::{AsItIs, RequestId, Scope, Stamps};
use crate::clock::Moment;

/// A flight that is older takes no more followers and may not fill.
pub const AGE_MAX: Duration = Duration::from_millis(100);

/// Somebody who waits for a flight of another session: which worker, which session, which of its requests.
#[derive(Clone, Copy, Debug)]
pub struct Follower {
    pub worker: u16,
    pub session: u64,
    pub seq: u64,
}

pub struct Flight {
    hash: u64,
    scope: Scope,
    command: u16,
    wire: Box<[u8]>,
    tail_at: usize,
    key_hash: u64,
    stripe: u32,
    pub stamp: u32,
    began: Moment,
    /// A flight that was replaced by a newer one may not fill.
    may_fill: AtomicBool,
    /// `None` once it has landed.
    followers: Mutex<Option<Vec<Follower>>>,
}

impl Flight {
    fn new(id: &RequestId<'_>, stamp: u32, began: Moment) -> Flight {
        Flight {
            hash: id.hash,
            scope: id.scope,
            command: id.command,
            wire: id.wire.into(),
            tail_at: id.tail_at,
            key_hash: id.key_hash,
            stripe: id.stripe,
            stamp,
            began,
            may_fill: AtomicBool::new(true),
            followers: Mutex::new(Some(Vec::new())),
        }
    }

    /// One that nobody is to follow: it is on no list, and need not land.
    pub fn alone(id: &RequestId<'_>, stamps: &Stamps, now: Moment) -> Flight {
        Flight::new(id, stamps.claim(id.stripe), now)
    }

    /// Only while no write that this daemon knows of came after it began, and while it is young.
    fn may_be_followed(&self, id: &RequestId<'_>, stamp: u32, now: Moment) -> bool {
        self.is_for(id) && self.stamp == stamp && now.since(self.began) < AGE_MAX
    }

    pub fn id(&self) -> RequestId<'_> {
        RequestId {
            hash: self.hash,
            scope: self.scope,
            command: self.command,
            wire: &self.wire,
            tail_at: self.tail_at,
            key_hash: self.key_hash,
            stripe: self.stripe,
        }
    }

    pub fn may_fill(&self) -> bool {
        self.may_fill.load(SeqCst)
    }

    fn is_for(&self, id: &RequestId<'_>) -> bool {
        self.scope == id.scope
            && self.command == id.command
            && self.wire[self.tail_at..] == id.wire[id.tail_at..]
    }

    fn follow(&self, follower: Follower) -> bool {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        followers.as_mut().map(|list| list.push(follower)).is_some()
    }
}

/// What came of wanting to read.
pub enum Joined {
    /// This one reads; it must call `land`.
    Leads(Arc<Flight>),
    /// Another read is under way; its reply will be handed to the follower.
    Follows,
}

#[derive(Default)]
pub struct Flights {
    under_way: DashMap<u64, Arc<Flight>, AsItIs>,
}

impl Flights {
    /// Follows the read that is under way, or begins one. Stamps are read here, before anything is sent.
    pub fn join(&self, id: &RequestId<'_>, stamps: &Stamps, follower: Follower, now: Moment) -> Joined {
        match self.under_way.entry(id.hash) {
            Place::Occupied(mut place) => {
                let flight = place.get();
                if flight.may_be_followed(id, stamps.get(id.stripe), now) && flight.follow(follower) {
                    return Joined::Follows;
                }
                flight.may_fill.store(false, SeqCst);
                let flight = Arc::new(Flight::new(id, stamps.claim(id.stripe), now));
                place.insert(flight.clone());
                Joined::Leads(flight)
            }
            Place::Vacant(place) => {
                let flight = Arc::new(Flight::new(id, stamps.claim(id.stripe), now));
                place.insert(flight.clone());
                Joined::Leads(flight)
            }
        }
    }

    /// Begins a read as part of another one (an element of MGET), unless one is under way.
    pub fn lead(&self, id: &RequestId<'_>, stamps: &Stamps, now: Moment) -> Option<Arc<Flight>> {
        match self.under_way.entry(id.hash) {
            Place::Occupied(place) if now.since(place.get().began) < AGE_MAX => None,
            Place::Occupied(mut place) => {
                place.get().may_fill.store(false, SeqCst);
                let flight = Arc::new(Flight::new(id, stamps.claim(id.stripe), now));
                place.insert(flight.clone());
                Some(flight)
            }
            Place::Vacant(place) => {
                let flight = Arc::new(Flight::new(id, stamps.claim(id.stripe), now));
                place.insert(flight.clone());
                Some(flight)
            }
        }
    }

    /// A read passes by without filling: whoever reads it too and may not be followed loses its right to fill.
    pub fn follow_only(&self, id: &RequestId<'_>, stamps: &Stamps, follower: Follower, now: Moment) -> bool {
        let Some(flight) = self.under_way.get(&id.hash) else { return false };
        if flight.may_be_followed(id, stamps.get(id.stripe), now) && flight.follow(follower) {
            return true;
        }
        flight.may_fill.store(false, SeqCst);
        false
    }

    /// The read ended, one way or the other: who waits for it?
    pub fn land(&self, flight: &Arc<Flight>) -> Vec<Follower> {
        self.under_way.remove_if(&flight.hash, |_, current| Arc::ptr_eq(current, flight));
        let mut followers = flight.followers.lock().unwrap_or_else(PoisonError::into_inner);
        followers.take().unwrap_or_default()
    }
}
