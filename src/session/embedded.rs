//! Sessions of the embedded engine: a request is executed on the spot. What only the connection can answer is answered
//! here; what the engine tells later (messages, ends of waits) comes as mail.

use std::rc::Rc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::clients::Kill;
use super::dispatch::Request;
use super::hello::{BAD_NAME, Hello, WRONGPASS, is_name, same};
use super::input::{Step, limits_of};
use super::scripted::Scripted;
use super::{Park, Session, State, Waits};
use crate::command::{Asked, Local, Route, Row, lookup_argv};
use crate::memory::{Argv, Caller, Engine, Executed, answer_unknown};
use crate::resp::{self, ReplyScan, ReplyScanner};
use crate::upstream::Frame;
use crate::worker::Worker;

/// What the engine is to a client.
const VERSION: &str = "7.0.15";
const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
     configuration is correct?";

/// A session's side of the engine.
#[derive(Default)]
pub(super) struct Embedded {
    pub(super) caller: Caller,
    /// Shared-state commands that stand in its transaction.
    pub(super) scripts: Vec<Scripted>,
    /// The place of the request that waits.
    waits: Option<u64>,
}

impl Embedded {
    pub(super) fn new(caller: Caller) -> Embedded {
        Embedded { caller, ..Embedded::default() }
    }
}

impl Session {
    pub(super) fn embedded(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        engine: &Engine,
        request: Request<'_>,
        row: Option<&'static Row>,
    ) -> Step {
        let in_multi = st.embedded.as_ref().is_some_and(|e| e.caller.is_in_transaction());
        let fits = row.is_some_and(|row| row.arity_fits(request.args.len()));
        match row.map(|row| row.route) {
            Some(Route::State) => {
                return self.scripted(worker, st, request, row.expect("it has a route"));
            }
            Some(Route::Local(Local::Madcache)) if !in_multi => return self.madcache(worker, st, request),
            Some(Route::Local(local)) if fits && !in_multi && local != Local::Select => {
                if let Some(step) = self.embedded_local(worker, st, engine, request, local) {
                    return step;
                }
            }
            Some(Route::Local(local @ (Local::Quit | Local::Reset))) if fits => {
                if let Some(step) = self.embedded_local(worker, st, engine, request, local) {
                    return step;
                }
            }
            Some(Route::Info) if !in_multi => return self.embedded_info(worker, st, engine, request),
            Some(Route::CommandDocs) if !in_multi => {
                let asked = row.and_then(|row| Asked::of(row, &request.args, st.identity.resp3));
                if let Some(asked) = asked {
                    return self.embedded_docs(worker, st, engine, request, &asked);
                }
            }
            _ => {}
        }
        let argv: SmallVec<[&[u8]; 8]> = request.args.iter().collect();
        self.execute(worker, st, engine, &argv)
    }

    /// Hands a request to the engine.
    pub(super) fn execute(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        engine: &Engine,
        argv: &Argv<'_>,
    ) -> Step {
        let Some(mut embedded) = st.embedded.take() else { return Step::Close };
        let caller = &mut embedded.caller;
        let was_in_transaction = caller.is_in_transaction();
        let mut executed = Executed::Replied;
        let scripts = !embedded.scripts.is_empty();
        if scripts || st.is_mute() || st.is_waiting() {
            let mut reply = Vec::new();
            executed = self.execute_into(worker, st, engine, caller, argv, &mut reply);
            if was_in_transaction && !caller.is_in_transaction() {
                let scripts = std::mem::take(&mut embedded.scripts);
                reply = Scripted::executed(scripts, &reply, caller.resp3).unwrap_or(reply);
            }
            if st.is_mute() {
                self.push_in_turn(worker, st, pushes_of(argv, &reply));
            }
            self.reply_here(worker, st, |out| out.extend_from_slice(&reply));
        } else {
            st.out.lend(&mut worker.pool.borrow_mut());
            let mut out = std::mem::take(&mut st.out);
            out.push_with(|out| executed = self.execute_into(worker, st, engine, caller, argv, out));
            st.out = out;
            self.mark_dirty(worker);
        }
        st.identity.db = caller.db;
        if executed == Executed::Replied {
            st.embedded = Some(embedded);
            return Step::Next;
        }
        let seq = st.take_place(Waits::Reply);
        embedded.waits = Some(seq);
        st.embedded = Some(embedded);
        Step::Wait(Park::Until(seq + 1))
    }

