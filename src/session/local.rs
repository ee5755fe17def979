//! Commands that the daemon answers itself: the connection's own, and MADCACHE.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use super::dispatch::{Outgoing, Request};
use super::hello::{BAD_NAME, is_name};
use super::input::Step;
use super::pin::OneShot;
use super::{Park, ReplyMode, Session, State, Turn, Waits};
use crate::command::{Group, Local, Route, Row};
use crate::resp::{self, Args};
use crate::rules::glob;
use crate::upstream::Expect;
use crate::worker::{Asked, Right, Worker};

const SYNTAX: &str = "ERR syntax error";

/// Whether this is done here without L2, and needs a right.
fn is_asked_about(local: Local) -> bool {
    match local {
        Local::Quit | Local::Reset | Local::Hello | Local::Auth | Local::Madcache => false,
        // Forwarded.
        Local::ClientSetinfo | Local::ClientGetredir | Local::ClientTrackinginfo | Local::ClientHelp => false,
        Local::Select
        | Local::ClientId
        | Local::ClientGetname
        | Local::ClientSetname
        | Local::ClientInfo
        | Local::ClientList
        | Local::ClientKill
        | Local::ClientUnblock
        | Local::ClientReply
        | Local::ClientNoEvict => true,
    }
}

impl Session {
    pub(super) fn local(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &'static Row,
        local: Local,
    ) -> Step {
        let args = &request.args;
        // L2 words the error of a request that does not have the arguments it needs.
        if !row.arity_fits(args.len()) && local != Local::Madcache {
            return self.forward_raw(worker, st, request);
        }
        if is_asked_about(local)
            && let Some(step) = self.ask_for_the_right(worker, st, request, row)
        {
            return step;
        }
        match local {
            Local::Quit => {
                self.reply_here(worker, st, |out| resp::simple(out, "OK"));
                Step::Close
            }
            Local::Reset => self.reset(worker, st),
            Local::Hello => self.hello(worker, st, request),
            Local::Auth => self.auth(worker, st, request),
            Local::Select => self.select(worker, st, request),
            Local::ClientId => self.integer_here(worker, st, self.id as i64),
            Local::ClientGetname => {
                let (name, resp3) = (st.identity.name.clone(), st.identity.resp3);
                self.reply_here(worker, st, |out| match name.is_empty() {
                    true => resp::null(out, resp3),
                    false => resp::bulk(out, &name),
                });
                Step::Next
            }
            Local::ClientSetname => self.set_name(worker, st, args),
            Local::ClientSetinfo => self.set_info(worker, st, request),
            Local::ClientInfo => {
                let line = self.describe(worker, st, request.wire.len());
                let resp3 = st.identity.resp3;
                self.reply_here(worker, st, |out| resp::verbatim(out, line.as_bytes(), resp3));
                Step::Next
            }
            Local::ClientList => self.client_list(worker, st, request),
            Local::ClientKill => self.kill_clients(worker, st, request),
            Local::ClientUnblock => self.unblock(worker, st, request),
            Local::ClientReply => self.reply_mode(worker, st, args),
            Local::ClientNoEvict => self.no_evict(worker, st, args),
            // Without tracking of its own a session stands as any shared link does.
            Local::ClientGetredir | Local::ClientTrackinginfo | Local::ClientHelp => {
                self.forward_raw(worker, st, request)
            }
            Local::Madcache => self.madcache(worker, st, request),
        }
    }

    /// What the daemon answers itself L2 does not see: it is asked whether the user may. A denied request goes there as
    /// it is, so that L2 words the error and logs it, on a link that nobody else uses. `None`: the user may.
    fn ask_for_the_right(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &'static Row,
    ) -> Option<Step> {
        let user = st.identity.user.clone();
        let index = request.args.get(1).filter(|_| row.route == Route::Local(Local::Select));
        let db = index.and_then(|i| std::str::from_utf8(i).ok()?.parse().ok()).unwrap_or(0);
        let version = worker.shared.rights_version.load(Relaxed);
        let asked = Asked { user: user.id, row: row.index(), db, version };
        match worker.rights.of(asked, worker.now()) {
            Right::Granted => None,
            Right::Denied => Some(match &st.pin {
                Some(pin) => {
                    pin.link.pinned.tainted.set(true);
                    self.send_pinned(worker, st, request, row)
                }
                None => self.one_shot(worker, st, request, row, OneShot::Fresh),
            }),
            Right::NotKnown => {
                let own = worker.upstream.own_set();
                let link = own.plain(worker, false).ok()?;
                let mut ask: Vec<&[u8]> = vec![b"ACL", b"DRYRUN", user.name().as_bytes()];
                ask.extend(request.args.iter());
                let expect = Expect::Turn(self.asker(u64::MAX), Box::new(Turn::Right(asked)));
                link.send(worker, &resp::encode_request(&ask), expect, Group::Other);
                Some(Step::Again(Park::Turn))
            }
        }
    }

