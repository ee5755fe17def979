//! Answers of shared-state commands that L1 keeps: what VALIDATE's script said, and denials of CHECK. Stored is what the
//! script answered and when it was asked; what a client is told follows from that and the time that has passed.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::away::Limited;
use super::dispatch::Request;
use super::input::Step;
use super::plans::{Plan, Then, plan, session_settings};
use super::reads::older_than_passed;
use super::scripted::{Runner, naming_of};
use super::{Park, Session, State, Waits};
use crate::cache::{Admission, Cache, Derived, Entry, Flight, Follower, Joined, RequestId, StripeSet, Terms};
use crate::clock::Moment;
use crate::command::{self, Group, Keeps, Row};
use crate::resp;
use crate::state::ratelimit::{Outcome, Resolved};
use crate::state::session::{Use, Validate, Validated, Verdict};
use crate::state::{self, Call, Naming};
use crate::upstream::{Expect, Failure, Frame, Link};
use crate::worker::{Worker, is_unknown_script, pttl};

/// `Derived::kind` of VALIDATE, with and without NOTOUCH, and of a denial.
const USED: u8 = b'u';
const LOOKED_AT: u8 = b'l';
const DENIED: u8 = b'd';

/// What else an answer asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owed {
    Nothing,
    /// A use of the user session is to be written down.
    Touch,
}

/// Appends what a client gets of an entry at `now`. None: it says nothing any more, L2 is to be asked.
fn tell(entry: &Entry, now: Moment, resp3: bool, out: &mut Vec<u8>) -> Option<Owed> {
    let Derived { sent, kind, .. } = entry.as_derived()?;
    let passed = now.since(sent);
    if kind == DENIED {
        Outcome::kept(entry.reply())?.after(passed)?.write(resp3, out);
        return Some(Owed::Nothing);
    }
    if entry.reply().is_empty() {
        resp::null(out, resp3);
        return Some(Owed::Nothing);
    }
    let session = Validated::kept(entry.reply())?;
    let counts = if kind == USED { Use::Counts } else { Use::Not };
    let passed_ms = passed.as_nanos().div_ceil(1_000_000) as u64;
    match session.answer(passed_ms, counts, resp3, out) {
        Verdict::Answered { touch: true } => Some(Owed::Touch),
        Verdict::Answered { touch: false } => Some(Owed::Nothing),
        Verdict::Unknown => None,
    }
}

/// Whether an entry still says something. Entries whose reply is what clients get always do.
pub(super) fn still_tells(entry: &Entry, now: Moment) -> bool {
    entry.as_derived().is_none() || tell(entry, now, false, &mut Vec::new()).is_some()
}

/// Whether answers of this request may be kept here.
pub(super) fn is_kept(wire: &[u8]) -> bool {
    command::lookup_argv(&words(wire)).is_some_and(|row| row.keeps != Keeps::Nothing)
}

fn words(wire: &[u8]) -> SmallVec<[&[u8]; 12]> {
    resp::array_elements(wire).unwrap_or_default().into_iter().filter_map(resp::bulk_text).collect()
}

/// A script over the tracked link, and what its answer is stored by.
struct Fill {
    link: Rc<Link>,
    incarnation: u64,
    sent: Moment,
    key: Vec<u8>,
}

impl Fill {
    /// What is read here, before anything is sent, refuses the fill if it moves from here on. None: there is no tracked
    /// link that takes it.
    fn begin(worker: &Rc<Worker>, st: &State, key: &[u8]) -> Option<Fill> {
        let link = st
            .lanes
            .links()
            .tracked(worker)
            .filter(|link| link.pending_len() < worker.link_in_flight_max())?;
        let lease = link.lease.as_ref()?;
        lease.mark_filled();
        Some(Fill { incarnation: lease.incarnation(), sent: worker.now(), key: key.to_vec(), link })
    }

    fn store(&self, worker: &Worker, cache: &Cache, flight: &Flight, kind: u8, said: &[u8], life: Duration) {
        let Some(lease) = self.link.lease.clone() else { return };
        let terms = Terms {
            stamp: flight.stamp,
            incarnation: self.incarnation,
            lease,
            deadline: self.sent.after(life),
            stale_ms_max: 0,
        };
        let derived = Derived { key: &self.key, sent: self.sent, kind };
        worker.store(cache, flight, Entry::derived(&flight.id(), derived, said, terms));
    }
}