    fn execute_into(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        engine: &Engine,
        caller: &mut Caller,
        argv: &Argv<'_>,
        out: &mut Vec<u8>,
    ) -> Executed {
        engine.execute_beside(worker.unix_us(), caller, argv, out, &mut |caller, argv, out| {
            self.own_in_transaction(worker, st, caller, argv, out);
        })
    }

    /// What the engine says of commands, with ours in it.
    fn embedded_docs(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        engine: &Engine,
        request: Request<'_>,
        asked: &Asked,
    ) -> Step {
        let Some(mut embedded) = st.embedded.take() else { return Step::Close };
        let argv: SmallVec<[&[u8]; 8]> = request.args.iter().collect();
        let mut reply = Vec::new();
        self.execute_into(worker, st, engine, &mut embedded.caller, &argv, &mut reply);
        st.embedded = Some(embedded);
        self.reply_here(worker, st, |out| asked.complete(&reply, out));
        Step::Next
    }

    /// Commands of the connection that the engine came upon: they stand in a transaction, or nobody answers them here.
    fn own_in_transaction(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        caller: &mut Caller,
        argv: &Argv<'_>,
        out: &mut Vec<u8>,
    ) {
        let local = lookup_argv(argv).and_then(|row| match row.route {
            Route::Local(local) => Some(local),
            _ => None,
        });
        if local.is_some_and(|local| self.own_answer(worker, st, caller, local, argv, out)) {
            return;
        }
        let is_answered_alone = matches!(
            local,
            Some(Local::ClientList | Local::ClientKill | Local::ClientUnblock | Local::ClientReply)
        );
        match is_answered_alone {
            true => resp::error(out, "ERR this CLIENT command is not allowed inside MULTI without REDIS_URL"),
            false => answer_unknown(argv, out),
        }
    }

    /// Appends the reply to what can be answered at once; false: it is none of these.
    fn own_answer(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        caller: &mut Caller,
        local: Local,
        argv: &Argv<'_>,
        out: &mut Vec<u8>,
    ) -> bool {
        let resp3 = caller.resp3;
        let arg = |i: usize| argv.get(i).copied().unwrap_or_default();
        match local {
            Local::ClientId => resp::integer(out, self.id as i64),
            Local::ClientGetname => match st.identity.name.is_empty() {
                true => resp::null(out, resp3),
                false => resp::bulk(out, &st.identity.name),
            },
            Local::ClientSetname if is_name(arg(2)) => {
                st.identity.name = Bytes::copy_from_slice(arg(2));
                resp::simple(out, "OK");
            }
            Local::ClientSetname => resp::error(out, BAD_NAME),
            Local::ClientInfo => {
                let line = self.describe(worker, st, 0);
                resp::verbatim(out, line.as_bytes(), resp3);
            }
            Local::ClientNoEvict => match arg(2).to_ascii_lowercase().as_slice() {
                mode @ (b"on" | b"off") => {
                    st.identity.no_evict = mode == b"on";
                    resp::simple(out, "OK");
                }
                _ => resp::error(out, "ERR syntax error"),
            },
            Local::ClientGetredir => resp::integer(out, -1),
            Local::ClientTrackinginfo => {
                resp::map_header(out, 3, resp3);
                resp::bulk(out, b"flags");
                resp::set_header(out, 1, resp3);
                resp::bulk(out, b"off");
                resp::bulk(out, b"redirect");
                resp::integer(out, -1);
                resp::bulk(out, b"prefixes");
                resp::array_header(out, 0);
            }
            Local::Auth => self.embedded_auth(worker, st, argv, out),
            Local::Hello => self.embedded_hello(worker, st, caller, argv, out),
            _ => return false,
        }
        true
    }

