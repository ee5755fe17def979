//! CLIENT LIST, KILL and UNBLOCK: over the sessions of all workers.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use super::client_list::Filter;
use super::dispatch::Request;
use super::input::Step;
use super::{Park, Session, State, Turn};
use crate::command::Group;
use crate::resp::{self, Args};
use crate::shared::{Errand, Mail};
use crate::upstream::{Expect, Frame};
use crate::worker::Worker;

/// Whom CLIENT KILL means.
#[derive(Clone, Default)]
pub struct Kill {
    id: Option<u64>,
    user: Option<String>,
    addr: Option<String>,
    laddr: Option<String>,
    kind: Option<&'static str>,
    skip_me: bool,
    /// `CLIENT KILL addr:port`: answers OK or an error instead of a count.
    old_form: bool,
}

/// Whom CLIENT UNBLOCK means, and whether by an error. Or Redis's words for what is wrong. Nobody has a negative id.
fn unblock_arguments(args: &Args<'_>) -> Result<(u64, bool), String> {
    let by_error = match args.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        _ if args.len() > 4 => {
            let word = String::from_utf8_lossy(args.get(1).unwrap_or_default());
            return Err(format!(
                "ERR unknown subcommand or wrong number of arguments for '{word}'. Try CLIENT HELP."
            ));
        }
        None | Some(b"timeout") => false,
        Some(b"error") => true,
        _ => return Err("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR".to_owned()),
    };
    let id =
        args.get(2).and_then(resp::strict_integer).ok_or("ERR value is not an integer or out of range")?;
    Ok((u64::try_from(id).unwrap_or_default(), by_error))
}

pub(super) fn client_type(name: &[u8]) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    Some(match name.as_slice() {
        b"normal" => "normal",
        b"slave" | b"replica" => "replica",
        b"pubsub" => "pubsub",
        b"master" => "master",
        _ => return None,
    })
}

impl Kill {
    /// Or Redis's words for what is wrong.
    pub(super) fn parse(args: &Args<'_>, is_user: impl Fn(&str) -> bool) -> Result<Kill, String> {
        const SYNTAX: &str = "ERR syntax error";
        let text = |i: usize| args.get(i).map(|a| String::from_utf8_lossy(a).into_owned());
        let mut kill = Kill { skip_me: true, ..Kill::default() };
        if args.len() == 3 {
            kill.addr = text(2);
            kill.skip_me = false;
            kill.old_form = true;
            return Ok(kill);
        }
        let mut at = 2;
        while let Some(word) = args.get(at) {
            let value = args.get(at + 1).ok_or(SYNTAX)?;
            match word.to_ascii_lowercase().as_slice() {
                b"id" => {
                    let id = resp::strict_integer(value).filter(|id| *id > 0);
                    kill.id = Some(id.ok_or("ERR client-id should be greater than 0")? as u64);
                }
                b"type" => {
                    let unknown = || format!("ERR Unknown client type '{}'", String::from_utf8_lossy(value));
                    kill.kind = Some(client_type(value).ok_or_else(unknown)?);
                }
                b"addr" => kill.addr = text(at + 1),
                b"laddr" => kill.laddr = text(at + 1),
                b"user" => {
                    let user = String::from_utf8_lossy(value).into_owned();
                    if !is_user(&user) {
                        return Err(format!("ERR No such user '{user}'"));
                    }
                    kill.user = Some(user);
                }
                b"skipme" if value.eq_ignore_ascii_case(b"yes") => kill.skip_me = true,
                b"skipme" if value.eq_ignore_ascii_case(b"no") => kill.skip_me = false,
                _ => return Err(SYNTAX.to_owned()),
            }
            at += 2;
        }
        Ok(kill)
    }

    fn means(&self, session: &Session, st: &State, me: u64) -> bool {
        !(self.skip_me && session.id == me)
            && self.id.is_none_or(|id| id == session.id)
            && self.user.as_ref().is_none_or(|user| user == st.identity.user.name())
            && self.addr.as_ref().is_none_or(|addr| *addr == st.addresses.0)
            && self.laddr.as_ref().is_none_or(|laddr| *laddr == st.addresses.1)
            && self.kind.is_none_or(|kind| kind == session.kind(st))
    }
}

