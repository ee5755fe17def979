//! From bytes to requests: a connection's beginning, its reading, and its end.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};

use super::dispatch::Request;
use super::embedded::Embedded;
use super::lanes::Lanes;
use super::replies::EarlyReplies;
use super::{Identity, Park, ReplyMode, Session, State};
use crate::clock::Moment;
use crate::command::{self, Row};
use crate::net::Incoming;
use crate::resp::{RequestLimits, RequestScan, RequestScanner};
use crate::server::Accepted;
use crate::shared::Live;
use crate::worker::Worker;

/// The last command of a client that has sent none, as CLIENT LIST shows it.
const NOTHING_YET: &str = "NULL";
/// With more output than this a session lets the tick end, which writes it and looks at the limits.
pub(super) const OUTPUT_BYTES_PER_TICK: usize = 256 * 1024;
/// How a TLS client begins.
const TLS_HELLO: &[u8] = &[0x16, 0x03];

/// What follows from one request.
pub(super) enum Step {
    /// Taken; on to the next.
    Next,
    /// Taken; the session waits before it goes on.
    Wait(Park),
    /// Not taken: it is looked at again later.
    Again(Park),
    /// Taken; nothing after it is read.
    Close,
}

pub(super) fn limits_of(live: &Live, authenticated: bool) -> RequestLimits {
    let limits = &live.config.limits;
    let (args, bulk) = match authenticated {
        true => (limits.args_max, limits.bulk_bytes_max),
        false => (limits.unauth_args_max, limits.unauth_bulk_bytes_max),
    };
    RequestLimits {
        args_max: args as i64,
        bulk_bytes_max: bulk as i64,
        inline_bytes_max: limits.inline_bytes_max as usize,
        authenticated,
    }
}

impl Session {
    /// Takes a connection over and serves it until it ends.
    pub fn begin(worker: &Rc<Worker>, accepted: Accepted) {
        let (stream, incoming) = match accepted.into_stream() {
            Ok(halves) => halves,
            Err(error) => {
                worker.shared.clients.fetch_sub(1, Relaxed);
                return tracing::warn!(%error, "a connection could not be taken over");
            }
        };
        let live = worker.live();
        let authenticated = live.config.server.requirepass.is_none();
        let user = worker.own_user().clone();
        let db = worker.shared.l2.target.db;
        let links = worker.links_of(&user, db);
        let now = worker.now();
        let id = worker.shared.next_client.fetch_add(1, Relaxed);
        let embedded = worker.shared.engine.as_ref().map(|engine| {
            let caller = engine.connect(worker.caller_id(id));
            Box::new(Embedded::new(caller))
        });
        let session = Rc::new(Session {
            id,
            state: State {
                input: BytesMut::new(),
                scanner: RequestScanner::default(),
                limits: limits_of(&live, authenticated),
                out: Default::default(),
                queue: Default::default(),
                early: Default::default(),
                head: 0,
                identity: Identity {
                    user,
                    db,
                    resp3: false,
                    authenticated,
                    name: Bytes::new(),
                    library: Default::default(),
                    no_evict: false,
                },
                lanes: Lanes::new(links),
                slot: None,
                pin: None,
                course: None,
                embedded,
                park: Park::No,
                reply_mode: ReplyMode::On,
                bypass: false,
                at_end: false,
                closing: false,
                closed: false,
                began: now,
                last_use: now,
                last_command: NOTHING_YET,
                taken_ahead: 0,
                passed: None,
                passed_all: Moment(0),
                addresses: Box::new(stream.addresses()),
            }
            .into(),
            stream,
            dirty: false.into(),
            held: false.into(),
            held_since: Default::default(),
            writing: false.into(),
            unread: 0.into(),
            accounted: 0.into(),
            over_soft_limit_since: None.into(),
            doomed: false.into(),
            is_shut: false.into(),
            upheld: Default::default(),
            over: Default::default(),
            left: Default::default(),
        });
        worker.sessions.borrow_mut().insert(session.id, session.clone());
        worker.metrics.clients_accepted.add(1);
        tokio::task::spawn_local(session.serve(worker.clone(), incoming));
    }

