//! Which links hold requests of a session that are under way, so that effects keep their order: a request that shares
//! a key with an earlier one, where either writes, takes the same link or waits for it.

use std::collections::VecDeque;
use std::rc::Rc;

use smallvec::SmallVec;

use crate::cache::{Stripe, StripeSet};
use crate::clock::Moment;
use crate::upstream::{Link, Purpose, Upstream};
use crate::worker::Worker;

/// A link, and the number behind the session's last request on it.
#[derive(Default)]
pub(super) struct Lane {
    link: Option<Rc<Link>>,
    until: u64,
}

impl Lane {
    /// The link, as long as requests of this session are under way on it.
    pub(super) fn busy(&self, head: u64) -> Option<&Rc<Link>> {
        if self.until > head { self.link.as_ref() } else { None }
    }
    fn note(&mut self, link: &Rc<Link>, seq: u64) {
        if !self.link.as_ref().is_some_and(|l| Rc::ptr_eq(l, link)) {
            self.link = Some(link.clone());
        }
        self.until = seq + 1;
    }
    pub(super) fn until(&self) -> u64 {
        self.until
    }
}

/// More keys under way than this are not told apart.
const KEYS_MAX: usize = 64;

/// Keys of requests that are under way.
#[derive(Default)]
struct Keys {
    each: VecDeque<(u64, Stripe)>,
    /// All keys may be meant by a request before this number.
    whole_until: u64,
}

impl Keys {
    fn forget_answered(&mut self, head: u64) {
        while self.each.front().is_some_and(|(seq, _)| *seq < head) {
            self.each.pop_front();
        }
    }

    fn add(&mut self, head: u64, seq: u64, stripes: &[Stripe]) {
        self.forget_answered(head);
        if self.each.len() + stripes.len() > KEYS_MAX {
            self.whole_until = seq + 1;
        } else {
            self.each.extend(stripes.iter().map(|&stripe| (seq, stripe)));
        }
    }

    /// The number up to which requests must have been answered before one of this key may overtake.
    fn conflict(&self, head: u64, stripes: &[Stripe]) -> Option<u64> {
        if self.whole_until > head {
            return Some(self.whole_until);
        }
        let meets = |(seq, stripe): &&(u64, Stripe)| *seq >= head && stripes.contains(stripe);
        self.each.iter().rev().find(meets).map(|(seq, _)| seq + 1)
    }
}

/// The lanes to one server.
#[derive(Default)]
pub(super) struct Way {
    /// In a cluster: the number of the node; 0 is any.
    node: u32,
    pub(super) plain: Lane,
    pub(super) script: Lane,
}

impl Way {
    /// A request goes out on this link.
    pub(super) fn note(&mut self, link: &Rc<Link>, seq: u64) {
        let lane = if link.purpose == Purpose::Script { &mut self.script } else { &mut self.plain };
        lane.note(link, seq);
    }

    /// The number behind the session's last request here.
    fn until(&self) -> u64 {
        self.plain.until().max(self.script.until())
    }
}

#[derive(Default)]
pub(super) struct Lanes {
    /// Where requests go now.
    pub(super) here: Way,
    /// Before a cluster: the ways to other nodes, some of them no longer in use.
    elsewhere: Vec<Way>,
    /// Writes on the plain lane.
    writes: Keys,
    /// Reads on tracked links, of others' flights, and hits whose turn has not come.
    aside: Keys,
    /// Reads on the plain lane that L1 could have answered.
    passing: Keys,
    aside_until: u64,
    written: Written,
}

/// Where the session has written, for WAIT: replicas of another server know nothing of it.
#[derive(Default)]
struct Written {
    /// The newest one to each server; the newest of all is the last.
    links: SmallVec<[Rc<Link>; 1]>,
    /// An earlier link is gone.
    lost: bool,
}

/// Not by us, because nobody used it.
fn is_lost(link: &Rc<Link>) -> bool {
    !link.is_usable() && !link.is_retired()
}

impl Written {
    fn is_lost(&self) -> bool {
        self.lost || self.links.iter().any(is_lost)
    }
}

impl Lanes {
    /// A request that may write goes there.
    #[inline]
    pub(super) fn note_written(&mut self, link: &Rc<Link>) {
        let written = &mut self.written;
        if written.links.last().is_some_and(|last| Rc::ptr_eq(last, link)) {
            return;
        }
        let same = |known: &Rc<Link>| Rc::ptr_eq(&known.set.upstream, &link.set.upstream);
        if let Some(at) = written.links.iter().position(same) {
            written.lost |= is_lost(&written.links[at]);
            written.links.remove(at);
        }
        written.links.push(link.clone());
    }

    /// The servers that the session has written to.
    pub(super) fn written_to(&self) -> Vec<Rc<Upstream>> {
        self.written.links.iter().map(|link| link.set.upstream.clone()).collect()
    }

    /// Whether a link is gone that the session wrote on, since this was asked.
    pub(super) fn take_lost(&mut self) -> bool {
        let lost = self.written.is_lost();
        if lost {
            self.written = Written::default();
        }
        lost
    }

