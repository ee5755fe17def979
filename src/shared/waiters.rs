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
    /// Told when the first waiter comes.
    pub wanted: Arc<Notify>,
    /// Whether releases are heard of.
    listening: watch::Sender<bool>,
}

impl Default for Waiters {
    fn default() -> Self {
        Waiters { waiting: Arc::default(), wanted: Arc::default(), listening: watch::Sender::new(false) }
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
        self.wanted.notify_one();
        Waiter { waiters: self.clone(), name: name.to_vec(), nonce, woken }
    }

    /// Returns once releases are heard of.
    pub async fn until_listening(&self) {
        // The sender is held here.
        let _ = self.listening.subscribe().wait_for(|listening| *listening).await;
    }

    /// Called by the one who listens. Who may have missed a release looks again.
    pub fn set_listening(&self, listening: bool) {
        self.listening.send_replace(listening);
        self.lock().values().flatten().for_each(|(_, woken)| woken.notify_one());
    }

    pub fn wake(&self, wake: &Wake<'_>) {
        let waiting = self.lock();
        let Some(waiters) = waiting.get(wake.name) else { return };
        for (_, woken) in waiters.iter().filter(|(nonce, _)| wake.next.is_none_or(|next| next == *nonce)) {
            woken.notify_one();
        }
    }

    pub fn is_empty(&self) -> bool {
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
