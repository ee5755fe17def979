//! Who the client is and how it speaks: AUTH, HELLO, SELECT. What only L2 can decide is asked, and the session waits.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use super::clients::Kill;
use super::dispatch::{Outgoing, Request};
use super::input::{Step, limits_of};
use super::{Park, Session, State, Waits};
use crate::command::{Group, Row};
use crate::resp::{self, Args};
use crate::shared::Remote;
use crate::state::throttle;
use crate::upstream::{Credentials, Expect, Failure, Frame};
use crate::worker::{Asked, Worker};

/// What a session concludes from a reply that it waited for.
pub enum Turn {
    /// L2's word on an unknown command; the request is looked at again.
    Learn(String),
    /// L2's word on whether the user may do this; the request is looked at again.
    Right(Asked),
    /// L2's word on whether the user may run scripts; the request is looked at again.
    Scripts(Asked),
    /// A Redis's word on whether it is a cluster; the request is looked at again.
    Slots(Arc<Remote>),
    /// L2 found nothing wrong with CLIENT KILL.
    Kill(Box<Kill>),
    /// HELLO's reply: the protocol is in force from here.
    Hello {
        resp3: bool,
        name: Option<Bytes>,
    },
    Select(u32),
    Auth(Box<Login>),
    SetInfo {
        library: usize,
        value: Bytes,
    },
    /// Handed over as it is.
    Pass,
}

/// An AUTH under way, alone or as a part of HELLO.
pub struct Login {
    credentials: Credentials,
    hello: Option<Hello>,
}

/// What HELLO asks for.
#[derive(Default)]
pub struct Hello {
    pub(super) protocol: Option<u8>,
    pub(super) auth: Option<(Bytes, Bytes)>,
    pub(super) name: Option<Bytes>,
}

/// Redis says `HELLO <proto> AUTH` since 7.2.
pub(super) fn noauth_hello(worker: &Worker) -> String {
    let proto = if worker.shared.hello_says_proto.load(Relaxed) { " <proto>" } else { "" };
    format!(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO{proto} AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time"
    )
}
/// Of what a client sent, an error shows so many bytes.
const SHOWN_LEN_MAX: usize = 128;
pub(super) const WRONGPASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";
pub(super) const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

/// Names are printable and hold no space, as in Redis.
pub(super) fn is_name(name: &[u8]) -> bool {
    name.iter().all(|b| (b'!'..=b'~').contains(b))
}

impl Hello {
    /// Understands a request, its name first.
    pub(super) fn of(args: &[&[u8]]) -> Result<Hello, String> {
        let mut hello = Hello::default();
        let Some(version) = args.get(1) else { return Ok(hello) };
        let number = std::str::from_utf8(version).ok().and_then(|v| v.parse::<i64>().ok());
        match number {
            None => return Err("ERR Protocol version is not an integer or out of range".into()),
            Some(2) => hello.protocol = Some(2),
            Some(3) => hello.protocol = Some(3),
            Some(_) => return Err("NOPROTO unsupported protocol version".into()),
        }
        let mut at = 2;
        while let Some(option) = args.get(at) {
            let bytes = |i: usize| args.get(i).copied().map(Bytes::copy_from_slice);
            if option.eq_ignore_ascii_case(b"AUTH") && args.len() > at + 2 {
                hello.auth = bytes(at + 1).zip(bytes(at + 2));
                at += 3;
            } else if option.eq_ignore_ascii_case(b"SETNAME") && args.len() > at + 1 {
                hello.name = bytes(at + 1).filter(|n| is_name(n));
                if hello.name.is_none() {
                    return Err(BAD_NAME.into());
                }
                at += 2;
            } else {
                let option = String::from_utf8_lossy(option);
                return Err(format!("ERR Syntax error in HELLO option '{option}'"));
            }
        }
        Ok(hello)
    }
}

/// Compares without telling by its time how much was right.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (x, y)| differs | (x ^ y)) == 0
}

