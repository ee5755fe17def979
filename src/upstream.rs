//! L2: which link a request takes, and when links are opened, spared and closed.
//!
//! Each worker has its own links, in a set per (user, database). Decides nothing about L1: it reports what links learn
//! (`replies`), and L1 decides by its stamps.

mod block;
mod each;
mod executed;
mod frames;
mod handshake;
mod leaving;
mod link;
mod pending;
mod pinned;
mod reach;
mod redirects;
mod replies;

pub use block::{Block, send_block};
pub use each::{Each, FillEach};
pub use executed::{Element, Gathering};
pub use handshake::{Credentials, Refusal, Step};
pub use link::{Link, Phase, Purpose};
pub use pending::{Aftermath, Asker, Expect, Failure, Fill, Frame, KeyedRead, Pending};
pub use pinned::{Frames, Moved, PinnedExpect, Subscribed, send_unasked};
pub use redirects::{ASKING, Detour, PATIENCE, Redirect, Way};

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;

use link::AllKeys;

use crate::clock::Moment;
use crate::command::Group;
use crate::shared::{Leader, Remote};
use crate::worker::{Worker, is_denial};

/// Whom sessions act as in L2. Number 0 is the daemon's own user.
pub struct User {
    pub id: u32,
    pub credentials: Option<Credentials>,
}

impl User {
    pub const OWN: u32 = 0;

    pub fn is_own(&self) -> bool {
        self.id == Self::OWN
    }
    /// A request that this user may make and that changes nothing: not every user may PING, and bare HELLO needs no
    /// right.
    pub fn sign_of_life(&self) -> &'static [u8] {
        if self.is_own() { b"*1\r\n$4\r\nPING\r\n" } else { b"*1\r\n$5\r\nHELLO\r\n" }
    }
    pub fn name(&self) -> &str {
        self.credentials.as_ref().and_then(|c| c.user.as_deref()).unwrap_or("default")
    }
}

type Slot = RefCell<Option<Rc<Link>>>;

/// The links of one (user, database) of one worker; two of most kinds, for RESP2 and RESP3.
pub struct LinkSet {
    pub upstream: Rc<Upstream>,
    pub user: Rc<User>,
    pub db: u32,
    plain: [Slot; 2],
    huge: [Slot; 2],
    script: [Slot; 2],
    spill: [RefCell<Vec<Rc<Link>>>; 2],
    tracked: Slot,
    /// Pinned links whose state has ended, for the next session.
    idle: RefCell<Vec<Rc<Link>>>,
    /// No tracked link before this moment: L2 refused one, or the last ones died young.
    untracked_until: Cell<Moment>,
    may_track: Cell<MayTrack>,
    /// Asked for the daemon's own user only.
    all_keys: Cell<AllKeys>,
    tracked_pause: Cell<Duration>,
    last_use: Cell<Moment>,
}

/// Idle pinned links that one set keeps.
const IDLE_PINNED_MAX: usize = 32;
/// How long a user that may not track is served uncached before that is tried again.
const UNTRACKED_PAUSE: Duration = Duration::from_secs(60);
const TRACKED_PAUSE_MAX: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq)]
enum MayTrack {
    NotAsked,
    Asked,
    Yes,
}

/// What is sent on a tracked link beside the reads themselves.
const TRACKED_COMMANDS: [&[&[u8]]; 2] = [&[b"CLIENT", b"TRACKING", b"ON"], &[b"PTTL", b"k"]];

async fn ask_to_track(set: Rc<LinkSet>, worker: Rc<Worker>, link: Rc<Link>) {
    let mut denied = false;
    for command in TRACKED_COMMANDS {
        let mut args: Vec<&[u8]> = vec![b"ACL", b"DRYRUN", set.user.name().as_bytes()];
        args.extend(command);
        let (to, answer) = tokio::sync::oneshot::channel();
        if !link.is_usable() {
            return set.may_track.set(MayTrack::NotAsked);
        }
        link.send(&worker, &crate::resp::encode_request(&args), Expect::Internal(to), Group::Other);
        let Ok(answer) = answer.await else { return set.may_track.set(MayTrack::NotAsked) };
        // That this very key may not be read says nothing.
        denied |= is_denial(&answer) && memchr::memmem::find(&answer, b"' command").is_some();
    }
    if denied {
        set.may_track.set(MayTrack::NotAsked);
        set.untracked_until.set(Moment::now().after(UNTRACKED_PAUSE));
    } else {
        set.may_track.set(MayTrack::Yes);
    }
}

