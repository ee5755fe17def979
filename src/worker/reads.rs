//! Cacheable reads: what L1 says to a request, and how one becomes a fill.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Worker;
use crate::cache::{
    Admission, Cache, Entry, Flight, Follower, Joined, Life, LifeLimits, RequestId, Scope, Stripe, key_of,
    life,
};
use crate::command::{Group, ROWS, Row, Shape};
use crate::resp;
use crate::shared::{Landing, Mail};
use crate::upstream::{Asker, Each, Expect, Fill, FillEach, Frame, LinkSet, User};

/// The read that stands behind every fill.
pub fn pttl(key: &[u8]) -> Vec<u8> {
    resp::encode_request(&[b"PTTL", key])
}

impl Worker {
    /// `wire` is the canonical request, `key_hash` the hash of its key.
    #[inline]
    pub fn request_id<'a>(
        &self,
        cache: &Cache,
        scope: Scope,
        row: &Row,
        wire: &'a [u8],
        tail_at: usize,
        key_hash: u64,
    ) -> RequestId<'a> {
        let whose = u64::from(scope.user) << 33 | u64::from(scope.db) << 1 | u64::from(scope.resp3);
        let salt = whose.wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ^ u64::from(row.index()).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        // With nothing but a key behind the name, the key's hash will do.
        let tail = if row.arity == 2 { key_hash } else { self.shared.hash(&wire[tail_at..]) };
        let hash = (tail ^ salt).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        RequestId {
            hash: hash ^ (hash >> 32),
            scope,
            command: row.index(),
            wire,
            tail_at,
            key_hash,
            stripe: cache.stamps.stripe(key_hash),
        }
    }

    /// See `Cache::prefetch`.
    #[inline]
    pub fn prefetch(&self, cache: &Cache, ids: &[RequestId<'_>]) {
        cache.prefetch(&self.front.borrow(), ids);
    }

    /// Hands the valid entry of this request to `show`, if there is one.
    #[inline]
    pub fn look_up<R>(&self, cache: &Cache, id: &RequestId<'_>, show: impl FnOnce(&Entry) -> R) -> Option<R> {
        let show = |entry: &Entry| self.show_hit(cache, entry, show);
        cache.lookup(&mut self.front.borrow_mut(), id, self.now(), self.freshness(), show)
    }

    /// The same where the request does not name its key.
    #[inline]
    pub fn look_up_derived<R>(
        &self,
        cache: &Cache,
        id: &RequestId<'_>,
        show: impl FnOnce(&Entry) -> R,
    ) -> Option<R> {
        let show = |entry: &Entry| self.show_hit(cache, entry, show);
        cache.find(&mut self.front.borrow_mut(), id, self.now(), self.freshness(), show)
    }

    #[inline]
    fn show_hit<R>(&self, cache: &Cache, entry: &Entry, show: impl FnOnce(&Entry) -> R) -> R {
        if !entry.was_hit() {
            entry.mark_hit();
            cache.sketch.fill_was_useful(entry.key_hash, self.now());
        }
        show(entry)
    }

    /// Whether a read that missed is worth an entry.
    pub fn admit(&self, cache: &Cache, id: &RequestId<'_>) -> Admission {
        self.admit_key(cache, id.key_hash, key_of(id))
    }

    pub fn admit_key(&self, cache: &Cache, key_hash: u64, key: &[u8]) -> Admission {
        let at_once = self.fills_at_first_read() && !cache.sketch.is_cooling(key_hash);
        if cache.sketch.admit(key_hash, self.now()) == Admission::Pass && !at_once {
            return Admission::Pass;
        }
        match self.live.borrow().rules.verdict(key).cache {
            true => Admission::Fill,
            false => Admission::Pass,
        }
    }

    /// Follows the same read if one is under way, or sends it over the tracked link and stores what comes back.
    /// False: there is no tracked link; the read must take a plain one.
    pub fn fill(
        self: &Rc<Self>,
        cache: &Cache,
        links: &Rc<LinkSet>,
        id: &RequestId<'_>,
        shape: Shape,
        asker: &Asker,
    ) -> bool {
        let Some(link) = links.tracked(self) else { return false };
        let Some(lease) = &link.lease else { return false };
        if link.pending_len() >= self.link_in_flight_max() {
            return false;
        }
        // Read before anything is sent: whatever moves them from here on refuses the fill.
        let incarnation = lease.incarnation();
        let follower = Follower { worker: self.id, session: asker.session.id, seq: asker.seq };
        match cache.flights.join(id, &cache.stamps, follower, self.now()) {
            Joined::Follows => {
                self.metrics.l1_followed.add(1);
                true
            }
            Joined::Leads(flight) => {
                lease.mark_filled();
                let fill =
                    Fill { asker: asker.clone(), flight, incarnation, shape, reply: Vec::new(), keep: false };
                link.send(self, id.wire, Expect::FillValue(Box::new(fill)), Group::Read);
                link.send(self, &pttl(key_of(id)), Expect::Nobody, Group::Other);
                true
            }
        }
    }

    /// MGET or EXISTS over the tracked link, with an entry for each key. `ids` are the elements' requests.
    pub fn fill_each(
        self: &Rc<Self>,
        cache: &Cache,
        links: &Rc<LinkSet>,
        of: Each,
        wire: &[u8],
        ids: &[RequestId<'_>],
        asker: &Asker,
    ) -> bool {
        let Some(link) = links.tracked(self) else { return false };
        let Some(lease) = &link.lease else { return false };
        if link.pending_len() + ids.len() >= self.link_in_flight_max() {
            return false;
        }
        let incarnation = lease.incarnation();
        let flights = ids.iter().map(|id| cache.flights.lead(id, &cache.stamps, self.now())).collect();
        lease.mark_filled();
        let each = FillEach {
            asker: asker.clone(),
            of,
            resp3: ids.first().is_some_and(|id| id.scope.resp3),
            wire: wire.into(),
            flights,
            incarnation,
            sent: self.now(),
            reply: None,
            ttls: Vec::with_capacity(ids.len()),
        };
        link.send(self, wire, Expect::FillEach(Box::new(each)), Group::Read);
        for id in ids {
            link.send(self, &pttl(key_of(id)), Expect::FillEachTtl, Group::Other);
        }
        true
    }

    /// How long this reply may live, by its key's rules and its PTTL in L2.
    pub fn life_of(&self, id: &RequestId<'_>, reply: &[u8], pttl_ms: i64) -> Option<Life> {
        self.life_of_key(key_of(id), id, reply, pttl_ms)
    }

    /// The same for a request that does not name its key.
    pub fn life_of_key(&self, key: &[u8], id: &RequestId<'_>, reply: &[u8], pttl_ms: i64) -> Option<Life> {
        let live = self.live.borrow();
        let cache = &live.config.cache;
        let verdict = live.rules.verdict(key);
        if !verdict.cache || reply.len() > self.reply_bytes_max() {
            return None;
        }
        let row = &ROWS[usize::from(id.command)];
        let mut ttl = verdict.ttl;
        if id.scope.user != User::OWN {
            ttl = ttl.min(Duration::from_secs(cache.foreign_ttl_seconds));
        }
        if row.name.starts_with('H') && self.shared.fields_expire.load(std::sync::atomic::Ordering::Relaxed) {
            ttl = ttl.min(Duration::from_secs(1));
        }
        let limits = LifeLimits {
            ttl,
            negative_ttl: verdict.negative_ttl.min(ttl),
            stale_ms_max: verdict.stale_for.as_millis().min(u128::from(u32::MAX)) as u32,
            jitter_percent: cache.jitter_percent,
        };
        life(row.name, reply, pttl_ms, &limits, self.random())
    }

    /// Stores an entry, if its flight may and its stamps still hold.
    pub fn store(&self, cache: &Cache, flight: &Flight, entry: Entry) {
        let key_hash = entry.key_hash;
        if flight.may_fill() && cache.fill(&mut self.front.borrow_mut(), entry, self.now()) {
            self.metrics.l1_fills.add(1);
        } else {
            self.metrics.l1_fills_refused.add(1);
            cache.sketch.fill_was_wasted(key_hash, self.now());
        }
    }

    /// A flight has ended: its followers get the reply, or read by themselves.
    pub fn land(self: &Rc<Self>, flight: &Arc<Flight>, reply: Option<&[u8]>) {
        let Some(cache) = &self.shared.cache else { return };
        let wire = flight.id().wire;
        for to in cache.flights.land(flight) {
            if to.worker == self.id {
                self.follower_reply(to, reply.map(Frame::Borrowed), wire);
                continue;
            }
            let landing = match reply {
                Some(reply) => {
                    Landing::Reply { reply: Bytes::copy_from_slice(reply), stripe: flight.id().stripe }
                }
                None => Landing::ReadAgain(Bytes::copy_from_slice(wire)),
            };
            self.mail(to.worker, Mail::Landed(to, landing));
        }
    }

    /// The reply came over another worker's link: it may be ahead of what this worker's links have told.
    pub(super) fn landed_elsewhere(self: &Rc<Self>, to: Follower, reply: Bytes, stripe: Stripe) {
        let Some(session) = self.session(to.session) else { return };
        if let Some(cache) = &self.shared.cache {
            session.passed_read(self, cache, stripe);
        }
        session.answer(self, to.seq, Frame::Owned(reply));
    }

    pub(super) fn follower_reply(self: &Rc<Self>, to: Follower, reply: Option<Frame<'_>>, wire: &[u8]) {
        let Some(session) = self.session(to.session) else { return };
        match reply {
            Some(reply) => session.answer(self, to.seq, reply),
            None => session.read_again(self, to.seq, wire),
        }
    }
}