/// What is to be run for a request.
#[derive(Clone, Copy)]
pub(super) struct Planned<'a> {
    pub(super) runner: &'a Runner,
    pub(super) call: &'a Call,
    pub(super) then: &'a Then,
}

/// A validation over the tracked link, which others may follow.
struct ValidateFill {
    fill: Fill,
    flight: Arc<Flight>,
    call: Call,
    validate: Validate,
}

/// A check over the tracked link, which becomes an entry if it is denied.
struct DenialFill {
    fill: Fill,
    flight: Flight,
    call: Call,
    resolved: Resolved,
    /// How `Denials` knows the limit.
    hash: u64,
}

impl Session {
    /// Answers from L1 if that is possible: at once, or when the turn of the request comes.
    pub(super) fn show_kept(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &Row,
    ) -> bool {
        let Some(cache) = self.l1(worker, st) else { return false };
        let may_be_there = match row.keeps {
            Keeps::Nothing => false,
            Keeps::Validations => true,
            Keeps::Denials => cache.denials.any(),
        };
        if !may_be_there || request.wire.len() > worker.cached_request_bytes_max() {
            return false;
        }
        let id = worker.request_id(cache, Self::scope(st), row, request.wire, request.args.tail_at(), 0);
        let told = worker.look_up_derived(cache, &id, |entry| {
            if older_than_passed(st, cache, entry) || st.lanes.read_meets_write(st.head, &[entry.stripe]) {
                return None;
            }
            if st.is_waiting() {
                let seq = st.take_place(Waits::Provisional(entry.clone()));
                st.lanes.note_aside(st.head, seq, &[entry.stripe]);
                return Some((Owed::Nothing, None));
            }
            let owed = match st.is_mute() {
                true => tell(entry, worker.now(), st.identity.resp3, &mut Vec::new())?,
                false => self.tell_now(worker, st, entry)?,
            };
            Some((owed, (owed == Owed::Touch).then(|| entry.clone())))
        });
        match told.flatten() {
            None => false,
            Some((_, used)) => {
                if let Some(used) = used {
                    self.touch(worker, st, &used);
                }
                true
            }
        }
    }

    /// Writes what a hit says; None, and nothing is written, if it says nothing any more.
    fn tell_now(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, entry: &Entry) -> Option<Owed> {
        let (now, resp3) = (worker.now(), st.identity.resp3);
        st.out.lend(&mut worker.pool.borrow_mut());
        let mut owed = None;
        st.out.push_with(|out| owed = tell(entry, now, resp3, out));
        if owed.is_some() {
            worker.metrics.l1_hits.add(1);
            self.mark_dirty(worker);
        }
        owed
    }

    /// Writes a hit whose turn has come; `still_tells` it.
    pub(super) fn tell_in_turn(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, entry: &Entry) {
        if self.tell_now(worker, st, entry) == Some(Owed::Touch) {
            self.touch(worker, st, entry);
        }
    }

    /// Writes a use of a user session down, once, and waits for nobody.
    fn touch(self: &Rc<Self>, worker: &Rc<Worker>, st: &State, entry: &Entry) {
        let key_hash = entry.key_hash;
        let Ok(command) = state::parse(&words(entry.wire())) else { return };
        let Some(runner) = self.runner(worker, st, &command) else { return };
        let state::Command::Session(state::session::Command::Validate(validate)) = command else { return };
        if !worker.touches.borrow_mut().insert(key_hash) {
            return;
        }
        let call = validate.touch(&session_settings(&runner));
        tokio::task::spawn_local(async move {
            // One that is lost comes again with the next hit.
            let _ = runner.call(&call).await;
            runner.worker.touches.borrow_mut().remove(&key_hash);
        });
    }

    /// What runs a command for this session, once it is known how keys are named.
    fn runner(self: &Rc<Self>, worker: &Rc<Worker>, st: &State, command: &state::Command) -> Option<Runner> {
        let kind = command.kind();
        let home = worker.home(kind, st.lanes.links(), st.identity.db);
        let prefix = worker.live().config.prefix(kind).into();
        Some(Runner {
            session: self.clone(),
            worker: worker.clone(),
            naming: Naming { prefix, tagged: naming_of(&worker.shared.places, &home, command)? },
            home,
            resp3: st.identity.resp3,
        })
    }