    fn integer_here(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, n: i64) -> Step {
        self.reply_here(worker, st, |out| resp::integer(out, n));
        Step::Next
    }

    fn ok_here(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State) -> Step {
        self.reply_here(worker, st, |out| resp::simple(out, "OK"));
        Step::Next
    }

    /// Back to a connection that has said nothing yet.
    pub(super) fn reset(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State) -> Step {
        if st.is_waiting() {
            return Step::Again(Park::Until(st.next_seq()));
        }
        if let Some(pin) = st.pin.take() {
            self.leave_pin(worker, *pin);
        }
        let live = worker.live();
        // As in Redis, CLIENT REPLY SKIP leaves out this reply too, while OFF ends with it.
        let is_skipped = std::mem::replace(&mut st.reply_mode, ReplyMode::On) == ReplyMode::Skip;
        st.bypass = false;
        st.identity.resp3 = false;
        st.identity.name = Bytes::new();
        st.identity.no_evict = false;
        st.identity.authenticated = live.config.server.requirepass.is_none();
        st.limits = super::input::limits_of(&live, st.identity.authenticated);
        st.identity.user = worker.own_user().clone();
        self.use_database(worker, st, worker.shared.l2.target.db);
        if !is_skipped {
            self.reply_here(worker, st, |out| resp::simple(out, "RESET"));
        }
        Step::Next
    }

    fn set_name(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, args: &Args<'_>) -> Step {
        let name = args.get(2).unwrap_or_default();
        if !is_name(name) {
            self.error_here(worker, st, BAD_NAME);
            return Step::Next;
        }
        st.identity.name = Bytes::copy_from_slice(name);
        self.ok_here(worker, st)
    }

    /// L2 decides whether its version knows this; the value is kept for CLIENT LIST.
    fn set_info(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, request: Request<'_>) -> Step {
        let option = request.args.get(2).unwrap_or_default();
        let library = usize::from(option.eq_ignore_ascii_case(b"lib-ver"));
        let value = Bytes::copy_from_slice(request.args.get(3).unwrap_or_default());
        let outgoing = Outgoing::new(request.wire, Group::Local);
        self.send_plain(worker, st, outgoing, |asker| {
            Expect::Turn(asker, Box::new(Turn::SetInfo { library, value }))
        })
    }

    pub(super) fn reply_mode(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, args: &Args<'_>) -> Step {
        let mode = args.get(2).unwrap_or_default().to_ascii_lowercase();
        match mode.as_slice() {
            b"on" => {
                st.reply_mode = ReplyMode::On;
                self.ok_here(worker, st)
            }
            b"off" => {
                st.reply_mode = ReplyMode::Off;
                Step::Next
            }
            b"skip" => {
                if st.reply_mode != ReplyMode::Off {
                    st.reply_mode = ReplyMode::SkipNext;
                }
                Step::Next
            }
            _ => {
                self.error_here(worker, st, SYNTAX);
                Step::Next
            }
        }
    }

    fn no_evict(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, args: &Args<'_>) -> Step {
        let mode = args.get(2).unwrap_or_default().to_ascii_lowercase();
        match mode.as_slice() {
            b"on" => st.identity.no_evict = true,
            b"off" => st.identity.no_evict = false,
            _ => {
                self.error_here(worker, st, SYNTAX);
                return Step::Next;
            }
        }
        self.ok_here(worker, st)
    }

    // MADCACHE.

