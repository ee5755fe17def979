//! What replies on a session's own link mean, and how the session lets go of it.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use super::dispatch::Request;
use super::input::Step;
use super::pin::{Pin, PinnedReply};
use super::scripted::{Scripted, not_for_subscribers};
use super::transaction::{Change, Executed};
use super::{Park, Session, State};
use crate::command::{Local, Route, Row};
use crate::resp;
use crate::upstream::{Frame, Link};
use crate::worker::Worker;

impl PinnedReply {
    /// Nobody will learn of the reply.
    pub fn abandon(self) {
        if let PinnedReply::Exec(executed) = self {
            Scripted::abandon(executed.scripts);
        }
    }
}

impl Session {
    /// In RESP2 a subscriber's MULTI and WATCH are refused, and begin nothing. Whether it is one, the replies that are owed may
    /// have to say first.
    pub(super) fn as_subscriber(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        row: &Row,
        request: &Request<'_>,
    ) -> Option<Step> {
        let pin = st.pin.as_ref()?;
        let begins = matches!(row.route, Route::Multi | Route::Watch) && row.arity_fits(request.args.len());
        let is_local =
            matches!(row.route, Route::Local(local) if !matches!(local, Local::Quit | Local::Reset));
        if st.identity.resp3 || pin.in_multi || !begins && !is_local {
            return None;
        }
        if pin.subscribing > 0 && st.is_waiting() {
            return Some(Step::Again(Park::Until(st.next_seq())));
        }
        if is_local || pin.link.pinned.subscriptions() == 0 {
            return None;
        }
        self.error_here(worker, st, &not_for_subscribers(row));
        Some(Step::Next)
    }

    /// A reply on the session's own link.
    pub fn pinned_reply(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        link: &Rc<Link>,
        seq: u64,
        meaning: PinnedReply,
        frame: Frame<'_>,
    ) {
        let mut instead = None;
        {
            let mut st = self.state.borrow_mut();
            let is_mine = st.pin.as_ref().is_some_and(|pin| Rc::ptr_eq(&pin.link, link));
            if st.closed || !is_mine {
                return meaning.abandon();
            }
            let reply = frame.as_slice();
            let refused = reply.starts_with(b"-");
            let Some(pin) = &mut st.pin else { return };
            match meaning {
                PinnedReply::Plain => {}
                PinnedReply::Watch { first, .. } => pin.watching &= !(first && refused),
                PinnedReply::MultiAhead => {
                    if refused {
                        st.closing = true;
                        self.mark_dirty(worker);
                    }
                    return self.go_on(worker, &mut st);
                }
                PinnedReply::Multi if refused => pin.in_multi = false,
                PinnedReply::Multi => {}
                PinnedReply::Exec(executed) => {
                    if !Link::ends_transaction(reply) {
                        link.pinned.tainted.set(true);
                    }
                    let mut executed = *executed;
                    let scripts = std::mem::take(&mut executed.scripts);
                    if !scripts.is_empty() {
                        instead = Scripted::executed(scripts, reply, st.identity.resp3).map(Bytes::from);
                    }
                    self.executed(worker, &mut st, executed, reply);
                }
                PinnedReply::Discard => {
                    if refused {
                        link.pinned.tainted.set(true);
                    }
                }
                PinnedReply::Subscription => {
                    pin.subscribing = pin.subscribing.saturating_sub(1);
                    if matches!(reply.first(), Some(b'>' | b'*')) {
                        st.unmute(seq);
                    }
                }
                PinnedReply::Monitor if refused => pin.monitors = false,
                PinnedReply::Monitor => link.pinned.tainted.set(true),
                PinnedReply::Replication { .. } if refused => {}
                PinnedReply::Replication { .. } => {
                    link.pinned.tainted.set(true);
                    pin.stays = true;
                }
                PinnedReply::Tracking { .. } if refused => {}
                PinnedReply::Tracking { on } => {
                    link.pinned.tainted.set(true);
                    pin.tracks = on;
                }
                PinnedReply::LinkState { ends } => {
                    link.pinned.tainted.set(true);
                    if ends || refused {
                        pin.stays = false;
                    }
                }
                PinnedReply::OneShot => {
                    pin.one_shot = None;
                    st.be_patient();
                }
                PinnedReply::Blocking => pin.blocking = pin.blocking.saturating_sub(1),
                PinnedReply::Translated(redirect) => instead = Some(redirect.translate(reply).into()),
                PinnedReply::Described(asked) => {
                    let mut text = Vec::with_capacity(reply.len() + 1024);
                    asked.complete(reply, &mut text);
                    instead = Some(text.into());
                }
                PinnedReply::Refused(line) => instead = Some(line),
            }
        }
        let frame = instead.map_or(frame, Frame::Owned);
        self.answer(worker, seq, frame);
    }

