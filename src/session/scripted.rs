//! Shared-state commands: which script answers one, and what follows from its reply. Commands of several scripts run as
//! tasks, for which the session waits.

use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::dispatch::Request;
use super::input::Step;
use super::locks::Held;
use super::pin::PinnedReply;
use super::plans::{
    Plan, Steps, Then, plan, prefix_of, presence_ttl_ms, same_in_a_cluster, session_settings,
};
use super::presence::Bound;
use super::{Park, Session, State, Turn, Waits};
use crate::cache::StripeSet;
use crate::command::{Group, Row};
use crate::config::LimitOnL2Down;
use crate::resp;
use crate::shared::Slots;
use crate::state::{self, Call, Known, Naming, lock, presence, ratelimit, session};
use crate::upstream::{Expect, Failure, Frame, Frames, LinkSet, Purpose};
use crate::worker::{Worker, is_unknown_script};

/// What the daemon keeps up for a session, and ends with it.
#[derive(Default)]
pub(super) struct Kept {
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
    pub(super) links: Rc<LinkSet>,
    pub(super) naming: Naming,
    pub(super) resp3: bool,
}

impl Runner {
    pub(super) async fn call(&self, call: &Call) -> Result<Bytes, Failure> {
        self.worker.call(&self.links, call).await
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
            let name = row.name.to_ascii_lowercase();
            let text = format!(
                "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
            );
            self.error_here(worker, st, &text);
            return Step::Next;
        }
        let argv: SmallVec<[&[u8]; 12]> = request.args.iter().collect();
        let command = match state::parse(&argv) {
            Ok(command) => command,
            Err(fault) => return self.refuse(worker, st, &fault),
        };
        let tagged = match worker.shared.slots().tagged() {
            Some(tagged) => tagged,
            None if same_in_a_cluster(&command) => false,
            None => return self.ask_for_slots(worker, st),
        };
        let in_multi = st.pin.as_ref().is_some_and(|pin| pin.in_multi)
            || st.embedded.as_ref().is_some_and(|e| e.caller.is_in_transaction());
        if !in_multi && st.pin.is_some() && st.is_waiting() {
            return Step::Again(Park::Until(st.next_seq()));
        }
        let naming = Naming { prefix: prefix_of(worker, &command), tagged };
        let runner = Runner {
            session: self.clone(),
            worker: worker.clone(),
            links: st.links.clone(),
            naming,
            resp3: st.identity.resp3,
        };
        match plan(&runner, command) {
            Err(fault) => self.refuse(worker, st, &fault),
            Ok(plan) if in_multi => self.queue_script(worker, st, runner, plan),
            Ok(Plan::Answered(reply)) => {
                self.reply_here(worker, st, |out| out.extend_from_slice(&reply));
                Step::Next
            }
            Ok(Plan::One(call, then)) => self.one_script(worker, st, runner, call, then),
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

    /// How keys are named depends on whether L2 is a cluster.
    fn ask_for_slots(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State) -> Step {
        match st.links.plain(worker, st.identity.resp3) {
            Ok(link) => {
                let ask = resp::encode_request(&[b"INFO", b"cluster"]);
                link.send(worker, &ask, Expect::Turn(self.asker(u64::MAX), Turn::Slots), Group::Other);
                Step::Again(Park::Turn)
            }
            Err(failure) => {
                self.fail_here(worker, st, &failure);
                Step::Next
            }
        }
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
        if let Some(engine) = &worker.shared.engine {
            let frame = worker.call_embedded(engine, st.identity.db, &call);
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
                match runner.without_l2(&then) {
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
        match link.purpose {
            Purpose::Script => st.lanes.script.note(&link, seq),
            _ => st.lanes.plain.note(&link, seq),
        }
        if writes != StripeSet::None {
            st.lanes.note_write(st.head, seq, &writes);
        }
        worker.metrics.forwarded.add(1);
        let request = Worker::script_request(&link, &call);
        let script = Box::new(OneScript { runner, seq, call, writes, then });
        link.send(worker, &request, Expect::OneScript(script), Group::State);
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
        let (call, then) = match plan {
            Plan::One(call, then) => (call, then),
            Plan::Steps(Steps::Acquire(acquire)) => {
                let (call, grant) = acquire_in_multi(&runner, acquire);
                return self.queue_call(worker, st, runner, call, After::Acquired(grant));
            }
            Plan::Steps(Steps::Join(join)) => {
                let ttl_ms = presence_ttl_ms(worker);
                runner.call_aside(join.hints(&runner.naming, ttl_ms));
                let call = join.call(&runner.naming, ttl_ms, &self.binding_for(&join));
                return self.queue_call(worker, st, runner, call, After::Joined(join));
            }
            Plan::Steps(Steps::Heartbeat { entries }) => {
                let beats: Vec<_> = entries.iter().map(|entry| (entry, &b""[..])).collect();
                let mut calls = presence::heartbeats(&runner.naming, &beats);
                match (calls.pop(), calls.is_empty()) {
                    (Some(beats), true) => (beats.call, Then::Nothing),
                    _ => {
                        return self.refuse(
                            worker,
                            st,
                            "ERR so many heartbeats are not allowed inside MULTI",
                        );
                    }
                }
            }
            Plan::Steps(_) | Plan::Answered(_) => {
                return self.refuse(worker, st, "ERR this command is not allowed inside MULTI");
            }
        };
        let after = match then {
            Then::Released(release) => After::Released(release),
            _ => After::Nothing,
        };
        self.queue_call(worker, st, runner, call, after)
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
        let Some(pin) = &mut st.pin else { return Step::Again(Park::No) };
        pin.read = true;
        let at = pin.queued.len;
        pin.queued.note(&writes, false);
        let wire = call.eval();
        pin.queued.scripts.push(Scripted { at, reply: call.reply, after, runner });
        self.send_on_pin(worker, st, &wire, writes, false, Frames::One, PinnedReply::Plain, Group::State)
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
    Nothing,
    Acquired(Held),
    Released(lock::Release),
    Joined(presence::Join),
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
                Some(script) => {
                    script.reply.convert(element, resp3, &mut out);
                    script.follow(element);
                }
            }
        }
        Some(out)
    }

    fn follow(self, element: &[u8]) {
        let Scripted { after, runner, .. } = self;
        let went_well = !element.starts_with(b"-") && !element.starts_with(b"!");
        match after {
            After::Acquired(held) => {
                if let Ok(lock::Acquired::Granted { fence, .. }) = lock::Acquired::parse(element) {
                    runner.hold(held, fence);
                }
            }
            After::Released(release) if went_well => runner.session.let_go(&release),
            After::Joined(join) if went_well => runner.keep_entry(&join),
            _ => {}
        }
    }
}

/// A command's one script, which was sent.
pub struct OneScript {
    runner: Runner,
    /// The command's place among its session's requests.
    seq: u64,
    call: Call,
    writes: StripeSet,
    then: Then,
}

impl OneScript {
    /// Before the reply is handed over, L1 shows nothing from before the script any more.
    pub fn answered(self: Box<Self>, frame: Frame<'_>) {
        let frame = frame.as_slice();
        if is_unknown_script(frame) {
            return self.send_again();
        }
        let OneScript { runner, seq, call, writes, then } = *self;
        let (worker, session) = (&runner.worker, &runner.session);
        worker.bump(&writes);
        let mut converted = Vec::new();
        let reply = match call.reply.is_as_said(runner.resp3) {
            true => frame,
            false => {
                call.reply.convert(frame, runner.resp3, &mut converted);
                &converted
            }
        };
        runner.follow(then, frame);
        match writes.is_unknown() {
            true => worker.hold_for_barrier(session.asker(seq), Bytes::copy_from_slice(reply)),
            false => session.answer(worker, seq, Frame::Borrowed(reply)),
        }
    }

