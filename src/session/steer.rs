//! Before a cluster: which node's links a request takes. What concerns several nodes is divided (`join`); what one node
//! alone can answer of several slots is refused by that node, in Redis's words.

use std::collections::VecDeque;
use std::rc::Rc;

use smallvec::SmallVec;

use super::dispatch::Request;
use super::input::Step;
use super::join::{Join, Part};
use super::scripted::not_for_subscribers;
use super::{Park, Session, State};
use crate::command::{self, Group, Local, Route, Row, Slots};
use crate::resp::{Args, RequestScan, RequestScanner};
use crate::shared::{Cluster, Topology};
use crate::state::Call;
use crate::upstream::{ASKING, Expect, Failure, Link, LinkSet, Moved, Redirect};
use crate::worker::Worker;

/// A session's way through a cluster.
#[derive(Default)]
pub(super) struct Course {
    /// The topology by which the requests were sent that are under way.
    version: u64,
    /// By the number of a node: the session's links there, as long as topology, user and database are these.
    links: SmallVec<[(u32, Rc<LinkSet>); 4]>,
    links_of: (u64, u32, u32),
    /// Requests before this number are being sent to another node than the first one.
    held_until: u64,
    /// Requests that were divided and whose parts have not all been answered, in their order.
    pub(super) joins: VecDeque<Join>,
    /// What is left of the one that is being divided.
    pub(super) dividing: Option<VecDeque<Part>>,
    /// MULTI was answered here: it is sent with the first request that says to which node.
    pub(super) multi: bool,
}

/// As where the node itself says so.
const HAS_MOVED: &str = "TRYAGAIN the hash slot of the key has moved: repeat the transaction";
const CROSSSLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";

impl State {
    pub(super) fn course(&mut self) -> &mut Course {
        self.course.get_or_insert_default()
    }

    /// Whether a MULTI was answered that no node has seen.
    pub(super) fn multi_waits(&self) -> bool {
        self.course.as_ref().is_some_and(|course| course.multi)
    }

    /// The node that the session's own link leads to, if keys decide which one it may be.
    fn bound_to(&self) -> Option<u32> {
        let pin = self.pin.as_ref()?;
        (pin.in_multi || pin.watching).then_some(pin.link.set.upstream.remote.number)
    }
}

impl Session {
    /// A request of this session goes to another node than the first one: others stay behind it.
    pub fn hold_back(&self) {
        let mut st = self.state.borrow_mut();
        let until = st.next_seq();
        st.course().held_until = until;
    }

    /// A request that may write was sent on this link after another node had not served it.
    pub fn wrote_on(&self, link: &Rc<Link>) {
        self.state.borrow_mut().lanes.note_written(link);
    }

    /// Turns to the node that is to answer; or answers. `None`: the request goes on as before one Redis.
    pub(super) fn steer(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        cluster: &Cluster,
        request: Request<'_>,
        row: &'static Row,
    ) -> Option<Step> {
        if st.multi_waits() {
            if matches!(row.route, Route::Local(Local::Quit | Local::Reset)) {
                st.course().multi = false;
                return None;
            }
            if row.route == Route::State {
                return None;
            }
            let slot = match row.slots(&request.args) {
                Slots::One(slot) | Slots::Many(slot) => Some(slot),
                Slots::None => None,
            };
            return Some(self.begin_multi(worker, st, slot));
        }
        if let Some(node) = st.bound_to() {
            return self.steer_bound(worker, st, cluster, request, row, node);
        }
        let topology = cluster.topology();
        if let Some(step) = self.keeps_course(st, &topology) {
            return Some(step);
        }
        let slots = match row.route {
            Route::Local(_) | Route::State => Slots::None,
            Route::Multi => return self.steer_multi(worker, st, request),
            _ => row.slots(&request.args),
        };
        // What has its keys in one slot concerns no other node.
        if let Slots::One(slot) = slots
            && st.pin.is_none()
        {
            return self.turn_to_slot_of(worker, st, &topology, slot);
        }
        if st.pin.is_none()
            && let Some(step) = self.of_the_whole(worker, st, cluster, request, row)
        {
            return Some(step);
        }
        if let Some(division) = Join::of(row, &request.args, slots) {
            return Some(self.divide(worker, st, request, row, division));
        }
        match slots {
            Slots::One(slot) | Slots::Many(slot) => self.turn_to_slot(worker, st, slot),
            Slots::None => self.turn_anywhere(worker, st, row),
        }
        .or_else(|| self.beside_subscriptions(worker, st, request, row, slots))
    }