    /// `None`: the engine words it (subscribers may do little, and what it does not know).
    fn embedded_local(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        engine: &Engine,
        request: Request<'_>,
        local: Local,
    ) -> Option<Step> {
        let mut embedded = st.embedded.take()?;
        let subscriber = !embedded.caller.resp3 && embedded.caller.is_subscriber();
        if subscriber && !matches!(local, Local::Quit | Local::Reset) {
            st.embedded = Some(embedded);
            return None;
        }
        let argv: SmallVec<[&[u8]; 8]> = request.args.iter().collect();
        let mut reply = Vec::new();
        let answered = self.own_answer(worker, st, &mut embedded.caller, local, &argv, &mut reply);
        if local == Local::Hello {
            engine.speak(&mut embedded.caller, st.identity.resp3);
        }
        if local == Local::Reset {
            engine.reset(&mut embedded.caller);
            embedded.scripts.clear();
        }
        st.embedded = Some(embedded);
        if answered {
            self.reply_here(worker, st, |out| out.extend_from_slice(&reply));
            return Some(Step::Next);
        }
        match local {
            Local::Quit => {
                self.reply_here(worker, st, |out| resp::simple(out, "OK"));
                Some(Step::Close)
            }
            Local::Reset => Some(self.reset(worker, st)),
            Local::ClientList => Some(self.client_list(worker, st, request)),
            Local::ClientKill => Some(self.embedded_kill(worker, st, request)),
            Local::ClientUnblock => Some(self.unblock(worker, st, request)),
            Local::ClientReply => Some(self.reply_mode(worker, st, &request.args)),
            _ => None,
        }
    }

    fn embedded_kill(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, request: Request<'_>) -> Step {
        // There is one user.
        let kill = match Kill::parse(&request.args, |user| user == "default") {
            Ok(kill) => kill,
            Err(text) => {
                self.error_here(worker, st, &text);
                return Step::Next;
            }
        };
        if st.is_waiting() {
            return Step::Again(Park::Until(st.next_seq()));
        }
        let seq = self.await_reply(st);
        self.kill_on_all(worker, st, seq, kill);
        Step::Wait(Park::Turn)
    }

    fn embedded_auth(&self, worker: &Worker, st: &mut State, argv: &Argv<'_>, out: &mut Vec<u8>) {
        let (user, password) = match argv {
            [_, password] => (&b"default"[..], *password),
            [_, user, password] => (*user, *password),
            _ => return resp::error(out, "ERR syntax error"),
        };
        let required = worker.live().config.server.requirepass.is_some();
        if argv.len() == 2 && !required {
            return resp::error(out, NO_PASSWORD);
        }
        match self.is_let_in(worker, st, user, password) {
            true => resp::simple(out, "OK"),
            false => resp::error(out, WRONGPASS),
        }
    }

    /// There is one user, with the password of the configuration or with any.
    fn is_let_in(&self, worker: &Worker, st: &mut State, user: &[u8], password: &[u8]) -> bool {
        let live = worker.live();
        let right = user == b"default"
            && live.config.server.requirepass.as_ref().is_none_or(|p| same(p.expose().as_bytes(), password));
        if right {
            st.identity.authenticated = true;
            st.limits = limits_of(&live, true);
        } else {
            worker.metrics.refused_noauth.add(1);
        }
        right
    }

