//! Requests on their way out: queued with what waits for their replies, written at the end of a scheduler's tick.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::kept::Kept;
use super::{Link, Phase, Purpose};
use crate::clock::Moment;
use crate::command::Group;
use crate::net::BIG_PIECE_BYTES;
use crate::upstream::pending::{Expect, Pending};
use crate::upstream::redirects::Detour;
use crate::worker::Worker;

/// When requests are held, so that more of them go out at once: a write, and what it wakes, cost L2 and the daemon more than
/// a small request does.
#[derive(Default)]
pub(super) struct Pace {
    /// Requests that were queued since the last write.
    unwritten: Cell<usize>,
    /// A reply has come since.
    heard: Cell<bool>,
    held: Cell<bool>,
    /// The worker looks at it again when another node answers.
    is_listed: Cell<bool>,
    /// Who waits for what is queued here and for other nodes at once.
    pressed: Cell<Pressed>,
    /// The worker knows that it owes replies.
    is_busy: Cell<bool>,
    /// The shortest round trip, slowly forgotten; in nanoseconds.
    shortest: Cell<u64>,
}

#[derive(Clone, Copy, Default)]
enum Pressed {
    #[default]
    ByNobody,
    /// This session alone.
    By(u64),
    BySeveral,
}

/// Nothing is held while fewer requests wait for their replies, from this server or from all near nodes of a cluster.
const IN_FLIGHT_MIN: usize = 8;
/// Nor where L2 is farther away: there it would be felt. Nor, because of other nodes, for longer than this.
const NEAR: Duration = Duration::from_micros(500);
/// Nor more than this.
const HELD_BYTES_MAX: usize = 16 * 1024;
/// A node whose oldest reply is due for longer is not about to answer.
const PROMPT: Duration = Duration::from_millis(2);
/// By this part the shortest round trip grows with each one.
const FORGOTTEN: u64 = 1 << 14;

impl Pace {
    pub(super) fn new() -> Pace {
        Pace { shortest: Cell::new(u64::MAX), ..Pace::default() }
    }

    #[inline]
    pub(super) fn note_round_trip(&self, took_ns: u64) {
        let known = self.shortest.get();
        self.shortest.set(known.saturating_add(known / FORGOTTEN + 1).min(took_ns));
    }

    fn is_near(&self) -> bool {
        u128::from(self.shortest.get()) < NEAR.as_nanos()
    }
}

impl Link {
    /// Queues one request; it is written at the end of the scheduler's tick.
    #[inline]
    pub fn send(self: &Rc<Self>, worker: &Rc<Worker>, wire: &[u8], expect: Expect, group: Group) {
        self.send_on(worker, wire, expect, group, None);
    }

    /// The same of a request that another node of the cluster did not serve.
    pub(in crate::upstream) fn send_on(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        wire: &[u8],
        expect: Expect,
        group: Group,
        detour: Option<Box<Detour>>,
    ) {
        self.close_batch(worker);
        let keeps = self.is_of_a_cluster && expect.may_go_elsewhere();
        let mut pending = self.owed(worker, expect, group);
        pending.detour = detour;
        let mut out = self.out.borrow_mut();
        if wire.len() >= BIG_PIECE_BYTES * 4 {
            let wire = Bytes::copy_from_slice(wire);
            if keeps {
                pending.kept = Kept::Whole(wire.clone().into());
            }
            out.push_bytes(wire);
        } else {
            if keeps {
                pending.kept = self.log.borrow_mut().keep(wire);
            }
            out.lend(&mut worker.pool.borrow_mut());
            out.push_slice(wire);
        }
        drop(out);
        self.note(worker, wire.len(), pending);
    }

    /// The same, encoded on the spot: of whatever then waits for the reply.
    pub fn send_with<W>(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        waits: W,
        encode: impl FnOnce(&W, &mut Vec<u8>),
        expect: impl FnOnce(W) -> Expect,
        group: Group,
    ) {
        self.close_batch(worker);
        let mut out = self.out.borrow_mut();
        out.lend(&mut worker.pool.borrow_mut());
        let before = out.len();
        out.push_with(|out| encode(&waits, out));
        let len = out.len() - before;
        drop(out);
        let pending = self.owed(worker, expect(waits), group);
        self.note(worker, len, pending);
    }

