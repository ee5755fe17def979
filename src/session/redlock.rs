//! LOCK commands where locks live on several masters: asks all of them, lets `state::lock::votes` decide, and gives back what
//! came to nothing. Replies as one Redis would, but for the times: a lock is valid for less than its ttl.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::locks::{Held, Waiting};
use super::scripted::Runner;
use crate::clock::Moment;
use crate::resp;
use crate::state::lock::masters::{self, Goes};
use crate::state::lock::votes::{self, Attempt, Frame, Quorum, Verdict};
use crate::state::lock::{Acquire, Command, Extend, Waits, look_again};
use crate::state::{Call, Fault, Reply};
use crate::upstream::{Failure, LinkSet};
use crate::worker::{Asks, Round};

/// The links to each master.
pub(super) type Sets = Rc<[Rc<LinkSet>]>;

/// First and longest pause of one whom others kept from a majority, or who met too few masters, at random.
const PAUSE_FIRST: Duration = Duration::from_millis(4);
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// A straggler gets as long again as the majority took, and this.
const STRAGGLE: Duration = Duration::from_millis(2);

/// What cannot be kept by a majority, before anybody is asked.
pub(super) fn fault_of(runner: &Runner, command: &Command) -> Option<Fault> {
    let ttl_ms_max = runner.worker.shared.live.load().config.lock.redlock_ttl_max_ms;
    let too_long = |ttl_ms: u64| {
        (ttl_ms > ttl_ms_max).then(|| {
            Fault::from(format!(
                "ERR with lock.redlock a ttl is at most lock.redlock_ttl_max_ms, which is {ttl_ms_max}: use RENEW, or raise it"
            ))
        })
    };
    match command {
        Command::Acquire(acquire) if acquire.fair => Some(
            "ERR FAIR cannot be kept with lock.redlock, where waiters try again at random: leave it out"
                .into(),
        ),
        Command::Acquire(acquire) => too_long(acquire.ttl_ms),
        Command::Extend(extend) => too_long(extend.ttl_ms),
        _ => None,
    }
}

/// What came of one attempt.
enum Outcome {
    Granted { fence: u64, ms: u64 },
    Denied { fence: Option<u64>, retry_ms: u64, split: bool },
    Failed(Verdict),
}

