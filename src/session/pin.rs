//! A session's own link: when it gets one, what state L2 keeps on it, and when that state has ended.

use std::rc::Rc;

use bytes::Bytes;

use super::dispatch::Request;
use super::input::Step;
use super::redirect::{Redirect, redirects};
use super::transaction::{Executed, Queued};
use super::{Park, Session, State, Waits};
use crate::cache::StripeSet;
use crate::command::{Asked, Effect, Group, Local, Route, Row};
use crate::upstream::{Element, Expect, Failure, Frames, Link, PinnedExpect, Subscribed, send_unasked};
use crate::worker::Worker;

/// A link of the session's own, and what is known of its state from the requests that were sent on it.
pub(super) struct Pin {
    pub(super) link: Rc<Link>,
    pub(super) in_multi: bool,
    pub(super) watching: bool,
    /// It was read from: entries of L1 may be older than what the session has seen.
    pub(super) read: bool,
    pub(super) tracks: bool,
    /// State that only RESET or the connection's end takes away.
    pub(super) stays: bool,
    pub(super) monitors: bool,
    /// Whom tracking tells of invalidations, if not this session.
    pub(super) redirect: Option<Redirect>,
    pub(super) one_shot: Option<OneShot>,
    /// Blocking commands under way beside another state.
    pub(super) blocking: usize,
    /// (Un)subscriptions that have not been confirmed.
    pub(super) subscribing: usize,
    pub(super) queued: Queued,
}

/// So much may wait for L2 to read it on a link that streams; a replica sends little.
const BEHIND_STREAM_BYTES_MAX: usize = 1 << 20;

/// Commands that take a link for themselves until they have answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OneShot {
    Fresh,
    Wait,
    Blocking,
}

/// What the session concludes from a reply on its own link.
pub enum PinnedReply {
    Plain,
    /// Whether nothing was watched before.
    Watch {
        first: bool,
        /// L2 kept nothing else for the session either.
        moves: bool,
    },
    Multi,
    /// The same where the client has its reply already.
    MultiAhead,
    /// EXEC, and what it was to execute.
    Exec(Box<Executed>),
    Discard,
    Subscription,
    Monitor,
    Tracking {
        on: bool,
    },
    LinkState {
        ends: bool,
    },
    /// REPLCONF, SYNC, PSYNC: the client acts as a replica.
    Replication {
        /// After anything but an error L2 sends no more frames but a stream of bytes.
        streams: bool,
    },
    OneShot,
    /// A blocking command of a session that has a state besides.
    Blocking,
    /// L2's id of a link is replaced by ours.
    Translated(Redirect),
    /// Our own commands are put into what L2 says of commands.
    Described(Box<Asked>),
    /// The reply is replaced: what was sent only made the transaction fail.
    Refused(Bytes),
}

impl Pin {
    pub(super) fn is_blocked(&self) -> bool {
        self.one_shot == Some(OneShot::Blocking) || self.blocking > 0
    }
    /// L2 answers nothing that comes from a replica: it takes note of what was received, or ends the connection.
    fn send_behind_stream(&self, worker: &Rc<Worker>, wire: &[u8]) -> Step {
        if self.link.buffered_bytes() > BEHIND_STREAM_BYTES_MAX {
            self.link.shutdown();
            return Step::Close;
        }
        self.link.send_unanswered(worker, wire);
        Step::Next
    }

    /// RESP2: a subscriber may send little else.
    pub(super) fn refuses_other_commands(&self, resp3: bool) -> bool {
        !resp3 && (self.link.pinned.subscriptions() > 0 || self.subscribing > 0)
    }

    pub(super) fn queued_len(&self) -> u32 {
        self.queued.len
    }

    /// Whether the client would miss something if the link were gone.
    pub(super) fn has_state(&self) -> bool {
        self.one_shot.is_none() && !self.has_ended()
    }

    /// Whether L2 keeps nothing for the session any more, once everything has been answered.
    pub(super) fn has_ended(&self) -> bool {
        !self.in_multi
            && !self.watching
            && !self.tracks
            && !self.stays
            && !self.monitors
            && self.one_shot.is_none()
            && self.subscribing == 0
            && self.link.pinned.subscriptions() == 0
    }
}

