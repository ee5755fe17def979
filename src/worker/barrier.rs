//! Barriers: nothing is told to a client that others' reads do not show yet. A round trip on every tracked link that
//! has entries, of all workers, proves that every push from before has been read. All who wait in one scheduler tick
//! share a round. A link that is silent is fenced instead of waited for.
//!
//! `early` begins a round with the script that will need it, so that its round trip runs beside the script's own.

mod early;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Worker;
use crate::clock::Moment;
use crate::command::Group;
use crate::shared::Mail;
use crate::upstream::{Asker, Expect, Failure, Frame, Link};
use early::Early;
pub use early::Told;

/// A link that has not answered by then is fenced.
const SILENCE_MAX: Duration = Duration::from_millis(20);

enum Waiter {
    Reply(Asker, Bytes),
    Failure(Asker, Failure),
    Wake(oneshot::Sender<()>),
}

struct Round {
    began: Moment,
    outstanding: usize,
    waiters: Vec<Waiter>,
}

#[derive(Default)]
pub(super) struct Barriers {
    /// Who waits for the round that begins at the end of this tick.
    wanted: RefCell<Vec<Waiter>>,
    rounds: RefCell<HashMap<u64, Round>>,
    next_round: Cell<u64>,
    /// Requests still out on behalf of (worker, round), and the earliest time that was told.
    answering: RefCell<HashMap<(u16, u64), (usize, Told)>>,
    watching: Cell<bool>,
    early: Early,
}

impl Barriers {
    pub(super) fn is_wanted(&self) -> bool {
        !self.wanted.borrow().is_empty()
    }
}

impl Worker {
    /// Hands the reply, which came over `link`, over once every session of this daemon sees what it tells of.
    pub fn hold_for_barrier(&self, link: &Link, asker: Asker, reply: Bytes) {
        if let Some(waiter) = self.barriers.early.join(link, Waiter::Reply(asker, reply)) {
            self.want(waiter);
        }
    }

    pub fn hold_failure_for_barrier(&self, asker: Asker, failure: Failure) {
        self.want(Waiter::Failure(asker, failure));
    }

    /// Waits until every session of this daemon sees all writes that were made before the call.
    pub async fn barrier(&self) {
        let (wake, woken) = oneshot::channel();
        self.want(Waiter::Wake(wake));
        // The round is never dropped without waking.
        let _ = woken.await;
    }

    fn want(&self, waiter: Waiter) {
        self.barriers.wanted.borrow_mut().push(waiter);
        self.wake_tick();
    }

    pub(super) fn start_barrier(self: &Rc<Self>) {
        let waiters = self.barriers.wanted.take();
        if waiters.is_empty() {
            return;
        }
        let round = self.next_round();
        let began = Moment::now();
        let mine = self.filled_links();
        let others = self.others_with_entries();
        let outstanding = mine.len() + others.len();
        if outstanding == 0 {
            return self.release(waiters);
        }
        self.metrics.barriers.add(1);
        self.barriers.rounds.borrow_mut().insert(round, Round { began, outstanding, waiters });
        for link in mine {
            link.send(self, link.set.user.sign_of_life(), Expect::Barrier(round), Group::Other);
        }
        for other in others {
            self.mail(other, Mail::Barrier { from: self.id, round, early: false });
        }
        self.watch_rounds();
    }

    /// Another server leads from now on: what one told of its time says nothing about the other.
    pub(super) fn restart_barriers(&self) {
        self.barriers.early.forget().into_iter().for_each(|waiter| self.want(waiter));
    }

    fn next_round(&self) -> u64 {
        self.barriers.next_round.replace(self.barriers.next_round.get() + 1)
    }

    fn others_with_entries(&self) -> Vec<u16> {
        self.shared.workers_with_entries().into_iter().filter(|&worker| worker != self.id).collect()
    }

    fn watch_rounds(self: &Rc<Self>) {
        if !self.barriers.watching.replace(true) {
            tokio::task::spawn_local(self.clone().fence_silent_links());
        }
    }

    /// A request has come back, or its link is gone and its entries with it.
    pub fn barrier_returned(self: &Rc<Self>, round: u64, told: Told) {
        if self.early_returned(round, told) {
            return;
        }
        let done = {
            let mut rounds = self.barriers.rounds.borrow_mut();
            let Some(waiting) = rounds.get_mut(&round) else { return };
            waiting.outstanding -= 1;
            if waiting.outstanding > 0 {
                return;
            }
            rounds.remove(&round)
        };
        self.release(done.map(|round| round.waiters).unwrap_or_default());
    }

    fn release(self: &Rc<Self>, waiters: Vec<Waiter>) {
        for waiter in waiters {
            match waiter {
                Waiter::Reply(asker, reply) => asker.session.answer(self, asker.seq, Frame::Owned(reply)),
                Waiter::Failure(asker, failure) => asker.session.fail(self, asker.seq, failure),
                // The one who waited may have gone.
                Waiter::Wake(wake) => drop(wake.send(())),
            }
        }
    }

    /// Another worker waits for this one's tracked links.
    pub(super) fn barrier_asked(self: &Rc<Self>, from: u16, round: u64, early: bool) {
        let links = self.filled_links();
        let told =
            if early && !links.iter().all(|link| link.tells_time()) { Told::NOTHING } else { Told::ALL };
        if links.is_empty() || told == Told::NOTHING {
            return self.mail(from, Mail::BarrierDone { round, told });
        }
        self.barriers.answering.borrow_mut().insert((from, round), (links.len(), Told::ALL));
        for link in links {
            let wire = if early { early::TIME } else { link.set.user.sign_of_life() };
            link.send(self, wire, Expect::BarrierFor { worker: from, round }, Group::Other);
        }
    }

    pub fn barrier_answered(&self, worker: u16, round: u64, told: Told) {
        let mut answering = self.barriers.answering.borrow_mut();
        let Some((left, earliest)) = answering.get_mut(&(worker, round)) else { return };
        *left -= 1;
        *earliest = told.min(*earliest);
        if *left == 0 {
            let told = *earliest;
            answering.remove(&(worker, round));
            drop(answering);
            self.mail(worker, Mail::BarrierDone { round, told });
        }
    }

    async fn fence_silent_links(self: Rc<Self>) {
        loop {
            tokio::time::sleep(SILENCE_MAX).await;
            let now = Moment::now();
            let mut late: Vec<(Moment, Vec<Waiter>)> = self.barriers.early.take_late(now);
            let is_late = |_: &u64, round: &mut Round| now.since(round.began) >= SILENCE_MAX;
            let rounds = self.barriers.rounds.borrow_mut().extract_if(is_late).collect::<Vec<_>>();
            late.extend(rounds.into_iter().map(|(_, round)| (round.began, round.waiters)));
            for (began, waiters) in late {
                for lease in self.shared.leases() {
                    if lease.has_filled() && lease.proof() < began {
                        lease.fence(now);
                        self.metrics.barrier_fences.add(1);
                    }
                }
                self.release(waiters);
            }
            if self.barriers.rounds.borrow().is_empty() && self.barriers.early.is_empty() {
                self.barriers.watching.set(false);
                return;
            }
        }
    }
}