    pub(super) fn note_write(&mut self, head: u64, seq: u64, stripes: &StripeSet) {
        match stripes {
            StripeSet::Unknown => self.writes.whole_until = seq + 1,
            known => self.writes.add(head, seq, known.stripes()),
        }
    }

    pub(super) fn note_aside(&mut self, head: u64, seq: u64, stripes: &[Stripe]) {
        self.aside.add(head, seq, stripes);
        self.aside_until = seq + 1;
    }

    /// Reads on the plain lane that L1 could have answered.
    pub(super) fn note_passing(&mut self, head: u64, seq: u64, stripes: &[Stripe]) {
        self.passing.add(head, seq, stripes);
    }

    /// Whether an earlier read of this key is under way on the plain lane: a later one must not overtake it elsewhere.
    pub(super) fn meets_passing(&self, head: u64, stripes: &[Stripe]) -> bool {
        self.passing.conflict(head, stripes).is_some()
    }

    /// What a read that missed must wait for: an earlier read of the key that is under way aside, or a hit of it that
    /// may still be read anew. On another link the later one could be answered with the older value.
    pub(super) fn miss_waits_for(&self, head: u64, stripes: &[Stripe]) -> Option<u64> {
        self.aside.conflict(head, stripes)
    }

    /// Whether a read of this key must stay behind a write that is under way.
    #[inline]
    pub(super) fn read_meets_write(&self, head: u64, stripes: &[Stripe]) -> bool {
        (self.writes.whole_until > head || !self.writes.each.is_empty())
            && self.writes.conflict(head, stripes).is_some()
    }

    /// What a write must wait for: reads of its keys that are under way elsewhere.
    #[inline]
    pub(super) fn write_waits_for(&self, head: u64, stripes: &StripeSet) -> Option<u64> {
        if self.aside_until <= head {
            return None;
        }
        match stripes {
            StripeSet::Unknown => Some(self.aside_until),
            known => self.aside.conflict(head, known.stripes()),
        }
    }

    /// What a request of unknown keys must wait for that takes the script lane (or the plain one).
    pub(super) fn script_waits_for(&self, head: u64) -> Option<u64> {
        let until = self.aside_until.max(self.here.plain.until()).max(self.until_elsewhere());
        (until > head).then_some(until)
    }
    pub(super) fn plain_waits_for(&self, head: u64) -> Option<u64> {
        let until = self.aside_until.max(self.here.script.until()).max(self.until_elsewhere());
        (until > head).then_some(until)
    }

    fn until_elsewhere(&self) -> u64 {
        self.elsewhere.iter().map(Way::until).max().unwrap_or(0)
    }

    /// Whether another node of a cluster than the present one is about to answer.
    pub(super) fn is_near_elsewhere(&self, head: u64, now: Moment) -> bool {
        let lanes = self.elsewhere.iter().flat_map(|way| [&way.plain, &way.script]);
        lanes.filter_map(|lane| lane.busy(head)).any(|link| link.replies_near(now) > 0)
    }

    /// What the session waits for on several links goes out at once: one round trip is enough for it.
    pub(super) fn press(&self, worker: &Worker, head: u64) {
        if self.elsewhere.is_empty() {
            return;
        }
        let lanes = self.elsewhere.iter().chain([&self.here]).flat_map(|way| [&way.plain, &way.script]);
        let busy: SmallVec<[_; 6]> = lanes.filter_map(|lane| lane.busy(head)).collect();
        if busy.len() > 1 || self.aside_until > head {
            busy.iter().for_each(|link| link.press(worker));
        }
    }

    pub(super) fn is_at(&self, node: u32) -> bool {
        self.here.node == node
    }

    /// Lets go of links to other nodes where nothing is under way.
    pub(super) fn forget_idle_ways(&mut self, head: u64) {
        self.elsewhere.retain(|way| way.until() > head);
    }

    /// From here on requests go to this node of a cluster.
    pub(super) fn turn_to(&mut self, node: u32, head: u64) {
        if self.here.node == node {
            return;
        }
        let way = match self.elsewhere.iter_mut().position(|way| way.node == node) {
            Some(known) => &mut self.elsewhere[known],
            None => {
                self.forget_idle_ways(head);
                self.elsewhere.push(Way { node, ..Way::default() });
                let last = self.elsewhere.len() - 1;
                &mut self.elsewhere[last]
            }
        };
        std::mem::swap(&mut self.here, way);
    }

    /// Whether requests are under way on lanes to certain nodes.
    pub(super) fn is_elsewhere_than_anywhere(&self, head: u64) -> bool {
        let mut ways = self.elsewhere.iter().chain([&self.here]).filter(|way| way.node != 0);
        self.aside_until > head || ways.any(|way| way.until() > head)
    }

    /// Whether requests that may go to any node are under way.
    pub(super) fn waits_for_any_node(&self, head: u64) -> Option<u64> {
        let any = self.elsewhere.iter().chain([&self.here]).find(|way| way.node == 0);
        any.map(Way::until).filter(|until| *until > head)
    }

    /// Lets go of links and memory once nothing is under way.
    pub(super) fn rest(&mut self) {
        *self = Lanes { written: std::mem::take(&mut self.written), ..Lanes::default() };
    }
}