    /// The same where L2 gives no reply.
    pub fn send_unanswered(self: &Rc<Self>, worker: &Rc<Worker>, wire: &[u8]) {
        self.close_batch(worker);
        self.queue(worker, wire.len());
        self.out.borrow_mut().push_slice(wire);
    }

    /// What the link owes for a request that is about to be queued.
    pub(super) fn owed(&self, worker: &Worker, expect: Expect, group: Group) -> Pending {
        let (sent, starts_at) = (worker.now(), self.queued_bytes.get());
        Pending { expect, sent, starts_at, pushed: None, group, kept: Kept::Nothing, detour: None }
    }

    pub(super) fn note(self: &Rc<Self>, worker: &Rc<Worker>, len: usize, pending: Pending) {
        debug_assert!(self.is_usable(), "closed links take no requests");
        if pending.expect.waits_for_barrier() {
            worker.barrier_is_coming(self);
        }
        self.pending.borrow_mut().push_back(pending);
        self.queue(worker, len);
    }

    pub(super) fn queue(self: &Rc<Self>, worker: &Rc<Worker>, len: usize) {
        self.queued_bytes.set(self.queued_bytes.get() + len as u64);
        self.last_use.set(worker.now());
        self.pace.unwritten.set(self.pace.unwritten.get() + 1);
        // What is held is looked at again.
        if !self.dirty.replace(true) || self.pace.held.replace(false) {
            worker.link_is_dirty(self.clone());
        }
    }

    /// Holds what is queued, or not; `near` replies are on their way from nodes that are about to answer, this one's among them.
    /// Until the next reply of this link: on it nothing would be served before what was sent before; a node of a cluster gets a part
    /// of the requests only, and they are held as long as it has more to serve than there are of them. Or until the next reply of
    /// another node; but not what one client alone asks of several nodes at once, nor, where several clients do, three quarters of
    /// `near`.
    pub fn take_hold(self: &Rc<Self>, worker: &Rc<Worker>, near: usize) -> bool {
        let pace = &self.pace;
        let may_hold = matches!(self.purpose, Purpose::Plain | Purpose::Script)
            && self.phase.get() == Phase::Ready
            && pace.is_near()
            && self.buffered_bytes() < HELD_BYTES_MAX
            // Who began a barrier early counts on what was sent before it.
            && self.marks.borrow().is_empty();
        let (in_flight, unwritten) = (self.in_flight(), pace.unwritten.get());
        let own = in_flight >= IN_FLIGHT_MIN
            && (!pace.heard.get() || self.is_of_a_cluster && in_flight > unwritten);
        let is_little = || match pace.pressed.get() {
            Pressed::ByNobody => true,
            Pressed::By(_) => false,
            Pressed::BySeveral => unwritten * 4 < near * 3,
        };
        let others = || {
            self.is_of_a_cluster
                && near > 0
                && near + unwritten >= IN_FLIGHT_MIN
                && is_little()
                && self.queued_since().is_some_and(|moment| worker.now().since(moment) < NEAR)
        };
        let holds = may_hold && (own || others());
        pace.held.set(holds);
        if holds && !own && !pace.is_listed.replace(true) {
            worker.hold_link(self.clone());
        }
        holds
    }

    /// This session waits for what is queued here and for other nodes at once: whether it is held is decided anew.
    pub fn press(self: &Rc<Self>, worker: &Worker, session: u64) {
        if self.pace.unwritten.get() == 0 {
            return;
        }
        self.pace.pressed.set(match self.pace.pressed.get() {
            Pressed::ByNobody => Pressed::By(session),
            Pressed::By(other) if other == session => Pressed::By(session),
            _ => Pressed::BySeveral,
        });
        if self.pace.held.replace(false) {
            worker.link_is_dirty(self.clone());
        }
    }

