//! One connection to L2: bytes out, frames back in order. Replies are matched by position alone; a frame that nobody
//! asked for, bytes that are no frame, or the link's end fail everything that is still owed.

mod batch;
mod kept;
mod writing;

pub(super) use batch::AllKeys;
pub use kept::Kept;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::handshake::{self, Login, Refusal};
use super::pending::{Expect, Failure, Pending};
use super::pinned::PinnedState;
use super::{LinkSet, replies};
use crate::cache::Lease;
use crate::clock::Moment;
use crate::command::Group;
use crate::net::{Incoming, OutBuf, Stream};
use crate::resp::ReplyScanner;
use crate::session::Session;
use crate::worker::{SCRATCH_BYTES, Told, Worker};

/// What a round trip is taken for before one was seen.
const ROUND_TRIP_AT_FIRST: Duration = Duration::from_millis(1);
/// And at most, whatever was seen.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(250);

/// What a link is for. Only these combinations exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reads and writes of all sessions of a worker.
    Plain,
    /// Beside a slow plain link.
    Spill,
    /// Requests and replies that are known to be huge.
    Huge,
    Script,
    /// Fills, barriers and heartbeats only; and checks of limits that were denied before, whose next denial is to be kept.
    Tracked,
    /// Nothing but AUTH.
    Auth,
    /// One session's alone.
    Pinned,
    /// The same for one command that must reach L2 while a script keeps it busy; never used twice.
    Fresh,
}

impl Purpose {
    /// Whether such a link belongs to one session.
    pub fn is_own(self) -> bool {
        matches!(self, Purpose::Pinned | Purpose::Fresh)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Connecting,
    Ready,
    Closed,
}

pub struct Link {
    pub id: u64,
    pub purpose: Purpose,
    pub resp3: bool,
    pub set: Rc<LinkSet>,
    /// It leads to one node of several.
    pub is_of_a_cluster: bool,
    phase: Cell<Phase>,
    stream: OnceCell<Stream>,
    out: RefCell<OutBuf>,
    pending: RefCell<VecDeque<Pending>>,
    log: RefCell<kept::Log>,
    queued_bytes: Cell<u64>,
    flushed_bytes: Cell<u64>,
    /// On the worker's list of links to flush, or held.
    dirty: Cell<bool>,
    pace: writing::Pace,
    writing: Cell<bool>,
    /// Closed by us because nobody used it.
    retired: Cell<bool>,
    last_byte: Cell<Moment>,
    last_use: Cell<Moment>,
    /// Smoothed.
    round_trip_ns: Cell<u64>,
    /// Barriers that began early, each for what was sent before its mark here; the oldest first.
    pub marks: RefCell<VecDeque<u64>>,
    /// L2 refuses TIME to this link's user.
    timeless: Cell<bool>,
    /// Scripts whose text L2 was sent here.
    carried: RefCell<Vec<&'static str>>,
    batch: batch::Batch,
    /// Sessions that wait for room.
    waiting: RefCell<Vec<Rc<Session>>>,
    /// What a tracked link vouches for.
    pub lease: Option<Arc<Lease>>,
    pub pinned: PinnedState,
    /// L2's id of this link.
    pub remote_id: Cell<i64>,
}

impl Link {
    /// Begins to connect; requests may be queued at once.
    pub fn open(worker: &Rc<Worker>, set: &Rc<LinkSet>, purpose: Purpose, resp3: bool) -> Rc<Link> {
        let lease = (purpose == Purpose::Tracked)
            .then(|| worker.shared.new_lease(worker.id, set.upstream.remote.number));
        let link = Rc::new(Link {
            id: worker.next_link_id(),
            purpose,
            resp3,
            is_of_a_cluster: set.upstream.remote.is_node,
            set: set.clone(),
            phase: Cell::new(Phase::Connecting),
            stream: OnceCell::new(),
            out: RefCell::default(),
            pending: RefCell::default(),
            log: RefCell::default(),
            queued_bytes: Cell::new(0),
            flushed_bytes: Cell::new(0),
            dirty: Cell::new(false),
            pace: writing::Pace::new(),
            writing: Cell::new(false),
            retired: Cell::new(false),
            last_byte: Cell::new(Moment::now()),
            last_use: Cell::new(Moment::now()),
            round_trip_ns: Cell::new(ROUND_TRIP_AT_FIRST.as_nanos() as u64),
            marks: RefCell::default(),
            timeless: Cell::new(!set.user.is_own()),
            carried: RefCell::default(),
            batch: batch::Batch::default(),
            waiting: RefCell::default(),
            lease,
            pinned: PinnedState::default(),
            remote_id: Cell::new(0),
        });
        set.upstream.count_opened(worker, &link);
        set.upstream.links.borrow_mut().insert(link.id, link.clone());
        tokio::task::spawn_local(link.clone().run(worker.clone()));
        link
    }