impl Session {
    /// Redis looks for mistakes first. L2 is not asked: the words are those of Redis 7.
    pub(super) fn refuse_unauthenticated(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        args: &Args<'_>,
        row: Option<&Row>,
    ) -> Step {
        worker.metrics.refused_noauth.add(1);
        let start = |i: usize, max: usize| {
            let bytes = args.get(i).unwrap_or_default();
            String::from_utf8_lossy(&bytes[..bytes.len().min(max)]).into_owned()
        };
        let text = match row {
            None => {
                let mut shown = String::new();
                let mut rest = 1..args.len();
                while shown.len() < SHOWN_LEN_MAX
                    && let Some(i) = rest.next()
                {
                    shown += &format!("'{}' ", start(i, SHOWN_LEN_MAX - shown.len()));
                }
                format!(
                    "ERR unknown command '{}', with args beginning with: {shown}",
                    start(0, SHOWN_LEN_MAX)
                )
            }
            Some(row) if row.has_subcommands() && args.len() > 1 => {
                format!("ERR unknown subcommand '{}'. Try {} HELP.", start(1, SHOWN_LEN_MAX), row.name)
            }
            Some(row) if !row.arity_fits(args.len()) => {
                format!("ERR wrong number of arguments for '{}' command", row.name.to_ascii_lowercase())
            }
            Some(_) => "NOAUTH Authentication required.".into(),
        };
        self.error_here(worker, st, &text);
        Step::Next
    }

    pub(super) fn hello(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, request: Request<'_>) -> Step {
        if st.is_waiting() {
            return Step::Again(Park::Until(st.next_seq()));
        }
        let hello = match Hello::of(&request.args.iter().collect::<Vec<_>>()) {
            Ok(hello) => hello,
            Err(text) => {
                self.error_here(worker, st, &text);
                return Step::Next;
            }
        };
        if let Some((user, password)) = hello.auth.clone() {
            if user == b"default"[..] && self.own_password(worker, st, &password) {
                return self.say_hello(worker, st, hello);
            }
            return self.ask_auth(worker, st, Some(&user), &password, Some(hello));
        }
        if !st.identity.authenticated {
            self.error_here(worker, st, &noauth_hello(worker));
            return Step::Next;
        }
        self.say_hello(worker, st, hello)
    }

    /// Asks L2 for its part of HELLO over a link of the protocol that is wanted.
    fn say_hello(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, hello: Hello) -> Step {
        let seq = st.take_place(Waits::Reply);
        match self.send_hello(worker, st, seq, hello) {
            true => Step::Wait(Park::Turn),
            false => Step::Next,
        }
    }

    /// Whether the reply is still to come.
    fn send_hello(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, seq: u64, hello: Hello) -> bool {
        let resp3 = hello.protocol.map_or(st.identity.resp3, |version| version == 3);
        let version: &[u8] = if resp3 { b"3" } else { b"2" };
        match st.lanes.links().plain(worker, resp3) {
            Ok(link) => {
                let turn = Turn::Hello { resp3, name: hello.name };
                let wire = resp::encode_request(&[b"HELLO", version]);
                link.send(worker, &wire, Expect::Turn(self.asker(seq), Box::new(turn)), Group::Local);
                true
            }
            Err(failure) => {
                self.fail_place(worker, st, seq, &failure);
                false
            }
        }
    }

    pub(super) fn auth(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, request: Request<'_>) -> Step {
        if st.is_waiting() {
            return Step::Again(Park::Until(st.next_seq()));
        }
        let args = &request.args;
        let required = worker.live().config.server.requirepass.is_some();
        match (args.len(), args.get(1), args.get(2)) {
            (2, Some(password), _) if required => {
                if self.own_password(worker, st, password) {
                    self.reply_here(worker, st, |out| resp::simple(out, "OK"));
                } else {
                    self.error_here(worker, st, WRONGPASS);
                }
                Step::Next
            }
            (3, Some(user), Some(password))
                if required && user == b"default" && self.own_password(worker, st, password) =>
            {
                self.reply_here(worker, st, |out| resp::simple(out, "OK"));
                Step::Next
            }
            (2, Some(password), _) => self.ask_auth(worker, st, None, password, None),
            (3, Some(user), Some(password)) => self.ask_auth(worker, st, Some(user), password, None),
            // L2 says what is wrong with it.
            _ => self.forward_raw(worker, st, request),
        }
    }

