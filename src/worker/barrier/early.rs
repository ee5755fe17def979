//! Barriers that begin with the script that will need them, so that a script costs one round trip and not two.
//!
//! Behind the scripts of a tick their link is sent TIME (the *mark*), and so is, after it, every tracked link that has
//! entries. L2 executes one command at a time: a tracked link that tells a later time than the mark was asked after the
//! scripts were executed, so their pushes came before its answer and have been read. One that tells no later time proves
//! nothing, and the scripts' replies wait for an ordinary round.
//!
//! This stands on L2's clock running forwards. A mark that is behind what the time told before and this machine's clock
//! allow is not believed (`Reference`).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::{SILENCE_MAX, Waiter, Worker};
use crate::clock::Moment;
use crate::command::Group;
use crate::resp;
use crate::shared::Mail;
use crate::upstream::{Expect, Link};

pub(super) const TIME: &[u8] = b"*1\r\n$4\r\nTIME\r\n";

/// What a link told: L2's time in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told(u64);

impl Told {
    /// Not a time.
    pub const NOTHING: Told = Told(0);
    /// A link that is gone with all its entries, or had none.
    pub const ALL: Told = Told(u64::MAX);

    pub fn parse(frame: &[u8]) -> Told {
        let number = |part: &&[u8]| std::str::from_utf8(resp::bulk_text(part)?).ok()?.parse::<u64>().ok();
        let parts = resp::array_elements(frame).unwrap_or_default();
        match (parts.first().and_then(number), parts.get(1).and_then(number), parts.len()) {
            (Some(seconds), Some(micros), 2) => {
                Told(seconds.saturating_mul(1_000_000).saturating_add(micros))
            }
            _ => Told::NOTHING,
        }
    }
}

/// An early round.
struct Begun {
    /// When the mark came back: from then on replies wait for the tracked links.
    marked: Option<(Told, Moment)>,
    /// The earliest time that a tracked link told.
    earliest: Told,
    outstanding: usize,
    waiters: Vec<Waiter>,
    /// `Shared::first_fills` before the links were chosen: one that filled for the first time since was not asked.
    first_fills: u64,
}

/// L2's time at one moment here, to see whether its clock was set back.
#[derive(Clone, Copy)]
struct Reference {
    told: Told,
    heard: Moment,
}

impl Reference {
    /// A later mark is not compared: clocks may differ by more than a step that would matter.
    const AGE_MAX: Duration = Duration::from_secs(10);
    const SLACK_US: u64 = 1_000;

    /// Whether a clock that runs forwards can have told this to a request that was sent at `sent`.
    fn allows(&self, told: Told, sent: Moment) -> bool {
        let passed = sent.since(self.heard);
        // Clocks that are being corrected run slower by less than one per cent.
        let least = self.told.0 + passed.as_micros() as u64 * 99 / 100;
        passed <= Self::AGE_MAX && told.0 + Self::SLACK_US >= least
    }
}

#[derive(Default)]
pub(super) struct Early {
    /// Links that were sent writes of unknown keys in this tick.
    links: RefCell<Vec<Rc<Link>>>,
    rounds: RefCell<HashMap<u64, Begun>>,
    reference: Cell<Option<Reference>>,
}

impl Early {
    /// A reply that came over `link` waits for the round that was begun for it. Gives it back where there is none.
    pub(super) fn join(&self, link: &Link, waiter: Waiter) -> Option<Waiter> {
        let mark = link.marks.borrow().front().copied();
        let mut rounds = self.rounds.borrow_mut();
        match mark.and_then(|round| rounds.get_mut(&round)) {
            Some(round) => {
                round.waiters.push(waiter);
                None
            }
            None => Some(waiter),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rounds.borrow().is_empty()
    }

    /// Another server leads from now on. Its clock is not compared with the old one's; gives those who waited for that.
    pub(super) fn forget(&self) -> Vec<Waiter> {
        self.reference.set(None);
        self.rounds.take().into_values().flat_map(|round| round.waiters).collect()
    }

    /// Rounds whose tracked links have been silent for too long since the mark came back, and since when.
    pub(super) fn take_late(&self, now: Moment) -> Vec<(Moment, Vec<Waiter>)> {
        let since = |round: &Begun| round.marked.map(|(_, at)| at);
        let is_late =
            |_: &u64, round: &mut Begun| since(round).is_some_and(|at| now.since(at) >= SILENCE_MAX);
        let late: Vec<_> = self.rounds.borrow_mut().extract_if(is_late).collect();
        late.into_iter().filter_map(|(_, round)| Some((since(&round)?, round.waiters))).collect()
    }

    /// Whether the mark's time can be true, going by the one before it.
    fn is_credible(&self, told: Told, sent: Moment) -> bool {
        if told == Told::NOTHING {
            return false;
        }
        let before = self.reference.replace(Some(Reference { told, heard: Moment::now() }));
        before.is_some_and(|before| before.allows(told, sent))
    }
}

impl Worker {
    /// A write of unknown keys was queued on this link.
    pub fn barrier_is_coming(&self, link: &Rc<Link>) {
        let mut links = self.barriers.early.links.borrow_mut();
        // The clocks of two nodes say nothing of each other.
        if self.caches() && !link.is_of_a_cluster && !links.iter().any(|known| Rc::ptr_eq(known, link)) {
            links.push(link.clone());
        }
    }