impl Session {
    /// Gives the session a link of its own, or says why not.
    pub(super) fn pin(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        fresh: bool,
    ) -> Result<(), Failure> {
        if st.pin.is_some() {
            return Ok(());
        }
        let resp3 = st.identity.resp3;
        let link = if fresh {
            st.lanes.links().fresh(worker, resp3)?
        } else {
            st.lanes.links().pinned(worker, resp3)?
        };
        link.pinned.set_owner(Some(self.clone()));
        if fresh {
            // Nothing stands before the command.
        } else if !st.identity.name.is_empty() {
            name_link(worker, &link, &st.identity.name);
            // The name is the session's; the next one must not inherit it.
            link.pinned.named.set(true);
        } else if link.pinned.named.replace(false) {
            name_link(worker, &link, b"");
        }
        st.pin = Some(Box::new(Pin {
            link,
            in_multi: false,
            watching: false,
            read: false,
            tracks: false,
            stays: false,
            monitors: false,
            redirect: None,
            one_shot: None,
            blocking: 0,
            subscribing: 0,
            queued: Queued::default(),
        }));
        Ok(())
    }

    /// A request that begins a state of its own. Everything before it must have been answered.
    pub(super) fn begin_pin(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &'static Row,
    ) -> Step {
        if !row.arity_fits(request.args.len())
            || (row.route == Route::LinkState && !begins_state(row, &request))
        {
            return self.shared(worker, st, request, row);
        }
        if redirects(row, &request) {
            return self.redirect(worker, st, request);
        }
        if st.is_waiting() {
            return Step::Again(Park::Until(st.next_seq()));
        }
        if let Err(failure) = self.pin(worker, st, false) {
            self.fail_here(worker, st, &failure);
            // Nothing that was meant for the transaction may be executed without it.
            return if row.route == Route::Multi { Step::Close } else { Step::Next };
        }
        self.pinned_request(worker, st, request, row)
    }

    pub(super) fn one_shot(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &'static Row,
        kind: OneShot,
    ) -> Step {
        if !row.arity_fits(request.args.len()) {
            return self.shared(worker, st, request, row);
        }
        let writes = self.stripes(worker, row, &request.args);
        let writes = if row.effect == Effect::Write { writes } else { StripeSet::None };
        self.one_shot_request(worker, st, request, kind, writes, row.group())
    }

    pub(super) fn one_shot_unknown(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
    ) -> Step {
        self.one_shot_request(worker, st, request, OneShot::Blocking, StripeSet::Unknown, Group::Blocking)
    }

    fn one_shot_request(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        kind: OneShot,
        writes: StripeSet,
        group: Group,
    ) -> Step {
        if st.is_waiting() {
            return Step::Again(Park::Until(st.next_seq()));
        }
        if let Err(failure) = self.pin(worker, st, kind == OneShot::Fresh) {
            self.fail_here(worker, st, &failure);
            return Step::Next;
        }
        let seq = st.take_place(Waits::Reply);
        let Some(pin) = &mut st.pin else { return Step::Next };
        pin.one_shot = Some(kind);
        let link = pin.link.clone();
        if kind == OneShot::Wait {
            // A round trip gives this connection the replication offset of the writes before it.
            link.send(worker, link.set.user.sign_of_life(), Expect::Nobody, Group::Other);
        } else {
            st.lanes.note_written(&link);
        }
        let expect = PinnedExpect {
            writes,
            wakes: kind == OneShot::Blocking,
            frames: Frames::One,
            meaning: PinnedReply::OneShot,
        };
        link.send(worker, request.wire, Expect::Pinned(self.asker(seq), Box::new(expect)), group);
        // Nothing is looked up behind it: its reply may tell of writes.
        Step::Wait(Park::Until(seq + 1))
    }

    // Requests of a session that has a link of its own.