    async fn serve(self: Rc<Self>, worker: Rc<Worker>, mut incoming: Incoming) {
        loop {
            match poll_fn(|cx| self.read(&worker, cx, &mut incoming)).await {
                Ok(0) => {
                    if self.no_more_requests(&worker) {
                        break;
                    }
                    // What is under way is answered still; the last reply, or a failed write, ends it.
                    self.over.notified().await;
                    break;
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if self.stream.is_handshaking() && !self.is_shut.get() {
                        worker.tls_failed(&self.state.borrow().addresses.0, &error);
                    }
                    break;
                }
            }
        }
        self.end(&worker);
    }

    /// The connection is over.
    fn end(self: &Rc<Self>, worker: &Rc<Worker>) {
        let (pin, embedded) = {
            let mut st = self.state.borrow_mut();
            st.closed = true;
            st.queue.clear();
            st.out.clear();
            st.early = EarlyReplies::default();
            st.input.clear();
            st.lanes.rest();
            (st.pin.take(), st.embedded.take())
        };
        if let (Some(engine), Some(mut embedded)) = (&worker.shared.engine, embedded) {
            engine.disconnect(&mut embedded.caller);
        }
        if let Some(pin) = pin {
            self.leave_pin(worker, *pin);
        }
        self.account(worker, 0);
        self.shut();
        self.drop_upheld();
        worker.sessions.borrow_mut().remove(&self.id);
        worker.shared.clients.fetch_sub(1, Relaxed);
    }

    fn read(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        cx: &mut Context<'_>,
        incoming: &mut Incoming,
    ) -> Poll<io::Result<usize>> {
        let mut scratch = worker.scratch.borrow_mut();
        let n = ready!(incoming.poll_read(cx, &mut scratch))?;
        worker.tick_clock();
        if n > 0 {
            let mut st = self.state.borrow_mut();
            self.take_bytes(worker, &mut st, &scratch[..n]);
        }
        Poll::Ready(Ok(n))
    }

    fn take_bytes(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, bytes: &[u8]) {
        st.last_use = worker.now();
        if st.closing || st.closed || st.at_end {
            return;
        }
        if st.last_command == NOTHING_YET && st.input.iter().chain(bytes).take(TLS_HELLO.len()).eq(TLS_HELLO)
        {
            worker.metrics.refused_malformed.add(1);
            worker.warn_of_tls(&st.addresses.0);
            return self.shut();
        }
        if st.input.is_empty() && !st.is_parked() {
            let used = self.process(worker, st, bytes);
            st.input.extend_from_slice(&bytes[used..]);
        } else {
            let wanted = st.scanner.bytes_wanted().saturating_sub(st.input.len());
            // Room grows with what has arrived, never with what was announced.
            let room = bytes.len().max(wanted.min(st.input.len()));
            st.input.reserve(room);
            st.input.extend_from_slice(bytes);
            if !st.is_parked() {
                self.process_input(worker, st);
            }
        }
        self.account(worker, st.input.len() + st.out.len());
        if st.input.len() > worker.query_buffer_bytes_max() {
            tracing::warn!(
                client = self.id,
                "closed: its request is larger than limits.query_buffer_bytes_max"
            );
            self.shut();
        }
    }

    fn process_input(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State) {
        let mut input = std::mem::take(&mut st.input);
        let used = self.process(worker, st, &input);
        input.advance(used);
        if input.is_empty() && input.capacity() > 4096 {
            input = BytesMut::new();
        }
        st.input = input;
    }