    /// Somebody flushed L2's scripts: nothing was executed.
    fn send_again(self: Box<Self>) {
        let (worker, links) = (self.runner.worker.clone(), self.runner.links.clone());
        match links.plain(&worker, false) {
            Ok(link) => link.send(&worker, &self.call.eval(), Expect::OneScript(self), Group::State),
            Err(failure) => self.failed(failure),
        }
    }

    pub fn failed(self: Box<Self>, failure: Failure) {
        let OneScript { runner, seq, writes, then, .. } = *self;
        let (worker, session) = (&runner.worker, &runner.session);
        worker.bump(&writes);
        match runner.without_l2(&then) {
            Some(reply) => session.answer(worker, seq, Frame::Owned(reply.into())),
            None if writes.is_unknown() => worker.hold_failure_for_barrier(session.asker(seq), failure),
            None => session.fail(worker, seq, failure),
        }
    }
}

impl Runner {
    fn follow(&self, then: Then, frame: &[u8]) {
        match then {
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

    /// Without L2 the policy of a limit decides; everything else fails.
    fn without_l2(&self, then: &Then) -> Option<Vec<u8>> {
        let Then::Checked(resolved) = then else { return None };
        let outcome = match resolved.on_l2_down() {
            LimitOnL2Down::Closed => ratelimit::Outcome::closed(resolved),
            LimitOnL2Down::Open | LimitOnL2Down::Local => ratelimit::Outcome::open(resolved),
        };
        let mut reply = Vec::new();
        outcome.write(self.resp3, &mut reply);
        Some(reply)
    }

    async fn steps(self, seq: u64, steps: Steps) {
        let outcome = match steps {
            Steps::Acquire(acquire) => self.acquire(acquire).await,
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

    /// Limits in several slots: what was consumed before a denial is given back.
    async fn limits_one_by_one(&self, items: Vec<ratelimit::Resolved>) -> Result<Vec<u8>, Failure> {
        let mut outcomes = Vec::new();
        for item in &items {
            let frame = self.call(&item.check()).await?;
            let Ok(outcome) = ratelimit::Outcome::parse(&frame) else { return Ok(frame.to_vec()) };
            let allowed = outcome.allowed;
            outcomes.push(outcome);
            if !allowed {
                for item in &items[..outcomes.len() - 1] {
                    self.call(&item.refund()).await?;
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
    /// L2 has said whether it is a cluster.
    pub(super) fn heard_of_slots(worker: &Worker, frame: &[u8]) {
        let tagged = memchr::memmem::find(frame, b"cluster_enabled:1").is_some();
        worker.shared.set_slots(if tagged { Slots::Tagged } else { Slots::Plain });
    }

    /// The connection is over: what was bound to it ends, and nothing is kept up any more.
    pub(super) fn drop_kept(self: &Rc<Self>, worker: &Rc<Worker>) {
        let kept = std::mem::take(&mut *self.kept.borrow_mut());
        if kept.locks.is_empty() && kept.entries.is_empty() {
            return;
        }
        tokio::task::spawn_local(super::locks::release_bound(worker.clone(), kept.locks));
        tokio::task::spawn_local(super::presence::leave_bound(worker.clone(), kept.binding, kept.entries));
    }
}
