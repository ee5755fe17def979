//! Shared-state commands: which script answers one, and what follows from its reply. Commands of several scripts run as
//! tasks, for which the session waits.

use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::away::Limited;
use super::dispatch::Request;
use super::input::Step;
use super::kept::Planned;
use super::locks::Held;
use super::one_script::OneScript;
use super::pin::PinnedReply;
use super::plans::{Plan, Steps, Then, plan, presence_ttl_ms, same_in_a_cluster, session_settings};
use super::presence::Bound;
use super::{Park, Session, State, Turn, Waits};
use crate::cache::StripeSet;
use crate::command::{Group, Row};
use crate::config::Kind;
use crate::resp;
use crate::shared::{Place, Places};
use crate::state::presence::hints;
use crate::state::{self, Call, Known, Naming, lock, presence, ratelimit, session, throttle};
use crate::upstream::{Detour, Expect, Failure, Frame, Link, PinnedExpect};
use crate::worker::{Home, Worker};

/// What the daemon keeps up for a session, and ends with it.
#[derive(Default)]
pub(super) struct Upheld {
    pub(super) locks: Vec<Rc<Held>>,
    pub(super) entries: HashMap<presence::Entry, Rc<Bound>>,
    /// The session's binding, once it has one.
    pub(super) binding: Vec<u8>,
}

/// What a task of a session works with.
#[derive(Clone)]
pub(super) struct Runner {
    pub(super) session: Rc<Session>,
    pub(super) worker: Rc<Worker>,
    pub(super) home: Home,
    pub(super) naming: Naming,
    pub(super) resp3: bool,
}

impl Runner {
    pub(super) async fn call(&self, call: &Call) -> Result<Bytes, Failure> {
        let sent = |link: &Rc<Link>| {
            if call.script.writes() {
                self.session.wrote_on(link);
            }
        };
        self.worker.call_telling(&self.home, call, &sent).await
    }

    /// Sends calls that nobody waits for.
    pub(super) fn call_aside(&self, calls: Vec<Call>) {
        if calls.is_empty() {
            return;
        }
        let runner = self.clone();
        tokio::task::spawn_local(async move {
            for call in calls {
                // What is missed here is found by others: hints are verified on use, touches come again.
                let _ = runner.call(&call).await;
            }
        });
    }
}

pub(super) fn not_for_subscribers(row: &Row) -> String {
    let name = row.name.to_ascii_lowercase();
    format!(
        "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
    )
}

/// Whether keys carry a hash tag; `None`: the Redis where they live must be asked first.
pub(super) fn naming_of(places: &Places, home: &Home, command: &state::Command) -> Option<bool> {
    let is_disabled = places.of(command.kind()) == Place::Nowhere;
    home.tagged().or_else(|| (is_disabled || same_in_a_cluster(command)).then_some(false))
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let filled = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    assert_eq!(filled, Ok(N), "the kernel gives random bytes at once and whole, up to 256 of them");
    bytes
}

impl Session {
    pub(super) fn scripted(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &'static Row,
    ) -> Step {
        let resp3 = st.identity.resp3;
        let subscriber = st.pin.as_ref().is_some_and(|pin| pin.refuses_other_commands(resp3))
            || st.embedded.as_ref().is_some_and(|e| !resp3 && e.caller.is_subscriber());
        if subscriber {
            self.error_here(worker, st, &not_for_subscribers(row));
            return Step::Next;
        }
        if st.pin.is_none() && !st.multi_waits() && self.show_kept(worker, st, request, row) {
            return Step::Next;
        }
        if row.name.eq_ignore_ascii_case(throttle::NAME)
            && let Some(step) = self.throttle_of_module(worker, st, request)
        {
            return step;
        }
        let argv: SmallVec<[&[u8]; 12]> = request.args.iter().collect();
        let command = match state::parse(&argv) {
            Ok(command) => command,
            Err(fault) => return self.refuse(worker, st, &fault),
        };
        let in_multi = st.pin.as_ref().is_some_and(|pin| pin.in_multi)
            || st.multi_waits()
            || st.embedded.as_ref().is_some_and(|e| e.caller.is_in_transaction());
        let (kind, places) = (command.kind(), &worker.shared.places);
        let home = worker.home(kind, st.lanes.links(), st.identity.db);
        let apart = places.is_apart(kind);
        if apart && let Some(step) = self.goes_apart(worker, st, kind, &home, in_multi) {
            return step;
        }
        let tagged = match naming_of(places, &home, &command) {
            Some(tagged) => tagged,
            None => match self.ask_for_slots(worker, st, &home) {
                Ok(step) => return step,
                // Limits are answered without their Redis too.
                Err(_) if kind == Kind::Ratelimit => false,
                Err(failure) => {
                    self.fail_here(worker, st, &failure);
                    return Step::Next;
                }
            },
        };
        if !in_multi && st.pin.is_some() && st.is_waiting() {
            return Step::Again(Park::Until(st.next_seq()));
        }
        let naming = Naming { prefix: worker.live_now().config.prefix(kind).into(), tagged };
        let runner =
            Runner { session: self.clone(), worker: worker.clone(), home, naming, resp3: st.identity.resp3 };
        match plan(&runner, command) {
            Err(fault) => self.refuse(worker, st, &fault),
            Ok(plan) if in_multi => self.queue_script(worker, st, runner, plan),
            Ok(Plan::Answered(reply)) => {
                self.reply_here(worker, st, |out| out.extend_from_slice(&reply));
                Step::Next
            }
            Ok(Plan::One(call, then)) if apart => self.script_apart(st, runner, call, then),
            Ok(Plan::One(call, then)) => {
                if let Some(step) = self.turn_to_script(worker, st, &call) {
                    return step;
                }
                let planned = Planned { runner: &runner, call: &call, then: &then };
                let kept = self.run_to_keep(worker, st, request, row, planned);
                kept.unwrap_or_else(|| self.one_script(worker, st, runner, call, then))
            }
            Ok(Plan::Steps(steps)) => {
                if st.is_waiting() {
                    return Step::Again(Park::Until(st.next_seq()));
                }
                let seq = st.take_place(Waits::Reply);
                tokio::task::spawn_local(runner.steps(seq, steps));
                Step::Wait(Park::Until(seq + 1))
            }
        }
    }

