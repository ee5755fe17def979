//! The engine as sessions use it: one lock around all databases, what comes in by `execute` and goes out by `deliver`.
//! Decides nothing about commands (that is `dispatch`); performs no I/O and never waits but for its lock.
//!
//! The lock is reentrant because a script calls commands: it runs under the lock, on the same thread, while nothing is
//! borrowed. What is to be delivered to other sessions is listed under the lock and handed over after it, in order.

mod access;
mod calls;

mod config;
mod dispatch;
mod info;
mod listing;
mod pubsub;
mod registry;
mod scripting;
mod server;
mod transaction;
mod waiters;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use parking_lot::ReentrantMutex;

use super::caller::Caller;
use super::context::Argv;
use super::keyspace::{Keyspace, Settings};
use super::script::Host;
pub use dispatch::answer_unknown;
use dispatch::{Place, Turn};
use registry::Registry;
use scripting::Frame;
use waiters::Waiters;

/// Expired keys looked for in one round of upkeep.
const EXPIRY_KEYS_MAX: usize = 20_000;
/// Steps of a growing or shrinking table in one round of upkeep.
const REBUILD_STEPS: usize = 100;

/// How a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executed {
    /// The reply is written (with none or several for subscriptions).
    Replied,
    /// The reply comes by `Delivery::Unblocked`. Until then the caller's next requests wait.
    Blocked,
}

/// What goes to a session without its asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// A message, in the caller's protocol.
    Push { caller: u64, frame: Bytes },
    /// The reply of a request that was `Blocked`.
    Unblocked { caller: u64, reply: Bytes },
}

/// Answers commands of the connection itself (CLIENT, HELLO, AUTH) that stand in a transaction: appends the reply.
pub type Own<'a> = dyn FnMut(&mut Caller, &Argv<'_>, &mut Vec<u8>) + 'a;

/// The keyspace in the process, shared by all workers. A clone is another handle.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    lock: ReentrantMutex<RefCell<Core>>,
    outbox: Mutex<VecDeque<Delivery>>,
    has_mail: AtomicBool,
    /// Held while the outbox is emptied, so that two threads do not overtake each other.
    delivering: Mutex<()>,
    deliver: Box<dyn Fn(Delivery) + Send + Sync>,
    started: Instant,
}

/// All that the lock guards.
struct Core {
    keyspace: Keyspace,
    registry: Registry,
    waiters: Waiters,
    /// Made when the first script comes.
    host: Option<Host>,
    /// The script that runs.
    frame: Option<Frame>,
    counters: Counters,
    parameters: config::Parameters,
    /// Nothing could be evicted when the running request began.
    is_out_of_memory: bool,
}

/// What INFO counts besides the keyspace's own.
#[derive(Default)]
struct Counters {
    commands: u64,
    errors: u64,
    peak_bytes: usize,
    callers: usize,
    connections: u64,
    active_expiry_off: bool,
}

impl Engine {
    /// `deliver` is called after the lock was released, in the order of events. It must only hand over: a call of the
    /// engine from it would wait for itself.
    pub fn new(settings: Settings, deliver: Box<dyn Fn(Delivery) + Send + Sync>) -> Engine {
        let core = Core {
            keyspace: Keyspace::new(settings),
            registry: Registry::default(),
            waiters: Waiters::default(),
            host: None,
            frame: None,
            counters: Counters::default(),
            parameters: config::Parameters::default(),
            is_out_of_memory: false,
        };
        let inner = Inner {
            lock: ReentrantMutex::new(RefCell::new(core)),
            outbox: Mutex::default(),
            has_mail: AtomicBool::new(false),
            delivering: Mutex::default(),
            deliver,
            started: Instant::now(),
        };
        Engine { inner: Arc::new(inner) }
    }

    /// One per client connection. `id` is told in deliveries.
    pub fn connect(&self, id: u64) -> Caller {
        self.inner.with_core(|core| {
            core.counters.callers += 1;
            core.counters.connections += 1;
        });
        Caller { id, ..Caller::default() }
    }

    /// For the daemon itself, which INFO does not count among the clients. Such callers stay.
    pub fn attach(&self, id: u64) -> Caller {
        Caller { id, ..Caller::default() }
    }

    /// Forgets all that the caller waits for, watches and listens to.
    pub fn disconnect(&self, caller: &mut Caller) {
        self.reset(caller);
        self.inner.with_core(|core| {
            core.waiters.remove_caller(&mut core.keyspace, caller.id);
            core.counters.callers -= 1;
        });
    }

