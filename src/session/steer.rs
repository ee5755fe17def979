//! Before a cluster: which node's links a request takes. What concerns several nodes is divided (`join`); what one node
//! alone can answer of several slots is refused by that node, in Redis's words.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::dispatch::Request;
use super::displaced;
use super::input::Step;
use super::join::{Join, Part};
use super::lanes::LinksOf;
use super::{Park, Session, State};
use crate::clock::Moment;
use crate::command::{self, Local, Route, Row, Slots};
use crate::shared::{Cluster, Owner};
use crate::state::Call;
use crate::upstream::{Detour, Failure, Link, LinkSet, Redirect};
use crate::worker::Worker;

/// A session's way through a cluster.
#[derive(Default)]
pub(super) struct Course {
    /// The topology by which the requests were sent that are under way.
    pub(super) version: u64,
    /// Requests before this number are being sent to another node than the first one.
    pub(super) held_until: u64,
    pub(super) displaced: displaced::Queue,
    /// Requests that were divided and whose parts have not all been answered, in their order.
    pub(super) joins: VecDeque<Join>,
    /// What is left of the one that is being divided.
    pub(super) dividing: Option<VecDeque<Part>>,
    /// The way of the request that has a link for itself, by its number.
    one_shot: Option<(u64, Detour)>,
    /// MULTI was answered here: it is sent with the first request that says to which node.
    pub(super) multi: bool,
}

impl Course {
    /// After which pause a request goes on that a node did not serve. `None`: it was sent to and fro for long enough.
    pub(super) fn one_shot_pause(
        &mut self,
        worker: &Worker,
        seq: u64,
        redirect: &Redirect,
    ) -> Option<Duration> {
        if self.one_shot.as_ref().is_none_or(|(of, _)| *of != seq) {
            self.one_shot = Some((seq, Detour::new(Moment::now())));
        }
        self.one_shot.as_mut().and_then(|(_, detour)| detour.turn(worker, redirect.clone()))
    }
}

impl State {
    pub(super) fn course(&mut self) -> &mut Course {
        self.course.get_or_insert_default()
    }

    /// Whether a MULTI was answered that no node has seen.
    pub(super) fn multi_waits(&self) -> bool {
        self.course.as_ref().is_some_and(|course| course.multi)
    }
}

impl Session {
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
        request: &Request<'_>,
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
        if st.pin.is_some() {
            if let Some(step) = self.end_pin(worker, st, row) {
                return Some(step);
            }
            if let Some(step) = self.beside_pin(worker, st, cluster, *request, row) {
                return Some(step);
            }
        }
        if let Some(node) = st.bound_to() {
            return self.steer_bound(worker, st, cluster, *request, row, node);
        }
        let slots = match row.route {
            Route::Local(_) | Route::State | Route::Multi => Slots::None,
            _ => row.slots(&request.args),
        };
        // What has its keys in one slot concerns no other node.
        if let Slots::One(slot) = slots
            && st.pin.is_none()
        {
            let owner = worker.slots.as_ref()?.owner_of(slot);
            return match self.keeps_course(st, owner.version) {
                None => self.turn_to_node(worker, st, slot, owner),
                step => step,
            };
        }
        if let Some(step) = self.keeps_course(st, cluster.topology().version) {
            return Some(step);
        }
        if row.route == Route::Multi {
            return self.steer_multi(worker, st, *request);
        }
        if st.pin.is_none()
            && let Some(step) = self.of_the_whole(worker, st, cluster, *request, row)
        {
            return Some(step);
        }
        if st.pin.is_none()
            && let Some(division) = Join::of(row, &request.args, slots)
        {
            return Some(self.divide(worker, st, *request, row, division));
        }
        match slots {
            Slots::One(slot) | Slots::Many(slot) => self.turn_to_slot(worker, st, slot),
            Slots::None => self.turn_anywhere(worker, st, row),
        }
        .or_else(|| self.beside_subscriptions(worker, st, *request, row, slots))
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
    #[inline]
    fn keeps_course(&self, st: &mut State, version: u64) -> Option<Step> {
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

    /// From here on `st.lanes.links()` are those of the slot's node.
    pub(super) fn turn_to_slot(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        slot: u16,
    ) -> Option<Step> {
        let owner = worker.slots.as_ref()?.owner_of(slot);
        self.turn_to_node(worker, st, slot, owner)
    }

    fn turn_to_node(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        slot: u16,
        Owner { version, node }: Owner,
    ) -> Option<Step> {
        if let Some(until) = st.lanes.waits_for_any_node(st.head) {
            return Some(Step::Again(Park::Until(until)));
        }
        st.slot = Some(slot);
        let links_of = LinksOf { version, user: st.identity.user.id, db: st.identity.db };
        if st.lanes.turn_to_known(node, links_of) {
            return None;
        }
        match worker.links_of(&st.identity.user, st.identity.db).of_slot(worker, slot) {
            Ok(links) => {
                self.turn_to(st, links);
                st.lanes.know_links(links_of);
                None
            }
            Err(failure) => {
                self.fail_here(worker, st, &failure);
                Some(Step::Next)
            }
        }
    }

    /// The links for a request that has its place already.
    pub(super) fn links_for(
        &self,
        worker: &Rc<Worker>,
        st: &State,
        wire: &[u8],
    ) -> Result<Rc<LinkSet>, Failure> {
        if worker.shared.l2.cluster.is_none() {
            return Ok(st.lanes.links().clone());
        }
        let whole = worker.links_of(&st.identity.user, st.identity.db);
        match command::slot_of_request(wire) {
            Some(slot) => whole.of_slot(worker, slot),
            None => Ok(whole),
        }
    }

    pub(super) fn turn_to(&self, st: &mut State, links: Rc<LinkSet>) {
        let number = if links.upstream.is_whole() { 0 } else { links.upstream.remote.number };
        st.lanes.turn_to(number, links, st.head);
    }

    /// What names no key goes to some node, behind everything that is under way elsewhere: a message must not be ahead of
    /// the write that it tells of.
    fn turn_anywhere(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, row: &Row) -> Option<Step> {
        let waits = !matches!(row.route, Route::Local(_) | Route::State);
        if waits && st.is_waiting() && st.lanes.is_elsewhere_than_anywhere(st.head) {
            return Some(Step::Again(Park::Until(st.next_seq())));
        }
        st.slot = None;
        self.turn_to(st, worker.links_of(&st.identity.user, st.identity.db));
        None
    }

    /// A command of shared state whose script has these keys.
    pub(super) fn turn_to_script(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        call: &Call,
    ) -> Option<Step> {
        self.turn_to_slot(worker, st, call.slot()?)
    }
}