    /// The daemon's own password lets a client act as the daemon's user.
    fn own_password(&self, worker: &Worker, st: &mut State, password: &[u8]) -> bool {
        let live = worker.live();
        let right =
            live.config.server.requirepass.as_ref().is_some_and(|p| same(p.expose().as_bytes(), password));
        if right {
            st.identity.authenticated = true;
            st.limits = limits_of(&live, true);
            st.identity.user = worker.own_user().clone();
            st.lanes.use_links(worker.links_of(&st.identity.user, st.identity.db));
        } else {
            worker.metrics.refused_noauth.add(u64::from(live.config.server.requirepass.is_some()));
        }
        right
    }

    /// L2 checks the password on a link that carries nothing but AUTH.
    fn ask_auth(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        user: Option<&[u8]>,
        password: &[u8],
        hello: Option<Hello>,
    ) -> Step {
        let name = std::str::from_utf8(user.unwrap_or(b"default"));
        let (Ok(name), Ok(secret)) = (name, std::str::from_utf8(password)) else {
            self.error_here(worker, st, WRONGPASS);
            return Step::Next;
        };
        // With one argument L2 has errors of its own.
        let args: &[&[u8]] = match &user {
            None => &[b"AUTH", password],
            Some(user) => &[b"AUTH", user, password],
        };
        let credentials = Credentials { user: Some(name.into()), password: secret.into() };
        let seq = st.take_place(Waits::Reply);
        match worker.upstream.auth(worker) {
            Ok(link) => {
                let turn = Turn::Auth(Box::new(Login { credentials, hello }));
                link.send(
                    worker,
                    &resp::encode_request(args),
                    Expect::Turn(self.asker(seq), Box::new(turn)),
                    Group::Local,
                );
                Step::Wait(Park::Turn)
            }
            Err(failure) => {
                self.fail_place(worker, st, seq, &failure);
                Step::Next
            }
        }
    }

    pub(super) fn select(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, request: Request<'_>) -> Step {
        let index = request.args.get(1).filter(|_| request.args.len() == 2);
        // A number as Redis reads it, without leading zeros; L2 words the error of anything else.
        let is_number = |i: &&str| i.len() < 8 && !i.starts_with('+') && (*i == "0" || !i.starts_with('0'));
        let index = index.and_then(|i| std::str::from_utf8(i).ok()).filter(is_number);
        let Some(db) = index.and_then(|i| i.parse::<u32>().ok()) else {
            return self.forward_raw(worker, st, request);
        };
        if st.is_waiting() {
            return Step::Again(Park::Until(st.next_seq()));
        }
        // Others than the daemon's own user may not be allowed to.
        if worker.knows_database(db) && st.identity.user.is_own() {
            self.use_database(worker, st, db);
            self.reply_here(worker, st, |out| resp::simple(out, "OK"));
            return Step::Next;
        }
        // A link of that database comes up only if L2 has it, and stays in it.
        let seq = st.take_place(Waits::Reply);
        match worker.links_of(&st.identity.user, db).plain(worker, st.identity.resp3) {
            Ok(link) => {
                let expect = Expect::Turn(self.asker(seq), Box::new(Turn::Select(db)));
                link.send(worker, request.wire, expect, Group::Local);
                Step::Wait(Park::Turn)
            }
            Err(failure) => {
                self.fail_place(worker, st, seq, &failure);
                Step::Next
            }
        }
    }

    pub(super) fn use_database(&self, worker: &Rc<Worker>, st: &mut State, db: u32) {
        st.identity.db = db;
        st.lanes.use_links(worker.links_of(&st.identity.user, db));
    }

    pub(super) fn become_user(&self, worker: &Rc<Worker>, st: &mut State, credentials: &Credentials) {
        st.identity.authenticated = true;
        st.limits = limits_of(&worker.live(), true);
        st.identity.user = worker.user(credentials);
        st.lanes.use_links(worker.links_of(&st.identity.user, st.identity.db));
        // A link of that user's: when L2 ends it, the user's sessions end too.
        let _ = st.lanes.links().plain(worker, st.identity.resp3);
    }