    /// Runs a command's one script so that L1 may keep its answer. None: it goes the ordinary way.
    pub(super) fn run_to_keep(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &Row,
        planned: Planned<'_>,
    ) -> Option<Step> {
        let Planned { call, then, .. } = planned;
        // A session that watches keys reads at L2.
        let cache = self.l1(worker, st).filter(|_| st.pin.is_none())?;
        let may_be_kept = match then {
            Then::Validated(validate) => !validate.strict,
            // The next one after a denial.
            Then::Limited(Limited::Check(resolved)) => resolved.may_be_remembered() && cache.denials.any(),
            _ => false,
        };
        if !may_be_kept || request.wire.len() > worker.cached_request_bytes_max() {
            return None;
        }
        let cache = cache.clone();
        let hash = worker.shared.hash(call.keys().next()?);
        let tail_at = request.args.tail_at();
        let id = worker.request_id(&cache, Self::scope(st), row, request.wire, tail_at, 0);
        let id = RequestId { key_hash: hash, stripe: cache.stamps.stripe(hash), ..id };
        match then {
            Then::Validated(validate) => self.validate_to_keep(worker, st, &cache, &id, planned, validate),
            Then::Limited(Limited::Check(resolved)) => {
                self.check_to_keep(worker, st, &cache, &id, planned, resolved)
            }
            _ => None,
        }
    }

    fn validate_to_keep(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        cache: &Cache,
        id: &RequestId<'_>,
        Planned { runner, call, .. }: Planned<'_>,
        validate: &Validate,
    ) -> Option<Step> {
        let stripe = &[id.stripe];
        if st.lanes.read_meets_write(st.head, stripe) {
            return None;
        }
        if let Some(until) = st.lanes.miss_waits_for(st.head, stripe) {
            return Some(Step::Again(Park::Until(until)));
        }
        worker.metrics.l1_misses.add(1);
        let key = call.keys().next()?;
        let passes =
            st.lanes.here().script.busy(st.head).is_some() || st.lanes.meets_passing(st.head, stripe);
        if passes || worker.admit_key(cache, id.key_hash, key) == Admission::Pass {
            return None;
        }
        // Its incarnation is read before its stamp.
        let fill = Fill::begin(worker, st, key)?;
        let seq = st.next_seq();
        let follower = Follower { worker: worker.id, session: self.id, seq };
        match cache.flights.join(id, &cache.stamps, follower, worker.now()) {
            Joined::Follows => worker.metrics.l1_followed.add(1),
            Joined::Leads(flight) => {
                let reply = worker.send_script(&fill.link, call);
                let (to, ttl) = oneshot::channel();
                fill.link.send(worker, &pttl(key), Expect::Internal(to), Group::Other);
                let runner = runner.clone();
                let fill = ValidateFill { fill, flight, call: call.clone(), validate: validate.clone() };
                tokio::task::spawn_local(async move {
                    let reply = reply.await.unwrap_or(Err(Failure::Unknown));
                    let ttl = ttl.await.ok().and_then(|frame| resp::parse_integer(&frame));
                    runner.validated(seq, fill, reply, ttl).await;
                });
            }
        }
        st.take_place(Waits::Reply);
        st.lanes.note_aside(st.head, seq, stripe);
        Some(Step::Next)
    }

    /// A check that was denied before goes over the tracked link. It may use the limit up, so nobody follows it, and the
    /// session waits for it.
    fn check_to_keep(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        cache: &Cache,
        id: &RequestId<'_>,
        Planned { runner, call, .. }: Planned<'_>,
        resolved: &Resolved,
    ) -> Option<Step> {
        let hash = worker.shared.hash_of(resolved);
        if st.is_waiting() || !cache.denials.has(hash) {
            return None;
        }
        let fill = Fill::begin(worker, st, call.keys().next()?)?;
        let flight = Flight::alone(id, &cache.stamps, worker.now());
        worker.metrics.l1_misses.add(1);
        let seq = st.take_place(Waits::Reply);
        let reply = worker.send_script(&fill.link, call);
        let (runner, call, resolved) = (runner.clone(), call.clone(), resolved.clone());
        let fill = DenialFill { fill, flight, call, resolved, hash };
        tokio::task::spawn_local(async move {
            let reply = reply.await.unwrap_or(Err(Failure::Unknown));
            runner.checked(seq, fill, reply).await;
        });
        Some(Step::Wait(Park::Until(seq + 1)))
    }