    fn embedded_hello(
        &self,
        worker: &Worker,
        st: &mut State,
        caller: &mut Caller,
        argv: &Argv<'_>,
        out: &mut Vec<u8>,
    ) {
        let hello = match Hello::of(argv) {
            Ok(hello) => hello,
            Err(text) => return resp::error(out, &text),
        };
        if let Some((user, password)) = &hello.auth
            && !self.is_let_in(worker, st, user, password)
        {
            return resp::error(out, WRONGPASS);
        }
        if !st.identity.authenticated {
            return resp::error(out, &super::hello::noauth_hello(worker));
        }
        if let Some(name) = hello.name {
            st.identity.name = name;
        }
        st.identity.resp3 = hello.protocol.map_or(st.identity.resp3, |version| version == 3);
        caller.resp3 = st.identity.resp3;
        let resp3 = st.identity.resp3;
        resp::map_header(out, 7, resp3);
        for (name, text) in [("server", "redis"), ("version", VERSION)] {
            resp::bulk(out, name.as_bytes());
            resp::bulk(out, text.as_bytes());
        }
        resp::bulk(out, b"proto");
        resp::integer(out, if resp3 { 3 } else { 2 });
        resp::bulk(out, b"id");
        resp::integer(out, self.id as i64);
        for (name, text) in [("mode", "standalone"), ("role", "master")] {
            resp::bulk(out, name.as_bytes());
            resp::bulk(out, text.as_bytes());
        }
        resp::bulk(out, b"modules");
        resp::array_header(out, 0);
    }

    fn embedded_info(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        engine: &Engine,
        request: Request<'_>,
    ) -> Step {
        let sections: Vec<&[u8]> = request.args.iter().skip(1).collect();
        let is = |section: &&[u8], name: &str| section.eq_ignore_ascii_case(name.as_bytes());
        let ours = ["madcache", "all", "everything", "default"];
        let wants_ours = sections.is_empty() || sections.iter().any(|s| ours.iter().any(|name| is(s, name)));
        let theirs: Vec<&[u8]> = sections.iter().copied().filter(|s| !is(s, "madcache")).collect();
        let mut text = String::new();
        if sections.is_empty() || !theirs.is_empty() {
            text = engine.info(&theirs);
        }
        if wants_ours {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            text.push_str(&worker.info_text());
        }
        let resp3 = st.identity.resp3;
        self.reply_here(worker, st, |out| resp::verbatim(out, text.as_bytes(), resp3));
        Step::Next
    }

    /// Writes what CLIENT REPLY does not keep from the client.
    fn push_in_turn(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, pushes: &[u8]) {
        if pushes.is_empty() {
            return;
        }
        if st.is_waiting() {
            let seq = st.take_place(Waits::Ready(Bytes::copy_from_slice(pushes)));
            return st.unmute(seq);
        }
        st.out.lend(&mut worker.pool.borrow_mut());
        st.out.push_with(|out| out.extend_from_slice(pushes));
        self.mark_dirty(worker);
    }

    /// What the engine tells a session later.
    pub fn told(self: &Rc<Self>, worker: &Rc<Worker>, frame: Bytes, ends_wait: bool) {
        if !ends_wait {
            return self.push(worker, frame);
        }
        let waits = {
            let mut st = self.state.borrow_mut();
            st.embedded.as_mut().and_then(|embedded| embedded.waits.take())
        };
        if let Some(seq) = waits {
            self.answer(worker, seq, Frame::Owned(frame));
        }
    }
}

/// What of a reply is pushes: confirmations of subscriptions, and messages that the client itself published.
fn pushes_of<'a>(argv: &Argv<'_>, reply: &'a [u8]) -> &'a [u8] {
    let route = lookup_argv(argv).map(|row| row.route);
    if route == Some(Route::Subscription) && matches!(reply.first(), Some(b'>' | b'*')) {
        return reply;
    }
    let mut end = 0;
    while reply.get(end) == Some(&b'>')
        && let ReplyScan::Complete(frame) = ReplyScanner::default().scan(&reply[end..])
    {
        end += frame.len;
    }
    &reply[..end]
}

impl State {
    /// Whether a request of the engine waits.
    pub(super) fn waits_in_engine(&self) -> bool {
        self.embedded.as_ref().is_some_and(|embedded| embedded.waits.is_some())
    }
}
