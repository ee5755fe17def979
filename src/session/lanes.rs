//! Which links hold requests of a session that are under way, so that effects keep their order: a request that shares
//! a key with an earlier one, where either writes, takes the same link or waits for it.

use std::collections::VecDeque;
use std::rc::Rc;

use smallvec::{SmallVec, smallvec};

use crate::cache::{Stripe, StripeSet};
use crate::clock::Moment;
use crate::upstream::{Link, LinkSet, Purpose, Upstream};
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

/// The lanes to one server. One cache line of the processor: before a cluster it is another one with each request.
#[repr(align(64))]
pub(super) struct Way {
    /// In a cluster: the number of the node; 0 is any, `NOWHERE` none.
    node: u32,
    /// `Lanes::generation` as it was when the links were looked up.
    generation: u32,
    links: Rc<LinkSet>,
    pub(super) plain: Lane,
    pub(super) script: Lane,
    /// The link of `Written` that the session wrote on from here last, by its id.
    wrote_on: u64,
}

const NOWHERE: u32 = u32::MAX;
/// Of links of which is not known whose they are: they are looked up again.
const NO_GENERATION: u32 = 0;

impl Way {
    fn to(node: u32, links: Rc<LinkSet>) -> Way {
        Way {
            node,
            generation: NO_GENERATION,
            links,
            plain: Lane::default(),
            script: Lane::default(),
            wrote_on: 0,
        }
    }

    /// A request goes out on this link.
    pub(super) fn note(&mut self, link: &Rc<Link>, seq: u64) {
        let lane = if link.purpose == Purpose::Script { &mut self.script } else { &mut self.plain };
        lane.note(link, seq);
    }

    /// The number behind the session's last request here.
    fn until(&self) -> u64 {
        self.plain.until().max(self.script.until())
    }

    fn lanes(&self) -> [&Lane; 2] {
        [&self.plain, &self.script]
    }
}

/// Where a node's way is, unless another one was in use there when it was looked for last: requests that go to and fro find
/// theirs without a search, as long as the numbers of the masters differ modulo `PLACES`.
fn place_of(node: u32) -> usize {
    1 + node as usize % PLACES
}

const PLACES: usize = 8;

/// What decides which links a session has to a node.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct LinksOf {
    /// Of the topology.
    pub(super) version: u64,
    pub(super) user: u32,
    pub(super) db: u32,
}

pub(super) struct Lanes {
    /// The first one is to any node, or to the one Redis; see `place_of`.
    ways: SmallVec<[Way; 1]>,
    /// The one where requests go now.
    here: usize,
    /// Of what the links are. The generation goes up when this changes: ways of an older one have other links.
    links_of: LinksOf,
    generation: u32,
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
    /// The newest one to each server.
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

    /// Gives the link whose place it takes.
    fn note(&mut self, link: &Rc<Link>) -> Option<Rc<Link>> {
        if self.links.iter().any(|known| Rc::ptr_eq(known, link)) {
            return None;
        }
        let same = |known: &Rc<Link>| Rc::ptr_eq(&known.set.upstream, &link.set.upstream);
        let replaced = self.links.iter().position(same).map(|at| self.links.remove(at));
        self.lost |= replaced.as_ref().is_some_and(is_lost);
        self.links.push(link.clone());
        replaced
    }
}

impl Lanes {
    pub(super) fn new(links: Rc<LinkSet>) -> Lanes {
        Lanes {
            ways: smallvec![Way::to(0, links)],
            here: 0,
            links_of: LinksOf::default(),
            generation: NO_GENERATION + 1,
            writes: Keys::default(),
            aside: Keys::default(),
            passing: Keys::default(),
            aside_until: 0,
            written: Written::default(),
        }
    }

    /// The links to where requests go now.
    #[inline]
    pub(super) fn links(&self) -> &Rc<LinkSet> {
        &self.here().links
    }

    /// From here on requests take these links, of another user or to another database.
    pub(super) fn use_links(&mut self, links: Rc<LinkSet>) {
        self.here = 0;
        self.here_mut().links = links;
    }

    /// The lanes to where requests go now.
    #[inline]
    pub(super) fn here(&self) -> &Way {
        &self.ways[self.here]
    }
    #[inline]
    pub(super) fn here_mut(&mut self) -> &mut Way {
        &mut self.ways[self.here]
    }

    /// Those to other nodes of a cluster, some of them no longer in use.
    fn elsewhere(&self) -> impl Iterator<Item = &Way> {
        self.ways.iter().enumerate().filter(|(at, _)| *at != self.here).map(|(_, way)| way)
    }

    /// A request that may write goes there.
    #[inline]
    pub(super) fn note_written(&mut self, link: &Rc<Link>) {
        if self.here().wrote_on != link.id {
            self.note_written_anew(link);
        }
    }

