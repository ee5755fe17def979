//! Builds the embedded engine: its settings, and where goes what it has to tell.

use tokio::sync::mpsc;

use super::{Errand, Mail, Waiters};
use crate::config::Config;
use crate::memory::{Delivery, Engine, Policy, Settings};
use crate::resp;
use crate::state::Naming;
use crate::state::lock::{Wake, wake_channel};
use crate::worker::CALLER_WORKER_BITS;

/// Whom the engine tells of releases of locks.
const LISTENER: u64 = u64::MAX - 1;

/// What it has to tell a session goes to the session's worker; what it tells of locks, to those who wait.
pub(super) fn engine(config: &Config, mailboxes: Vec<mpsc::Sender<Mail>>, waiters: Waiters) -> Engine {
    let woken = waiters.clone();
    let deliver = move |delivery: Delivery| {
        let (caller, frame, ends_wait) = match delivery {
            Delivery::Push { caller, frame } => (caller, frame, false),
            Delivery::Unblocked { caller, reply } => (caller, reply, true),
        };
        if caller == LISTENER {
            let elements = resp::array_elements(&frame).unwrap_or_default();
            let message = elements.last().and_then(|text| resp::bulk_text(text));
            return message.and_then(Wake::parse).iter().for_each(|wake| woken.wake(wake));
        }
        let worker = (caller & ((1 << CALLER_WORKER_BITS) - 1)) as usize;
        let session = caller >> CALLER_WORKER_BITS;
        let errand: Errand = Box::new(move |worker| {
            if let Some(session) = worker.session(session) {
                session.told(worker, frame, ends_wait);
            }
        });
        if let Some(mailbox) = mailboxes.get(worker) {
            post(mailbox, errand);
        }
    };
    let engine = Engine::new(settings(config), Box::new(deliver));
    let channel = wake_channel(&Naming { prefix: config.lock.prefix.clone().into_bytes(), tagged: false });
    engine.execute(&mut engine.connect(LISTENER), &[b"SUBSCRIBE", &channel], &mut Vec::new());
    waiters.set_listening(true);
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

/// Where the mailbox is full, the errand waits for room.
fn post(mailbox: &mpsc::Sender<Mail>, errand: Errand) {
    if let Err(mpsc::error::TrySendError::Full(mail)) = mailbox.try_send(Mail::Errand(errand)) {
        let mailbox = mailbox.clone();
        // It fails only where the worker has ended, and its sessions with it.
        std::thread::spawn(move || drop(mailbox.blocking_send(mail)));
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