    /// A request that only gets an error from L2, which says it best.
    pub(super) fn forward_raw(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
    ) -> Step {
        self.send_plain(worker, st, Outgoing::new(request.wire, Group::Local), Expect::Reply)
    }

    /// Fills a place that was taken for a request which could not be sent.
    pub(super) fn fail_place(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        seq: u64,
        failure: &Failure,
    ) {
        let what = self.failure_line(worker, failure).map_or(Waits::Close, Waits::Ready);
        let at = (seq - st.head) as usize;
        if let Some(place) = st.queue.get_mut(at) {
            place.what = what;
        }
        self.settle(worker, st);
        self.go_on(worker, st);
    }

    /// The reply came that decides how to go on.
    pub fn take_turn(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        seq: u64,
        turn: Turn,
        reply: Result<Frame<'_>, Failure>,
    ) {
        let mut st = self.state.borrow_mut();
        if st.closed {
            return;
        }
        let frame = match reply {
            Ok(frame) => frame,
            Err(failure) => {
                match turn {
                    // Asked again with the request that is looked at again.
                    Turn::Learn(name) if name == throttle::NAME => {}
                    Turn::Learn(name) => Self::learned(worker, name, None),
                    Turn::Right(asked) | Turn::Scripts(asked) => {
                        worker.rights.heard(asked, None, worker.now());
                    }
                    // Asked again with the request that is looked at again.
                    Turn::Slots(_) => {}
                    _ => return self.fail_place(worker, &mut st, seq, &failure),
                }
                return self.go_on(worker, &mut st);
            }
        };
        let refused = frame.as_slice().starts_with(b"-");
        match turn {
            Turn::Learn(name) => {
                Self::learned(worker, name, Some(frame.as_slice()));
                return self.go_on(worker, &mut st);
            }
            Turn::Right(asked) => {
                worker.rights.heard(asked, Some(frame.as_slice()), worker.now());
                return self.go_on(worker, &mut st);
            }
            Turn::Scripts(asked) => {
                worker.rights.ran(asked, frame.as_slice(), worker.now());
                return self.go_on(worker, &mut st);
            }
            Turn::Slots(remote) => {
                remote.heard_of_slots(frame.as_slice());
                return self.go_on(worker, &mut st);
            }
            Turn::Kill(kill) if !refused => return self.kill_on_all(worker, &mut st, seq, *kill),
            Turn::Auth(login) if !refused => {
                self.become_user(worker, &mut st, &login.credentials);
                if let Some(hello) = login.hello {
                    self.send_hello(worker, &mut st, seq, hello);
                    return;
                }
            }
            Turn::Hello { resp3, name } if !refused => {
                st.identity.resp3 = resp3;
                if let Some(name) = name {
                    st.identity.name = name;
                }
                let own = with_own_id(frame.as_slice(), self.id);
                drop(st);
                self.answer(worker, seq, Frame::Borrowed(&own));
                return self.go_on(worker, &mut self.state.borrow_mut());
            }
            Turn::Select(db) if !refused => {
                worker.learn_database(db);
                self.use_database(worker, &mut st, db);
                drop(st);
                self.answer(worker, seq, Frame::Borrowed(b"+OK\r\n"));
                return self.go_on(worker, &mut self.state.borrow_mut());
            }
            Turn::SetInfo { library, value } if !refused => st.identity.library[library] = value,
            _ => {}
        }
        drop(st);
        self.answer(worker, seq, frame);
        self.go_on(worker, &mut self.state.borrow_mut());
    }
}

/// HELLO's reply with the daemon's connection id in the place of the link's.
fn with_own_id(frame: &[u8], id: u64) -> Vec<u8> {
    const MARK: &[u8] = b"$2\r\nid\r\n:";
    let Some(at) = memchr::memmem::find(frame, MARK) else { return frame.to_vec() };
    let number = at + MARK.len();
    let end = memchr::memchr(b'\r', &frame[number..]).map_or(frame.len(), |e| number + e);
    let mut own = frame[..number].to_vec();
    own.extend_from_slice(id.to_string().as_bytes());
    own.extend_from_slice(&frame[end..]);
    own
}
