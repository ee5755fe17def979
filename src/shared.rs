//! What all workers share: L1, leases, settings, counts, and a bounded mailbox per worker. No lock here is held while
//! anything else is done.

mod cluster;
mod embedded;
mod leader;
mod masters;
mod places;
mod remote;
mod waiters;

pub use cluster::{Cluster, Outdated, Owner, Topology, View, Watch};
pub use embedded::LIMIT_DATABASES;
pub use leader::{Leader, Leadership};
pub use masters::{Masters, Voter};
pub use places::{Place, Places};
pub use remote::{Remote, Slots};
pub use waiters::{Waiter, Waiters};

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use dashmap::DashMap;
use tokio::sync::mpsc;

use crate::cache::{Cache, CacheConfig, Follower, Lease};
use crate::clock::Moment;
use crate::config::{Config, Endpoint, Kind, Residences};
use crate::memory::Engine;
use crate::metrics::WorkerMetrics;
use crate::rules::Rules;
use crate::tls;
use crate::upstream::{Credentials, Purpose};
use crate::worker::{Told, Worker};

/// A task for another worker: it runs there between two scheduler ticks.
pub type Errand = Box<dyn FnOnce(&std::rc::Rc<Worker>) + Send>;

/// What crosses workers.
pub enum Mail {
    Client(crate::server::Accepted),
    /// A flight of another worker has landed.
    Landed(Follower, Landing),
    /// Ask your tracked links and tell that worker when all have answered. `early`: ask them for the time.
    Barrier {
        from: u16,
        round: u64,
        early: bool,
    },
    BarrierDone {
        round: u64,
        told: Told,
    },
    Errand(Errand),
}

/// What a follower gets: the reply, or its request back, to read by itself.
pub enum Landing {
    Reply { reply: Bytes, stripe: crate::cache::Stripe },
    ReadAgain(Bytes),
}

/// Settings in force, with what is derived from them.
pub struct Live {
    pub config: Config,
    pub rules: Rules,
    /// By row of the command table.
    pub denied: Vec<bool>,
}

/// What L2 says of a command that our table does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    pub readonly: bool,
    pub blocking: bool,
    pub exists: bool,
    pub learned: Moment,
}

pub struct Shared {
    hasher: foldhash::fast::RandomState,
    pub live: ArcSwap<Live>,
    /// Certificates and whom to trust.
    pub tls: tls::InForce,
    /// What executes commands, where it is a Redis.
    pub l2: Arc<Remote>,
    /// Where kinds of shared state live.
    pub places: Places,
    pub cache: Option<Arc<Cache>>,
    /// What executes commands where there is no L2.
    pub engine: Option<Engine>,
    limits_here: OnceLock<Engine>,
    /// Where kinds live that are kept in this process beside L2.
    pub beside: Option<Engine>,
    pub metrics: Vec<Arc<WorkerMetrics>>,
    pub mailboxes: Vec<mpsc::Sender<Mail>>,
    leases: Mutex<Vec<Arc<Lease>>>,
    /// How many leases had their first fill.
    pub first_fills: Arc<AtomicU64>,
    users: Mutex<HashMap<Credentials, u32>>,
    pub learned: DashMap<String, Learned>,
    pub clients: AtomicUsize,
    /// Connections refused because clients_max was reached.
    pub refused_clients: AtomicU64,
    links_shared: AtomicUsize,
    links_pinned: AtomicUsize,
    /// Sessions in MONITOR mode: while there are any, L1 is bypassed.
    pub monitors: AtomicUsize,
    pub next_client: AtomicU64,
    next_user: AtomicU32,
    pub buffered_bytes: AtomicU64,
    /// L2 expires hash fields by themselves (HPEXPIRE, 7.4 and later).
    pub fields_expire: AtomicBool,
    /// Moves on when rights may have changed.
    pub rights_version: AtomicU64,
    /// CLIENT PAUSE WRITE is in force until then: the nanoseconds of a `Moment`.
    pub writes_paused_until: AtomicU64,
    /// How L2 words its refusal of HELLO before authentication.
    pub hello_says_proto: AtomicBool,
    /// L2 evicts keys that it does not see used.
    pub l2_evicts: AtomicBool,
    /// Clients that wait for locks.
    pub lock_waiters: Waiters,
    pub draining: AtomicBool,
    /// As which node of a cluster the daemon shows itself.
    pub node_id: String,
    pub started: Moment,
}

pub const MAILBOX_LEN_MAX: usize = 65_536;
/// Commands of modules and newer versions that are remembered.
const LEARNED_MAX: usize = 4096;

/// 40 hexadecimal digits, as Redis Cluster names its nodes.
fn random_node_id() -> String {
    let part = || foldhash::fast::RandomState::default().hash_one(std::process::id());
    format!("{:016x}{:016x}{:08x}", part(), part(), part() as u32)
}