    pub fn phase(&self) -> Phase {
        self.phase.get()
    }
    pub fn is_usable(&self) -> bool {
        self.phase.get() != Phase::Closed
    }
    /// Whether it ever was connected.
    pub fn was_up(&self) -> bool {
        self.stream.get().is_some()
    }
    /// How many requests of sessions and of the daemon wait for their replies.
    pub fn pending_len(&self) -> usize {
        self.pending.borrow().len() + self.batch.more()
    }
    pub fn last_byte(&self) -> Moment {
        self.last_byte.get()
    }
    pub fn last_use(&self) -> Moment {
        self.last_use.get()
    }
    pub fn buffered_bytes(&self) -> usize {
        self.out.borrow().len()
    }

    /// Whether the text of this script was sent here before; from now on it was.
    pub fn has_carried(&self, script: &'static str) -> bool {
        let mut carried = self.carried.borrow_mut();
        let known = carried.contains(&script);
        if !known {
            carried.push(script);
        }
        known
    }

    /// Whether L2 tells the time here, and what is sent goes out at once.
    pub fn tells_time(&self) -> bool {
        !self.timeless.get() && self.phase.get() == Phase::Ready && !self.writing.get()
    }

    /// The time in a reply to TIME. Who is refused it is not asked again: refusals stand in L2's ACL LOG.
    pub fn told(&self, frame: &[u8]) -> Told {
        self.timeless.set(self.timeless.get() || frame.starts_with(b"-NOPERM"));
        Told::parse(frame)
    }

    /// How long the oldest request waits for its reply.
    pub fn oldest_wait(&self, now: Moment) -> Duration {
        self.pending.borrow().front().map_or(Duration::ZERO, |first| now.since(first.sent))
    }

    /// Whether a session that has nothing under way here should rather go elsewhere.
    pub fn is_slow(&self, now: Moment) -> bool {
        self.oldest_wait(now)
            > Duration::from_millis(5).max(Duration::from_nanos(self.round_trip_ns.get() * 4))
    }

    /// Lets a session wait until there is room again.
    pub fn wait_for_room(&self, session: &Rc<Session>) {
        self.waiting.borrow_mut().push(session.clone());
    }

    fn wake_waiting(&self, worker: &Rc<Worker>) {
        for session in self.waiting.take() {
            worker.resume(session);
        }
    }

    /// Whether L2 owes an answer that it gives at once; a blocked command or a subscription is no such thing.
    pub fn is_waited_for(&self) -> bool {
        self.phase.get() == Phase::Ready && !self.pinned.is_patient()
    }

    /// An idle link is asked for a sign of life.
    pub fn probe(self: &Rc<Self>, worker: &Rc<Worker>) {
        // It carries nothing but AUTH, and may not be allowed to PING.
        if self.purpose == Purpose::Auth {
            return self.retire();
        }
        self.send(worker, self.set.user.sign_of_life(), Expect::Nobody, Group::Other);
        self.last_byte.set(worker.now());
    }

    /// Closes a link that nobody needs.
    pub fn retire(&self) {
        self.retired.set(true);
        self.shutdown();
    }
    pub fn is_retired(&self) -> bool {
        self.retired.get()
    }
    /// A tracked link whose entries are still worth something.
    pub fn is_leased(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.has_filled())
    }

    /// Ends the link from outside; its task sees the end and fails what is owed.
    pub fn shutdown(&self) {
        match self.stream.get() {
            Some(stream) => stream.shutdown(),
            None => self.phase.set(Phase::Closed),
        }
    }

