//! Who waits for a lock, in all workers: a release that one of them should look at wakes it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};

use crate::state::lock::{Nonce, Wake};

type Waiting = HashMap<Vec<u8>, Vec<(Nonce, Arc<Notify>)>>;

#[derive(Clone)]
pub struct Waiters {
    waiting: Arc<Mutex<Waiting>>,
    /// Told when a waiter comes.
    wanted: Arc<Notify>,
    /// In how many places releases are heard of: in one, or on several masters.
    listening: watch::Sender<usize>,
}

impl Default for Waiters {
    fn default() -> Self {
        Waiters { waiting: Arc::default(), wanted: Arc::default(), listening: watch::Sender::new(0) }
    }
}

/// One waiter; it leaves when this is dropped.
pub struct Waiter {
    waiters: Waiters,
    name: Vec<u8>,
    nonce: Nonce,
    woken: Arc<Notify>,
}

impl Waiters {
    pub fn enter(&self, name: &[u8], nonce: Nonce) -> Waiter {
        let woken = Arc::new(Notify::new());
        self.lock().entry(name.to_vec()).or_default().push((nonce, woken.clone()));
        self.wanted.notify_waiters();
        Waiter { waiters: self.clone(), name: name.to_vec(), nonce, woken }
    }

    /// Returns once releases are heard of.
    pub async fn until_listening(&self) {
        // The sender is held here.
        let _ = self.listening.subscribe().wait_for(|places| *places > 0).await;
    }

    /// Returns as soon as somebody waits.
    pub async fn until_wanted(&self) {
        loop {
            let wanted = self.wanted.notified();
            let mut wanted = std::pin::pin!(wanted);
            // From here on nobody comes unnoticed.
            wanted.as_mut().enable();
            if !self.is_empty() {
                return;
            }
            wanted.await;
        }
    }

    /// Called by one who listens, as long as it keeps what it gets. Who may have missed a release looks again.
    pub fn listening(&self) -> Listening {
        self.listening.send_modify(|places| *places += 1);
        self.wake_all();
        Listening(self.clone())
    }

    /// Releases are heard of from the beginning to the end.
    pub fn is_always_told(&self) {
        self.listening.send_modify(|places| *places += 1);
    }

    fn wake_all(&self) {
        self.lock().values().flatten().for_each(|(_, woken)| woken.notify_one());
    }

    pub fn wake(&self, wake: &Wake<'_>) {
        let waiting = self.lock();
        let Some(waiters) = waiting.get(wake.name) else { return };
        for (_, woken) in waiters.iter().filter(|(nonce, _)| wake.next.is_none_or(|next| next == *nonce)) {
            woken.notify_one();
        }
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Completes at the next wake, or at once if there was one since the last.
    pub fn woken(&self) -> impl Future<Output = ()> + '_ {
        self.woken.notified()
    }
}

/// Releases are heard of in one place more until this is dropped.
pub struct Listening(Waiters);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.listening.send_modify(|places| *places -= 1);
        self.0.wake_all();
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        if let Some(waiters) = waiting.get_mut(&self.name) {
            waiters.retain(|(nonce, _)| *nonce != self.nonce);
            if waiters.is_empty() {
                waiting.remove(&self.name);
            }
        }
    }
}
