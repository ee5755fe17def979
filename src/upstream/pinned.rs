//! Links that belong to one session while L2 keeps state for it: transactions, subscriptions, blocking commands,
//! MONITOR, client-side tracking. Their frames stream through; messages and wake-ups wait for a barrier.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::executed::{Gathering, Header};
use super::link::Link;
use super::pending::Frame;
use super::pending::{Asker, Expect, Pending};
use super::redirects::{Redirect, last_word};
use super::replies;
use crate::cache::StripeSet;
use crate::resp::{self, ReplyScan, ReplyScanner};
use crate::session::{PinnedReply, Session};
use crate::worker::Worker;

/// What is expected of one request on a pinned link.
pub struct PinnedExpect {
    pub writes: StripeSet,
    /// A wake-up (a blocking command's reply): others' earlier writes must be seen before it is.
    pub wakes: bool,
    /// How many frames answer it.
    pub frames: Frames,
    /// What the session concludes from the reply.
    pub meaning: PinnedReply,
}

impl PinnedExpect {
    /// One frame, which wakes nobody.
    pub fn one(writes: StripeSet, meaning: PinnedReply) -> PinnedExpect {
        PinnedExpect { writes, wakes: false, frames: Frames::One, meaning }
    }
}

pub enum Frames {
    One,
    /// EXEC that (un)subscribes.
    Gathered(Gathering),
    /// SUBSCRIBE and kin: one confirmation per name; without names one for each subscription that there is.
    Confirmations {
        kind: Subscribed,
        names: Option<usize>,
        parts: Vec<u8>,
        got: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribed {
    Channel,
    Pattern,
    Shard,
}

/// State that only pinned links have.
#[derive(Default)]
pub struct PinnedState {
    owner: RefCell<Option<Rc<Session>>>,
    names: RefCell<[HashSet<Bytes>; 3]>,
    pub monitoring: Cell<bool>,
    /// L2 streams its data to the session, which acts as a replica: its bytes are no frames any more.
    pub streaming: Cell<bool>,
    /// It bears the name of a session.
    pub named: Cell<bool>,
    /// Its state did not provably end: it is never given to another session.
    pub tainted: Cell<bool>,
    room: Notify,
}

/// Output of a session above which its pinned link is not read.
const HOLD_BACK_BYTES: usize = 1 << 20;

impl PinnedState {
    pub fn set_owner(&self, owner: Option<Rc<Session>>) {
        *self.owner.borrow_mut() = owner;
        self.room.notify_one();
    }
    pub fn owner(&self) -> Option<Rc<Session>> {
        self.owner.borrow().clone()
    }
    pub fn subscriptions(&self) -> usize {
        self.names.borrow().iter().map(HashSet::len).sum()
    }
    /// Channels, patterns and shard channels, as CLIENT LIST counts them.
    pub fn subscription_counts(&self) -> [usize; 3] {
        let names = self.names.borrow();
        [names[0].len(), names[1].len(), names[2].len()]
    }

    /// Its replies take as long as they take: the session is blocked.
    pub fn is_patient(&self) -> bool {
        self.owner.borrow().as_ref().is_some_and(|s| s.is_blocked())
    }

    /// The owner reads slowly. Subscribers are not held back: they are closed at their own limit.
    pub fn must_hold_back(&self) -> bool {
        let owner = self.owner.borrow();
        owner.as_ref().is_some_and(|s| s.unread_bytes() > HOLD_BACK_BYTES) && self.subscriptions() == 0
    }
    /// Told by the session when its output has drained.
    pub fn owner_has_room(&self) {
        self.room.notify_one();
    }
    pub async fn room(&self, link: &Link) {
        while self.must_hold_back() && link.is_usable() {
            self.room.notified().await;
        }
    }
}

/// What a frame on a pinned link is.
enum Role {
    Reply,
    Confirmation,
    /// A message that must not be ahead of L1.
    Message,
    /// Another push or a MONITOR line.
    Push,
}

const CONFIRMATIONS: [(&[u8], Subscribed, bool); 6] = [
    (b"subscribe", Subscribed::Channel, true),
    (b"psubscribe", Subscribed::Pattern, true),
    (b"ssubscribe", Subscribed::Shard, true),
    (b"unsubscribe", Subscribed::Channel, false),
    (b"punsubscribe", Subscribed::Pattern, false),
    (b"sunsubscribe", Subscribed::Shard, false),
];

/// The text of the element at the start of `bytes`, and what follows it.
fn bulk_element(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let line_end = memchr::memchr(b'\n', bytes)? + 1;
    if bytes.first() != Some(&b'$') {
        return None;
    }
    let len: usize = std::str::from_utf8(bytes.get(1..line_end - 2)?).ok()?.parse().ok()?;
    Some((bytes.get(line_end..line_end + len)?, bytes.get(line_end + len + 2..)?))
}

/// The first two texts of an array or push.
fn head(frame: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let line_end = memchr::memchr(b'\n', frame)? + 1;
    let (first, rest) = bulk_element(&frame[line_end..])?;
    Some((first, bulk_element(rest).map(|(second, _)| second)))
}

const MESSAGES: [&[u8]; 3] = [b"message", b"pmessage", b"smessage"];

pub(super) fn is_message(frame: &[u8]) -> bool {
    matches!(frame.first(), Some(b'>' | b'*'))
        && head(frame).is_some_and(|(first, _)| MESSAGES.contains(&first))
}

pub(super) fn is_confirmation(frame: &[u8]) -> bool {
    let confirms = |first: &[u8]| CONFIRMATIONS.iter().any(|(name, ..)| *name == first);
    matches!(frame.first(), Some(b'>' | b'*')) && head(frame).is_some_and(|(first, _)| confirms(first))
}

/// A request on a link of its own that another node is to answer.
pub struct Moved {
    pub wire: Bytes,
    pub expect: PinnedExpect,
    pub redirect: Redirect,
    /// What the client is told where it cannot go on.
    pub last_word: Bytes,
}

/// A command that has a link for itself follows its slot, and so does the first WATCH. Of a transaction nothing was executed: the client repeats it.
fn not_served(
    asker: Asker,
    expect: PinnedExpect,
    redirect: Option<Redirect>,
    wire: Option<Bytes>,
    bytes: Bytes,
) -> Delivery {
    match (&expect.meaning, redirect, wire) {
        // What a node watches that is asked for this time only, it does not serve behind it.
        (PinnedReply::OneShot | PinnedReply::Watch { moves: true, .. }, Some(redirect), Some(wire))
            if !matches!((&expect.meaning, &redirect), (PinnedReply::Watch { .. }, Redirect::Ask { .. })) =>
        {
            let last_word = last_word(&bytes);
            Delivery::Elsewhere(asker, Box::new(Moved { wire, expect, redirect, last_word }))
        }
        (_, Some(Redirect::Later), _) | (_, None, _) => Delivery::Reply(asker, expect.meaning, bytes),
        (PinnedReply::Exec(_), ..) => {
            let text = b"-EXECABORT Transaction discarded because a hash slot has moved: repeat it\r\n";
            Delivery::Reply(asker, expect.meaning, Bytes::from_static(text))
        }
        _ => {
            let text = b"-TRYAGAIN the hash slot of the key has moved: repeat the transaction\r\n";
            Delivery::Reply(asker, expect.meaning, Bytes::from_static(text))
        }
    }
}

/// A frame on its way to the owner.
enum Delivery {
    Reply(Asker, PinnedReply, Bytes),
    Push(Bytes),
    /// A request that another node of the cluster is to answer.
    Elsewhere(Asker, Box<Moved>),
}

impl Link {
    /// Takes every whole frame out of `input`, invalidates, waits for a barrier where one is due, hands over.
    pub(super) async fn pinned_frames(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        input: &mut BytesMut,
        scanner: &mut ReplyScanner,
    ) -> Result<(), &'static str> {
        let mut deliveries = Vec::new();
        let mut barrier = false;
        // What came before bytes that nobody expected is handed over still: its request is no longer pending.
        let outcome = loop {
            match self.stream_on(worker, input, &mut deliveries) {
                Ok(false) => {}
                passed => break passed.map(drop),
            }
            match self.take_exec_header(input) {
                Header::Incomplete => break Ok(()),
                Header::Taken | Header::No => {}
            }
            match scanner.scan(input) {
                ReplyScan::Complete(frame) => {
                    let bytes = input.split_to(frame.len).freeze();
                    match self.pinned_frame(worker, bytes, frame.kind, &mut deliveries) {
                        Ok(due) => barrier |= due,
                        Err(reason) => break Err(reason),
                    }
                }
                ReplyScan::Incomplete => break Ok(()),
                ReplyScan::Malformed => break Err("bytes that are no reply"),
            }
        };
        if barrier && worker.caches() {
            worker.barrier().await;
        }
        for delivery in deliveries {
            match delivery {
                Delivery::Reply(asker, meaning, bytes) => {
                    asker.session.pinned_reply(worker, self, asker.seq, meaning, Frame::Owned(bytes));
                }
                Delivery::Elsewhere(asker, moved) => {
                    asker.session.one_shot_elsewhere(worker, self, asker.seq, *moved);
                }
                Delivery::Push(bytes) => {
                    if let Some(owner) = self.pinned.owner() {
                        owner.push(worker, bytes);
                    }
                }
            }
        }
        if self.pending_len() == 0
            && let Some(owner) = self.pinned.owner()
        {
            owner.pinned_idle(worker, self);
        }
        outcome
    }

    /// Of a stream everything that has come is handed over as it is. False where none has begun.
    fn stream_on(
        &self,
        worker: &Rc<Worker>,
        input: &mut BytesMut,
        to: &mut Vec<Delivery>,
    ) -> Result<bool, &'static str> {
        if self.pinned.streaming.get() {
            to.push(Delivery::Push(input.split().freeze()));
            return Ok(true);
        }
        let asked_for = |pending: &mut Pending| {
            let streams =
                |expect: &PinnedExpect| matches!(expect.meaning, PinnedReply::Replication { streams: true });
            matches!(&pending.expect, Expect::Pinned(_, expect) if streams(expect))
        };
        // `$` announces the data, an empty line says that it is being made; PSYNC has a line before that.
        let begins = matches!(input.first(), Some(b'$' | b'\n' | b'+'))
            && self.with_first_pending(asked_for) == Some(true);
        if begins && let Some(pending) = self.pop_pending() {
            self.pinned.streaming.set(true);
            self.answered(worker, pending, input.split().freeze(), to)?;
        }
        Ok(begins)
    }