impl LinkSet {
    fn new(upstream: Rc<Upstream>, user: Rc<User>, db: u32) -> LinkSet {
        LinkSet {
            upstream,
            db,
            plain: Default::default(),
            huge: Default::default(),
            script: Default::default(),
            spill: Default::default(),
            tracked: Default::default(),
            idle: Default::default(),
            untracked_until: Cell::default(),
            may_track: Cell::new(if user.is_own() { MayTrack::Yes } else { MayTrack::NotAsked }),
            all_keys: Cell::new(if user.is_own() { AllKeys::NotAsked } else { AllKeys::No }),
            tracked_pause: Cell::default(),
            last_use: Cell::new(Moment::now()),
            user,
        }
    }

    /// The link of this purpose, opened if need be.
    fn open_or_use(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        slot: &Slot,
        purpose: Purpose,
        resp3: bool,
    ) -> Result<Rc<Link>, Failure> {
        if let Some(link) = slot.borrow().as_ref().filter(|link| link.is_usable()) {
            return Ok(link.clone());
        }
        self.upstream.may_open(worker, purpose)?;
        let link = Link::open(worker, self, purpose, resp3);
        *slot.borrow_mut() = Some(link.clone());
        Ok(link)
    }

    /// Where requests go that concern no key: in a cluster to some node.
    fn anywhere(self: &Rc<Self>, worker: &Rc<Worker>) -> Result<Rc<LinkSet>, Failure> {
        let node = worker.any_node_of(&self.upstream)?;
        Ok(node.set(&self.user, self.db))
    }

    /// The links for keys of this slot.
    pub fn of_slot(self: &Rc<Self>, worker: &Rc<Worker>, slot: u16) -> Result<Rc<LinkSet>, Failure> {
        match self.upstream.is_whole() {
            true => Ok(worker.node_of(&self.upstream, slot)?.set(&self.user, self.db)),
            false => Ok(self.clone()),
        }
    }

    /// A shared link like one of this purpose.
    pub fn of_purpose(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        purpose: Purpose,
        resp3: bool,
    ) -> Result<Rc<Link>, Failure> {
        match purpose {
            Purpose::Huge => self.huge(worker, resp3),
            Purpose::Script => self.script(worker, resp3),
            _ => self.plain(worker, resp3),
        }
    }

    /// A plain link for a session that has nothing under way: not one that stands behind something slow.
    pub fn plain(self: &Rc<Self>, worker: &Rc<Worker>, resp3: bool) -> Result<Rc<Link>, Failure> {
        if self.upstream.is_whole() {
            return self.anywhere(worker)?.plain(worker, resp3);
        }
        let now = worker.now();
        self.last_use.set(now);
        let first = self.open_or_use(worker, &self.plain[usize::from(resp3)], Purpose::Plain, resp3)?;
        if !first.is_slow(now) {
            return Ok(first);
        }
        let mut spill = self.spill[usize::from(resp3)].borrow_mut();
        spill.retain(|link| link.is_usable());
        if let Some(link) = spill.iter().find(|link| !link.is_slow(now)) {
            return Ok(link.clone());
        }
        if spill.len() < worker.spill_links_max() && self.upstream.may_open(worker, Purpose::Spill).is_ok() {
            let link = Link::open(worker, self, Purpose::Spill, resp3);
            spill.push(link.clone());
            return Ok(link);
        }
        let calmest = spill.iter().chain([&first]).min_by_key(|link| link.pending_len());
        Ok(calmest.cloned().unwrap_or(first))
    }

    pub fn huge(self: &Rc<Self>, worker: &Rc<Worker>, resp3: bool) -> Result<Rc<Link>, Failure> {
        if self.upstream.is_whole() {
            return self.anywhere(worker)?.huge(worker, resp3);
        }
        self.last_use.set(worker.now());
        self.open_or_use(worker, &self.huge[usize::from(resp3)], Purpose::Huge, resp3)
    }

    /// A link that carries little, to ask whether L2 is alive.
    pub fn spare(self: &Rc<Self>, worker: &Rc<Worker>) -> Result<Rc<Link>, Failure> {
        self.open_or_use(worker, &self.huge[0], Purpose::Huge, false)
    }

    pub fn script(self: &Rc<Self>, worker: &Rc<Worker>, resp3: bool) -> Result<Rc<Link>, Failure> {
        if self.upstream.is_whole() {
            return self.anywhere(worker)?.script(worker, resp3);
        }
        self.last_use.set(worker.now());
        self.open_or_use(worker, &self.script[usize::from(resp3)], Purpose::Script, resp3)
    }

    /// The tracked link, if this user may have one now.
    pub fn tracked(self: &Rc<Self>, worker: &Rc<Worker>) -> Option<Rc<Link>> {
        if self.upstream.is_whole() {
            return None;
        }
        let now = worker.now();
        self.last_use.set(now);
        if let Some(link) = self.tracked.borrow().as_ref().filter(|link| link.is_usable()) {
            return Some(link.clone());
        }
        if now < self.untracked_until.get() || !self.may_track(worker) {
            return None;
        }
        self.open_or_use(worker, &self.tracked, Purpose::Tracked, true).ok()
    }

