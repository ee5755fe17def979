//! A worker: one thread, one scheduler, the sessions that were dealt to it and links of its own. What its sessions and
//! links produce in one scheduler tick is written at the tick's end, with one call per stream.

mod barrier;
mod holds;
mod home;
mod info;
mod masters;
mod nodes;
mod reads;
mod rights;
mod scripts;
mod strangers;
mod sweeps;
mod upkeep;

use std::cell::{Cell, Ref, RefCell};
use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::cache::{FrontTable, StripeSet};
use crate::clock::Moment;
use crate::metrics::WorkerMetrics;
use crate::net::BufferPool;
use crate::session::Session;
use crate::shared::{Cluster, Landing, Live, Mail, Shared, Watch};
use crate::upstream::{Link, LinkSet, Purpose, Upstream, User};
use barrier::Barriers;
pub use barrier::Told;
pub use home::Home;
pub use masters::{Asks, Round};
pub use reads::pttl;
use rights::Rights;
pub use rights::{Asked, Right, is_denial};
pub use scripts::{CALLER_WORKER_BITS, is_unknown_script};
use sweeps::Sweeps;

/// Bytes that one read takes from a stream at most.
pub const SCRATCH_BYTES: usize = 64 * 1024;
/// Keys (by hash) of huge values that are remembered.
const HUGE_MAX: usize = 1024;

pub struct Worker {
    pub id: u16,
    pub shared: Arc<Shared>,
    pub metrics: Arc<WorkerMetrics>,
    pub upstream: Rc<Upstream>,
    /// The other Redis servers: `Places::own`.
    pub own: Vec<Rc<Upstream>>,
    nodes: nodes::Nodes,
    /// Before a cluster: who serves which slot.
    pub slots: Option<Watch>,
    /// What one read of a client takes.
    pub scratch: RefCell<Box<[u8]>>,
    /// What one read of a link takes.
    pub link_scratch: RefCell<Box<[u8]>>,
    pub pool: RefCell<BufferPool>,
    pub front: RefCell<FrontTable>,
    pub sessions: RefCell<HashMap<u64, Rc<Session>>>,
    users: RefCell<HashMap<u32, Rc<User>>>,
    live: RefCell<Arc<Live>>,
    settings: Cell<Settings>,
    now: Cell<Moment>,
    next_link: Cell<u64>,
    random: Cell<u64>,
    huge: RefCell<HashMap<u64, Moment>>,
    pub rights: Rights,
    barriers: Barriers,
    sweeps: Sweeps,
    /// Keys (by hash) of user sessions of which a use is being written down.
    pub touches: RefCell<HashSet<u64>>,
    /// Who runs scripts on the embedded engine.
    script_caller: RefCell<Option<crate::memory::Caller>>,
    tick: Tick,
    holds: holds::Holds,
}

/// Settings that the hot path reads, copied out of the configuration.
#[derive(Clone, Copy, Default)]
struct Settings {
    freshness: Duration,
    huge_bytes: usize,
    reply_bytes_max: usize,
    request_bytes_max: usize,
    link_in_flight_max: usize,
    client_in_flight_max: usize,
    spill_links_max: usize,
    query_buffer_bytes_max: usize,
    unauth_output_bytes_max: usize,
    buffers_bytes_max: u64,
    notify_barrier: bool,
    fill_first: bool,
}

impl Settings {
    fn of(live: &Live) -> Settings {
        let (cache, limits, upstream) = (&live.config.cache, &live.config.limits, &live.config.upstream);
        Settings {
            freshness: Duration::from_millis(cache.max_staleness_ms),
            huge_bytes: upstream.huge_bytes as usize,
            reply_bytes_max: cache.reply_bytes_max as usize,
            request_bytes_max: limits.cached_request_bytes_max as usize,
            link_in_flight_max: limits.link_in_flight_max,
            client_in_flight_max: limits.client_in_flight_max,
            spill_links_max: upstream.spill_links_max,
            buffers_bytes_max: limits.buffers_bytes_max,
            unauth_output_bytes_max: limits.unauth_output_bytes_max as usize,
            query_buffer_bytes_max: limits.query_buffer_bytes_max as usize,
            notify_barrier: cache.notify_barrier,
            fill_first: cache.admission == crate::config::Admission::First,
        }
    }
}

/// What the end of the tick has to do.
#[derive(Default)]
struct Tick {
    sessions: RefCell<Vec<Rc<Session>>>,
    links: RefCell<Vec<Rc<Link>>>,
    resumed: RefCell<Vec<Rc<Session>>>,
    /// Who is looked at again in the next tick.
    later: RefCell<Vec<Rc<Session>>>,
    waker: RefCell<Option<Waker>>,
}