    /// How keys are named depends on whether their Redis is a cluster.
    fn ask_for_slots(self: &Rc<Self>, worker: &Rc<Worker>, st: &State, home: &Home) -> Result<Step, Failure> {
        let Home::Redis(links) = home else { return Ok(Step::Next) };
        let link = links.plain(worker, st.identity.resp3)?;
        let ask = resp::encode_request(&[b"INFO", b"cluster"]);
        let turn = Turn::Slots(links.upstream.remote.clone());
        link.send(worker, &ask, Expect::Turn(self.asker(u64::MAX), Box::new(turn)), Group::Other);
        Ok(Step::Again(Park::Turn))
    }

    /// Sent like a write of its keys: what the session sends later is executed later.
    fn one_script(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        runner: Runner,
        call: Call,
        then: Then,
    ) -> Step {
        if let Home::Engine { engine, db } = &runner.home {
            let frame = worker.call_embedded(engine, *db, &call);
            let mut out = Vec::new();
            call.reply.convert(&frame, runner.resp3, &mut out);
            runner.follow(then, &frame);
            self.reply_here(worker, st, |reply| reply.extend_from_slice(&out));
            return Step::Next;
        }
        let writes = worker.stripes_of(&call);
        if let Some(until) = st.lanes.write_waits_for(st.head, &writes) {
            return Step::Again(Park::Until(until));
        }
        let link = match self.plain_link(worker, st, false) {
            Ok(link) => link,
            Err(failure) => {
                match runner.without_l2(&then, &failure) {
                    Some(reply) => self.reply_here(worker, st, |out| out.extend_from_slice(&reply)),
                    None => self.fail_here(worker, st, &failure),
                }
                return Step::Next;
            }
        };
        if let Some(step) = self.no_room(worker, &link) {
            return step;
        }
        let seq = st.take_place(Waits::Reply);
        st.lanes.here_mut().note(&link, seq);
        if writes != StripeSet::None {
            st.lanes.note_write(st.head, seq, &writes);
        } else if let (Then::Validated(_), Some(cache), Some(key)) =
            (&then, &worker.shared.cache, call.keys().next())
        {
            st.lanes.note_passing(st.head, seq, &[cache.stamps.stripe(worker.shared.hash(key))]);
        }
        if call.script.writes() {
            st.lanes.note_written(&link);
        }
        worker.metrics.forwarded.add(1);
        let detour = Detour::new(st.patient_since(worker.now()));
        link.send_one_script(worker, OneScript { runner, seq, call, writes, then, detour });
        Step::Next
    }

