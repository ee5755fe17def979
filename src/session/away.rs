//! Rate limits while L2 is away: what answers instead, by the policy of each. And CL.THROTTLE where L2 answers it itself.

use std::rc::Rc;
use std::time::Duration;

use super::dispatch::Request;
use super::input::Step;
use super::plans::Then;
use super::scripted::Runner;
use super::{Park, Session, State, Turn};
use crate::command::Group;
use crate::config::{Driver, Kind, LimitOnL2Down};
use crate::resp;
use crate::shared::Place;
use crate::state::ratelimit::{Outcome, Resolved};
use crate::state::throttle::{self, Throttle};
use crate::state::{Call, ratelimit};
use crate::upstream::{Expect, Failure, Frame};
use crate::worker::Worker;

/// So long what L2 said of the module redis-cell is believed.
const MODULE_KNOWN_FOR: Duration = Duration::from_secs(60);

/// A command about limits, which is answered without L2 too.
pub(super) enum Limited {
    Check(Resolved),
    Peek(Resolved),
    Refund(Resolved),
    All(Vec<Resolved>),
    Throttle(Throttle),
}

impl Runner {
    /// Without L2 the policies of limits decide; everything else fails. So does RESET: its caller relies on the count that
    /// all share being gone.
    pub(super) fn failed(&self, seq: u64, then: &Then, failure: Failure) {
        match self.without_l2(then, &failure) {
            None => self.session.fail(&self.worker, seq, failure),
            Some(reply) => self.session.answer(&self.worker, seq, Frame::Owned(reply.into())),
        }
    }

    pub(super) fn without_l2(&self, then: &Then, failure: &Failure) -> Option<Vec<u8>> {
        let Then::Limited(limited) = then else { return None };
        let mut reply = Vec::new();
        match limited {
            Limited::Check(check) => self.outcome(check, Resolved::check).write(self.resp3, &mut reply),
            Limited::Peek(check) => self.outcome(check, Resolved::peek).write(self.resp3, &mut reply),
            Limited::All(items) => reply = self.outcomes(items),
            // Perhaps given back: nobody can say how much.
            Limited::Refund(_) if matches!(failure, Failure::Unknown) => return None,
            Limited::Refund(refund) if refund.on_l2_down() == LimitOnL2Down::Local => {
                reply = self.counted_here(&refund.divided(self.nodes()).refund());
            }
            // Nothing was counted, so nothing is given back.
            Limited::Refund(_) => resp::integer(&mut reply, 0),
            Limited::Throttle(throttle) => {
                reply = match self.worker.live().config.ratelimit.on_l2_down {
                    LimitOnL2Down::Open => throttle.unasked(false),
                    LimitOnL2Down::Closed => throttle.unasked(true),
                    LimitOnL2Down::Local => {
                        self.counted_here(&throttle.divided(self.nodes()).call(&self.naming))
                    }
                };
            }
        }
        Some(reply)
    }

    fn nodes(&self) -> u64 {
        self.worker.live().config.ratelimit.nodes
    }

    /// The reply of a script on what this daemon counts by itself.
    fn counted_here(&self, call: &Call) -> Vec<u8> {
        self.worker.count_here(self.home.db(), call).to_vec()
    }

    fn outcome(&self, check: &Resolved, script: fn(&Resolved) -> Call) -> Outcome {
        match check.on_l2_down() {
            LimitOnL2Down::Open => Outcome::open(check),
            LimitOnL2Down::Closed => Outcome::closed(check),
            LimitOnL2Down::Local => {
                let frame = self.counted_here(&script(&check.divided(self.nodes())));
                Outcome::parse(&frame)
                    .map_or_else(|_| Outcome::open(check), |outcome| outcome.of_share(check))
            }
        }
    }

    /// All or nothing: where one policy denies, the others only say how it stands.
    fn outcomes(&self, items: &[Resolved]) -> Vec<u8> {
        let is_local = |item: &&Resolved| item.on_l2_down() == LimitOnL2Down::Local;
        let is_closed = items.iter().any(|item| item.on_l2_down() == LimitOnL2Down::Closed);
        let shares: Vec<Resolved> =
            items.iter().filter(is_local).map(|item| item.divided(self.nodes())).collect();
        let mut counted = Vec::new();
        if !is_closed && !shares.is_empty() {
            let frame = self.counted_here(&ratelimit::at_once(&shares));
            counted = ratelimit::outcomes_of_multi(&frame).unwrap_or_default();
        }
        let mut counted = counted.into_iter();
        let outcome = |item: &Resolved| {
            let used = if is_local(&item) { counted.next() } else { None };
            used.map_or_else(|| self.outcome(item, Resolved::peek), |outcome| outcome.of_share(item))
        };
        let outcomes: Vec<Outcome> = items.iter().map(outcome).collect();
        let mut reply = Vec::new();
        ratelimit::multi_reply(items, &outcomes, self.resp3, &mut reply);
        reply
    }

    /// Limits in several slots: what was consumed before a denial is given back.
    pub(super) async fn limits_one_by_one(&self, items: Vec<Resolved>) -> Result<Vec<u8>, Failure> {
        let mut outcomes = Vec::new();
        for item in &items {
            let Ok(frame) = self.call(&item.check()).await else { return Ok(self.outcomes(&items)) };
            let Ok(outcome) = Outcome::parse(&frame) else { return Ok(frame.to_vec()) };
            let allowed = outcome.allowed;
            outcomes.push(outcome);
            if !allowed {
                for item in &items[..outcomes.len() - 1] {
                    // A denial is a denial, also where what was used cannot be given back.
                    let _ = self.call(&item.refund()).await;
                }
                break;
            }
        }
        let mut reply = Vec::new();
        ratelimit::multi_reply(&items, &outcomes, self.resp3, &mut reply);
        Ok(reply)
    }
}

impl Session {
    /// Where L2 has the module redis-cell, CL.THROTTLE is the module's. `None`: it is ours.
    pub(super) fn throttle_of_module(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
    ) -> Option<Step> {
        let config = &worker.live().config.ratelimit;
        let lives_in_l2 = worker.shared.places.of(Kind::Ratelimit) == Place::Shared;
        if worker.shared.engine.is_some() || config.driver == Driver::None || !lives_in_l2 {
            return None;
        }
        let learned = worker.shared.learned.get(throttle::NAME).map(|learned| *learned);
        match learned.filter(|l| worker.now().since(l.learned) < MODULE_KNOWN_FOR) {
            Some(l) if !l.exists => None,
            Some(_) if st.pin.is_some() => Some(self.pinned_unknown(worker, st, request)),
            Some(_) => Some(self.script_lane(worker, st, request, false, Group::State)),
            None => {
                // Where L2 is away, its policy answers.
                let link = st.lanes.links().plain(worker, st.identity.resp3).ok()?;
                let ask = resp::encode_request(&[b"COMMAND", b"INFO", throttle::NAME.as_bytes()]);
                let turn = Turn::Learn(throttle::NAME.to_owned());
                link.send(worker, &ask, Expect::Turn(self.asker(u64::MAX), Box::new(turn)), Group::Other);
                Some(Step::Again(Park::Turn))
            }
        }
    }
}
