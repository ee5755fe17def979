//! What a session writes: once per scheduler tick, the rest when the client reads again. Unread output has its bounds.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use super::{Session, State};
use crate::worker::Worker;

/// Sessions that buffer less do not count in `buffered_bytes`.
const ACCOUNTED_BYTES_MIN: usize = 4096;
/// More than this is not held.
const HELD_BYTES_MAX: usize = 16 * 1024;
/// Nor for longer than this.
const HOLD_MAX: Duration = Duration::from_millis(2);

impl Session {
    /// Holds what is queued, or not: nodes of the cluster are about to answer what is behind it, or to be asked.
    pub fn take_hold(self: &Rc<Self>, worker: &Rc<Worker>) -> bool {
        let now = worker.now();
        let since = self.held_since.get().unwrap_or(now);
        let holds = now.since(since) < HOLD_MAX && {
            let st = self.state.borrow();
            (1..HELD_BYTES_MAX).contains(&st.out.len()) && !st.closing && st.lanes.is_more_near(st.head, now)
        };
        self.held.set(holds);
        self.held_since.set(holds.then_some(since));
        if holds {
            worker.hold_session(self.clone());
        }
        holds
    }

    /// Decides anew at the end of this tick.
    pub fn look_at_hold(self: &Rc<Self>, worker: &Worker) {
        if self.held.replace(false) {
            worker.session_is_dirty(self.clone());
        }
    }

    /// Writes what is queued; called once per tick.
    pub fn flush(self: &Rc<Self>, worker: &Rc<Worker>) {
        self.dirty.set(false);
        if self.writing.get() {
            // Its writer goes on by itself; what has come on top counts at once.
            return self.note_output(worker, &self.state.borrow());
        }
        if self.write_now(worker).is_pending() {
            self.writing.set(true);
            tokio::task::spawn_local(self.clone().write_rest(worker.clone()));
        }
    }

    async fn write_rest(self: Rc<Self>, worker: Rc<Worker>) {
        loop {
            if std::future::poll_fn(|cx| self.stream.poll_write_ready(cx)).await.is_err() {
                break self.shut();
            }
            if self.write_now(&worker).is_ready() {
                break;
            }
        }
        self.writing.set(false);
    }

    /// Ready once nothing is left to write.
    fn write_now(self: &Rc<Self>, worker: &Rc<Worker>) -> Poll<()> {
        let mut st = self.state.borrow_mut();
        if st.out.write_to(&self.stream, &mut worker.pool.borrow_mut()).is_err() {
            st.out.clear();
            self.shut();
        }
        self.note_output(worker, &st);
        if !st.out.is_empty() {
            return Poll::Pending;
        }
        let ended = st.at_end && !st.is_waiting() && !st.is_parked();
        if (st.closing && !st.is_waiting()) || ended {
            self.shut();
        }
        Poll::Ready(())
    }

    /// How much waits to be read by the client: it counts, and it has its limits.
    fn note_output(&self, worker: &Worker, st: &State) {
        let left = st.out.len();
        self.unread.set(left);
        self.account(worker, st.input.len() + left);
        if let Some(pin) = &st.pin {
            pin.link.pinned.owner_has_room();
        }
        if left > 0 {
            self.check_output_limits(worker, st, left);
            worker.close_largest_readers();
        }
    }

    pub(super) fn account(&self, worker: &Worker, bytes: usize) {
        // Small ones are not worth a shared counter.
        let bytes = if bytes < ACCOUNTED_BYTES_MIN || self.doomed.get() { 0 } else { bytes };
        let before = self.accounted.replace(bytes);
        let total = &worker.shared.buffered_bytes;
        if bytes > before {
            total.fetch_add((bytes - before) as u64, Relaxed);
        } else if bytes < before {
            total.fetch_sub((before - bytes) as u64, Relaxed);
        }
    }

    /// Unread output has its bounds: none for normal clients, 32 MiB for subscribers.
    fn check_output_limits(&self, worker: &Worker, st: &State, unread: usize) {
        if self.is_shut.get() {
            return;
        }
        let live = worker.live();
        let limits = &live.config.limits;
        let over = |max: u64| max > 0 && unread as u64 > max;
        let subscribed = st.pin.as_ref().is_some_and(|pin| pin.link.pinned.subscriptions() > 0)
            || st.embedded.as_ref().is_some_and(|embedded| embedded.caller.is_subscriber());
        let hard = match (st.identity.authenticated, subscribed) {
            (false, _) => over(limits.unauth_output_bytes_max),
            (true, true) => over(limits.pubsub_output_bytes_max),
            (true, false) => over(limits.normal_output_bytes_max),
        };
        let soft = subscribed && over(limits.pubsub_output_soft_bytes);
        let since = match self.over_soft_limit_since.get() {
            _ if !soft => None,
            Some(since) => Some(since),
            None => Some(worker.now()),
        };
        self.over_soft_limit_since.set(since);
        let too_long =
            since.is_some_and(|s| worker.now().since(s).as_secs() >= limits.pubsub_output_soft_seconds);
        if hard || too_long {
            worker.metrics.closed_slow_readers.add(1);
            tracing::warn!(client = self.id, unread, "closed: it does not read its replies");
            self.shut();
        }
    }
}