    async fn run(self: Rc<Self>, worker: Rc<Worker>) {
        let failure = match self.connect(&worker).await {
            Ok((stream, incoming)) => {
                if self.stream.set(stream).is_err() || !self.is_usable() {
                    Failure::NotSent("the link was closed".into())
                } else {
                    self.phase.set(Phase::Ready);
                    self.set.upstream.link_came_up(&worker, &self);
                    self.flush(&worker);
                    let reason = self.read_until_end(&worker, incoming).await;
                    tracing::debug!(link = self.id, purpose = ?self.purpose, %reason, "link ended");
                    Failure::Unknown
                }
            }
            // It was left while it connected.
            Err(_) if !self.is_usable() => Failure::NotSent("the link was closed".into()),
            Err(refusal) => self.set.upstream.link_was_refused(&worker, &self, refusal),
        };
        self.close(&worker, failure);
    }

    async fn connect(&self, worker: &Rc<Worker>) -> Result<(Stream, Incoming), Refusal> {
        let login = Login {
            credentials: (self.purpose != Purpose::Auth)
                .then_some(&self.set.user.credentials)
                .and_then(Option::as_ref),
            db: if matches!(self.purpose, Purpose::Auth | Purpose::Fresh) { 0 } else { self.set.db },
            chooser: Some(&*self.set.upstream.own_user).filter(|_| !self.set.user.is_own()),
            resp3: self.resp3,
            tracked: self.purpose == Purpose::Tracked,
            verified: self.set.user.is_own(),
            pinned: self.purpose.is_own(),
            leads: self.set.upstream.remote.is_elected(),
        };
        let limit = Duration::from_millis(worker.shared.live.load().config.upstream.connect_timeout_ms);
        let upstream = &self.set.upstream;
        let target = &upstream.remote.target;
        let tls = worker.shared.tls.connector(target);
        let _place = upstream.connecting.place().await;
        let connect = async {
            let target = upstream.remote.leader.settled().await.map_err(Refusal::NoLeader)?;
            let tls = worker.shared.tls.connector(&target);
            handshake::connect(&target.endpoint, tls.as_ref(), &login).await
        };
        match tokio::time::timeout(limit, connect).await {
            Ok(Ok((stream, incoming, welcome))) => {
                self.remote_id.set(welcome.client_id);
                self.batch.begin(welcome.is_standalone);
                if let Some(lease) = &self.lease {
                    lease.prove(welcome.began);
                }
                Ok((stream, incoming))
            }
            Ok(Err(refusal)) => Err(refusal),
            Err(_) if tls.is_some() => Err(Refusal::Unreachable(format!(
                "no answer within {limit:?}; does it speak TLS on this port?"
            ))),
            Err(_) => Err(Refusal::Unreachable(format!("no answer within {limit:?}"))),
        }
    }

    async fn read_until_end(self: &Rc<Self>, worker: &Rc<Worker>, mut incoming: Incoming) -> String {
        let mut input = BytesMut::new();
        let mut scanner = ReplyScanner::default();
        loop {
            if self.pinned.must_hold_back() {
                self.pinned.room(self).await;
            }
            let read = match poll_fn(|cx| self.read_some(worker, cx, &mut incoming, &mut input, &mut scanner))
                .await
            {
                Ok(0) => return "closed by L2".into(),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return e.to_string(),
            };
            if self.purpose.is_own() {
                if let Err(reason) = self.pinned_frames(worker, &mut input, &mut scanner).await {
                    return self.unexpected(reason).to_string();
                }
                // There may be more: the owner writes first, and whether it is too slow shows.
                if read > SCRATCH_BYTES / 2 {
                    tokio::task::yield_now().await;
                }
            }
            if input.is_empty() && input.capacity() > 1 << 20 {
                input = BytesMut::new();
            }
        }
    }

