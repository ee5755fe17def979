//! LOCK.ACQUIRE of a session: its attempts while it waits, and what the daemon does for a lock that was granted: extends
//! it (RENEW), tells of its loss, ends it with the connection (BIND).

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::Session;
use super::scripted::{Runner, random};
use crate::clock::Moment;
use crate::shared::Waiter;
use crate::state::lock::votes::validity_ms;
use crate::state::lock::{self, Acquire, Acquired, Nonce, Release};
use crate::state::{Call, Reply};
use crate::upstream::Failure;
use crate::worker::Home;

/// A lock that was asked for with RENEW or BIND.
pub(super) struct Held {
    pub(super) token: Vec<u8>,
    pub(super) nonce: Nonce,
    pub(super) acquire: Acquire,
    runner: Runner,
    /// When the newest attempt began: its ttl counts from then.
    asked: Cell<Moment>,
    /// Released by the client, lost, or left with its connection: nothing more is done for it.
    over: Cell<bool>,
}

/// Between repetitions of what must be answered.
const REPEAT: Duration = Duration::from_millis(200);
const REPEATS_MAX: u32 = 50;
/// So long a waiter waits at first until releases are heard of.
const LISTENING_WAIT_MAX: Duration = Duration::from_millis(500);

impl Held {
    pub(super) fn wanted(runner: &Runner, acquire: &Acquire) -> Held {
        Held {
            token: acquire.token.clone().unwrap_or_else(|| lock::token_text(&random())),
            nonce: random(),
            acquire: acquire.clone(),
            runner: runner.clone(),
            asked: Cell::new(Moment::now()),
            over: Cell::new(false),
        }
    }

    /// An attempt begins.
    pub(super) fn asked_now(&self) -> Moment {
        let now = Moment::now();
        self.asked.set(now);
        now
    }

    pub(super) fn cancel(&self) -> Call {
        lock::cancel(&self.runner.naming, &self.acquire.name, &self.nonce)
    }
}

/// How an ACQUIRE waits: for so long, in line; or not at all.
pub(super) struct Waiting(Option<(Moment, Waiter)>);

impl Waiting {
    /// Before the first attempt: a release between that and here would not be heard of.
    pub(super) async fn begin(runner: &Runner, held: &Held) -> Waiting {
        let Some(ms) = held.acquire.wait_ms.filter(|ms| *ms > 0) else { return Waiting(None) };
        let (time, waiters) = (Duration::from_millis(ms), &runner.worker.shared.lock_waiters);
        let until = Moment::now().after(time);
        let waiter = waiters.enter(&held.acquire.name, held.nonce);
        // Without it the waiter looks again each second.
        let _ = tokio::time::timeout(time.min(LISTENING_WAIT_MAX), waiters.until_listening()).await;
        Waiting(Some((until, waiter)))
    }

    pub(super) fn line(&self) -> lock::Waits {
        if self.0.is_some() { lock::Waits::InLine } else { lock::Waits::No }
    }

    pub(super) fn left(&self) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |(until, _)| until.since(Moment::now()))
    }

    /// Until it is woken, its client leaves, or the time is over.
    pub(super) async fn wait(&self, runner: &Runner, time: Duration) {
        let Some((_, waiter)) = &self.0 else { return };
        tokio::select! {
            _ = waiter.woken() => {}
            _ = runner.session.left.notified() => {}
            _ = tokio::time::sleep(time) => {}
        }
    }
}

impl Runner {
    /// Tries until it is granted, its time is over, or the client has left.
    pub(super) async fn acquire(&self, acquire: Acquire) -> Result<Vec<u8>, Failure> {
        if let Home::Masters(sets) = &self.home {
            return self.acquire_of_masters(sets, acquire).await;
        }
        let held = Held::wanted(self, &acquire);
        let waiting = Waiting::begin(self, &held).await;
        loop {
            held.asked_now();
            let call = acquire.call(&self.naming, &held.token, &held.nonce, waiting.line());
            let outcome = self.call(&call).await;
            let frame = match outcome {
                Ok(frame) => frame,
                Err(failure) => {
                    // It may stand in line, or hold the lock, and nobody will know.
                    self.repeat_until_answered(held.cancel());
                    return Err(failure);
                }
            };
            match (Acquired::parse(&frame), waiting.line()) {
                (Ok(Acquired::Granted { fence, .. }), _) => return self.granted(held, fence, &frame).await,
                (Ok(Acquired::Denied { retry_ms, .. }), lock::Waits::InLine) => {
                    let left = waiting.left();
                    if !left.is_zero() {
                        waiting.wait(self, lock::look_again(retry_ms).min(left)).await;
                    }
                    // For a client that has left there is no further attempt, which might be granted.
                    if left.is_zero() || self.session.is_gone() {
                        self.call(&held.cancel()).await?;
                        return Ok(self.shown(&frame));
                    }
                }
                _ => return Ok(self.shown(&frame)),
            }
        }
    }