    /// Whether this user may do what a tracked link does. Others than the daemon's own are asked about first: a refusal
    /// would stand in L2's ACL LOG.
    fn may_track(self: &Rc<Self>, worker: &Rc<Worker>) -> bool {
        if self.may_track.get() == MayTrack::NotAsked {
            let Ok(link) = self.upstream.own_set().plain(worker, false) else { return false };
            self.may_track.set(MayTrack::Asked);
            tokio::task::spawn_local(ask_to_track(self.clone(), worker.clone(), link));
        }
        self.may_track.get() == MayTrack::Yes
    }

    pub fn current_tracked(&self) -> Option<Rc<Link>> {
        self.tracked.borrow().clone().filter(|link| link.is_usable())
    }

    /// A link of a session's own.
    pub fn pinned(self: &Rc<Self>, worker: &Rc<Worker>, resp3: bool) -> Result<Rc<Link>, Failure> {
        if self.upstream.is_whole() {
            return self.anywhere(worker)?.pinned(worker, resp3);
        }
        self.last_use.set(worker.now());
        let mut idle = self.idle.borrow_mut();
        while let Some(at) = idle.iter().rposition(|link| link.resp3 == resp3) {
            let link = idle.remove(at);
            if link.is_usable() {
                return Ok(link);
            }
        }
        self.upstream.may_open(worker, Purpose::Pinned)?;
        Ok(Link::open(worker, self, Purpose::Pinned, resp3))
    }

    /// A link that was just opened, for a command that must get through while L2 is busy.
    pub fn fresh(self: &Rc<Self>, worker: &Rc<Worker>, resp3: bool) -> Result<Rc<Link>, Failure> {
        if self.upstream.is_whole() {
            return self.anywhere(worker)?.fresh(worker, resp3);
        }
        self.upstream.may_open(worker, Purpose::Fresh)?;
        let link = Link::open(worker, self, Purpose::Fresh, resp3);
        link.pinned.tainted.set(true);
        Ok(link)
    }

    /// Takes back a pinned link: for the next session if its state provably ended, otherwise it is closed.
    pub fn give_back(&self, link: &Rc<Link>) {
        link.pinned.set_owner(None);
        let clean = !link.pinned.tainted.get() && link.pending_len() == 0 && link.pinned.subscriptions() == 0;
        let mut idle = self.idle.borrow_mut();
        if clean && link.phase() == Phase::Ready && idle.len() < IDLE_PINNED_MAX {
            idle.push(link.clone());
        } else {
            link.retire();
        }
    }

    fn forget(&self, link: &Rc<Link>) {
        let is_it = |l: &Rc<Link>| Rc::ptr_eq(l, link);
        for slot in self.plain.iter().chain(&self.huge).chain(&self.script).chain([&self.tracked]) {
            let mut slot = slot.borrow_mut();
            if slot.as_ref().is_some_and(is_it) {
                *slot = None;
            }
        }
        for spill in &self.spill {
            spill.borrow_mut().retain(|l| !is_it(l));
        }
        self.idle.borrow_mut().retain(|l| !is_it(l));
    }
}

/// What one worker has to do with one Redis. It lives as long as the worker, and so do the sets that point back to it.
pub struct Upstream {
    pub remote: Arc<Remote>,
    /// The daemon's own user there.
    pub own_user: Rc<User>,
    pub links: RefCell<HashMap<u64, Rc<Link>>>,
    sets: RefCell<HashMap<(u32, u32), Rc<LinkSet>>>,
    auth: Slot,
    /// Why connecting fails, as long as it does: requests then fail at once.
    failing: RefCell<Option<Failure>>,
    heard: Cell<Moment>,
    connecting: handshake::Connecting,
}

impl Upstream {
    pub fn new(remote: Arc<Remote>) -> Upstream {
        let target = &remote.target;
        let credentials = target.password.as_ref().map(|password| Credentials {
            user: target.username.clone(),
            password: password.expose().to_owned(),
        });
        Upstream {
            own_user: Rc::new(User { id: User::OWN, credentials }),
            remote,
            links: RefCell::default(),
            sets: RefCell::default(),
            auth: Slot::default(),
            failing: RefCell::default(),
            heard: Cell::default(),
            connecting: handshake::Connecting::default(),
        }
    }

    pub fn set(self: &Rc<Self>, user: &Rc<User>, db: u32) -> Rc<LinkSet> {
        let mut sets = self.sets.borrow_mut();
        let new = || Rc::new(LinkSet::new(self.clone(), user.clone(), db));
        sets.entry((user.id, db)).or_insert_with(new).clone()
    }