impl Session {
    pub(super) fn kind(&self, st: &State) -> &'static str {
        if st.embedded.as_ref().is_some_and(|embedded| embedded.caller.is_subscriber()) {
            return "pubsub";
        }
        match &st.pin {
            Some(pin) if pin.link.pinned.subscriptions() > 0 => "pubsub",
            Some(pin) if pin.link.pinned.monitoring.get() => "replica",
            _ => "normal",
        }
    }

    /// Runs `on_each` on every worker, this one too, and hands the gathered results to `then` here.
    pub(super) fn on_all_workers<T: Send + 'static>(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        on_each: impl Fn(&Rc<Worker>) -> T + Send + Sync + 'static,
        then: impl FnOnce(&Rc<Worker>, Rc<Session>, Vec<T>) + Send + 'static,
    ) {
        struct Gathering<T, F> {
            results: Vec<T>,
            left: usize,
            then: Option<F>,
        }
        let count = worker.shared.mailboxes.len();
        let gathering =
            Arc::new(Mutex::new(Gathering { results: Vec::new(), left: count, then: Some(then) }));
        let on_each = Arc::new(on_each);
        let (home, id) = (worker.id, self.id);
        for other in 0..count as u16 {
            let (gathering, on_each) = (gathering.clone(), on_each.clone());
            let errand: Errand = Box::new(move |there| {
                let result = on_each(there);
                let mut all = gathering.lock().unwrap_or_else(PoisonError::into_inner);
                all.results.push(result);
                all.left -= 1;
                if all.left > 0 {
                    return;
                }
                let (results, then) = (std::mem::take(&mut all.results), all.then.take());
                drop(all);
                let finish: Errand = Box::new(move |here| {
                    if let (Some(session), Some(then)) = (here.session(id), then) {
                        then(here, session, results);
                    }
                });
                there.mail(home, Mail::Errand(finish));
            });
            worker.mail(other, Mail::Errand(errand));
        }
    }

    pub(super) fn client_list(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
    ) -> Step {
        if st.is_waiting() {
            return Step::Again(Park::Until(st.next_seq()));
        }
        let filter = match Filter::parse(&request.args) {
            Ok(filter) => filter,
            Err(text) => {
                self.error_here(worker, st, &text);
                return Step::Next;
            }
        };
        let (seq, resp3, me) = (self.await_reply(st), st.identity.resp3, self.id);
        let own_line = self.describe(worker, st, request.wire.len());
        let list = move |there: &Rc<Worker>| there.describe_sessions(&filter, me);
        let wants_me = Filter::parse(&request.args).is_ok_and(|filter| filter.admits(me, self.kind(st)));
        self.on_all_workers(worker, list, move |here, session, lines| {
            let mut lines: Vec<(u64, String)> = lines.into_iter().flatten().collect();
            if wants_me {
                lines.push((me, own_line));
            }
            lines.sort_unstable();
            let text: String = lines.into_iter().map(|(_, line)| line).collect();
            let mut out = Vec::new();
            resp::verbatim(&mut out, text.as_bytes(), resp3);
            session.answer(here, seq, Frame::Borrowed(&out));
            session.go_on(here, &mut session.state.borrow_mut());
        });
        Step::Wait(Park::Turn)
    }

    /// L2 looks for mistakes (and knows which users there are) in the same request with filters that no client fits;
    /// then it is done here.
    pub(super) fn kill_clients(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
    ) -> Step {
        if st.is_waiting() {
            return Step::Again(Park::Until(st.next_seq()));
        }
        // What is not known here is L2's to answer.
        let kill = Kill::parse(&request.args, |_| true).ok();
        let seq = self.await_reply(st);
        if let Some(kill) = kill.as_ref().filter(|kill| kill.old_form) {
            self.kill_on_all(worker, st, seq, kill.clone());
            return Step::Wait(Park::Turn);
        }
        let mut ask: Vec<&[u8]> = vec![b"CLIENT", b"KILL", b"ADDR", b"-", b"LADDR", b"-"];
        ask.extend(request.args.iter().skip(2));
        let turn = kill.map_or(Turn::Pass, |kill| Turn::Kill(Box::new(kill)));
        match st.lanes.links().plain(worker, st.identity.resp3) {
            Ok(link) => {
                let expect = Expect::Turn(self.asker(seq), Box::new(turn));
                link.send(worker, &resp::encode_request(&ask), expect, Group::Local);
                Step::Wait(Park::Turn)
            }
            Err(failure) => {
                self.fail_place(worker, st, seq, &failure);
                Step::Next
            }
        }
    }

    pub(super) fn kill_on_all(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, seq: u64, kill: Kill) {
        let (me, old_form) = (self.id, kill.old_form);
        let kills_me = kill.means(self, st, me);
        let strike = move |there: &Rc<Worker>| {
            let sessions: Vec<_> = there.sessions.borrow().values().cloned().collect();
            let meant = sessions.iter().filter(|s| s.id != me && kill.means(s, &s.state.borrow(), me));
            meant.map(|s| s.shut()).count()
        };
        self.on_all_workers(worker, strike, move |here, session, counts| {
            let count = counts.iter().sum::<usize>() + usize::from(kills_me);
            let mut out = Vec::new();
            match (old_form, count) {
                (true, 0) => resp::error(&mut out, "ERR No such client"),
                (true, _) => resp::simple(&mut out, "OK"),
                (false, n) => resp::integer(&mut out, n as i64),
            }
            session.answer(here, seq, Frame::Borrowed(&out));
            if kills_me {
                session.close_after_replies(here);
            }
            session.go_on(here, &mut session.state.borrow_mut());
        });
    }

    pub(super) fn unblock(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
    ) -> Step {
        if st.is_waiting() {
            return Step::Again(Park::Until(st.next_seq()));
        }
        let (id, by_error) = match unblock_arguments(&request.args) {
            Ok(asked) => asked,
            Err(text) => {
                self.error_here(worker, st, &text);
                return Step::Next;
            }
        };
        let seq = self.await_reply(st);
        if worker.shared.engine.is_some() {
            self.unblock_embedded(worker, seq, id, by_error);
            return Step::Wait(Park::Turn);
        }
        let find = move |there: &Rc<Worker>| there.session(id).and_then(|s| s.blocked_link());
        self.on_all_workers(worker, find, move |here, session, found| {
            let remote = found.into_iter().flatten().next();
            session.unblock_remote(here, seq, remote, by_error);
            session.go_on(here, &mut session.state.borrow_mut());
        });
        Step::Wait(Park::Turn)
    }

    fn unblock_embedded(self: &Rc<Self>, worker: &Rc<Worker>, seq: u64, id: u64, by_error: bool) {
        let unblock = move |there: &Rc<Worker>| {
            let engine = there.shared.engine.as_ref().filter(|_| there.session(id).is_some());
            engine.is_some_and(|engine| engine.unblock(there.caller_id(id), by_error))
        };
        self.on_all_workers(worker, unblock, move |here, session, found| {
            let reply: &[u8] = if found.contains(&true) { b":1\r\n" } else { b":0\r\n" };
            session.answer(here, seq, Frame::Borrowed(reply));
            session.go_on(here, &mut session.state.borrow_mut());
        });
    }

    /// The link on which this session is blocked: the node that it leads to, and that node's id of it.
    fn blocked_link(&self) -> Option<(u32, i64)> {
        let st = self.state.borrow();
        let link = &st.pin.as_ref().filter(|pin| pin.is_blocked())?.link;
        Some((link.set.upstream.remote.number, link.remote_id.get()))
    }

    fn unblock_remote(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        seq: u64,
        blocked: Option<(u32, i64)>,
        by_error: bool,
    ) {
        let Some((node, remote)) = blocked else {
            return self.answer(worker, seq, Frame::Borrowed(b":0\r\n"));
        };
        let how: &[u8] = if by_error { b"ERROR" } else { b"TIMEOUT" };
        let wire = resp::encode_request(&[b"CLIENT", b"UNBLOCK", remote.to_string().as_bytes(), how]);
        let links = {
            let st = self.state.borrow();
            self.links_to_node(worker, &st, node)
        };
        match links.plain(worker, false) {
            Ok(link) => link.send(worker, &wire, Expect::Reply(self.asker(seq)), Group::Local),
            Err(failure) => self.fail(worker, seq, failure),
        }
    }
}