    /// Reads once. Of a shared link every whole frame is handled on the spot, without a copy where that can be.
    fn read_some(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        cx: &mut Context<'_>,
        incoming: &mut Incoming,
        input: &mut BytesMut,
        scanner: &mut ReplyScanner,
    ) -> Poll<io::Result<usize>> {
        // What a server that was left has still sent counts no more.
        if !self.is_usable() {
            return Poll::Ready(Ok(0));
        }
        let mut scratch = worker.link_scratch.borrow_mut();
        // Several nodes send less each: another look would rarely find more.
        let n = match self.is_of_a_cluster {
            true => ready!(incoming.poll_read(cx, &mut scratch))?,
            false => ready!(incoming.poll_read_on(cx, &mut scratch))?,
        };
        if n == 0 {
            return Poll::Ready(Ok(0));
        }
        let now = worker.tick_clock();
        self.last_byte.set(now);
        self.set.upstream.heard(now);
        let mut rest = &scratch[..n];
        if input.is_empty() && !self.purpose.is_own() {
            let used =
                self.small_frames(worker, rest, scanner, now).map_err(|reason| self.unexpected(reason))?;
            rest = &rest[used..];
        }
        if !rest.is_empty() {
            let wanted = scanner.bytes_wanted().saturating_sub(input.len());
            // Room grows with what has arrived, never with what was announced.
            input.reserve(rest.len().max(wanted.min(input.len())));
            input.extend_from_slice(rest);
            if !self.purpose.is_own() {
                self.large_frames(worker, input, scanner, now).map_err(|reason| self.unexpected(reason))?;
            }
        }
        self.let_go(worker);
        if !self.waiting.borrow().is_empty() && self.pending_len() * 2 < worker.link_in_flight_max() {
            self.wake_waiting(worker);
        }
        Poll::Ready(Ok(n))
    }

    fn unexpected(&self, reason: &'static str) -> io::Error {
        tracing::warn!(link = self.id, purpose = ?self.purpose, reason, "link closed: unexpected bytes from L2");
        io::Error::new(io::ErrorKind::InvalidData, reason)
    }

    /// Its request, if it was kept, is there until the next one is popped.
    pub(super) fn pop_pending(&self) -> Option<Pending> {
        let mut pending = self.pending.borrow_mut();
        // What was not even encoded has no reply.
        if self.batch.is_open() && pending.len() == 1 {
            return None;
        }
        let pending = pending.pop_front()?;
        if self.is_of_a_cluster {
            self.log.borrow_mut().answered(&pending.kept);
        }
        Some(pending)
    }
    /// The request of this one, whose reply came last.
    pub(super) fn take_kept(&self, pending: &mut Pending) -> Option<Bytes> {
        self.log.borrow().last(std::mem::take(&mut pending.kept))
    }
    pub(super) fn with_first_pending<R>(&self, look: impl FnOnce(&mut Pending) -> R) -> Option<R> {
        self.pending.borrow_mut().front_mut().map(look)
    }

    #[inline]
    pub(super) fn note_round_trip(&self, took_ns: u64) {
        let smoothed = (self.round_trip_ns.get() * 15).saturating_add(took_ns) / 16;
        self.round_trip_ns.set(smoothed.min(ROUND_TRIP_MAX.as_nanos() as u64));
        self.pace.note_round_trip(took_ns);
    }

    /// From now on it takes nothing, and what it filled is void; `end_left` tells those who wait.
    pub(super) fn begin_leaving(&self) {
        self.phase.set(Phase::Closed);
        if let Some(lease) = &self.lease {
            lease.end();
        }
        if let Some(stream) = self.stream.get() {
            stream.shutdown();
        }
    }

    pub(super) fn end_left(self: &Rc<Self>, worker: &Rc<Worker>) {
        let failure =
            if self.was_up() { Failure::Unknown } else { Failure::NotSent("the link was closed".into()) };
        self.close(worker, failure);
    }

    /// The link is over: everything that is owed fails, in order.
    fn close(self: &Rc<Self>, worker: &Rc<Worker>, failure: Failure) {
        self.phase.set(Phase::Closed);
        worker.link_is_over(self);
        if !self.set.upstream.has(self) {
            return;
        }
        if let Some(lease) = &self.lease {
            lease.end();
            worker.shared.drop_lease(lease);
        }
        let flushed = self.flushed_bytes.get();
        let owed = self.pending.take();
        self.log.take();
        self.batch.clear();
        // The next server may say something else; or it was being asked here.
        if self.set.user.is_own() && (!self.is_retired() || self.set.all_keys.get() == AllKeys::Asked) {
            self.set.all_keys.set(AllKeys::NotAsked);
        }
        self.out.borrow_mut().clear();
        self.set.upstream.link_went_away(worker, self);
        for pending in owed {
            let failure = match &failure {
                Failure::Unknown if pending.starts_at >= flushed => {
                    Failure::NotSent("the link to Redis was lost".into())
                }
                other => other.clone(),
            };
            replies::failed(worker, pending.expect, failure);
        }
        self.pinned_ended(worker);
        self.wake_waiting(worker);
    }
}
