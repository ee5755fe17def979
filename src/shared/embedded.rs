//! Builds the embedded engine: its settings, and where goes what it has to tell.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::{Errand, Mail, Waiters};
use crate::config::{Config, Kind};
use crate::memory::{Delivery, Engine, Policy, Settings};
use crate::resp;
use crate::state::Naming;
use crate::state::lock::{Wake, wake_channel};
use crate::worker::CALLER_WORKER_BITS;

/// Whom the engine tells of releases of locks, and beside L2 of all that is published.
const LISTENER: u64 = u64::MAX - 1;

/// The engine in the place of L2. What it has to tell a session goes to the session's worker; what it tells of locks, to
/// those who wait.
pub(super) fn serving(config: &Config, mailboxes: Vec<mpsc::Sender<Mail>>, waiters: Waiters) -> Engine {
    let posts: Vec<Post> = mailboxes.into_iter().map(Post::new).collect();
    let deliver = move |delivery: Delivery| {
        let (caller, frame, ends_wait) = match delivery {
            Delivery::Push { caller, frame } => (caller, frame, false),
            Delivery::Unblocked { caller, reply } => (caller, reply, true),
        };
        if caller == LISTENER {
            let (_, message) = published(&frame).unwrap_or_default();
            return Wake::parse(message).iter().for_each(|wake| waiters.wake(wake));
        }
        let worker = (caller & ((1 << CALLER_WORKER_BITS) - 1)) as usize;
        let session = caller >> CALLER_WORKER_BITS;
        let errand: Errand = Box::new(move |worker| {
            if let Some(session) = worker.session(session) {
                session.told(worker, frame, ends_wait);
            }
        });
        if let Some(post) = posts.get(worker) {
            post.send(errand);
        }
    };
    let engine = Engine::new(settings(config), Box::new(deliver));
    engine.execute(&mut engine.attach(LISTENER), &[b"SUBSCRIBE", &wakes(config)], &mut Vec::new());
    engine
}

/// What limits may take that are counted here while L2 is away; above it those go first that end first.
const LIMITS_BYTES_MAX: u64 = 16 << 20;
pub const LIMIT_DATABASES: u32 = 64;

/// A keyspace for limits that are counted here while L2 is away. Nobody waits or listens there.
pub(super) fn limits() -> Engine {
    let settings = Settings {
        bytes_max: LIMITS_BYTES_MAX,
        policy: Policy::VolatileTtl,
        databases: LIMIT_DATABASES,
        protected: Vec::new(),
        ..Settings::default()
    };
    Engine::new(settings, Box::new(|_| {}))
}

/// The engine of kinds that live in this process beside L2. Who waits for locks is told of releases; events are published
/// in L2, where subscribers are.
pub(super) fn beside(config: &Config, mailboxes: Vec<mpsc::Sender<Mail>>, waiters: Waiters) -> Engine {
    let wakes = wakes(config);
    let post = mailboxes.into_iter().next().map(Post::new);
    let deliver = move |delivery: Delivery| {
        let Delivery::Push { frame, .. } = delivery else { return };
        let Some((channel, message)) = published(&frame) else { return };
        if channel == wakes {
            return Wake::parse(message).iter().for_each(|wake| waiters.wake(wake));
        }
        let publish = resp::encode_request(&[b"PUBLISH", channel, message]);
        let errand: Errand = Box::new(move |worker| worker.publish_in_l2(&publish));
        // Always the same worker: events keep their order.
        if let Some(post) = &post {
            post.send(errand);
        }
    };
    let engine = Engine::new(settings(config), Box::new(deliver));
    engine.execute(&mut engine.attach(LISTENER), &[b"PSUBSCRIBE", b"*"], &mut Vec::new());
    engine
}

/// The channel and the text of a message.
fn published(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    let elements = resp::array_elements(frame)?;
    let [.., channel, message] = elements.as_slice() else { return None };
    Some((resp::bulk_text(channel)?, resp::bulk_text(message)?))
}

fn wakes(config: &Config) -> Vec<u8> {
    wake_channel(&Naming { prefix: config.prefix(Kind::Lock).into(), tagged: false })
}

/// The way to a worker's mailbox. Keeps the order, and never waits, since the engine is locked meanwhile: what finds no
/// room is carried by a thread for as long as there is such.
#[derive(Clone)]
struct Post {
    mailbox: mpsc::Sender<Mail>,
    behind: Arc<Mutex<Behind>>,
}

/// What finds no room. The lock is held for a push, a pop, or an attempt to hand over.
#[derive(Default)]
struct Behind {
    mail: VecDeque<Mail>,
    is_carried: bool,
}

impl Post {
    fn new(mailbox: mpsc::Sender<Mail>) -> Post {
        Post { mailbox, behind: Arc::default() }
    }

    fn send(&self, errand: Errand) {
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        let mail = Mail::Errand(errand);
        if behind.is_carried {
            return behind.mail.push_back(mail);
        }
        // It fails otherwise only where the worker has ended, and its sessions with it.
        if let Err(mpsc::error::TrySendError::Full(mail)) = self.mailbox.try_send(mail) {
            behind.mail.push_back(mail);
            behind.is_carried = true;
            let post = self.clone();
            std::thread::spawn(move || while post.carry() {});
        }
    }

    /// Whether there is more to carry.
    fn carry(&self) -> bool {
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mail) = behind.mail.pop_front() else {
            behind.is_carried = false;
            return false;
        };
        drop(behind);
        self.mailbox.blocking_send(mail).is_ok()
    }
}

fn settings(config: &Config) -> Settings {
    let kinds = [
        ("lock:", "x:{lock:", &config.lock.prefix),
        ("session:", "x:session:{", &config.session.prefix),
        ("presence:", "x:presence:{", &config.presence.prefix),
        ("ratelimit:", "ratelimit:", &config.ratelimit.prefix),
    ];
    let protected = kinds.iter().flat_map(|(primary, companion, prefix)| {
        [primary, companion].map(|start| format!("{prefix}{start}").into_bytes())
    });
    Settings {
        bytes_max: config.memory.bytes_max,
        policy: Policy::named(&config.memory.policy).unwrap_or_default(),
        databases: config.memory.databases as u32,
        protected: protected.collect(),
        ..Settings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_counted_here_stay_within_their_room_whoever_asks() {
        let engine = limits();
        let mut caller = engine.connect(1);
        for subject in 0..150_000 {
            let key = format!("ratelimit:user:{subject}");
            let text = [b'x'; 100];
            let mut reply = Vec::new();
            engine.execute(&mut caller, &[b"SET", key.as_bytes(), &text, b"PX", b"60000"], &mut reply);
            assert_eq!(reply, b"+OK\r\n");
        }
        let info = engine.info(&[b"memory"]);
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("it says so");
        let used: u64 = used.trim().parse().expect("a number");
        // The last one's room is made when the next one comes.
        assert!(used <= LIMITS_BYTES_MAX + 4096, "{used}");
        assert!(used > LIMITS_BYTES_MAX / 2, "most of it is used: {used}");
    }
}
