//! Before a cluster: sessions with a link of their own, to one node. What they ask of another one goes beside that link, or is
//! refused as Redis refuses it.

use std::rc::Rc;

use super::cluster::is_of_the_whole;
use super::dispatch::Request;
use super::input::Step;
use super::join::Join;
use super::pin::{OneShot, PinnedReply};
use super::scripted::not_for_subscribers;
use super::{Park, Session, State};
use crate::command::{self, Group, Route, Row, Slots};
use crate::resp::{Args, RequestScan, RequestScanner};
use crate::shared::Cluster;
use crate::state::Call;
use crate::upstream::{ASKING, Expect, Failure, Frame, Link, Moved, Redirect, Upstream};
use crate::worker::Worker;

/// As where the node itself says so.
const HAS_MOVED: &str = "TRYAGAIN the hash slot of the key has moved: repeat the transaction";
const CROSSSLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";

impl State {
    /// The node that the session's own link leads to, if keys decide which one it may be.
    pub(super) fn bound_to(&self) -> Option<u32> {
        let pin = self.pin.as_ref()?;
        (pin.in_multi || pin.watching).then_some(pin.link.set.upstream.remote.number)
    }
}

impl Session {
    /// A link of the session's own whose state has ended is given back: what comes next may be another node's.
    pub(super) fn end_pin(&self, worker: &Rc<Worker>, st: &mut State, row: &Row) -> Option<Step> {
        let pin = st.pin.as_ref()?;
        let may_end = pin.subscribing > 0 && !matches!(row.route, Route::Subscription | Route::Local(_));
        if !may_end && !pin.has_ended() || pin.link.pinned.streaming.get() {
            return None;
        }
        if st.is_waiting() {
            return Some(Step::Again(Park::Until(st.next_seq())));
        }
        if pin.has_ended() {
            self.give_back_pin(worker, st);
        }
        None
    }

    /// What concerns several nodes does not take a link of the session's own: meanwhile that has nothing under way.
    pub(super) fn beside_pin(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        cluster: &Cluster,
        request: Request<'_>,
        row: &'static Row,
    ) -> Option<Step> {
        let pin = st.pin.as_ref()?;
        let slots = row.slots(&request.args);
        if pin.in_multi
            || pin.link.pinned.streaming.get()
            || matches!(row.route, Route::State | Route::Multi | Route::Subscription)
        {
            return None;
        }
        if pin.refuses_other_commands(st.identity.resp3) {
            // Of keys in several slots the node would say something else first.
            return matches!(slots, Slots::Many(_)).then(|| {
                self.error_here(worker, st, &not_for_subscribers(row));
                Step::Next
            });
        }
        let division = Join::of(row, &request.args, slots);
        if division.is_none() && !is_of_the_whole(row) {
            return None;
        }
        if st.is_waiting() {
            return Some(Step::Again(Park::Until(st.next_seq())));
        }
        if let Some(division) = division {
            return Some(self.divide(worker, st, request, row, division));
        }
        let step = self.of_the_whole(worker, st, cluster, request, row)?;
        let waits = matches!(step, Step::Next) && st.is_waiting();
        Some(if waits { Step::Wait(Park::Until(st.next_seq())) } else { step })
    }

    /// A subscriber's other commands: those with keys go to their nodes, not over the link that subscribes.
    pub(super) fn beside_subscriptions(
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
        let here = pin.link.set.upstream.remote.number == st.lanes.links().upstream.remote.number;
        let takes_a_link =
            !matches!(row.route, Route::Cached | Route::CachedEach | Route::Shared | Route::Script);
        if here && takes_a_link || pin.tracks || pin.stays || pin.monitors {
            return None;
        }
        // What is under way there may end the subscriptions.
        if st.is_waiting() && pin.link.pending_len() > 0 {
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
    pub(super) fn steer_bound(
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
    pub(super) fn steer_multi(
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
    /// A command that had a link for itself, and that the node did not serve, goes to the one that serves its slot.
    pub fn one_shot_elsewhere(self: &Rc<Self>, worker: &Rc<Worker>, link: &Rc<Link>, seq: u64, moved: Moved) {
        let pause = self.state.borrow_mut().course().one_shot_pause(worker, seq, &moved.redirect);
        let Some(pause) = pause else {
            return self.pinned_reply(worker, link, seq, moved.expect.meaning, Frame::Owned(moved.last_word));
        };
        let (session, worker, from) = (self.clone(), worker.clone(), link.set.upstream.clone());
        let send = move || {
            if let Err(failure) = session.send_one_shot(&worker, &from, seq, moved) {
                session.fail(&worker, seq, failure);
            }
        };
        if pause.is_zero() {
            return send();
        }
        tokio::task::spawn_local(async move {
            tokio::time::sleep(pause).await;
            send();
        });
    }

    fn send_one_shot(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        from: &Rc<Upstream>,
        seq: u64,
        moved: Moved,
    ) -> Result<(), Failure> {
        let mut st = self.state.borrow_mut();
        if st.closed {
            return Ok(());
        }
        if let Some(mut pin) = st.pin.take() {
            (pin.one_shot, pin.watching) = (None, false);
            self.leave_pin(worker, *pin);
        }
        let whole = worker.links_of(&st.identity.user, st.identity.db);
        let links = match &moved.redirect {
            Redirect::Ask { to, .. } => worker.node_at(from, to).map(|node| node.set(&whole.user, whole.db)),
            _ => match command::slot_of_request(&moved.wire) {
                Some(slot) => whole.of_slot(worker, slot),
                None => Ok(whole),
            },
        };
        self.turn_to(&mut st, links?);
        self.pin(worker, &mut st, false)?;
        let Some(pin) = &mut st.pin else { return Ok(()) };
        pin.watching = matches!(moved.expect.meaning, PinnedReply::Watch { .. });
        pin.one_shot = (!pin.watching).then_some(OneShot::Blocking);
        if matches!(moved.redirect, Redirect::Ask { .. }) {
            pin.link.send(worker, ASKING, Expect::Nobody, Group::Other);
        }
        pin.link.send(
            worker,
            &moved.wire,
            Expect::Pinned(self.asker(seq), Box::new(moved.expect)),
            Group::Blocking,
        );
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