    /// Whether a barrier is due before this frame is handed over.
    fn pinned_frame(
        &self,
        worker: &Rc<Worker>,
        bytes: Bytes,
        kind: u8,
        to: &mut Vec<Delivery>,
    ) -> Result<bool, &'static str> {
        let bytes = match self.gather(bytes, kind) {
            Ok(None) => return Ok(false),
            Ok(Some((pending, whole))) => return self.answered(worker, pending, whole, to),
            Err(bytes) => bytes,
        };
        let wakes = worker.notify_barrier();
        match self.role(&bytes, kind) {
            Role::Message => {
                to.push(Delivery::Push(bytes));
                Ok(wakes)
            }
            Role::Push => {
                to.push(Delivery::Push(bytes));
                Ok(false)
            }
            Role::Confirmation => {
                self.note_confirmation(&bytes);
                if !self.confirm(&bytes, to) {
                    // L2 ended a subscription by itself (a shard channel that moved away).
                    to.push(Delivery::Push(bytes));
                }
                Ok(false)
            }
            Role::Reply => {
                let pending = self.pop_pending().ok_or("a reply that nobody asked for")?;
                self.answered(worker, pending, bytes, to)
            }
        }
    }

    /// Whether a barrier is due before this reply is handed over.
    fn answered(
        &self,
        worker: &Rc<Worker>,
        mut pending: Pending,
        bytes: Bytes,
        to: &mut Vec<Delivery>,
    ) -> Result<bool, &'static str> {
        worker.metrics.latency(pending.group, worker.now().nanos_since(pending.sent));
        let redirect = self.redirect(worker, &bytes);
        self.is_demoted(&bytes);
        let wire = redirect.as_ref().and_then(|_| self.take_kept(&mut pending));
        match pending.expect {
            Expect::Pinned(asker, expect) if redirect.is_some() => {
                worker.bump(&expect.writes);
                to.push(not_served(asker, *expect, redirect, wire, bytes));
                Ok(false)
            }
            Expect::Pinned(asker, expect) => {
                if matches!(expect.meaning, PinnedReply::Monitor) && !bytes.starts_with(b"-") {
                    self.begin_monitoring(worker);
                }
                worker.bump(&expect.writes);
                let is_nil =
                    bytes.starts_with(b"_") || bytes.starts_with(b"*-1") || bytes.starts_with(b"$-1");
                let unknown = expect.writes.is_unknown() && !bytes.starts_with(b"+QUEUED");
                to.push(Delivery::Reply(asker, expect.meaning, bytes));
                Ok(unknown || (expect.wakes && worker.notify_barrier() && !is_nil))
            }
            Expect::Nobody => Ok(false),
            Expect::Internal(to) => {
                // The one who asked may have gone.
                let _ = to.send(bytes);
                Ok(false)
            }
            _ => Err("a pinned link with a shared request"),
        }
    }

    fn role(&self, bytes: &[u8], kind: u8) -> Role {
        let subscribed = self.pinned.subscriptions() > 0;
        let awaits_confirmation = || {
            let awaits = |expect: &PinnedExpect| matches!(expect.frames, Frames::Confirmations { .. });
            self.with_first_pending(|p| matches!(&p.expect, Expect::Pinned(_, expect) if awaits(expect)))
                == Some(true)
        };
        match kind {
            b'>' | b'*' => {
                let Some((first, _)) = head(bytes) else {
                    return if kind == b'>' { Role::Push } else { Role::Reply };
                };
                let is_message = MESSAGES.contains(&first);
                let is_confirmation = CONFIRMATIONS.iter().any(|(name, ..)| *name == first);
                match kind {
                    b'>' if is_confirmation => Role::Confirmation,
                    b'>' if is_message => Role::Message,
                    b'>' => Role::Push,
                    // In RESP3 messages are pushes, and an array is a reply whatever it holds.
                    _ if subscribed && is_message && self.is_unasked() => Role::Message,
                    _ if is_confirmation && awaits_confirmation() => Role::Confirmation,
                    _ => Role::Reply,
                }
            }
            b'+' if self.pinned.monitoring.get() && bytes.get(1).is_some_and(u8::is_ascii_digit) => {
                Role::Push
            }
            _ => Role::Reply,
        }
    }

    /// From this reply on L2 sends what it executes; the first lines may follow in the same read.
    fn begin_monitoring(&self, worker: &Rc<Worker>) {
        if self.pinned.owner.borrow().is_some() && !self.pinned.monitoring.replace(true) {
            worker.shared.monitors.fetch_add(1, Relaxed);
        }
    }

    /// Whether an array may come here that answers no request: in RESP2, or where no reply is owed.
    fn is_unasked(&self) -> bool {
        let speaks_resp3 = self.pinned.owner.borrow().as_ref().is_some_and(|owner| owner.speaks_resp3());
        !speaks_resp3 || self.pending_len() == 0
    }

    pub(super) fn note_confirmation(&self, bytes: &[u8]) {
        let Some((first, name)) = head(bytes) else { return };
        let Some((_, kind, joined)) = CONFIRMATIONS.iter().find(|(word, ..)| *word == first) else { return };
        let names = &mut self.pinned.names.borrow_mut()[*kind as usize];
        match (name, joined) {
            (Some(name), true) => drop(names.insert(Bytes::copy_from_slice(name))),
            (Some(name), false) => drop(names.remove(name)),
            // An unsubscription from nothing names nothing.
            (None, _) => {}
        }
    }

    /// Adds a confirmation to the request that it answers; false if none waits for it.
    fn confirm(&self, bytes: &Bytes, to: &mut Vec<Delivery>) -> bool {
        let before = self.pinned.subscription_counts();
        let done = self.with_first_pending(|pending| {
            let Expect::Pinned(_, expect) = &mut pending.expect else { return None };
            let Frames::Confirmations { kind, names, parts, got } = &mut expect.frames else { return None };
            parts.extend_from_slice(bytes);
            *got += 1;
            // Without names: as many as there were when it was executed, at least one.
            Some(match names {
                Some(count) => *got >= *count,
                None => before[*kind as usize] == 0,
            })
        });
        match done.flatten() {
            None => return false,
            Some(false) => {}
            Some(true) => {
                if let Some(pending) = self.pop_pending()
                    && let Expect::Pinned(asker, expect) = pending.expect
                    && let Frames::Confirmations { parts, .. } = expect.frames
                {
                    to.push(Delivery::Reply(asker, expect.meaning, parts.into()));
                }
            }
        }
        true
    }

    /// The link is gone: a session that had state on it goes too.
    pub(super) fn pinned_ended(self: &Rc<Self>, worker: &Rc<Worker>) {
        if let Some(owner) = self.pinned.owner.take() {
            owner.pinned_lost(worker, self);
        }
    }

    /// Whether the EXEC reply says that the transaction is over.
    pub fn ends_transaction(frame: &[u8]) -> bool {
        matches!(frame.first(), Some(b'*' | b'_' | b'$')) || frame.starts_with(b"-EXECABORT")
    }
}

/// Sends a request of the daemon's own on a pinned link.
pub fn send_unasked(worker: &Rc<Worker>, link: &Rc<Link>, args: &[&[u8]]) {
    link.send(worker, &resp::encode_request(args), Expect::Nobody, crate::command::Group::Other);
}

/// A request on a pinned link whose link was lost.
pub(super) fn failed(worker: &Rc<Worker>, asker: Asker, expect: PinnedExpect, failure: super::Failure) {
    replies::invalidate(worker, &expect.writes);
    if let Frames::Confirmations { parts, .. } = expect.frames
        && !parts.is_empty()
    {
        asker.session.push(worker, parts.into());
    }
    if asker.session.is_gone() {
        expect.meaning.abandon();
    }
    asker.session.fail(worker, asker.seq, failure);
}