    /// In a transaction the text goes along, and EXEC's reply is understood.
    fn queue_script(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        runner: Runner,
        plan: Plan,
    ) -> Step {
        let naming = &runner.naming;
        let (call, after) = match plan {
            Plan::One(call, then) => (call, After::Follows(then)),
            Plan::Answered(reply) => return self.queue_answer(worker, st, runner, reply),
            Plan::Steps(Steps::Acquire(acquire)) => {
                let (call, grant) = acquire_in_multi(&runner, acquire);
                (call, After::Acquired(grant))
            }
            Plan::Steps(Steps::ByMajority(..)) => unreachable!("what lives apart is refused in MULTI"),
            Plan::Steps(Steps::Join(join)) => {
                let ttl_ms = presence_ttl_ms(worker);
                runner.call_aside(join.hints(naming, ttl_ms));
                let call = join.call(naming, ttl_ms, &self.binding_for(&join));
                (call, After::Joined(join))
            }
            Plan::Steps(Steps::Heartbeat { entries }) => {
                let beats = entries.iter().map(|entry| (entry, &b""[..]));
                (presence::beats_in_one(naming, beats), After::Follows(Then::Nothing))
            }
            Plan::Steps(Steps::LeaveAll { connection }) => {
                (hints::leave_all(naming, &connection), After::LeftAll(connection))
            }
            Plan::Steps(Steps::Channels { user }) => {
                (hints::channels(naming, &user), After::Follows(Then::Nothing))
            }
            Plan::Steps(Steps::Multi(items)) => (ratelimit::at_once(&items), After::Follows(Then::Nothing)),
        };
        self.queue_call(worker, st, runner, call, after)
    }

    /// A reply that needs no script takes the place of PING's.
    fn queue_answer(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        runner: Runner,
        reply: Vec<u8>,
    ) -> Step {
        let scripted = |at| Scripted { at, reply: state::Reply::AsIs, after: After::Answered(reply), runner };
        if let (Some(engine), Some(embedded)) = (&worker.shared.engine, &mut st.embedded) {
            let at = u32::try_from(embedded.caller.queued()).unwrap_or_default();
            embedded.scripts.push(scripted(at));
            return self.execute(worker, st, engine, &[b"PING"]);
        }
        let Some(pin) = &mut st.pin else { return Step::Again(Park::No) };
        pin.queued.scripts.push(scripted(pin.queued.len));
        pin.queued.note(&StripeSet::None, false);
        let wire = resp::encode_request(&[b"PING"]);
        let expect = PinnedExpect::one(StripeSet::None, PinnedReply::Plain);
        self.send_on_pin(worker, st, &wire, expect, Group::State)
    }

    fn queue_call(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        runner: Runner,
        call: Call,
        after: After,
    ) -> Step {
        if let (Some(engine), Some(embedded)) = (&worker.shared.engine, &mut st.embedded) {
            let at = u32::try_from(embedded.caller.queued()).unwrap_or_default();
            let reply = call.reply;
            embedded.scripts.push(Scripted { at, reply, after, runner });
            return call.with_argv(Known::No, |argv| self.execute(worker, st, engine, argv));
        }
        let writes = worker.stripes_of(&call);
        if let Some(step) = self.bind_to_script(worker, st, &call) {
            return step;
        }
        let Some(pin) = &mut st.pin else { return Step::Again(Park::No) };
        pin.read = true;
        let at = pin.queued.len;
        pin.queued.note(&writes, false);
        let wire = call.eval();
        pin.queued.scripts.push(Scripted { at, reply: call.reply, after, runner });
        let expect = PinnedExpect::one(writes, PinnedReply::Plain);
        self.send_on_pin(worker, st, &wire, expect, Group::State)
    }
}

fn acquire_in_multi(runner: &Runner, acquire: lock::Acquire) -> (Call, Held) {
    let held = Held::wanted(runner, &acquire);
    let call = acquire.call(&runner.naming, &held.token, &held.nonce, lock::Waits::No);
    (call, held)
}

/// A shared-state command in a transaction.
pub(super) struct Scripted {
    at: u32,
    reply: state::Reply,
    after: After,
    runner: Runner,
}

/// What begins or ends once EXEC was answered.
enum After {
    Follows(Then),
    Acquired(Held),
    Joined(presence::Join),
    LeftAll(Vec<u8>),
    /// The reply, whatever stands there.
    Answered(Vec<u8>),
}

impl Scripted {
    /// EXEC's reply as the client gets it, and what follows from it.
    pub(super) fn executed(scripts: Vec<Scripted>, reply: &[u8], resp3: bool) -> Option<Vec<u8>> {
        let elements = resp::array_elements(reply)?;
        let mut out = Vec::with_capacity(reply.len());
        resp::array_header(&mut out, elements.len());
        let mut scripts = scripts.into_iter().peekable();
        for (at, element) in elements.iter().enumerate() {
            match scripts.next_if(|script| script.at as usize == at) {
                None => out.extend_from_slice(element),
                Some(Scripted { after: After::Answered(reply), .. }) => out.extend_from_slice(&reply),
                Some(script) => {
                    script.reply.convert(element, resp3, &mut out);
                    script.follow(element);
                }
            }
        }
        Some(out)
    }