impl Runner {
    /// Tries until a majority grants it, its time is over, or the client has left.
    pub(super) async fn acquire_of_masters(&self, sets: &Sets, acquire: Acquire) -> Result<Vec<u8>, Failure> {
        let held = Held::wanted(self, &acquire);
        let waiting = Waiting::begin(self, &held).await;
        let mut pause = PAUSE_FIRST;
        loop {
            let outcome = self.attempt(sets, &held, waiting.line()).await;
            let left = waiting.left();
            let frame = match &outcome {
                Outcome::Granted { fence, ms } => {
                    let frame = votes::acquired(&held.token, *fence, *ms);
                    return self.granted(held, *fence, &frame.into()).await;
                }
                Outcome::Denied { fence, retry_ms, .. } => votes::denied(*fence, *retry_ms),
                Outcome::Failed(verdict) => error_frame(verdict),
            };
            // For a client that has left there is no further attempt, which might be granted.
            if left.is_zero() || self.session.is_gone() || !outcome.may_change() {
                if waiting.line() == Waits::InLine {
                    self.leave_line(sets, &held).await;
                }
                return Ok(self.shown(&frame));
            }
            match outcome {
                Outcome::Denied { retry_ms, split: false, .. } => {
                    waiting.wait(self, look_again(retry_ms).min(left)).await;
                    // All who were woken try at once: one should be before the others everywhere.
                    tokio::time::sleep(self.at_random(PAUSE_FIRST).min(left)).await;
                    pause = PAUSE_FIRST;
                }
                _ => {
                    tokio::time::sleep(self.at_random(pause).min(left)).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Up to this time.
    fn at_random(&self, time: Duration) -> Duration {
        time * (self.worker.random() % 1024) as u32 / 1024
    }

    /// One attempt. What single masters granted of one that failed is on its way back to them when this returns.
    async fn attempt(&self, sets: &Sets, held: &Held, line: Waits) -> Outcome {
        let (worker, acquire) = (&self.worker, &held.acquire);
        let began = held.asked_now();
        let patience = worker.patience_with_masters(Some(acquire.ttl_ms));
        let call = masters::acquire(acquire, &self.naming, &held.token, &held.nonce, line);
        let mut round = worker.ask_masters(sets, Asks::Votes, |_| Some(call.clone()));
        let quorum = round.quorum();
        let enough = |frames: &[Frame<'_>]| {
            Attempt::is_decided(quorum, frames)
                || matches!(Attempt::of(quorum, frames), Attempt::Granted { .. })
        };
        round.gather(patience, enough).await;
        let took = Moment::now().since(began);
        let rest = patience.saturating_sub(took).min(took + STRAGGLE);
        round.gather(rest, |frames| Attempt::is_decided(quorum, frames)).await;
        let granted: Vec<bool> =
            round.frames().iter().map(|frame| frame.is_some_and(votes::is_grant)).collect();
        let outcome = match Attempt::of(quorum, &round.frames()) {
            Attempt::Granted { fence } => self.agree(sets, held, fence, &granted, began, patience).await,
            Attempt::Denied { fence, retry_ms, split } => Outcome::Denied { fence, retry_ms, split },
            Attempt::Failed(verdict) => Outcome::Failed(verdict),
        };
        self.count(&outcome);
        let is_denial = |at: usize| round.frames()[at].is_some() && !granted[at];
        match &outcome {
            // The others forget it: they shall neither keep it in line nor grant it late.
            Outcome::Granted { .. } => self.tell(sets, held, Goes::Away, |at| {
                !granted[at] && (line == Waits::InLine || round.has_asked(at))
            }),
            _ if line == Waits::InLine => {
                self.tell(sets, held, Goes::On, |at| round.has_asked(at) && !is_denial(at))
            }
            _ => self.tell(sets, held, Goes::Away, |at| round.has_asked(at) && !is_denial(at)),
        };
        outcome
    }

    /// The lock is held once a majority, still holding it, knows its fence.
    async fn agree(
        &self,
        sets: &Sets,
        held: &Held,
        fence: u64,
        granted: &[bool],
        began: Moment,
        patience: Duration,
    ) -> Outcome {
        let call = masters::agree(&held.acquire, &self.naming, &held.token, &held.nonce, fence);
        let mut round = self.worker.ask_masters(sets, Asks::Votes, |at| granted[at].then(|| call.clone()));
        let quorum = round.quorum();
        round.gather(patience, |frames| votes::has_agreed(quorum, frames)).await;
        let valid_ms = votes::validity_ms(held.acquire.ttl_ms, Moment::now().since(began));
        match valid_ms.filter(|_| votes::has_agreed(quorum, &round.frames())) {
            Some(ms) => Outcome::Granted { fence, ms },
            None => Outcome::Failed(Verdict::Lacking(votes::Lack::of(quorum, &round.frames()))),
        }
    }

    fn count(&self, outcome: &Outcome) {
        let metrics = &self.worker.metrics;
        match outcome {
            Outcome::Denied { split: true, .. } => metrics.lock_split_votes.add(1),
            Outcome::Failed(verdict) if verdict.is_lack() => metrics.lock_no_quorum.add(1),
            _ => {}
        }
    }

    /// Tells some masters at once that this attempt, or the whole ACQUIRE, is over.
    fn tell(&self, sets: &Sets, held: &Held, goes: Goes, which: impl Fn(usize) -> bool) -> Round {
        let call = masters::yields(&held.acquire, &self.naming, &held.nonce, goes);
        self.worker.ask_masters(sets, Asks::Duty, |at| which(at).then(|| call.clone()))
    }

    /// It waits no more. Done when a majority knows.
    async fn leave_line(&self, sets: &Sets, held: &Held) {
        let mut round = self.tell(sets, held, Goes::Away, |_| true);
        let needed = round.quorum().needed();
        let enough = |frames: &[Frame<'_>]| frames.iter().flatten().count() >= needed;
        round.gather(self.worker.patience_with_masters(None), enough).await;
    }

    /// EXTEND, as one Redis would answer it.
    pub(super) async fn extend_at_masters(&self, sets: &Sets, extend: &Extend) -> Bytes {
        let began = Moment::now();
        let call = extend.call(&self.naming);
        let patience = self.worker.patience_with_masters(Some(extend.ttl_ms));
        let mut round = self.worker.ask_masters(sets, Asks::Votes, |_| Some(call.clone()));
        let quorum = round.quorum();
        let decided = |frames: &[Frame<'_>]| {
            !votes::extended(quorum, frames).is_err_and(|verdict| verdict != Verdict::Lost)
        };
        round.gather(patience, decided).await;
        let lacking = || Verdict::Lacking(votes::Lack::of(quorum, &round.frames()));
        let valid_ms = votes::validity_ms(extend.ttl_ms, Moment::now().since(began));
        let extended = votes::extended(quorum, &round.frames());
        self.frame(extended.and_then(|()| valid_ms.ok_or_else(lacking)).map(|ms| integer(ms as i64)))
    }

    /// Every LOCK command but ACQUIRE.
    pub(super) async fn by_majority(&self, sets: &Sets, command: Command) -> Vec<u8> {
        let naming = &self.naming;
        let (frame, reply) = match &command {
            Command::Acquire(_) => unreachable!("ACQUIRE has steps of its own"),
            Command::Extend(extend) => (self.extend_at_masters(sets, extend).await, Reply::AsIs),
            Command::Check(check) => {
                let call = check.call(naming);
                (self.asked(sets, Asks::Votes, &call, votes::checked).await, call.reply)
            }
            Command::Info(info) => {
                let call = info.call(naming);
                (self.asked(sets, Asks::Votes, &call, votes::info).await, call.reply)
            }
            Command::Release(release) => {
                let frame = self.asked(sets, Asks::Duty, &release.call(naming), released).await;
                if frame.starts_with(b":") {
                    self.session.let_go(release);
                }
                (frame, Reply::AsIs)
            }
            Command::Force(force) => {
                (self.asked(sets, Asks::Duty, &force.call(naming), forced).await, Reply::AsIs)
            }
        };
        let mut out = Vec::new();
        reply.convert(&frame, self.resp3, &mut out);
        out
    }

    /// Asks all, until a majority has answered; of what has ended the others may tell, too.
    async fn asked(
        &self,
        sets: &Sets,
        asks: Asks,
        call: &Call,
        decide: impl Fn(Quorum, &[Frame<'_>]) -> Result<Vec<u8>, Verdict>,
    ) -> Bytes {
        let mut round = self.worker.ask_masters(sets, asks, |_| Some(call.clone()));
        let quorum = round.quorum();
        let began = Moment::now();
        let patience = self.worker.patience_with_masters(None);
        round.gather(patience, |frames| decide(quorum, frames).is_ok()).await;
        if asks == Asks::Duty {
            let took = Moment::now().since(began);
            round.gather(patience.saturating_sub(took).min(took + STRAGGLE), |_| false).await;
        }
        self.frame(decide(quorum, &round.frames()))
    }

    fn frame(&self, decided: Result<Vec<u8>, Verdict>) -> Bytes {
        decided
            .unwrap_or_else(|verdict| {
                self.worker.metrics.lock_no_quorum.add(u64::from(verdict.is_lack()));
                error_frame(&verdict)
            })
            .into()
    }
}

impl Outcome {
    /// Whether another attempt could end otherwise.
    fn may_change(&self) -> bool {
        !matches!(self, Outcome::Failed(verdict) if !verdict.is_lack())
    }
}

fn released(quorum: Quorum, frames: &[Frame<'_>]) -> Result<Vec<u8>, Verdict> {
    votes::released(quorum, frames).map(integer)
}

fn forced(quorum: Quorum, frames: &[Frame<'_>]) -> Result<Vec<u8>, Verdict> {
    votes::forced(quorum, frames).map(|any_held| integer(any_held.into()))
}

fn error_frame(verdict: &Verdict) -> Vec<u8> {
    let mut frame = Vec::new();
    resp::error_bytes(&mut frame, &verdict.line());
    frame
}

fn integer(value: i64) -> Vec<u8> {
    let mut frame = Vec::new();
    resp::integer(&mut frame, value);
    frame
}