impl Worker {
    pub fn new(id: u16, shared: Arc<Shared>) -> Rc<Worker> {
        let live = shared.live.load_full();
        Rc::new(Worker {
            id,
            metrics: shared.metrics[usize::from(id)].clone(),
            upstream: Rc::new(Upstream::new(shared.l2.clone())),
            own: shared.places.own.iter().map(|own| Rc::new(Upstream::new(own.clone()))).collect(),
            nodes: nodes::Nodes::default(),
            slots: shared.l2.cluster.as_ref().map(Cluster::watch),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into()),
            link_scratch: RefCell::new(vec![0; SCRATCH_BYTES].into()),
            pool: RefCell::default(),
            front: RefCell::default(),
            sessions: RefCell::default(),
            users: RefCell::default(),
            settings: Cell::new(Settings::of(&live)),
            live: RefCell::new(live),
            now: Cell::new(Moment::now()),
            next_link: Cell::new(1),
            random: Cell::new((u64::from(std::process::id()) << 16) | (u64::from(id) + 1)),
            huge: RefCell::default(),
            rights: Rights::default(),
            barriers: Barriers::default(),
            sweeps: Sweeps::default(),
            touches: RefCell::default(),
            script_caller: RefCell::default(),
            tick: Tick::default(),
            holds: holds::Holds::default(),
            shared,
        })
    }

    /// Serves until the mailbox closes.
    pub async fn run(self: Rc<Self>, mut mailbox: mpsc::Receiver<Mail>) {
        tokio::task::spawn_local(self.clone().end_ticks());
        tokio::task::spawn_local(self.clone().heartbeats());
        tokio::task::spawn_local(self.clone().housekeeping());
        while let Some(mail) = mailbox.recv().await {
            self.tick_clock();
            self.open_mail(mail);
        }
    }

    fn open_mail(self: &Rc<Self>, mail: Mail) {
        match mail {
            Mail::Client(accepted) => Session::begin(self, accepted),
            Mail::Landed(to, Landing::Reply { reply, stripe }) => self.landed_elsewhere(to, reply, stripe),
            Mail::Landed(to, Landing::ReadAgain(wire)) => self.follower_reply(to, None, &wire),
            Mail::Barrier { from, round, early } => self.barrier_asked(from, round, early),
            Mail::BarrierDone { round, told } => self.barrier_returned(round, told),
            Mail::Errand(errand) => errand(self),
        }
    }

    // The tick.

    async fn end_ticks(self: Rc<Self>) {
        loop {
            poll_fn(|cx| {
                if self.tick.is_empty() && !self.barriers.is_wanted() {
                    *self.tick.waker.borrow_mut() = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
            self.end_tick();
            // What is there to do already waits until others have had their turn.
            if !self.tick.is_empty() {
                tokio::task::yield_now().await;
            }
        }
    }

    fn end_tick(self: &Rc<Self>) {
        // Sessions that may go on produce more requests, which may let others go on: bounded by what is in flight.
        for _ in 0..64 {
            let resumed = self.tick.resumed.take();
            if resumed.is_empty() {
                break;
            }
            for session in resumed {
                session.resume(self);
            }
        }
        self.start_early_barriers();
        self.start_barrier();
        let mut links = self.tick.links.take();
        let has_nodes = links.iter().any(|link| link.is_of_a_cluster);
        if has_nodes {
            // What waits longest goes first, and others wait for its replies.
            links.sort_by_key(|link| link.queued_since());
        }
        // Tracked links last: what they tell of an early barrier is to be of after the script.
        for link in links.extract_if(.., |link| link.purpose != Purpose::Tracked) {
            let near = if has_nodes { self.replies_near() } else { 0 };
            if !link.take_hold(self, near) {
                link.flush(self);
            }
        }
        for link in links.drain(..) {
            link.flush(self);
        }
        keep_capacity(&self.tick.links, links);
        let mut sessions = self.tick.sessions.take();
        for session in sessions.drain(..) {
            if !session.take_hold(self) {
                session.flush(self);
            }
        }
        keep_capacity(&self.tick.sessions, sessions);
        self.tick.resumed.borrow_mut().append(&mut self.tick.later.borrow_mut());
    }

    fn wake_tick(&self) {
        if let Some(waker) = self.tick.waker.take() {
            waker.wake();
        }
    }

    pub fn link_is_dirty(&self, link: Rc<Link>) {
        self.tick.links.borrow_mut().push(link);
        self.wake_tick();
    }
    pub fn session_is_dirty(&self, session: Rc<Session>) {
        self.tick.sessions.borrow_mut().push(session);
        self.wake_tick();
    }
    /// Lets a session look again whether it may go on, at the end of this tick.
    pub fn resume(&self, session: Rc<Session>) {
        self.tick.resumed.borrow_mut().push(session);
        self.wake_tick();
    }

    /// The same behind this tick's writes.
    pub fn resume_after_tick(&self, session: Rc<Session>) {
        self.tick.later.borrow_mut().push(session);
        self.wake_tick();
    }

    // Clock, settings, numbers.

    /// The time as of this batch of work.
    #[inline]
    pub fn now(&self) -> Moment {
        self.now.get()
    }
    /// Takes the time once for a batch.
    #[inline]
    pub fn tick_clock(&self) -> Moment {
        let now = Moment::now();
        self.now.set(now);
        now
    }

    /// The time of day, in microseconds since 1970: deadlines of the embedded engine are told in it.
    pub fn unix_us(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.unwrap_or_default().as_micros() as u64
    }

    /// The settings in force.
    pub fn live(&self) -> Arc<Live> {
        self.live.borrow().clone()
    }
    /// The same for the moment: they must be let go before they can change.
    pub fn live_now(&self) -> Ref<'_, Live> {
        Ref::map(self.live.borrow(), |live| &**live)
    }
    pub fn settings_changed(&self) {
        let live = self.shared.live.load_full();
        self.settings.set(Settings::of(&live));
        *self.live.borrow_mut() = live;
    }
    pub fn is_denied(&self, row: u16) -> bool {
        self.live.borrow().denied[usize::from(row)]
    }

    pub fn caches(&self) -> bool {
        self.shared.cache.is_some()
    }
    pub fn freshness(&self) -> Duration {
        self.settings.get().freshness
    }
    pub fn huge_bytes(&self) -> usize {
        self.settings.get().huge_bytes
    }
    pub fn reply_bytes_max(&self) -> usize {
        self.settings.get().reply_bytes_max
    }
    pub fn cached_request_bytes_max(&self) -> usize {
        self.settings.get().request_bytes_max
    }
    pub fn link_in_flight_max(&self) -> usize {
        self.settings.get().link_in_flight_max
    }
    pub fn client_in_flight_max(&self) -> usize {
        self.settings.get().client_in_flight_max
    }
    pub fn spill_links_max(&self) -> usize {
        self.settings.get().spill_links_max
    }
    pub fn query_buffer_bytes_max(&self) -> usize {
        self.settings.get().query_buffer_bytes_max
    }
    pub fn buffers_bytes_max(&self) -> u64 {
        self.settings.get().buffers_bytes_max
    }
    pub fn unauth_output_bytes_max(&self) -> usize {
        self.settings.get().unauth_output_bytes_max
    }
    pub fn notify_barrier(&self) -> bool {
        self.settings.get().notify_barrier
    }
    pub fn fills_at_first_read(&self) -> bool {
        self.settings.get().fill_first
    }

    pub fn next_link_id(&self) -> u64 {
        self.next_link.replace(self.next_link.get() + 1)
    }

    /// Not for secrets (xorshift).
    pub fn random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        x
    }
    /// Between three quarters and five quarters of the time.
    pub fn jitter(&self, time: Duration) -> Duration {
        time * (75 + (self.random() % 51) as u32) / 100
    }

    // Users and sessions.

    pub fn own_user(&self) -> &Rc<User> {
        &self.upstream.own_user
    }

    pub fn user(&self, credentials: &crate::upstream::Credentials) -> Rc<User> {
        let id = self.shared.user_id(credentials);
        let mut users = self.users.borrow_mut();
        users
            .entry(id)
            .or_insert_with(|| Rc::new(User { id, credentials: Some(credentials.clone()) }))
            .clone()
    }

    pub fn session(&self, id: u64) -> Option<Rc<Session>> {
        self.sessions.borrow().get(&id).cloned()
    }

    /// L2 does not know the user any more.
    pub fn close_sessions_of(self: &Rc<Self>, user: u32) {
        let sessions: Vec<_> = self.sessions.borrow().values().cloned().collect();
        for session in sessions.into_iter().filter(|s| s.user_id() == user) {
            session.close_after_replies(self);
        }
    }

    pub fn links_of(&self, user: &Rc<User>, db: u32) -> Rc<LinkSet> {
        self.upstream.set(user, db)
    }

    // L1.

    #[inline]
    pub fn bump(&self, stripes: &StripeSet) {
        if let Some(cache) = &self.shared.cache {
            cache.stamps.bump_set(stripes);
        }
    }

    pub fn note_huge(&self, key: u64) {
        let mut huge = self.huge.borrow_mut();
        if huge.len() >= HUGE_MAX {
            huge.clear();
        }
        huge.insert(key, self.now());
    }

    /// Whether this key's value was huge when it was read last.
    #[inline]
    pub fn is_huge(&self, key: u64) -> bool {
        let huge = self.huge.borrow();
        !huge.is_empty() && huge.contains_key(&key)
    }

    /// Hands mail to a worker. Where its mailbox is full, the mail waits for room.
    pub fn mail(&self, worker: u16, mail: Mail) {
        let mailbox = &self.shared.mailboxes[usize::from(worker)];
        if let Err(mpsc::error::TrySendError::Full(mail)) = mailbox.try_send(mail) {
            let mailbox = mailbox.clone();
            // It fails only where the worker has ended, and with it everybody who waits there.
            tokio::task::spawn_local(async move { mailbox.send(mail).await.ok() });
        }
    }
}

impl Tick {
    fn is_empty(&self) -> bool {
        self.sessions.borrow().is_empty()
            && self.links.borrow().is_empty()
            && self.resumed.borrow().is_empty()
            && self.later.borrow().is_empty()
    }
}

/// Puts an emptied list back, unless a new one has grown in the meantime.
fn keep_capacity<T>(place: &RefCell<Vec<T>>, emptied: Vec<T>) {
    let mut place = place.borrow_mut();
    if place.capacity() < emptied.capacity() && place.is_empty() {
        *place = emptied;
    }
}