    /// EXEC's outcome will not reach the client, who has left: what was bound to it must not outlive it.
    pub(super) fn abandon(scripts: Vec<Scripted>) {
        for Scripted { after, runner, .. } in scripts {
            match after {
                After::Acquired(held) if held.acquire.bind => runner.repeat_until_answered(held.cancel()),
                After::Joined(join) if join.bind => runner.keep_entry(&join),
                _ => {}
            }
        }
    }

    fn follow(self, element: &[u8]) {
        let Scripted { after, runner, .. } = self;
        if element.starts_with(b"-") || element.starts_with(b"!") {
            return;
        }
        match after {
            After::Follows(then) => runner.follow(then, element),
            After::Acquired(held) => {
                if let Ok(lock::Acquired::Granted { fence, .. }) = lock::Acquired::parse(element) {
                    // It was queued, and executed only with EXEC.
                    held.asked_now();
                    runner.hold(held, fence);
                }
            }
            After::Joined(join) => runner.keep_entry(&join),
            After::LeftAll(connection) => runner.session.drop_entries_of(&connection),
            After::Answered(_) => {}
        }
    }
}

impl Runner {
    /// A command's one script, which nothing else of the session runs beside.
    pub(super) async fn alone(self, seq: u64, call: Call, then: Then) {
        match self.call(&call).await {
            Ok(frame) => {
                self.has_passed(&call, &then);
                let mut out = Vec::new();
                call.reply.convert(&frame, self.resp3, &mut out);
                self.follow(then, &frame);
                self.session.answer(&self.worker, seq, Frame::Owned(out.into()));
            }
            Err(failure) => self.failed(seq, &then, failure),
        }
    }

    /// What passed by L1 may be ahead of what that holds.
    pub(super) fn has_passed(&self, call: &Call, then: &Then) {
        if let (Then::Validated(_), Some(cache)) = (then, &self.worker.shared.cache)
            && let Some(key) = call.keys().next()
        {
            let stripe = cache.stamps.stripe(self.worker.shared.hash(key));
            self.session.passed_read(&self.worker, cache, stripe);
        }
    }

    pub(super) fn follow(&self, then: Then, frame: &[u8]) {
        match then {
            // The next one of these is worth an entry.
            Then::Limited(Limited::Check(resolved)) if ratelimit::Outcome::is_denial(frame) => {
                if let Some(cache) = &self.worker.shared.cache {
                    cache.denials.note(self.worker.shared.hash_of(&resolved));
                }
            }
            Then::Released(release) if !frame.starts_with(b"-") => self.session.let_go(&release),
            Then::Left(entry) => self.left(entry, frame),
            Then::Validated(validate) => {
                let Ok(Some(session)) = session::Validated::parse(frame) else { return };
                if validate.counts == session::Use::Counts && session.wants_touch(0) {
                    self.call_aside(vec![validate.touch(&session_settings(self))]);
                }
            }
            _ => {}
        }
    }

    async fn steps(self, seq: u64, steps: Steps) {
        let outcome = match steps {
            Steps::Acquire(acquire) => self.acquire(acquire).await,
            Steps::ByMajority(sets, command) => Ok(self.by_majority(&sets, command).await),
            Steps::Join(join) => self.join(join).await,
            Steps::LeaveAll { connection } => self.leave_all(connection).await,
            Steps::Channels { user } => self.channels(user).await,
            Steps::Heartbeat { entries } => self.beat(entries).await,
            Steps::Multi(items) => self.limits_one_by_one(items).await,
        };
        match outcome {
            Ok(reply) => self.session.answer(&self.worker, seq, Frame::Owned(reply.into())),
            Err(failure) => self.session.fail(&self.worker, seq, failure),
        }
    }
}

impl Session {
    /// The connection is over: what was bound to it ends, and nothing is kept up any more.
    pub(super) fn drop_upheld(&self) {
        let mut upheld = self.upheld.borrow_mut();
        // What is granted from here on is of the same binding.
        let upheld = Upheld {
            locks: std::mem::take(&mut upheld.locks),
            entries: std::mem::take(&mut upheld.entries),
            binding: upheld.binding.clone(),
        };
        if upheld.locks.is_empty() && upheld.entries.is_empty() {
            return;
        }
        tokio::task::spawn_local(super::locks::release_bound(upheld.locks));
        tokio::task::spawn_local(super::presence::leave_bound(upheld.binding, upheld.entries));
    }
}