    pub(super) fn pinned_request(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &'static Row,
    ) -> Step {
        // What else is owed on the link nobody waits for (its name).
        let waiting = st.is_waiting();
        let Some(pin) = &mut st.pin else { return Step::Again(Park::No) };
        if pin.link.pinned.streaming.get() {
            return pin.send_behind_stream(worker, request.wire);
        }
        let transaction = matches!(row.route, Route::Multi | Route::Watch);
        if pin.one_shot.is_some()
            || (waiting
                && pin.has_ended()
                && pin.link.pending_len() > 0
                && !transaction
                && row.route != Route::Subscription)
        {
            return Step::Again(Park::Until(st.next_seq()));
        }
        if row.route == Route::State {
            return self.scripted(worker, st, request, row);
        }
        if redirects(row, &request) {
            return self.redirect(worker, st, request);
        }
        if let Some(step) = self.as_subscriber(worker, st, row, &request) {
            return step;
        }
        let Some(pin) = &mut st.pin else { return Step::Again(Park::No) };
        if pin.link.pending_len() >= worker.link_in_flight_max() {
            pin.link.wait_for_room(self);
            return Step::Again(Park::Room);
        }
        if let Route::Local(local) = row.route {
            let subscriber =
                !st.identity.resp3 && (pin.link.pinned.subscriptions() > 0 || pin.subscribing > 0);
            let stays_here = matches!(local, Local::Quit | Local::Reset);
            let needs_link = matches!(local, Local::ClientTrackinginfo | Local::ClientGetredir);
            if pin.in_multi && !stays_here {
                return match self.queue_local(worker, st, request, row, local) {
                    Some(step) => step,
                    None => self.send_pinned(worker, st, request, row),
                };
            }
            if !stays_here && (subscriber || needs_link) {
                return self.send_pinned(worker, st, request, row);
            }
            if matches!(local, Local::Hello | Local::Auth | Local::Select) {
                return self.change_with_pin(worker, st, request, row, local);
            }
            return self.local(worker, st, request, row, local);
        }
        if pin.in_multi
            && matches!(row.route, Route::Info)
            && request.args.iter().skip(1).all(|s| s.eq_ignore_ascii_case(b"madcache"))
            && request.args.len() > 1
        {
            return self.refuse(worker, st, "ERR INFO madcache is not answered inside MULTI");
        }
        self.send_pinned(worker, st, request, row)
    }

    pub(super) fn pinned_unknown(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
    ) -> Step {
        let waiting = st.is_waiting();
        let Some(pin) = &mut st.pin else { return Step::Again(Park::No) };
        if pin.link.pinned.streaming.get() {
            return pin.send_behind_stream(worker, request.wire);
        }
        if pin.one_shot.is_some() || (waiting && pin.has_ended() && pin.link.pending_len() > 0) {
            return Step::Again(Park::Until(st.next_seq()));
        }
        if pin.in_multi {
            pin.queued.len += 1;
            pin.queued.unknown = true;
        }
        let expect = PinnedExpect::one(StripeSet::Unknown, PinnedReply::Plain);
        self.send_on_pin(worker, st, request.wire, expect, Group::Other)
    }