    /// EXEC was answered: what its commands changed about the connection holds from here.
    fn executed(&self, worker: &Rc<Worker>, st: &mut State, executed: Executed, reply: &[u8]) {
        if executed.revokes {
            worker.shared.revoke_leases();
        }
        if executed.changes.is_empty() {
            return;
        }
        // Alone (not in a transaction) a command is answered by itself.
        let alone = [reply];
        let elements = match resp::array_elements(reply) {
            Some(elements) if executed.in_transaction => elements,
            _ if executed.in_transaction => return,
            _ => alone.to_vec(),
        };
        for (index, change) in executed.changes {
            let done =
                elements.get(index as usize).is_some_and(|e| !e.starts_with(b"-") && !e.starts_with(b"!"));
            if !done {
                continue;
            }
            match change {
                Change::Database(db) => {
                    worker.learn_database(db);
                    self.use_database(worker, st, db);
                }
                Change::User(credentials) => self.become_user(worker, st, &credentials),
                Change::Name(name) => st.identity.name = name,
                Change::Hello { resp3, name, user } => {
                    st.identity.resp3 = resp3;
                    if let Some(name) = name {
                        st.identity.name = name;
                    }
                    if let Some(user) = user {
                        self.become_user(worker, st, &user);
                    }
                }
            }
        }
    }

    /// Everything on the session's own link has been answered: does L2 still keep state for it?
    pub fn pinned_idle(self: &Rc<Self>, worker: &Rc<Worker>, link: &Rc<Link>) {
        let ended = {
            let mut st = self.state.borrow_mut();
            let over = st.pin.as_ref().is_some_and(|pin| Rc::ptr_eq(&pin.link, link) && pin.has_ended());
            if over {
                self.give_back_pin(worker, &mut st);
            }
            over
        };
        if ended {
            worker.resume(self.clone());
        }
    }

    /// L2 keeps nothing for the session any more.
    pub(super) fn give_back_pin(&self, worker: &Rc<Worker>, st: &mut State) {
        let Some(pin) = st.pin.take() else { return };
        if pin.read {
            st.passed_all = worker.now();
        }
        self.leave_pin(worker, *pin);
    }

    /// Gives the link back: for others if its state provably ended, otherwise it is closed.
    pub(super) fn leave_pin(&self, worker: &Rc<Worker>, pin: Pin) {
        if pin.link.pinned.monitoring.replace(false) {
            worker.shared.monitors.fetch_sub(1, Relaxed);
        }
        if !pin.has_ended() {
            pin.link.pinned.tainted.set(true);
        }
        pin.link.set.give_back(&pin.link);
    }

    /// The session's own link is gone, and with it the state that L2 kept: the client must see that.
    pub fn pinned_lost(self: &Rc<Self>, worker: &Rc<Worker>, link: &Rc<Link>) {
        let lost = {
            let mut st = self.state.borrow_mut();
            let is_mine = st.pin.as_ref().is_some_and(|pin| Rc::ptr_eq(&pin.link, link));
            if is_mine { st.pin.take() } else { None }
        };
        let Some(pin) = lost else { return };
        if pin.link.pinned.monitoring.replace(false) {
            worker.shared.monitors.fetch_sub(1, Relaxed);
        }
        let was_up = pin.link.was_up();
        let had_state = pin.has_state();
        // A transaction that never began: what the client sends for it must not be executed without it.
        if was_up && had_state || pin.in_multi {
            self.close_after_replies(worker);
        } else {
            worker.resume(self.clone());
        }
    }
}

impl Pin {
    /// CLIENT subcommands whose state L2 keeps on the link.
    pub(super) fn link_state(&mut self, row: &Row, request: &Request<'_>) -> PinnedReply {
        let word = request.args.get(2).unwrap_or_default();
        match row.name {
            "CLIENT|TRACKING" => PinnedReply::Tracking { on: word.eq_ignore_ascii_case(b"on") },
            "CLIENT|CACHING" => PinnedReply::Plain,
            "CLIENT|NO-TOUCH" => {
                let ends = word.eq_ignore_ascii_case(b"off");
                self.stays = true;
                PinnedReply::LinkState { ends }
            }
            _ => {
                self.stays = true;
                PinnedReply::LinkState { ends: false }
            }
        }
    }
}