    /// Goes on with requests that waited, if they may.
    pub fn resume(self: &Rc<Self>, worker: &Rc<Worker>) {
        let mut st = self.state.borrow_mut();
        let may_go_on = match st.park {
            Park::No | Park::Room | Park::Tick => true,
            Park::Until(seq) => st.head >= seq,
            Park::Turn => false,
        };
        if !may_go_on || st.closed || st.closing {
            return;
        }
        st.park = Park::No;
        self.process_input(worker, &mut st);
        if !st.at_end {
            return;
        }
        if st.is_blocked() {
            drop(st);
            self.flush(worker);
            return self.shut();
        }
        self.mark_dirty(worker);
    }

    /// The reply that decided how to go on has been looked at.
    pub(super) fn go_on(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State) {
        if st.park == Park::Turn {
            st.park = Park::No;
            worker.resume(self.clone());
        }
    }

    /// Looks at every whole request in `bytes` until one has to wait; returns how many bytes are done with.
    fn process(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, bytes: &[u8]) -> usize {
        let mut at = 0;
        let mut scanner = std::mem::take(&mut st.scanner);
        // The last request, as far as those may be like it that are written alike: all before its arguments, and its row.
        let mut model = None::<(&[u8], &'static Row)>;
        while !st.closing && !self.is_shut.get() {
            let (len, step) = if let Some((prefix, row)) = model
                && let Some(len) = scanner.next_alike(&bytes[at..], prefix, &st.limits)
            {
                let request = Request::new(&bytes[at..], len, scanner.ranges());
                (len, self.request(worker, st, request, Some(row)))
            } else {
                model = None;
                match scanner.scan(&bytes[at..], &st.limits) {
                    RequestScan::Incomplete => break,
                    RequestScan::Empty { len } => {
                        st.end_request();
                        (len, Step::Next)
                    }
                    RequestScan::Complete { len } => {
                        let request = Request::new(&bytes[at..], len, scanner.ranges());
                        let row = command::lookup(&request.args);
                        model = row
                            .filter(|row| row.is_of_one_word())
                            .map(|row| (&bytes[at..at + request.args.tail_at()], row));
                        (len, self.request(worker, st, request, row))
                    }
                    RequestScan::Inline { len, wire } => (len, self.inline_request(worker, st, &wire)),
                    RequestScan::Malformed(line) => {
                        worker.metrics.refused_malformed.add(1);
                        self.reply_here(worker, st, |out| out.extend_from_slice(&line));
                        self.close_behind(worker, st);
                        at = bytes.len();
                        break;
                    }
                }
            };
            match step {
                Step::Next => at += len + std::mem::take(&mut st.taken_ahead),
                Step::Wait(park) => {
                    at += len;
                    st.park = park;
                }
                Step::Again(park) => st.park = park,
                Step::Close => {
                    at += len;
                    self.close_behind(worker, st);
                }
            }
            if st.is_parked() {
                break;
            }
            if st.out.len() > OUTPUT_BYTES_PER_TICK && at < bytes.len() {
                st.park = Park::Tick;
                worker.resume_after_tick(self.clone());
                break;
            }
            if !st.identity.authenticated && st.out.len() > worker.unauth_output_bytes_max() {
                worker.metrics.closed_slow_readers.add(1);
                self.close_behind(worker, st);
            }
        }
        st.scanner = scanner;
        st.lanes.press(worker, self.id, st.head);
        at
    }

    /// Closes behind the replies to everything that was taken so far.
    fn close_behind(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State) {
        st.closing = true;
        self.mark_dirty(worker);
    }

    fn inline_request(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, wire: &[u8]) -> Step {
        let mut scanner = RequestScanner::default();
        match scanner.scan(wire, &st.limits) {
            RequestScan::Complete { len } => {
                let request = Request::new(wire, len, scanner.ranges());
                self.request(worker, st, request, command::lookup(&request.args))
            }
            // An inline line may hold more or longer arguments than an array before authentication.
            RequestScan::Malformed(line) => {
                self.reply_here(worker, st, |out| out.extend_from_slice(&line));
                Step::Close
            }
            _ => Step::Next,
        }
    }
}