    pub(super) fn send_pinned(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &'static Row,
    ) -> Step {
        let args = &request.args;
        let effect = row.effect_of(args);
        let writes = match effect {
            Effect::None | Effect::Read => StripeSet::None,
            Effect::Write => self.stripes(worker, row, args),
            Effect::Unknown => StripeSet::Unknown,
        };
        let blocks = row.is_blocking(args);
        let fits = row.arity_fits(args.len());
        let Some(pin) = &mut st.pin else { return Step::Again(Park::No) };
        pin.read |= effect == Effect::Read;
        let mut frames = Frames::One;
        let mut all_writes = writes.clone();
        let meaning = match row.route {
            Route::Multi if fits && !pin.in_multi => {
                pin.in_multi = true;
                pin.queued = Queued::default();
                PinnedReply::Multi
            }
            // A rejected EXEC discards the transaction as well.
            Route::Exec if pin.in_multi => {
                let queued = std::mem::take(&mut pin.queued);
                pin.in_multi = false;
                pin.watching = false;
                frames = queued.frames();
                all_writes =
                    if queued.unknown { StripeSet::Unknown } else { StripeSet::from_slice(&queued.writes) };
                if !queued.changes.is_empty() {
                    pin.link.pinned.tainted.set(true);
                }
                let (changes, revokes, scripts) = (queued.changes, queued.revokes, queued.scripts);
                PinnedReply::Exec(Box::new(Executed { changes, revokes, scripts, in_transaction: true }))
            }
            Route::Discard if fits && pin.in_multi => {
                pin.in_multi = false;
                pin.watching = false;
                pin.queued = Queued::default();
                PinnedReply::Discard
            }
            Route::Watch if fits && !pin.in_multi => {
                let moves = pin.has_ended();
                PinnedReply::Watch { first: !std::mem::replace(&mut pin.watching, true), moves }
            }
            Route::Unwatch if fits && !pin.in_multi => {
                pin.watching = false;
                PinnedReply::Plain
            }
            _ if pin.in_multi => {
                if row.route == Route::Subscription && fits {
                    let (kind, names) = confirmations(row, args.len());
                    pin.queued.subscriptions.push((pin.queued.len, Element::Confirmations { kind, names }));
                }
                pin.queued.note(&writes, row.revokes_leases());
                if matches!(row.route, Route::Subscription | Route::Monitor | Route::LinkState) {
                    // What EXEC then does with the link cannot be told from here on.
                    pin.stays = true;
                }
                PinnedReply::Plain
            }
            Route::Subscription if fits => {
                pin.subscribing += 1;
                let (kind, names) = confirmations(row, args.len());
                frames = Frames::Confirmations { kind, names, parts: Vec::new(), got: 0 };
                PinnedReply::Subscription
            }
            Route::Monitor if row.name == "MONITOR" => {
                pin.monitors = true;
                PinnedReply::Monitor
            }
            Route::Monitor => PinnedReply::Replication { streams: row.name != "REPLCONF" },
            Route::LinkState if fits => pin.link_state(row, &request),
            Route::Local(Local::ClientGetredir | Local::ClientTrackinginfo) => {
                pin.redirect.map_or(PinnedReply::Plain, PinnedReply::Translated)
            }
            Route::CommandDocs => match Asked::of(row, args, st.identity.resp3) {
                Some(asked) => PinnedReply::Described(Box::new(asked)),
                None => PinnedReply::Plain,
            },
            _ if blocks => {
                pin.blocking += 1;
                PinnedReply::Blocking
            }
            _ => PinnedReply::Plain,
        };
        let expect = PinnedExpect { writes: all_writes, wakes: blocks, frames, meaning };
        self.send_on_pin(worker, st, request.wire, expect, row.group())
    }

    pub(super) fn send_on_pin(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        wire: &[u8],
        expect: PinnedExpect,
        group: Group,
    ) -> Step {
        let seq = st.take_place(Waits::Reply);
        let Some(pin) = &st.pin else { return Step::Next };
        st.lanes.note_written(&pin.link);
        worker.metrics.forwarded.add(1);
        // Which node it is that watches decides where everything behind it goes.
        let may_move =
            matches!(expect.meaning, PinnedReply::Watch { moves: true, .. }) && pin.link.is_of_a_cluster;
        pin.link.send(worker, wire, Expect::Pinned(self.asker(seq), Box::new(expect)), group);
        if may_move { Step::Wait(Park::Until(seq + 1)) } else { Step::Next }
    }
}

/// HELLO needs no right, as CLIENT SETNAME does.
fn name_link(worker: &Rc<Worker>, link: &Rc<Link>, name: &[u8]) {
    let version: &[u8] = if link.resp3 { b"3" } else { b"2" };
    send_unasked(worker, link, &[b"HELLO", version, b"SETNAME", name]);
}

/// Whether a link-state command of a session without a link begins a state; otherwise L2 answers it on any link.
fn begins_state(row: &Row, request: &Request<'_>) -> bool {
    let word = request.args.get(2).unwrap_or_default();
    match row.name {
        "CLIENT|TRACKING" => word.eq_ignore_ascii_case(b"on"),
        "CLIENT|CACHING" => false,
        "CLIENT|NO-TOUCH" => word.eq_ignore_ascii_case(b"on"),
        _ => true,
    }
}

/// What is confirmed, and how often; `None`: for each subscription that there is.
fn confirmations(row: &Row, argc: usize) -> (Subscribed, Option<usize>) {
    let (kind, joins) = match row.name {
        "SUBSCRIBE" => (Subscribed::Channel, true),
        "PSUBSCRIBE" => (Subscribed::Pattern, true),
        "SSUBSCRIBE" => (Subscribed::Shard, true),
        "PUNSUBSCRIBE" => (Subscribed::Pattern, false),
        "SUNSUBSCRIBE" => (Subscribed::Shard, false),
        _ => (Subscribed::Channel, false),
    };
    let names = (joins || argc > 1).then_some(argc - 1);
    (kind, names)
}
