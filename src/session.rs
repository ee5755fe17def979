//! One client connection: reads requests, routes each, and hands replies over in the order of the requests, whatever
//! answered them. Everything here runs on the session's worker and never waits: what takes time comes back as a call.

mod apart;
mod away;
mod bound;
mod client_list;
mod clients;
mod cluster;
mod dispatch;
mod displaced;
mod embedded;
mod hello;
mod input;
mod join;
mod kept;
mod lanes;
mod local;
mod locks;
mod one_script;
mod output;
mod pin;
mod pinned;
mod plans;
mod presence;
mod reads;
mod redirect;
mod redlock;
mod replies;
mod run;
mod scripted;
mod steer;
mod transaction;

pub use cluster::scanned;
pub use displaced::{Displaced, Waited};
pub use hello::Turn;
pub use one_script::OneScript;
pub use pin::PinnedReply;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use crate::cache::Entry;
use crate::clock::Moment;
use crate::net::{OutBuf, Stream};
use crate::resp::{RequestLimits, RequestScanner};
use crate::upstream::User;
use crate::worker::Worker;
use embedded::Embedded;
use lanes::Lanes;
use pin::Pin;
use replies::{Early, EarlyReplies};
use scripted::Upheld;
use steer::Course;

pub struct Session {
    pub id: u64,
    stream: Stream,
    state: RefCell<State>,
    dirty: Cell<bool>,
    /// What it writes is held, and since when.
    held: Cell<bool>,
    held_since: Cell<Option<Moment>>,
    writing: Cell<bool>,
    /// Bytes that wait to be written, as of the last look.
    unread: Cell<usize>,
    accounted: Cell<usize>,
    over_soft_limit_since: Cell<Option<Moment>>,
    /// Being closed for what it buffers, which counts no more.
    doomed: Cell<bool>,
    /// Shut down from this side: what else was read of it counts for nothing.
    is_shut: Cell<bool>,
    /// Locks and presence that end with the connection, or that the daemon keeps up.
    upheld: RefCell<Upheld>,
    /// Told when that happens.
    over: Notify,
    /// Told when there is nobody any more to whom a reply could go.
    left: Notify,
}

/// A place in the queue of replies.
struct Place {
    what: Waits,
    /// CLIENT REPLY OFF or SKIP: the reply is not written.
    mute: bool,
    /// Before a cluster: the hash slot of its keys.
    slot: Option<u16>,
}

enum Waits {
    /// The reply is still to come.
    Reply,
    /// It came before its turn.
    Ready(Bytes),
    /// So did this one, and lies here.
    Early(Early),
    /// A hit, to be checked again when its turn comes.
    Provisional(Entry),
    /// The connection closes here: the outcome of this request is unknown.
    Close,
}

/// Why requests that have been read are not looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Park {
    No,
    /// Until every request before this one has been answered.
    Until(u64),
    /// Until a reply that decides how to go on.
    Turn,
    /// Until a link has room.
    Room,
    /// Until what was answered so far has been written.
    Tick,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ReplyMode {
    On,
    Off,
    /// CLIENT REPLY SKIP is the present request: the next one is not answered.
    SkipNext,
    /// The present request is that one.
    Skip,
}

struct Identity {
    user: Rc<User>,
    db: u32,
    resp3: bool,
    /// Whether requests are let through (requirepass).
    authenticated: bool,
    name: Bytes,
    library: [Bytes; 2],
    no_evict: bool,
}

struct State {
    input: BytesMut,
    scanner: RequestScanner,
    limits: RequestLimits,
    out: OutBuf,
    queue: VecDeque<Place>,
    early: EarlyReplies,
    /// The number of the request whose reply is written next.
    head: u64,
    identity: Identity,
    lanes: Lanes,
    /// Before a cluster: the hash slot of the present request's keys.
    slot: Option<u16>,
    pin: Option<Box<Pin>>,
    /// The session's way through a cluster, once it has one.
    course: Option<Box<Course>>,
    /// The engine's side of the session, where there is no L2.
    embedded: Option<Box<Embedded>>,
    park: Park,
    reply_mode: ReplyMode,
    /// MADCACHE BYPASS ON.
    bypass: bool,
    /// The client has sent its last byte.
    at_end: bool,
    /// Close when everything before has been answered and written.
    closing: bool,
    closed: bool,
    began: Moment,
    last_use: Moment,
    last_command: &'static str,
    /// Bytes behind the present request that were taken with it (a whole MULTI block, a run of hits).
    taken_ahead: usize,
    /// Lately passed reads, by stripe: entries that may be older than those are not shown to this session.
    passed: Option<Box<[(u32, Moment); PASSED_LEN]>>,
    /// The same for all keys: when reads of a transaction were answered last.
    passed_all: Moment,
    addresses: Box<(String, String)>,
}

const PASSED_LEN: usize = 64;

impl State {
    /// The number of the next request.
    fn next_seq(&self) -> u64 {
        self.head + self.queue.len() as u64
    }

    fn is_waiting(&self) -> bool {
        !self.queue.is_empty() || self.is_dividing()
    }