    /// RESET: no transaction, nothing watched, no subscriptions, database 0, RESP2.
    pub fn reset(&self, caller: &mut Caller) {
        self.inner.with_core(|core| {
            caller.queue = None;
            transaction::unwatch_all(&mut core.keyspace, caller);
            core.registry.forget(caller);
        });
        caller.db = 0;
        caller.resp3 = false;
    }

    /// HELLO: the protocol of replies and messages from now on.
    pub fn speak(&self, caller: &mut Caller, resp3: bool) {
        caller.resp3 = resp3;
        if caller.is_subscriber() {
            self.inner.with_core(|core| core.registry.speak(caller.id, resp3));
        }
    }

    /// Runs one request and appends what it replies to `out`.
    pub fn execute(&self, caller: &mut Caller, argv: &Argv<'_>, out: &mut Vec<u8>) -> Executed {
        self.execute_at(now_us(), caller, argv, out)
    }

    /// The same at a given time (Unix microseconds).
    pub fn execute_at(
        &self,
        now_us: u64,
        caller: &mut Caller,
        argv: &Argv<'_>,
        out: &mut Vec<u8>,
    ) -> Executed {
        self.execute_beside(now_us, caller, argv, out, &mut |_, argv, out| {
            dispatch::answer_unknown(argv, out);
        })
    }

    /// The same for a session that answers some commands itself: `own` is called for those when they come here, as they
    /// do in transactions.
    pub fn execute_beside(
        &self,
        now_us: u64,
        caller: &mut Caller,
        argv: &Argv<'_>,
        out: &mut Vec<u8>,
        own: &mut Own<'_>,
    ) -> Executed {
        let inner = &self.inner;
        let guard = inner.lock.lock();
        let mut turn = Turn { inner, core: &guard, caller, out, now_us, place: Place::Session, own };
        let executed = dispatch::process(&mut turn, argv);
        let garbage = {
            let core = &mut *guard.borrow_mut();
            core.serve_waiters(inner, now_us);
            core.keyspace.take_garbage()
        };
        drop(guard);
        drop(garbage);
        inner.hand_over();
        executed
    }

    /// To be called about ten times a second: takes away what expired, and ends waits whose time is up.
    pub fn upkeep(&self) {
        self.upkeep_at(now_us());
    }

    /// The same at a given time (Unix microseconds).
    pub fn upkeep_at(&self, now_us: u64) {
        let inner = &self.inner;
        let garbage = inner.with_core(|core| {
            let now_ms = now_us / 1000;
            if !core.counters.active_expiry_off {
                core.keyspace.expire_some(now_ms, EXPIRY_KEYS_MAX);
            }
            core.keyspace.rebuild_some(REBUILD_STEPS);
            core.serve_waiters(inner, now_us);
            core.end_waits(inner, now_ms);
            core.keyspace.take_garbage()
        });
        drop(garbage);
        inner.hand_over();
    }

    /// When the next wait ends (Unix ms), for those who want `upkeep` to be called just then.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.inner.with_core(|core| core.waiters.next_deadline_ms())
    }

    /// Whether this caller's request waits.
    pub fn is_blocked(&self, id: u64) -> bool {
        self.inner.with_core(|core| core.waiters.holds(id))
    }

    /// CLIENT UNBLOCK: ends the wait of a caller, as if its time were up or with an error. Gives whether it waited.
    pub fn unblock(&self, id: u64, with_error: bool) -> bool {
        let inner = &self.inner;
        let found = inner.with_core(|core| core.end_wait_of(inner, id, with_error));
        inner.hand_over();
        found
    }

    /// INFO's text, of these sections (none: the usual ones).
    pub fn info(&self, sections: &[&[u8]]) -> String {
        self.inner.with_core(|core| info::text(core, &self.inner, sections, now_us()))
    }
}

impl Inner {
    fn with_core<T>(&self, f: impl FnOnce(&mut Core) -> T) -> T {
        f(&mut self.lock.lock().borrow_mut())
    }

    /// Lists something for `hand_over`. Called under the lock.
    fn post(&self, delivery: Delivery) {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner).push_back(delivery);
        self.has_mail.store(true, Ordering::Release);
    }

    /// Delivers all that is listed, also by other threads: when it returns, what this thread listed is delivered.
    fn hand_over(&self) {
        if !self.has_mail.load(Ordering::Acquire) {
            return;
        }
        let _turn = self.delivering.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let next = {
                let mut outbox = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
                if outbox.is_empty() {
                    self.has_mail.store(false, Ordering::Release);
                }
                outbox.pop_front()
            };
            match next {
                Some(delivery) => (self.deliver)(delivery),
                None => return,
            }
        }
    }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as u64
}