    fn note_written_anew(&mut self, link: &Rc<Link>) {
        if let Some(replaced) = self.written.note(link) {
            self.forget_written(|id| id == replaced.id);
        }
        self.here_mut().wrote_on = link.id;
    }

    fn forget_written(&mut self, is_forgotten: impl Fn(u64) -> bool) {
        let ways = self.ways.iter_mut().filter(|way| is_forgotten(way.wrote_on));
        ways.for_each(|way| way.wrote_on = 0);
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
            self.forget_written(|_| true);
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
        let until = self.aside_until.max(self.here().plain.until()).max(self.until_elsewhere());
        (until > head).then_some(until)
    }
    pub(super) fn plain_waits_for(&self, head: u64) -> Option<u64> {
        let until = self.aside_until.max(self.here().script.until()).max(self.until_elsewhere());
        (until > head).then_some(until)
    }

    fn until_elsewhere(&self) -> u64 {
        self.elsewhere().map(Way::until).max().unwrap_or(0)
    }

    /// Whether a node of a cluster is about to give a reply that the session waits for, or to be asked for it.
    pub(super) fn is_more_near(&self, head: u64, now: Moment) -> bool {
        if self.ways.len() == 1 {
            return false;
        }
        let lanes = self.ways.iter().flat_map(Way::lanes);
        lanes.filter_map(|lane| lane.busy(head)).any(|link| link.is_held(now) || link.replies_near(now) > 0)
    }

    /// What the session waits for on several links is not to take several round trips. What is unwritten there may be others':
    /// that is not looked at.
    pub(super) fn press(&self, worker: &Worker, session: u64, head: u64) {
        if self.ways.len() == 1 {
            return;
        }
        let lanes = self.ways.iter().flat_map(Way::lanes);
        let busy: SmallVec<[_; 6]> = lanes.filter_map(|lane| lane.busy(head)).collect();
        if busy.len() > 1 || self.aside_until > head {
            busy.iter().for_each(|link| link.press(worker, session));
        }
    }

    /// Lets go of links to other nodes where nothing is under way.
    pub(super) fn forget_idle_ways(&mut self, head: u64) {
        for at in 1..self.ways.len() {
            if at != self.here && self.ways[at].until() <= head {
                self.ways[at] = Way::to(NOWHERE, self.ways[0].links.clone());
            }
        }
        while self.ways.len() > self.here + 1 && self.ways.last().is_some_and(|way| way.node == NOWHERE) {
            self.ways.pop();
        }
    }

    /// From here on requests go to this node of a cluster; 0 is any.
    pub(super) fn turn_to(&mut self, node: u32, links: Rc<LinkSet>, head: u64) {
        self.here = if node == 0 { 0 } else { self.way_to(node, &links, head) };
        let way = self.here_mut();
        (way.links, way.generation) = (links, NO_GENERATION);
    }

    /// The same where the links are known that the session has there.
    #[inline]
    pub(super) fn turn_to_known(&mut self, node: u32, links_of: LinksOf) -> bool {
        let at = place_of(node);
        let known = self.links_of == links_of
            && self.ways.get(at).is_some_and(|way| way.node == node && way.generation == self.generation);
        if known {
            self.here = at;
        }
        known
    }

    /// The links to where requests go now are of this.
    pub(super) fn know_links(&mut self, links_of: LinksOf) {
        if std::mem::replace(&mut self.links_of, links_of) != links_of {
            self.generation += 1;
        }
        self.here_mut().generation = self.generation;
    }

    fn way_to(&mut self, node: u32, links: &Rc<LinkSet>, head: u64) -> usize {
        let is_free = |way: &Way| way.until() <= head;
        let mut at = place_of(node);
        if let Some(known) = self.ways.iter().position(|way| way.node == node) {
            if known == at || !self.ways.get(at).is_some_and(is_free) {
                return known;
            }
            self.ways.swap(known, at);
            return at;
        }
        if !self.ways.get(at).is_none_or(is_free) {
            at = (1 + PLACES..self.ways.len()).find(|at| is_free(&self.ways[*at])).unwrap_or(self.ways.len());
            at = at.max(1 + PLACES);
        }
        while self.ways.len() <= at {
            self.ways.push(Way::to(NOWHERE, links.clone()));
        }
        self.ways[at] = Way::to(node, links.clone());
        at
    }

    /// Whether requests are under way on lanes to certain nodes.
    pub(super) fn is_elsewhere_than_anywhere(&self, head: u64) -> bool {
        self.aside_until > head || self.ways[1..].iter().any(|way| way.until() > head)
    }

    /// Whether requests that may go to any node are under way.
    #[inline]
    pub(super) fn waits_for_any_node(&self, head: u64) -> Option<u64> {
        Some(self.ways[0].until()).filter(|until| *until > head)
    }

    /// The session is over: lets go of links and memory.
    pub(super) fn rest(&mut self) {
        let written = std::mem::take(&mut self.written);
        *self = Lanes { written, ..Lanes::new(self.ways[0].links.clone()) };
    }
}
