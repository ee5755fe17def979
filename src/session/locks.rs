//! LOCK.ACQUIRE of a session: its attempts while it waits, and what the daemon does for a lock that was granted: extends
//! it (RENEW), tells of its loss, ends it with the connection (BIND).

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::Session;
use super::scripted::{Runner, random};
use crate::clock::Moment;
use crate::state::lock::{self, Acquire, Acquired, Nonce, Release};
use crate::state::{Call, Reply};
use crate::upstream::Failure;

/// A lock that was asked for with RENEW or BIND.
pub(super) struct Held {
    pub(super) token: Vec<u8>,
    pub(super) nonce: Nonce,
    pub(super) acquire: Acquire,
    runner: Runner,
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
            over: Cell::new(false),
        }
    }

    pub(super) fn cancel(&self) -> Call {
        lock::cancel(&self.runner.naming, &self.acquire.name, &self.nonce)
    }
}

impl Runner {
    /// Tries until it is granted, its time is over, or the client has left.
    pub(super) async fn acquire(&self, acquire: Acquire) -> Result<Vec<u8>, Failure> {
        let held = Held::wanted(self, &acquire);
        let waits = acquire.wait_ms.filter(|ms| *ms > 0).map(Duration::from_millis);
        let until = waits.map(|time| Moment::now().after(time));
        // Before the first attempt: a release between that and here would not be heard of.
        let waiters = &self.worker.shared.lock_waiters;
        let waiter = waits.map(|_| waiters.enter(&acquire.name, held.nonce));
        if let Some(time) = waits {
            // Without it the waiter looks again each second.
            let _ = tokio::time::timeout(time.min(LISTENING_WAIT_MAX), waiters.until_listening()).await;
        }
        let line = if waits.is_some() { lock::Waits::InLine } else { lock::Waits::No };
        loop {
            let outcome = self.call(&acquire.call(&self.naming, &held.token, &held.nonce, line)).await;
            let frame = match outcome {
                Ok(frame) => frame,
                Err(failure) => {
                    // It may stand in line, or hold the lock, and nobody will know.
                    self.repeat_until_answered(held.cancel());
                    return Err(failure);
                }
            };
            match (Acquired::parse(&frame), until) {
                (Ok(Acquired::Granted { fence, .. }), _) => return self.granted(held, fence, &frame).await,
                (Ok(Acquired::Denied { retry_ms, .. }), Some(until)) => {
                    let left = until.since(Moment::now());
                    let pause = lock::look_again(retry_ms).min(left);
                    if let Some(waiter) = &waiter
                        && !left.is_zero()
                    {
                        tokio::select! {
                            _ = waiter.woken() => {}
                            _ = self.session.left.notified() => {}
                            _ = tokio::time::sleep(pause) => {}
                        }
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

    fn shown(&self, frame: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Reply::Fields(&["granted", "token", "fence", "ms"]).convert(frame, self.resp3, &mut out);
        out
    }

    async fn granted(&self, held: Held, fence: u64, frame: &Bytes) -> Result<Vec<u8>, Failure> {
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
    let ttl = Duration::from_millis(ttl_ms);
    let mut proven = Moment::now();
    let extend = lock::Extend { name: name.clone(), token: held.token.clone(), ttl_ms };
    loop {
        tokio::time::sleep(pace.min(proven.after(ttl).since(Moment::now()))).await;
        if held.over.get() || runner.session.is_gone() {
            return;
        }
        let sent = Moment::now();
        let left = proven.after(ttl).since(sent);
        let call = extend.call(&runner.naming);
        let outcome = tokio::time::timeout(left, runner.call(&call)).await;
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