    /// A command that the table does not have: most of them name their key first.
    pub(super) fn steer_unknown(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
    ) -> Option<Step> {
        if st.is_waiting() {
            return Some(Step::Again(Park::Until(st.next_seq())));
        }
        let key = request.args.get(1);
        if st.multi_waits() {
            return Some(self.begin_multi(worker, st, key.map(command::slot)));
        }
        if st.pin.is_some() {
            return None;
        }
        match key {
            Some(key) => self.turn_to_slot(worker, st, command::slot(key)),
            None => {
                self.turn_to(st, worker.links_of(&st.identity.user, st.identity.db));
                None
            }
        }
    }

    /// Requests that are under way were sent by another topology, or are on their way to another node: what is sent now
    /// could overtake them.
    fn keeps_course(&self, st: &mut State, topology: &Topology) -> Option<Step> {
        let version = topology.version;
        let (head, waiting, next) = (st.head, st.is_waiting(), st.next_seq());
        let course = st.course();
        if waiting && (course.version != version || course.held_until > head) && course.dividing.is_none() {
            return Some(Step::Again(Park::Until(next)));
        }
        if std::mem::replace(&mut course.version, version) != version {
            st.lanes.forget_idle_ways(head);
        }
        None
    }

    /// From here on `st.links` are those of the slot's node.
    pub(super) fn turn_to_slot(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        slot: u16,
    ) -> Option<Step> {
        let cluster = worker.shared.l2.cluster.as_ref()?;
        self.turn_to_slot_of(worker, st, &cluster.topology(), slot)
    }

    fn turn_to_slot_of(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        topology: &Topology,
        slot: u16,
    ) -> Option<Step> {
        if let Some(until) = st.lanes.waits_for_any_node(st.head) {
            return Some(Step::Again(Park::Until(until)));
        }
        match self.links_of_slot(worker, st, topology, slot) {
            Ok(links) => {
                self.turn_to(st, links);
                None
            }
            Err(failure) => {
                self.fail_here(worker, st, &failure);
                Some(Step::Next)
            }
        }
    }

    fn links_of_slot(
        &self,
        worker: &Rc<Worker>,
        st: &mut State,
        topology: &Topology,
        slot: u16,
    ) -> Result<Rc<LinkSet>, Failure> {
        let node = topology.owner(slot).map_or(0, |owner| owner.number);
        let key = (topology.version, st.identity.user.id, st.identity.db);
        let course = st.course();
        if course.links_of != key {
            course.links.clear();
            course.links_of = key;
        }
        if let Some((_, links)) = course.links.iter().find(|(number, _)| *number == node) {
            return Ok(links.clone());
        }
        let links = worker.links_of(&st.identity.user, st.identity.db).of_slot(worker, slot)?;
        st.course().links.push((links.upstream.remote.number, links.clone()));
        Ok(links)
    }

    /// The links for a request that has its place already.
    pub(super) fn links_for(
        &self,
        worker: &Rc<Worker>,
        st: &State,
        wire: &[u8],
    ) -> Result<Rc<LinkSet>, Failure> {
        if worker.shared.l2.cluster.is_none() {
            return Ok(st.links.clone());
        }
        let whole = worker.links_of(&st.identity.user, st.identity.db);
        match command::slot_of_request(wire) {
            Some(slot) => whole.of_slot(worker, slot),
            None => Ok(whole),
        }
    }