    /// When the first of what is queued came; before a node of a cluster, where each request is of one command.
    pub fn queued_since(&self) -> Option<Moment> {
        self.pending.borrow().get(self.in_flight()).map(|first| first.sent)
    }

    /// What was written and not answered.
    fn in_flight(&self) -> usize {
        self.pending_len().saturating_sub(self.pace.unwritten.get())
    }

    /// Whether what is queued waits for a reply that is about to come.
    pub fn is_held(&self, now: Moment) -> bool {
        self.pace.held.get() && self.is_usable() && self.oldest_wait(now) < PROMPT
    }

    /// How many replies this link is about to bring, as far as one can know.
    pub fn replies_near(&self, now: Moment) -> usize {
        let is_prompt = self.pace.is_near() && self.oldest_wait(now) < PROMPT;
        if is_prompt { self.in_flight() } else { 0 }
    }

    /// Gives whether it stays listed as one that owes replies; if not, the next write lists it again.
    pub fn renew_busy(&self) -> bool {
        let stays = self.is_usable() && self.in_flight() > 0;
        self.pace.is_busy.set(stays);
        stays
    }

    /// Holds no more because of others, unless it is found right again.
    pub fn look_at_hold(self: &Rc<Self>, worker: &Worker) {
        self.pace.is_listed.set(false);
        if self.pace.held.replace(false) {
            worker.link_is_dirty(self.clone());
        }
    }

    /// A reply has come: what was held may go.
    pub(super) fn let_go(self: &Rc<Self>, worker: &Rc<Worker>) {
        self.pace.heard.set(true);
        if self.pace.held.replace(false) {
            worker.link_is_dirty(self.clone());
        }
        if self.is_of_a_cluster {
            worker.look_at_held_links();
        }
    }

    /// Writes what is queued; called once per tick.
    pub fn flush(self: &Rc<Self>, worker: &Rc<Worker>) {
        self.close_batch(worker);
        self.dirty.set(false);
        self.pace.unwritten.set(0);
        if self.is_of_a_cluster
            && !self.purpose.is_own()
            && self.is_usable()
            && !self.pace.is_busy.replace(true)
        {
            worker.link_is_busy(self.clone());
        }
        self.pace.heard.set(false);
        self.pace.held.set(false);
        self.pace.pressed.set(Pressed::ByNobody);
        if self.phase.get() != Phase::Ready || self.writing.get() {
            return;
        }
        match self.write_now(worker) {
            Ok(true) => {}
            Ok(false) => {
                self.writing.set(true);
                tokio::task::spawn_local(self.clone().write_rest(worker.clone()));
            }
            Err(_) => self.shutdown(),
        }
    }

    /// Whether everything went out.
    fn write_now(&self, worker: &Rc<Worker>) -> io::Result<bool> {
        let Some(stream) = self.stream.get() else { return Ok(true) };
        let mut out = self.out.borrow_mut();
        let written = out.write_to(stream, &mut worker.pool.borrow_mut())?;
        self.flushed_bytes.set(self.flushed_bytes.get() + written as u64);
        Ok(out.is_empty())
    }

    async fn write_rest(self: Rc<Self>, worker: Rc<Worker>) {
        let Some(stream) = self.stream.get() else { return };
        loop {
            if poll_fn(|cx| stream.poll_write_ready(cx)).await.is_err() {
                break self.shutdown();
            }
            match self.write_now(&worker) {
                Ok(true) => break,
                Ok(false) => {}
                Err(_) => break self.shutdown(),
            }
        }
        self.writing.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_held_before_a_redis_that_is_not_known_to_be_near() {
        let (pace, far_ns) = (Pace::new(), 4 * NEAR.as_nanos() as u64);
        assert!(!pace.is_near());
        pace.note_round_trip(far_ns);
        assert!(!pace.is_near());
        pace.note_round_trip(NEAR.as_nanos() as u64 / 2);
        assert!(pace.is_near());
        // One that has moved away is found out.
        (0..2 * FORGOTTEN).for_each(|_| pace.note_round_trip(far_ns));
        assert!(!pace.is_near());
    }
}
