//! Which link a request takes, and what its reply will mean for L1.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use smallvec::SmallVec;

use super::input::Step;
use super::pin::OneShot;
use super::{Park, Session, State, Turn};
use crate::cache::{Stripe, StripeSet};
use crate::clock::Moment;
use crate::command::{self, Effect, Group, KeySet, Local, Route, Row};
use crate::resp::{self, Args};
use crate::shared::Learned;
use crate::upstream::{Aftermath, Expect, Failure, KeyedRead, Link};
use crate::worker::Worker;

/// How long L2's word that there is no such command is believed.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);
const NAME_LEN_MAX: usize = 128;
/// A longer CLIENT PAUSE is taken for this long.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// A request, as its handlers see it.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub wire: &'a [u8],
    pub args: Args<'a>,
    /// What the client sent behind it, as far as it may be taken with it: nothing behind an inline request, or a part of one.
    pub rest: &'a [u8],
}

impl<'a> Request<'a> {
    /// The first `len` bytes, whose arguments are at these ranges; the others are what was sent behind it.
    #[inline]
    pub fn new(bytes: &'a [u8], len: usize, ranges: &'a [(u32, u32)]) -> Request<'a> {
        let (wire, rest) = bytes.split_at(len);
        Request { wire, args: Args::new(wire, ranges), rest }
    }
}

/// A request for the plain lane.
pub(super) struct Outgoing<'a> {
    pub wire: &'a [u8],
    /// It may change something, so that WAIT has to ask where it went.
    pub may_write: bool,
    /// The keys that others of this session must not overtake; none are told apart without L1.
    pub writes: StripeSet,
    /// It takes a link that nothing small waits on.
    pub huge: bool,
    pub group: Group,
}

impl<'a> Outgoing<'a> {
    /// One that writes nothing and is small.
    pub fn new(wire: &'a [u8], group: Group) -> Outgoing<'a> {
        Outgoing { wire, may_write: false, writes: StripeSet::None, huge: false, group }
    }

    /// The same of one that may write these keys.
    pub fn writing(self, writes: StripeSet) -> Outgoing<'a> {
        Outgoing { may_write: true, writes, ..self }
    }
}

/// While L2 holds writes back, they keep off the links of reads.
pub(super) fn note_pause(worker: &Worker, row: &Row, args: &Args<'_>) {
    let until = match (row.name, args.get(2), args.get(3)) {
        ("CLIENT|UNPAUSE", ..) => 0,
        ("CLIENT|PAUSE", Some(ms), Some(what)) if what.eq_ignore_ascii_case(b"write") => {
            let ms = std::str::from_utf8(ms).ok().and_then(|ms| ms.parse().ok()).unwrap_or(0);
            worker.now().after(Duration::from_millis(ms).min(PAUSE_MAX)).0
        }
        _ => return,
    };
    worker.shared.writes_paused_until.store(until, Relaxed);
}

impl Session {
    /// Answers one request, or sends it on. `row` is the command's, if the table knows it.
    pub(super) fn request(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: Option<&'static Row>,
    ) -> Step {
        if st.queue.len() >= worker.client_in_flight_max() {
            return Step::Again(Park::Until(st.head + (st.queue.len() as u64).div_ceil(2)));
        }
        st.last_command = row.map_or("NULL", |row| row.name);
        let step = match row {
            Some(row) => self.known(worker, st, request, row),
            None => self.unknown(worker, st, request),
        };
        if matches!(step, Step::Again(_)) {
            return step;
        }
        let group = row.map_or(Group::Other, Row::group);
        worker.metrics.commands_of(group, 1);
        st.end_request();
        step
    }

    fn known(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &'static Row,
    ) -> Step {
        if !st.identity.authenticated
            && !matches!(row.route, Route::Local(Local::Auth | Local::Hello | Local::Quit | Local::Reset))
        {
            return self.refuse_unauthenticated(worker, st, &request.args, Some(row));
        }
        if worker.is_denied(row.index()) {
            worker.metrics.refused_denied.add(1);
            let name = row.name.to_ascii_lowercase();
            let text = format!("NOPERM madcache refuses '{name}': the setting server.deny_commands names it");
            return self.refuse(worker, st, &text);
        }
        if let Some(engine) = &worker.shared.engine {
            return self.embedded(worker, st, engine, request, Some(row));
        }
        if let Some(cluster) = &worker.shared.l2.cluster {
            // One that is divided and waits goes on where it stopped.
            if st.is_dividing() {
                return self.go_on_dividing(worker, st, row);
            }
            if let Some(step) = self.steer(worker, st, cluster, &request, row) {
                return step;
            }
        }
        if st.pin.is_some() {
            return self.pinned_request(worker, st, request, row);
        }
        self.routed(worker, st, request, row)
    }