    pub(super) fn turn_to(&self, st: &mut State, links: Rc<LinkSet>) {
        if Rc::ptr_eq(&st.links, &links) && st.lanes.is_at(links.upstream.remote.number) {
            return;
        }
        let number = if links.upstream.is_whole() { 0 } else { links.upstream.remote.number };
        st.lanes.turn_to(number, st.head);
        st.links = links;
    }

    /// What names no key goes to some node, behind everything that is under way elsewhere: a message must not be ahead of
    /// the write that it tells of.
    fn turn_anywhere(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, row: &Row) -> Option<Step> {
        let waits = !matches!(row.route, Route::Local(_) | Route::State);
        if waits && st.is_waiting() && st.lanes.is_elsewhere_than_anywhere(st.head) {
            return Some(Step::Again(Park::Until(st.next_seq())));
        }
        self.turn_to(st, worker.links_of(&st.identity.user, st.identity.db));
        None
    }

    /// A subscriber's other commands: those with keys go to their nodes, not over the link that subscribes.
    fn beside_subscriptions(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &'static Row,
        slots: Slots,
    ) -> Option<Step> {
        let resp3 = st.identity.resp3;
        let pin = st.pin.as_ref()?;
        let (Slots::One(_) | Slots::Many(_)) = slots else { return None };
        if pin.one_shot.is_some() || pin.link.pinned.streaming.get() {
            return None;
        }
        let here = pin.link.set.upstream.remote.number == st.links.upstream.remote.number;
        if here || pin.tracks || pin.stays || pin.monitors {
            return None;
        }
        // What is under way may end the subscriptions.
        if st.is_waiting() {
            return Some(Step::Again(Park::Until(st.next_seq())));
        }
        if pin.has_ended() {
            self.give_back_pin(worker, st);
            return None;
        }
        if row.route == Route::Subscription {
            return Some(self.refuse(
                worker,
                st,
                "CROSSSLOT shard channels of one connection must be on one node of the cluster",
            ));
        }
        if pin.refuses_other_commands(resp3) {
            self.error_here(worker, st, &not_for_subscribers(row));
            return Some(Step::Next);
        }
        let takes_a_link =
            !matches!(row.route, Route::Cached | Route::CachedEach | Route::Shared | Route::Script);
        let waits = row.route != Route::BlockingIfAsked || row.is_blocking(&request.args);
        if takes_a_link && waits {
            return Some(self.refuse(
                worker,
                st,
                "ERR this connection subscribes at another node of the cluster: use another connection for this command",
            ));
        }
        Some(self.routed(worker, st, request, row))
    }

    /// A command of shared state whose script has these keys.
    pub(super) fn turn_to_script(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        call: &Call,
    ) -> Option<Step> {
        worker.shared.l2.cluster.as_ref()?;
        self.turn_to_slot(worker, st, call.slot()?)
    }

    // Transactions.

    /// The same in a transaction.
    pub(super) fn bind_to_script(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        call: &Call,
    ) -> Option<Step> {
        let cluster = worker.shared.l2.cluster.as_ref()?;
        let slot = call.slot();
        if st.multi_waits() {
            return Some(self.begin_multi(worker, st, slot));
        }
        let owner = cluster.topology().owner(slot?)?.number;
        let elsewhere = st.bound_to().is_some_and(|node| node != owner);
        elsewhere.then(|| self.refuse(worker, st, CROSSSLOT))
    }

    /// In a transaction, or while keys are watched, there is one node.
    fn steer_bound(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        cluster: &Cluster,
        request: Request<'_>,
        row: &'static Row,
        node: u32,
    ) -> Option<Step> {
        if matches!(row.route, Route::Local(_) | Route::State) {
            return None;
        }
        let (Slots::One(slot) | Slots::Many(slot)) = row.slots(&request.args) else { return None };
        let topology = cluster.topology();
        let elsewhere = topology.owner(slot).is_some_and(|owner| owner.number != node);
        // As that of the last request before the link of its own.
        let has_changed = st.course().version != topology.version;
        elsewhere.then(|| self.refuse(worker, st, if has_changed { HAS_MOVED } else { CROSSSLOT }))
    }