    pub(super) fn shown(&self, frame: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Reply::Fields(&["granted", "token", "fence", "ms"]).convert(frame, self.resp3, &mut out);
        out
    }

    pub(super) async fn granted(&self, held: Held, fence: u64, frame: &Bytes) -> Result<Vec<u8>, Failure> {
        if self.session.is_gone() {
            self.repeat_until_answered(held.cancel());
        } else {
            self.hold(held, fence);
        }
        // Who held the lock before has written, and its writes are seen before the grant is.
        if self.worker.caches() && self.worker.notify_barrier() {
            self.worker.barrier().await;
        }
        Ok(self.shown(frame))
    }

    /// Begins what RENEW and BIND ask for.
    pub(super) fn hold(&self, held: Held, fence: u64) {
        if !held.acquire.renew && !held.acquire.bind {
            return;
        }
        if self.session.is_gone() {
            return self.repeat_until_answered(held.cancel());
        }
        let held = Rc::new(held);
        self.session.upheld.borrow_mut().locks.push(held.clone());
        if held.acquire.renew {
            tokio::task::spawn_local(renew(held, fence));
        }
    }

    /// Sends a call that changes nothing when it is repeated, until L2 has answered it.
    pub(super) fn repeat_until_answered(&self, call: Call) {
        let runner = self.clone();
        tokio::task::spawn_local(async move { runner.repeat(&call).await });
    }

    async fn extend(&self, extend: &lock::Extend) -> Result<Bytes, Failure> {
        match &self.home {
            Home::Masters(sets) => Ok(self.extend_at_masters(sets, extend).await),
            _ => self.call(&extend.call(&self.naming)).await,
        }
    }

    async fn repeat(&self, call: &Call) {
        for _ in 0..REPEATS_MAX {
            if self.call(call).await.is_ok() {
                return;
            }
            tokio::time::sleep(REPEAT).await;
        }
    }
}

/// Extends a lock as long as its client is there. A loss is told no later than the lock can have ended.
async fn renew(held: Rc<Held>, fence: u64) {
    let runner = &held.runner;
    let (ttl_ms, name) = (held.acquire.ttl_ms, held.acquire.name.clone());
    let pace = Duration::from_millis((ttl_ms / u64::from(lock::RENEWALS_PER_TTL)).max(1));
    let ttl = match &runner.home {
        // Their clocks differ.
        Home::Masters(_) => Duration::from_millis(validity_ms(ttl_ms, Duration::ZERO).unwrap_or(1)),
        _ => Duration::from_millis(ttl_ms),
    };
    let mut proven = held.asked.get();
    let extend = lock::Extend { name: name.clone(), token: held.token.clone(), ttl_ms };
    loop {
        tokio::time::sleep(pace.min(proven.after(ttl).since(Moment::now()))).await;
        if held.over.get() || runner.session.is_gone() {
            return;
        }
        let sent = Moment::now();
        let left = proven.after(ttl).since(sent);
        let outcome = tokio::time::timeout(left, runner.extend(&extend)).await;
        if held.over.get() {
            return;
        }
        match outcome {
            Ok(Ok(frame)) if frame.starts_with(b":") => proven = sent,
            Ok(Ok(frame)) if frame.starts_with(b"-LOCKLOST") => break,
            // No answer yet: there is time to try again, or there is not.
            _ if Moment::now() >= proven.after(ttl) => break,
            _ => tokio::time::sleep(pace / 4).await,
        }
    }
    held.over.set(true);
    runner.session.forget(&held);
    if runner.session.speaks_resp3() {
        let mut push = Vec::new();
        lock::lost_push(&name, &held.token, &mut push);
        runner.session.push(&runner.worker, push.into());
    }
    let event = lock::lost_event(&runner.naming, &name, Some(fence));
    runner.worker.publish(&runner.home, &event);
}

/// Ends the locks that were bound to a connection that is over.
pub(super) async fn release_bound(locks: Vec<Rc<Held>>) {
    for held in locks {
        if !held.over.replace(true) && held.acquire.bind {
            held.runner.repeat(&held.cancel()).await;
        }
    }
}

impl Session {
    /// The client has released this lock.
    pub(super) fn let_go(&self, release: &Release) {
        let is_it = |held: &Rc<Held>| held.acquire.name == release.name && held.token == release.token;
        let mut upheld = self.upheld.borrow_mut();
        upheld.locks.iter().filter(|held| is_it(held)).for_each(|held| held.over.set(true));
        upheld.locks.retain(|held| !is_it(held));
    }

    fn forget(&self, lost: &Rc<Held>) {
        self.upheld.borrow_mut().locks.retain(|held| !Rc::ptr_eq(held, lost));
    }

    /// Whether there is nobody any more to whom a reply could go.
    pub fn is_gone(&self) -> bool {
        self.is_shut.get() || self.state.try_borrow().is_ok_and(|st| st.closed || st.at_end)
    }
}