    /// To what answers the command, where the session has no link of its own for it.
    pub(super) fn routed(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &'static Row,
    ) -> Step {
        match row.route {
            Route::Cached => self.read_cached(worker, st, request, row),
            Route::CachedEach => self.read_each(worker, st, request, row),
            Route::Shared => self.shared(worker, st, request, row),
            Route::Script => self.script(worker, st, request, row),
            Route::Local(local) => self.local(worker, st, request, row, local),
            Route::Info => self.info(worker, st, request),
            Route::State => self.scripted(worker, st, request, row),
            Route::Multi => self.multi(worker, st, request, row),
            Route::BlockingIfAsked if !row.is_blocking(&request.args) => {
                self.shared(worker, st, request, row)
            }
            // Without a transaction of its own these only get L2's error, and leave no state.
            Route::Exec | Route::Discard | Route::Unwatch => self.shared(worker, st, request, row),
            Route::CommandDocs => self.command_docs(worker, st, request, row),
            Route::Fresh => {
                note_pause(worker, row, &request.args);
                self.one_shot(worker, st, request, row, OneShot::Fresh)
            }
            Route::Wait => self.wait(worker, st, request, row),
            Route::Blocking | Route::BlockingIfAsked => {
                self.one_shot(worker, st, request, row, OneShot::Blocking)
            }
            Route::Watch | Route::Subscription | Route::Monitor | Route::LinkState => {
                self.begin_pin(worker, st, request, row)
            }
        }
    }