impl Shared {
    pub fn new(
        live: Live,
        residences: Residences,
        tls: tls::InForce,
        mailboxes: Vec<mpsc::Sender<Mail>>,
    ) -> Shared {
        let cache = live.config.l1_enabled().then(|| {
            Arc::new(Cache::new(CacheConfig {
                bytes_max: live.config.cache.bytes_max,
                ttl_max: std::time::Duration::from_secs(live.config.cache.ttl_seconds),
            }))
        });
        let lock_waiters = Waiters::default();
        let is_embedded = residences.upstream.endpoint == Endpoint::Memory;
        let places = Places::new(residences);
        let (config, waiters) = (&live.config, &lock_waiters);
        let engine = is_embedded.then(|| embedded::serving(config, mailboxes.clone(), waiters.clone()));
        let has_beside = !places.beside().is_empty();
        let beside = has_beside.then(|| embedded::beside(config, mailboxes.clone(), waiters.clone()));
        // The engine tells of them from the beginning.
        if places.is_in_process(Kind::Lock) {
            lock_waiters.is_always_told();
        }
        Shared {
            engine,
            limits_here: OnceLock::new(),
            hasher: foldhash::fast::RandomState::default(),
            l2: places.l2.clone(),
            places,
            beside,
            cache,
            metrics: mailboxes.iter().map(|_| Arc::new(WorkerMetrics::default())).collect(),
            live: ArcSwap::from_pointee(live),
            tls,
            mailboxes,
            leases: Mutex::default(),
            first_fills: Arc::default(),
            users: Mutex::default(),
            learned: DashMap::new(),
            clients: AtomicUsize::new(0),
            refused_clients: AtomicU64::new(0),
            links_shared: AtomicUsize::new(0),
            links_pinned: AtomicUsize::new(0),
            monitors: AtomicUsize::new(0),
            next_client: AtomicU64::new(1),
            next_user: AtomicU32::new(1),
            buffered_bytes: AtomicU64::new(0),
            fields_expire: AtomicBool::new(false),
            rights_version: AtomicU64::new(0),
            writes_paused_until: AtomicU64::new(0),
            hello_says_proto: AtomicBool::new(false),
            l2_evicts: AtomicBool::new(false),
            lock_waiters,
            draining: AtomicBool::new(false),
            node_id: random_node_id(),
            started: Moment::now(),
        }
    }

    /// The same for equal bytes on every worker; seeded at start.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash_one(bytes)
    }

    /// The same of a value; never equal to a hash of bytes by intent.
    pub fn hash_of(&self, value: &impl std::hash::Hash) -> u64 {
        self.hasher.hash_one(value)
    }

    /// What counts limits while L2 is away. Made when the first one is.
    pub fn limits_here(&self) -> &Engine {
        self.limits_here.get_or_init(embedded::limits)
    }

    /// Of a link of this worker to the Redis of this number.
    pub fn new_lease(&self, worker: u16, remote: u32) -> Arc<Lease> {
        let lease = Arc::new(Lease::new(worker, remote, self.first_fills.clone()));
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).push(lease.clone());
        lease
    }

    pub fn drop_lease(&self, lease: &Arc<Lease>) {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).retain(|l| !Arc::ptr_eq(l, lease));
    }

    /// Everything in L1 is invalid from now on, and so is what fills under way would store.
    pub fn revoke_leases(&self) {
        self.rights_version.fetch_add(1, Relaxed);
        for lease in self.leases() {
            lease.revoke();
        }
    }

    /// The same of what was read from these nodes of a cluster, which do not serve it any more.
    pub fn revoke_leases_of(&self, nodes: &Outdated) {
        if nodes.is_empty() {
            return;
        }
        for lease in self.leases().iter().filter(|lease| nodes.contains(&lease.remote)) {
            lease.revoke();
        }
    }

    pub fn leases(&self) -> Vec<Arc<Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The workers whose tracked links may have filled entries.
    pub fn workers_with_entries(&self) -> Vec<u16> {
        let leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let mut workers: Vec<u16> = leases.iter().filter(|l| l.has_filled()).map(|l| l.worker).collect();
        workers.sort_unstable();
        workers.dedup();
        workers
    }

    /// The number of an L2 user; the same for the same name and password.
    pub fn user_id(&self, credentials: &Credentials) -> u32 {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        *users.entry(credentials.clone()).or_insert_with(|| self.next_user.fetch_add(1, Relaxed))
    }

    pub fn link_count(&self, purpose: Purpose) -> &AtomicUsize {
        match purpose {
            Purpose::Pinned | Purpose::Fresh => &self.links_pinned,
            _ => &self.links_shared,
        }
    }

    pub fn learn(&self, name: String, learned: Learned) {
        if self.learned.len() >= LEARNED_MAX {
            self.learned.clear();
        }
        self.learned.insert(name, learned);
    }
}