    /// Runs a request whose kept answer has become void, in the place that it has.
    pub(super) fn run_again(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, seq: u64, wire: &[u8]) {
        let ready = |st: &mut State, reply: Vec<u8>| {
            if let Some(place) = st.queue.get_mut((seq - st.head) as usize) {
                place.what = Waits::Ready(reply.into());
            }
        };
        let planned = state::parse(&words(wire)).map(|command| {
            let runner = self.runner(worker, st, &command)?;
            Some(plan(&runner, command).map(|plan| (runner, plan)))
        });
        match planned {
            Ok(Some(Ok((runner, Plan::One(call, then))))) => {
                tokio::task::spawn_local(runner.alone(seq, call, then));
            }
            Ok(Some(Ok((_, Plan::Answered(reply))))) => ready(st, reply),
            Err(fault) | Ok(Some(Err(fault))) => {
                let mut line = Vec::new();
                resp::error(&mut line, &fault);
                ready(st, line);
            }
            Ok(None | Some(Ok((_, Plan::Steps(_))))) => {
                debug_assert!(false, "a kept answer is one script's");
                ready(st, b"-ERR the answer was void\r\n".to_vec());
            }
        }
    }
}

impl Runner {
    /// What VALIDATE's script said over the tracked link.
    async fn validated(
        self,
        seq: u64,
        ValidateFill { fill, flight, call, validate }: ValidateFill,
        reply: Result<bytes::Bytes, Failure>,
        ttl_ms: Option<i64>,
    ) {
        let frame = match reply {
            Ok(frame) if !frame.starts_with(b"-") => frame,
            // It only reads: who waits for it reads by itself, and so does this one.
            _ => {
                self.worker.land(&flight, None);
                return self.alone(seq, call, Then::Validated(validate)).await;
            }
        };
        let id = flight.id();
        let life = ttl_ms.and_then(|ttl| self.worker.life_of_key(&fill.key, &id, &frame, ttl));
        let session = Validated::parse(&frame).ok();
        if let (Some(life), Some(cache), Some(session)) = (life, &self.worker.shared.cache, session) {
            let said = session.map(|session| session.keep()).unwrap_or_default();
            let kind = if validate.counts == Use::Counts { USED } else { LOOKED_AT };
            fill.store(&self.worker, cache, &flight, kind, &said, life.time);
        }
        let mut out = Vec::new();
        call.reply.convert(&frame, self.resp3, &mut out);
        self.worker.land(&flight, Some(&out));
        self.follow(Then::Validated(validate), &frame);
        self.session.answer(&self.worker, seq, Frame::Owned(out.into()));
    }

    /// What CHECK's script said over the tracked link.
    async fn checked(self, seq: u64, fill: DenialFill, reply: Result<bytes::Bytes, Failure>) {
        let Some(cache) = self.worker.shared.cache.clone() else { return };
        let frame = match reply {
            // Nothing was executed.
            Ok(frame) if is_unknown_script(&frame) || fill.fill.link.was_not_served(&self.worker, &frame) => {
                self.call(&fill.call).await
            }
            other => other,
        };
        let outcome = frame.as_ref().ok().and_then(|frame| Outcome::parse(frame).ok());
        let denied = outcome.filter(|outcome| !outcome.allowed && outcome.retry_ms > 0);
        match (denied, &frame) {
            (Some(denied), Ok(frame)) => self.keep_denial(&cache, &fill, denied, frame),
            _ => {
                self.worker.bump(&StripeSet::from_slice(&[fill.flight.id().stripe]));
                cache.denials.forget(fill.hash);
            }
        }
        match frame {
            Ok(frame) => {
                let mut out = Vec::new();
                fill.call.reply.convert(&frame, self.resp3, &mut out);
                self.session.answer(&self.worker, seq, Frame::Owned(out.into()));
            }
            Err(failure) => self.failed(seq, &Then::Limited(Limited::Check(fill.resolved)), failure),
        }
    }

    fn keep_denial(
        &self,
        cache: &Cache,
        DenialFill { fill, flight, .. }: &DenialFill,
        denied: Outcome,
        frame: &[u8],
    ) {
        let limit = Duration::from_millis(denied.retry_ms.unsigned_abs());
        // The key's time to live says nothing: the denial is over before.
        let life = self.worker.life_of_key(&fill.key, &flight.id(), frame, -1);
        if let Some(life) = life {
            fill.store(&self.worker, cache, flight, DENIED, &denied.keep(), life.time.min(limit));
        }
    }
}