    pub(super) fn madcache(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
    ) -> Step {
        let args = &request.args;
        let word = args.get(1).unwrap_or_default().to_ascii_uppercase();
        let resp3 = st.identity.resp3;
        match (word.as_slice(), args.len()) {
            (b"STATS", 2) => {
                let numbers = worker.stats();
                self.reply_here(worker, st, |out| {
                    resp::map_header(out, numbers.len(), resp3);
                    for (name, value) in &numbers {
                        resp::bulk(out, name.as_bytes());
                        resp::integer(out, *value as i64);
                    }
                });
            }
            (b"KEY", 3) => self.describe_key(worker, st, args.get(2).unwrap_or_default()),
            (b"INVALIDATE", 3) => {
                let pattern = args.get(2).unwrap_or_default();
                let count =
                    worker.shared.cache.as_ref().map_or(0, |c| c.invalidate_where(|key| glob(pattern, key)));
                self.reply_here(worker, st, |out| resp::integer(out, count as i64));
            }
            (b"FLUSH", 2) => {
                worker.shared.revoke_leases();
                if let Some(cache) = &worker.shared.cache {
                    cache.clear();
                }
                return self.ok_here(worker, st);
            }
            (b"BYPASS", 3) => {
                let mode = args.get(2).unwrap_or_default().to_ascii_lowercase();
                match mode.as_slice() {
                    b"on" => st.bypass = true,
                    b"off" => st.bypass = false,
                    _ => {
                        self.error_here(worker, st, "ERR MADCACHE BYPASS takes ON or OFF");
                        return Step::Next;
                    }
                }
                return self.ok_here(worker, st);
            }
            (b"HELP", 2) => self.reply_here(worker, st, |out| {
                resp::array_header(out, HELP.len());
                for line in HELP {
                    resp::simple(out, line);
                }
            }),
            (_, 1) => self.error_here(worker, st, "ERR wrong number of arguments for 'madcache' command"),
            (b"STATS" | b"KEY" | b"INVALIDATE" | b"FLUSH" | b"BYPASS" | b"HELP", _) => {
                let name = String::from_utf8_lossy(&word).to_ascii_lowercase();
                self.error_here(
                    worker,
                    st,
                    &format!("ERR wrong number of arguments for 'madcache|{name}' command"),
                );
            }
            _ => {
                let name = String::from_utf8_lossy(args.get(1).unwrap_or_default())
                    .chars()
                    .take(128)
                    .collect::<String>();
                self.error_here(worker, st, &format!("ERR unknown subcommand '{name}'. Try MADCACHE HELP."));
            }
        }
        Step::Next
    }

    /// What L1 holds for a key, and how long still.
    fn describe_key(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, key: &[u8]) {
        let Some(cache) = worker.shared.cache.clone() else {
            return self.reply_here(worker, st, |out| resp::array_header(out, 0));
        };
        let entries = cache.entries_of(key);
        let (resp3, now, freshness) = (st.identity.resp3, worker.now(), worker.freshness());
        self.reply_here(worker, st, |out| {
            resp::array_header(out, entries.len());
            for entry in &entries {
                let command = crate::command::ROWS[usize::from(entry.command)].name;
                resp::map_header(out, 6, resp3);
                resp::bulk(out, b"command");
                resp::bulk(out, command.as_bytes());
                resp::bulk(out, b"db");
                resp::integer(out, i64::from(entry.scope.db));
                resp::bulk(out, b"protocol");
                resp::integer(out, if entry.scope.resp3 { 3 } else { 2 });
                resp::bulk(out, b"valid");
                resp::integer(out, i64::from(cache.is_valid(entry, now, freshness)));
                resp::bulk(out, b"ttl-ms");
                resp::integer(out, entry.terms.deadline.since(now).as_millis() as i64);
                resp::bulk(out, b"bytes");
                resp::integer(out, i64::from(entry.weight()));
            }
        });
    }

    /// A place for a reply that another part of the daemon gives.
    pub(super) fn await_reply(self: &Rc<Self>, st: &mut State) -> u64 {
        st.take_place(Waits::Reply)
    }
}

const HELP: &[&str] = &[
    "MADCACHE <subcommand> [<arg> ...]. Subcommands are:",
    "STATS",
    "    The daemon's counters, as in INFO madcache.",
    "KEY <key>",
    "    What L1 holds for this key.",
    "INVALIDATE <pattern>",
    "    Make L1's entries of all keys that match the glob pattern invalid; returns how many.",
    "FLUSH",
    "    Make everything in L1 invalid. L2 is not touched.",
    "BYPASS ON|OFF",
    "    Make this connection read past L1, or through it again.",
    "HELP",
    "    Print this help.",
];