    /// MULTI: the first key behind it says to which node. Where none has come yet, it is answered here.
    fn steer_multi(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
    ) -> Option<Step> {
        if st.pin.is_some() || request.args.len() != 1 {
            return None;
        }
        match first_slot(request.rest, st) {
            Ahead::Slot(slot) => self.turn_to_slot(worker, st, slot),
            Ahead::Ends => {
                self.turn_to(st, worker.links_of(&st.identity.user, st.identity.db));
                None
            }
            Ahead::Nothing if st.is_waiting() => Some(Step::Again(Park::Until(st.next_seq()))),
            Ahead::Nothing => {
                st.course().multi = true;
                self.reply_here(worker, st, |out| crate::resp::simple(out, "OK"));
                Some(Step::Next)
            }
        }
    }

    /// The first request behind a MULTI that was answered here: now MULTI itself is sent, and the request looked at again.
    pub(super) fn begin_multi(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        slot: Option<u16>,
    ) -> Step {
        if st.is_waiting() {
            return Step::Again(Park::Until(st.next_seq()));
        }
        self.turn_to(st, worker.links_of(&st.identity.user, st.identity.db));
        // Nothing that was meant for the transaction may be executed without it.
        if slot.is_some_and(|slot| self.turn_to_slot(worker, st, slot).is_some()) {
            return Step::Close;
        }
        if let Err(failure) = self.pin(worker, st, false) {
            self.fail_here(worker, st, &failure);
            return Step::Close;
        }
        st.course().multi = false;
        self.send_multi_ahead(worker, st)
    }
}

impl Session {
    /// A command that had a link for itself is sent to the node that serves its slot now.
    pub fn one_shot_elsewhere(self: &Rc<Self>, worker: &Rc<Worker>, seq: u64, moved: Moved) {
        let sent = self.send_one_shot(worker, seq, moved);
        if let Err(failure) = sent {
            self.fail(worker, seq, failure);
        }
    }

    fn send_one_shot(self: &Rc<Self>, worker: &Rc<Worker>, seq: u64, moved: Moved) -> Result<(), Failure> {
        let mut st = self.state.borrow_mut();
        let Some(mut pin) = st.pin.take() else { return Ok(()) };
        let kind = pin.one_shot.take();
        let whole = worker.links_of(&st.identity.user, st.identity.db);
        let links = match &moved.redirect {
            Redirect::Ask { to, .. } => {
                let node = worker.node_at(&pin.link.set.upstream, to);
                node.map(|node| node.set(&whole.user, whole.db))
            }
            _ => match command::slot_of_request(&moved.wire) {
                Some(slot) => whole.of_slot(worker, slot),
                None => Ok(whole),
            },
        };
        self.leave_pin(worker, *pin);
        self.turn_to(&mut st, links?);
        self.pin(worker, &mut st, false)?;
        let Some(pin) = &mut st.pin else { return Ok(()) };
        pin.one_shot = kind;
        if matches!(moved.redirect, Redirect::Ask { .. }) {
            pin.link.send(worker, ASKING, Expect::Nobody, Group::Other);
        }
        pin.link.send(worker, &moved.wire, Expect::Pinned(self.asker(seq), moved.expect), Group::Blocking);
        Ok(())
    }
}

/// What lies in the buffer behind a MULTI.
enum Ahead {
    Slot(u16),
    /// EXEC, and no key before it.
    Ends,
    Nothing,
}

fn first_slot(rest: &[u8], st: &State) -> Ahead {
    let mut scanner = RequestScanner::default();
    let mut at = 0;
    loop {
        let RequestScan::Complete { len } = scanner.scan(&rest[at..], &st.limits) else {
            return Ahead::Nothing;
        };
        let args = Args::new(&rest[at..at + len], scanner.ranges());
        at += len;
        let Some(row) = command::lookup(&args) else { continue };
        match (row.route, row.slots(&args)) {
            (Route::Exec | Route::Discard, _) => return Ahead::Ends,
            (Route::State, _) => return Ahead::Nothing,
            (_, Slots::One(slot) | Slots::Many(slot)) => return Ahead::Slot(slot),
            _ => {}
        }
    }
}