    /// Begins a round for each link that was sent such writes; at the tick's end, before anything is written.
    pub(in crate::worker) fn start_early_barriers(self: &Rc<Self>) {
        for link in self.barriers.early.links.take() {
            let first_fills = self.shared.first_fills.load(SeqCst);
            let mine = self.filled_links();
            if !link.tells_time() || !mine.iter().all(|link| link.tells_time()) {
                continue;
            }
            let others = self.others_with_entries();
            let outstanding = mine.len() + others.len();
            if outstanding == 0 {
                continue;
            }
            self.metrics.barriers.add(1);
            let round = self.next_round();
            let begun =
                Begun { marked: None, earliest: Told::ALL, outstanding, waiters: Vec::new(), first_fills };
            self.barriers.early.rounds.borrow_mut().insert(round, begun);
            link.send(self, TIME, Expect::Mark(round), Group::Other);
            link.marks.borrow_mut().push_back(round);
            for tracked in mine {
                tracked.send(self, TIME, Expect::Barrier(round), Group::Other);
            }
            for other in others {
                self.mail(other, Mail::Barrier { from: self.id, round, early: true });
            }
        }
    }

    /// Everything before the mark has been executed and answered.
    pub fn mark_returned(self: &Rc<Self>, link: &Link, round: u64, told: Told, sent: Moment) {
        link.marks.borrow_mut().pop_front();
        let told = if self.barriers.early.is_credible(told, sent) { told } else { Told::ALL };
        if let Some(begun) = self.barriers.early.rounds.borrow_mut().get_mut(&round) {
            begun.marked = Some((told, Moment::now()));
        }
        self.watch_rounds();
        self.conclude(round);
    }

    /// The mark's link is gone: its outcomes are unknown, and what was answered before waits for an ordinary round.
    pub fn mark_lost(self: &Rc<Self>, round: u64) {
        let begun = self.barriers.early.rounds.borrow_mut().remove(&round);
        begun.into_iter().flat_map(|begun| begun.waiters).for_each(|waiter| self.want(waiter));
    }

    /// Whether this was an early round.
    pub(super) fn early_returned(self: &Rc<Self>, round: u64, told: Told) -> bool {
        match self.barriers.early.rounds.borrow_mut().get_mut(&round) {
            Some(begun) => {
                begun.outstanding -= 1;
                begun.earliest = begun.earliest.min(told);
            }
            None => return false,
        }
        self.conclude(round);
        true
    }

    /// Ends a round once the mark and all tracked links have told their times.
    fn conclude(self: &Rc<Self>, round: u64) {
        let mut rounds = self.barriers.early.rounds.borrow_mut();
        let Some(Begun { marked: Some((mark, _)), earliest, outstanding: 0, first_fills, .. }) =
            rounds.get(&round)
        else {
            return;
        };
        let proven = mark < earliest && *first_fills == self.shared.first_fills.load(SeqCst);
        let waiters = rounds.remove(&round).map(|begun| begun.waiters).unwrap_or_default();
        drop(rounds);
        if proven {
            return self.release(waiters);
        }
        self.metrics.barriers_repeated.add(1);
        waiters.into_iter().for_each(|waiter| self.want(waiter));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_and_anything_else_is_none() {
        assert_eq!(Told::parse(b"*2\r\n$10\r\n1795227094\r\n$6\r\n000168\r\n"), Told(1_795_227_094_000_168));
        assert_eq!(Told::parse(b"+PONG\r\n"), Told::NOTHING);
        assert_eq!(Told::parse(b"-NOPERM this user has no permissions\r\n"), Told::NOTHING);
    }

    #[test]
    fn a_clock_that_was_set_back_is_noticed() {
        let second = 1_000_000_000;
        let before = Reference { told: Told(50_000_000), heard: Moment(3 * second) };
        let sent = Moment(5 * second);
        assert!(before.allows(Told(52_000_000), sent));
        assert!(before.allows(Told(51_990_000), sent), "clocks differ a little");
        assert!(!before.allows(Told(51_900_000), sent), "a tenth of a second less than passed here");
        assert!(before.allows(Told(50_000_100), Moment(3 * second)));
        assert!(!before.allows(Told(90_000_000), Moment(30 * second)), "too long ago to tell");
    }

    #[test]
    fn the_first_mark_of_another_server_is_not_believed() {
        let early = Early::default();
        let now = Moment::now();
        assert!(!early.is_credible(Told(50_000_000), now), "there is nothing to compare it with");
        assert!(early.is_credible(Told(60_000_000), now));
        assert!(early.forget().is_empty());
        assert!(!early.is_credible(Told(70_000_000), now), "it was compared with the old one's");
        assert!(early.is_credible(Told(80_000_000), now));
    }
}
