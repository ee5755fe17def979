//! Asks the masters of locks, all at once, and gathers what they say in time. What it means is `state::lock::votes`' to say.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Worker, is_unknown_script};
use crate::cache::StripeSet;
use crate::clock::Moment;
use crate::config::Kind;
use crate::shared::Voter;
use crate::state::lock::masters::counted;
use crate::state::lock::votes::{Frame, Quorum};
use crate::state::{Call, Known, Naming};
use crate::upstream::{Failure, Link, LinkSet};

/// Requests that a master which does not answer is sent at most, so that it learns what has ended.
const OWED_MAX: usize = 1024;

/// What a question is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// It counts towards a majority. Masters that owe an answer for longer than they are waited for are left alone: what
    /// they would say later is of no use, and would stand before what they must be told.
    Votes,
    /// Something has ended, and each master should learn of it.
    Duty,
}

/// A question to several masters, and what they have said so far.
pub struct Round {
    quorum: Quorum,
    answers: mpsc::UnboundedReceiver<(usize, Result<Bytes, Failure>)>,
    frames: Vec<Option<Bytes>>,
    asked: Vec<bool>,
    open: usize,
}

impl Round {
    pub fn quorum(&self) -> Quorum {
        self.quorum
    }

    /// Whether this master was sent the question.
    pub fn has_asked(&self, at: usize) -> bool {
        self.asked[at]
    }

    /// By master; None: it has not answered.
    pub fn frames(&self) -> Vec<Frame<'_>> {
        self.frames.iter().map(Option::as_deref).collect()
    }

    /// Waits until all have answered, `is_enough` of their answers, or the time is over. What comes later is not heard.
    pub async fn gather(&mut self, limit: Duration, is_enough: impl Fn(&[Frame<'_>]) -> bool) {
        let end = Instant::now() + limit;
        while self.open > 0 && !is_enough(&self.frames()) {
            let Ok(Some((at, outcome))) = tokio::time::timeout_at(end, self.answers.recv()).await else {
                return;
            };
            self.open -= 1;
            self.frames[at] = outcome.ok();
        }
    }
}

impl Worker {
    /// The links to each master.
    pub(super) fn masters(&self) -> Rc<[Rc<LinkSet>]> {
        let places = self.shared.places.masters.as_ref().map(|masters| masters.places());
        places.into_iter().flatten().map(|at| self.own[at].own_set()).collect()
    }

    /// So long a master is waited for, where a lock lives so long.
    pub fn patience_with_masters(&self, ttl_ms: Option<u64>) -> Duration {
        let patience = self.live().config.lock.redlock_timeout_ms;
        // What takes longer leaves little of the lock.
        Duration::from_millis(ttl_ms.map_or(patience, |ttl_ms| patience.min(ttl_ms / 4)).max(1))
    }

    /// Sends each master at once what `call` says for it, if anything.
    pub fn ask_masters(
        self: &Rc<Self>,
        sets: &Rc<[Rc<LinkSet>]>,
        asks: Asks,
        call: impl Fn(usize) -> Option<Call>,
    ) -> Round {
        let voters = self.shared.places.masters.as_ref().map(|masters| masters.voters()).unwrap_or_default();
        let naming = Naming { prefix: self.live().config.prefix(Kind::Lock).into(), tagged: false };
        let (to, answers) = mpsc::unbounded_channel();
        let mut asked = vec![false; sets.len()];
        for (at, (links, voter)) in sets.iter().zip(&voters).enumerate() {
            let Some(mut call) = call(at) else { continue };
            if asks == Asks::Votes {
                let Voter::Known { run_id, .. } = voter else { continue };
                call = counted(call, &naming, run_id);
            }
            // One link of each worker, so that what is sent later is executed later.
            let Ok(link) = links.script(self, false) else { continue };
            let owes = match asks {
                Asks::Votes => link.oldest_wait(Moment::now()) > self.patience_with_masters(None),
                Asks::Duty => link.pending_len() >= OWED_MAX,
            };
            if owes {
                continue;
            }
            asked[at] = true;
            let (answer, to) = (self.clone().answer_of(links.clone(), link, call), to.clone());
            let (worker, was_ready) = (self.clone(), matches!(voter, Voter::Known { is_ready: true, .. }));
            tokio::task::spawn_local(async move {
                let outcome = answer.await;
                let is_new = outcome.as_ref().is_ok_and(|frame| frame.starts_with(b"-NEWMASTER"));
                if let Some(masters) = worker.shared.places.masters.as_ref().filter(|_| is_new && was_ready) {
                    masters.changed.notify_one();
                }
                // The one who asked may have enough answers.
                let _ = to.send((at, outcome));
            });
        }
        let open = asked.iter().filter(|asked| **asked).count();
        Round { quorum: Quorum::of(sets.len()), answers, frames: vec![None; sets.len()], asked, open }
    }

    /// Sends the call now; what is returned waits for its answer.
    fn answer_of(
        self: Rc<Self>,
        links: Rc<LinkSet>,
        link: Rc<Link>,
        call: Call,
    ) -> impl Future<Output = Result<Bytes, Failure>> {
        let reply = self.send_script(&link, &call);
        async move {
            let mut outcome = reply.await.unwrap_or(Err(Failure::Unknown));
            // Somebody flushed its scripts: nothing was executed.
            if outcome.as_ref().is_ok_and(|frame| is_unknown_script(frame)) {
                outcome = match links.script(&self, false) {
                    Ok(link) => self.reply_of(&link, &call, Some(Known::No)).await,
                    Err(failure) => Err(failure),
                };
            }
            // L2 may be one of them.
            if links.upstream.remote.is_cached {
                match self.stripes_of(&call) {
                    StripeSet::Unknown => self.barrier().await,
                    stripes => self.bump(&stripes),
                }
            }
            outcome
        }
    }

    /// Tells every master; done when a majority has answered.
    pub(super) async fn call_masters(
        self: &Rc<Self>,
        sets: &Rc<[Rc<LinkSet>]>,
        call: &Call,
    ) -> Result<Bytes, Failure> {
        let mut round = self.ask_masters(sets, Asks::Duty, |_| Some(call.clone()));
        let needed = round.quorum().needed();
        let answered = |frames: &[Frame<'_>]| frames.iter().flatten().count();
        round.gather(self.patience_with_masters(None), |frames| answered(frames) >= needed).await;
        let frames = round.frames();
        match frames.iter().flatten().next() {
            Some(frame) if answered(&frames) >= needed => Ok(Bytes::copy_from_slice(frame)),
            _ => Err(Failure::NotSent("too few masters of locks answer".into())),
        }
    }
}