    /// The present request is a part of one that was divided: it takes a place in the queue in any case.
    #[inline]
    fn is_dividing(&self) -> bool {
        self.course.as_ref().is_some_and(|course| course.dividing.is_some())
    }

    /// Takes a place for the request that is being looked at.
    fn take_place(&mut self, what: Waits) -> u64 {
        let seq = self.next_seq();
        let mute = self.is_mute();
        self.queue.push_back(Place { what, mute, slot: self.slot });
        seq
    }

    /// Confirmations of subscriptions are pushes: CLIENT REPLY does not keep them from the client.
    fn unmute(&mut self, seq: u64) {
        let at = seq.checked_sub(self.head).map(|at| at as usize);
        if let Some(place) = at.and_then(|at| self.queue.get_mut(at)) {
            place.mute = false;
        }
    }

    /// Whether the reply of the present request is left out.
    fn is_mute(&self) -> bool {
        matches!(self.reply_mode, ReplyMode::Off | ReplyMode::Skip)
    }

    /// The present request has been looked at. An empty one counts.
    fn end_request(&mut self) {
        self.reply_mode = match self.reply_mode {
            ReplyMode::SkipNext => ReplyMode::Skip,
            ReplyMode::Skip => ReplyMode::On,
            stays => stays,
        };
    }
}

impl Session {
    pub fn user_id(&self) -> u32 {
        self.state.borrow().identity.user.id
    }

    pub fn unread_bytes(&self) -> usize {
        self.unread.get()
    }

    /// Unread output and unread input.
    pub fn buffered_bytes(&self) -> usize {
        self.accounted.get()
    }

    pub fn speaks_resp3(&self) -> bool {
        self.state.try_borrow().is_ok_and(|st| st.identity.resp3)
    }

    pub fn is_blocked(&self) -> bool {
        self.state.try_borrow().is_ok_and(|st| st.is_blocked())
    }

    /// Closes a client that said nothing for too long, or did not authenticate in time; zero: no limit.
    pub fn check_idle(&self, worker: &Worker, idle_max: Duration, login_max: Duration) {
        let st = self.state.borrow();
        let now = worker.now();
        let idle =
            !idle_max.is_zero() && now.since(st.last_use) > idle_max && st.pin.is_none() && !st.is_waiting();
        let unknown = !st.identity.authenticated || self.stream.is_handshaking();
        let late = !login_max.is_zero() && unknown && now.since(st.began) > login_max;
        if late && self.stream.is_handshaking() && !self.is_shut.get() {
            let what = "its handshake took longer than limits.unauth_seconds_max";
            worker.tls_failed(&st.addresses.0, &std::io::Error::other(what));
        }
        if idle || late {
            self.shut();
        }
    }

    /// No more is read; the connection closes behind the replies to what was.
    pub fn drain(self: &Rc<Self>, worker: &Rc<Worker>) {
        let mut st = self.state.borrow_mut();
        let waits_for_others =
            st.pin.as_ref().is_some_and(|pin| pin.is_blocked() || !st.queue.is_empty() && pin.stays);
        if waits_for_others || st.waits_in_engine() {
            return self.shut();
        }
        st.at_end = true;
        self.left.notify_one();
        self.mark_dirty(worker);
    }

    // Closing.

    /// Closes once what is under way has been answered.
    pub fn close_after_replies(self: &Rc<Self>, worker: &Rc<Worker>) {
        let mut st = self.state.borrow_mut();
        st.take_place(Waits::Close);
        self.settle(worker, &mut st);
    }

    /// Closes at once because of what it buffers.
    pub fn give_up(&self, worker: &Worker) {
        self.doomed.set(true);
        self.account(worker, 0);
        self.shut();
    }

    /// Closes at once.
    pub fn shut(&self) {
        self.is_shut.set(true);
        self.stream.shutdown();
        self.over.notify_one();
        self.left.notify_one();
    }

    /// No more requests are read; closes when everything was answered. True if that is so already.
    fn no_more_requests(self: &Rc<Self>, worker: &Rc<Worker>) -> bool {
        let mut st = self.state.borrow_mut();
        st.at_end = true;
        self.left.notify_one();
        if st.closed {
            return true;
        }
        if st.is_blocked() {
            return true;
        }
        let done = !st.is_waiting() && !st.is_parked() && st.out.is_empty();
        if !done && !st.is_waiting() && !st.is_parked() {
            st.closing = true;
            self.mark_dirty(worker);
        }
        done
    }

    fn mark_dirty(self: &Rc<Self>, worker: &Rc<Worker>) {
        // What is held is looked at again.
        if !self.dirty.replace(true) || self.held.replace(false) {
            worker.session_is_dirty(self.clone());
        }
    }
}

impl State {
    /// Whether it waits for something to pop, which must not happen for a client that has left.
    fn is_blocked(&self) -> bool {
        self.waits_in_engine() || self.pin.as_ref().is_some_and(|pin| pin.is_blocked())
    }

    fn is_parked(&self) -> bool {
        self.park != Park::No
    }
}