    /// A command that the daemon's table does not know: what does L2 say of it?
    fn unknown(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, request: Request<'_>) -> Step {
        let name = request.args.get(0).unwrap_or_default();
        if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
            worker.metrics.refused_malformed.add(1);
            worker.warn_of_http(&st.addresses.0);
            self.shut();
            return Step::Close;
        }
        if !st.identity.authenticated {
            return self.refuse_unauthenticated(worker, st, &request.args, None);
        }
        if let Some(engine) = &worker.shared.engine {
            return self.embedded(worker, st, engine, request, None);
        }
        if worker.shared.l2.cluster.is_some()
            && let Some(step) = self.steer_unknown(worker, st, request)
        {
            return step;
        }
        if st.pin.is_some() {
            return self.pinned_unknown(worker, st, request);
        }
        let Some(name) = std::str::from_utf8(name).ok().filter(|name| name.len() <= NAME_LEN_MAX) else {
            return self.unlisted(worker, st, request);
        };
        let name = name.to_ascii_lowercase();
        let learned = worker.shared.learned.get(&name).map(|l| *l);
        match learned {
            Some(l) if l.exists && l.blocking => self.one_shot_unknown(worker, st, request),
            Some(l) if l.exists => self.script_lane(worker, st, request, l.readonly, Group::Other),
            Some(l) if worker.now().since(l.learned) < UNKNOWN_FOR => self.unlisted(worker, st, request),
            _ => self.learn(worker, st, name),
        }
    }

    fn learn(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, name: String) -> Step {
        let ask = resp::encode_request(&[b"COMMAND", b"INFO", name.as_bytes()]);
        match st.lanes.links().plain(worker, st.identity.resp3) {
            Ok(link) => {
                link.send(
                    worker,
                    &ask,
                    Expect::Turn(self.asker(u64::MAX), Box::new(Turn::Learn(name))),
                    Group::Other,
                );
                Step::Again(Park::Turn)
            }
            Err(failure) => {
                self.fail_here(worker, st, &failure);
                Step::Next
            }
        }
    }

    /// `frame` is L2's COMMAND INFO; without one nothing is known.
    pub(super) fn learned(worker: &Rc<Worker>, name: String, frame: Option<&[u8]>) {
        let info = frame.and_then(resp::parse);
        let flags = info.as_ref().and_then(|i| i.elements()?.first()?.elements()?.get(2)?.elements());
        let has = |flag: &[u8]| flags.is_some_and(|f| f.iter().any(|f| f.text() == Some(flag)));
        let learned = Learned {
            readonly: has(b"readonly"),
            blocking: has(b"blocking"),
            exists: flags.is_some(),
            learned: Moment::now(),
        };
        worker.shared.learn(name, learned);
    }

    /// L2 answers with its own error, or (a module that was loaded just now) does whatever it does.
    fn unlisted(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, request: Request<'_>) -> Step {
        if let Some(until) = st.lanes.plain_waits_for(st.head) {
            return Step::Again(Park::Until(until));
        }
        let outgoing = Outgoing::new(request.wire, Group::Other).writing(StripeSet::Unknown);
        self.send_plain(worker, st, outgoing, |asker| {
            Expect::WriteUnknown(asker, StripeSet::Unknown, Aftermath::Barrier)
        })
    }

    /// Refuses a request, also inside a transaction, which then fails as if L2 had refused it.
    pub(super) fn refuse(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, text: &str) -> Step {
        if st.pin.as_ref().is_some_and(|pin| pin.in_multi) {
            return self.refuse_in_multi(worker, st, text);
        }
        // Some node has to know of the transaction that fails.
        if st.multi_waits() {
            return self.begin_multi(worker, st, None);
        }
        if let Some(embedded) = &mut st.embedded {
            embedded.caller.fail_transaction();
        }
        self.error_here(worker, st, text);
        Step::Next
    }

    /// The stripes of the keys that a request names.
    pub(super) fn stripes(&self, worker: &Worker, row: &Row, args: &Args<'_>) -> StripeSet {
        let Some(cache) = &worker.shared.cache else {
            return StripeSet::None;
        };
        let mut stripes = SmallVec::<[Stripe; 8]>::new();
        let found = row.for_each_key(args, &mut |key| {
            if stripes.len() <= StripeSet::KEYS_MAX {
                let hash = worker.shared.hash(key);
                cache.sketch.written(hash, worker.now());
                stripes.push(cache.stamps.stripe(hash));
            }
        });
        match found {
            KeySet::Known => StripeSet::from_slice(&stripes),
            KeySet::Whole | KeySet::Unknown => StripeSet::Unknown,
        }
    }

    /// A command for the plain lane.
    pub(super) fn shared(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &Row,
    ) -> Step {
        let outgoing = Outgoing::new(request.wire, row.group());
        match row.effect_of(&request.args) {
            Effect::None => self.send_plain(worker, st, outgoing, |asker| match row.revokes_leases() {
                true => Expect::WriteUnknown(asker, StripeSet::None, Aftermath::RevokeLeases),
                false => Expect::Reply(asker),
            }),
            Effect::Read => {
                let mut key = None;
                row.for_each_key(&request.args, &mut |k| key = key.or_else(|| Some(worker.shared.hash(k))));
                let huge = key.is_some_and(|key| worker.is_huge(key));
                self.send_plain(worker, st, Outgoing { huge, ..outgoing }, |asker| match key {
                    Some(key) => Expect::Read(asker, KeyedRead { key, cacheable: false }),
                    None => Expect::Reply(asker),
                })
            }
            Effect::Write | Effect::Unknown => {
                let stripes = self.stripes(worker, row, &request.args);
                if let Some(until) = st.lanes.write_waits_for(st.head, &stripes) {
                    return Step::Again(Park::Until(until));
                }
                let aftermath =
                    if row.revokes_leases() { Aftermath::RevokeLeases } else { Aftermath::Barrier };
                let written = stripes.clone();
                let paused = worker.shared.writes_paused_until.load(Relaxed) > worker.now().0;
                let huge = paused || request.wire.len() >= worker.huge_bytes();
                let outgoing = Outgoing { huge, ..outgoing.writing(stripes) };
                self.send_plain(worker, st, outgoing, |asker| match written {
                    StripeSet::None => Expect::Reply(asker),
                    StripeSet::Unknown => Expect::WriteUnknown(asker, StripeSet::Unknown, aftermath),
                    known => Expect::Write(asker, known),
                })
            }
        }
    }

    fn script(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, request: Request<'_>, row: &Row) -> Step {
        self.script_lane(
            worker,
            st,
            request,
            row.effect != Effect::Unknown && row.effect != Effect::Write,
            row.group(),
        )
    }

    pub(super) fn script_lane(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        readonly: bool,
        group: Group,
    ) -> Step {
        if let Some(until) = st.lanes.script_waits_for(st.head) {
            return Step::Again(Park::Until(until));
        }
        let busy = st.lanes.here().script.busy(st.head).filter(|link| link.is_usable()).cloned();
        let link = match busy.map_or_else(|| st.lanes.links().script(worker, st.identity.resp3), Ok) {
            Ok(link) => link,
            Err(failure) => {
                self.fail_here(worker, st, &failure);
                return Step::Next;
            }
        };
        if let Some(step) = self.no_room(worker, &link) {
            return step;
        }
        let seq = st.take_place(super::Waits::Reply);
        st.lanes.here_mut().note(&link, seq);
        if !readonly {
            st.lanes.note_written(&link);
        }
        let expect = match readonly {
            true => Expect::Reply(self.asker(seq)),
            false => Expect::WriteUnknown(self.asker(seq), StripeSet::Unknown, Aftermath::Barrier),
        };
        link.send(worker, request.wire, expect, group);
        Step::Next
    }

    /// WAIT asks about the session's writes: if a link that had some of them is gone, so is whoever could tell.
    fn wait(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &'static Row,
    ) -> Step {
        if st.is_waiting() {
            return Step::Again(Park::Until(st.next_seq()));
        }
        if st.lanes.take_lost() {
            self.fail_here(worker, st, &Failure::Unknown);
            return Step::Next;
        }
        self.one_shot(worker, st, request, row, OneShot::Wait)
    }

    pub(super) fn no_room(self: &Rc<Self>, worker: &Rc<Worker>, link: &Rc<Link>) -> Option<Step> {
        if link.pending_len() < worker.link_in_flight_max() {
            return None;
        }
        link.wait_for_room(self);
        Some(Step::Again(Park::Room))
    }

    /// The link for a request of the plain lane: the one where the session has requests under way, if any.
    pub(super) fn plain_link(
        &self,
        worker: &Rc<Worker>,
        st: &State,
        huge: bool,
    ) -> Result<Rc<Link>, Failure> {
        let (head, resp3) = (st.head, st.identity.resp3);
        if let Some(link) = st.lanes.here().script.busy(head).or(st.lanes.here().plain.busy(head))
            && link.is_usable()
            && link.resp3 == resp3
        {
            return Ok(link.clone());
        }
        if huge { st.lanes.links().huge(worker, resp3) } else { st.lanes.links().plain(worker, resp3) }
    }

    /// Sends a request on the plain lane (or behind scripts that are under way).
    pub(super) fn send_plain(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        Outgoing { wire, may_write, writes, huge, group }: Outgoing<'_>,
        expect: impl FnOnce(crate::upstream::Asker) -> Expect,
    ) -> Step {
        let link = match self.plain_link(worker, st, huge) {
            Ok(link) => link,
            Err(failure) => {
                self.fail_here(worker, st, &failure);
                return Step::Next;
            }
        };
        if let Some(step) = self.no_room(worker, &link) {
            return step;
        }
        let seq = st.take_place(super::Waits::Reply);
        st.lanes.here_mut().note(&link, seq);
        if writes != StripeSet::None {
            st.lanes.note_write(st.head, seq, &writes);
        }
        if may_write {
            st.lanes.note_written(&link);
        }
        worker.metrics.forwarded.add(1);
        link.send(worker, wire, expect(self.asker(seq)), group);
        Step::Next
    }

    fn info(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, request: Request<'_>) -> Step {
        let sections: Vec<&[u8]> = request.args.iter().skip(1).collect();
        let is = |section: &&[u8], name: &str| section.eq_ignore_ascii_case(name.as_bytes());
        if !sections.is_empty() && sections.iter().all(|s| is(s, "madcache")) {
            let resp3 = st.identity.resp3;
            let text = worker.info_text();
            self.reply_here(worker, st, |out| resp::verbatim(out, text.as_bytes(), resp3));
            return Step::Next;
        }
        let wants_ours = sections.is_empty()
            || sections
                .iter()
                .any(|s| is(s, "madcache") || is(s, "all") || is(s, "everything") || is(s, "default"));
        let asked: Vec<&[u8]> = request.args.iter().filter(|s| !is(s, "madcache")).collect();
        let wire = resp::encode_request(&asked);
        self.send_plain(worker, st, Outgoing::new(&wire, Group::Other), |asker| {
            if wants_ours { Expect::Info(asker) } else { Expect::Reply(asker) }
        })
    }

    /// L2 answers COMMAND DOCS, INFO and GETKEYS; our own commands are put into its reply.
    pub(super) fn command_docs(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &Row,
    ) -> Step {
        match command::Asked::of(row, &request.args, st.identity.resp3) {
            None => self.shared(worker, st, request, row),
            Some(asked) => {
                let outgoing = Outgoing::new(request.wire, row.group());
                self.send_plain(worker, st, outgoing, |asker| Expect::Described(asker, Box::new(asked)))
            }
        }
    }
}