    /// As the URL says: its user, its database.
    pub fn own_set(self: &Rc<Self>) -> Rc<LinkSet> {
        self.set(&self.own_user, self.remote.target.db)
    }

    pub fn sets(&self) -> Vec<Rc<LinkSet>> {
        self.sets.borrow().values().cloned().collect()
    }

    /// Whether it is a cluster, whose nodes are reached over upstreams of their own: it has no links itself.
    #[inline]
    pub fn is_whole(&self) -> bool {
        self.remote.cluster.is_some()
    }

    pub fn failure(&self) -> Option<Failure> {
        self.failing.borrow().clone()
    }

    /// The link that carries nothing but AUTH.
    pub fn auth(self: &Rc<Self>, worker: &Rc<Worker>) -> Result<Rc<Link>, Failure> {
        if self.is_whole() {
            return worker.any_node_of(self)?.auth(worker);
        }
        let set = &self.set(&self.own_user, 0);
        set.open_or_use(worker, &self.auth, Purpose::Auth, false)
    }

    /// Every tracked link of this worker that may have filled entries.
    pub fn filled_links(&self) -> Vec<Rc<Link>> {
        let sets = self.sets.borrow();
        let tracked = sets.values().filter_map(|set| set.current_tracked());
        tracked.filter(|link| link.lease.as_ref().is_some_and(|lease| lease.has_filled())).collect()
    }

    pub fn heard(&self, now: Moment) {
        self.heard.set(now);
    }
    pub fn last_heard(&self) -> Moment {
        self.heard.get()
    }

    fn may_open(&self, worker: &Rc<Worker>, purpose: Purpose) -> Result<(), Failure> {
        if let Some(failure) = self.failing.borrow().as_ref()
            && purpose != Purpose::Fresh
        {
            return Err(match self.remote.leader.now() {
                Leader::Nobody(reason) => Failure::NotSent((*reason).into()),
                Leader::Soon | Leader::Known(_) => failure.clone(),
            });
        }
        let shared = &worker.shared;
        let limits = &shared.live.load().config.upstream;
        let max = match purpose {
            Purpose::Pinned | Purpose::Fresh => limits.pinned_links_max,
            _ => limits.links_max,
        };
        if shared.link_count(purpose).load(Relaxed) < max {
            return Ok(());
        }
        worker.metrics.refused_links.add(1);
        Err(Failure::Refused(Bytes::from_static(b"-ERR max number of upstream links reached\r\n")))
    }

    pub fn count_opened(&self, worker: &Rc<Worker>, link: &Link) {
        worker.shared.link_count(link.purpose).fetch_add(1, Relaxed);
    }

    pub fn is_failing(&self) -> bool {
        self.failing.borrow().is_some()
    }

    pub fn link_went_away(&self, worker: &Rc<Worker>, link: &Rc<Link>) {
        worker.shared.link_count(link.purpose).fetch_sub(1, Relaxed);
        self.links.borrow_mut().remove(&link.id);
        link.set.forget(link);
        let mut auth = self.auth.borrow_mut();
        if auth.as_ref().is_some_and(|l| Rc::ptr_eq(l, link)) {
            *auth = None;
        }
        drop(auth);
        if link.purpose == Purpose::Tracked
            && !link.was_up()
            && worker.now() >= link.set.untracked_until.get()
        {
            // Attempts that fail leave dead ids in L2's tracking table.
            let pause = (link.set.tracked_pause.get() * 2).clamp(Duration::from_millis(5), TRACKED_PAUSE_MAX);
            link.set.tracked_pause.set(pause);
            link.set.untracked_until.set(Moment::now().after(pause));
        }
        let lost_by_l2 = link.was_up() && !link.set.user.is_own() && link.purpose == Purpose::Plain;
        if lost_by_l2 && !link.is_retired() {
            worker.close_sessions_of(link.set.user.id);
        }
    }

    /// Closes the links of sets that nobody used for a while, and pinned ones that wait for nobody.
    pub fn close_unused(&self, now: Moment, idle: Duration) {
        let sets = self.sets();
        for set in &sets {
            set.idle.borrow_mut().retain(|link| {
                let keep = now.since(link.last_use()) < idle;
                if !keep {
                    link.shutdown();
                }
                keep
            });
            let busy = now.since(set.last_use.get()) < idle;
            let links = self.links.borrow();
            let mine: Vec<_> =
                links.values().filter(|l| Rc::ptr_eq(&l.set, set) && !l.purpose.is_own()).collect();
            for link in &mine {
                if (!busy || now.since(link.last_use()) > idle * 10)
                    && link.pending_len() == 0
                    && !link.is_leased()
                {
                    link.retire();
                }
            }
        }
        self.sets.borrow_mut().retain(|_, set| Rc::strong_count(set) > 2);
    }
}
