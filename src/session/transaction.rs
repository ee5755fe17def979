//! MULTI: a block that lies whole in the buffer goes over a shared link; of another, what it queues is noted until EXEC.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;

use super::dispatch::Request;
use super::hello::is_name;
use super::input::Step;
use super::pin::PinnedReply;
use super::scripted::Scripted;
use super::{Park, ReplyMode, Session, State, Waits};
use crate::cache::StripeSet;
use crate::command::{self, Effect, Group, Local, Route, Row, Slots};
use crate::resp::{self, RequestScan, RequestScanner};
use crate::upstream::{
    self, Aftermath, Credentials, Detour, Element, Expect, Frames, Gathering, Link, PinnedExpect, send_block,
};
use crate::worker::Worker;

/// What stands in a transaction that has not been executed.
#[derive(Default)]
pub(super) struct Queued {
    pub(super) len: u32,
    pub(super) writes: Vec<crate::cache::Stripe>,
    pub(super) unknown: bool,
    pub(super) changes: Vec<(u32, Change)>,
    pub(super) revokes: bool,
    /// Where (un)subscriptions stand, and what EXEC answers for them.
    pub(super) subscriptions: Vec<(u32, Element)>,
    pub(super) scripts: Vec<Scripted>,
}

impl Queued {
    /// How EXEC's reply arrives.
    pub(super) fn frames(&self) -> Frames {
        if self.subscriptions.is_empty() {
            return Frames::One;
        }
        let mut elements = vec![Element::Frame; self.len as usize];
        for (at, element) in &self.subscriptions {
            elements[*at as usize] = *element;
        }
        Frames::Gathered(Gathering::new(elements))
    }

    pub(super) fn note(&mut self, writes: &StripeSet, revokes: bool) {
        self.len += 1;
        self.revokes |= revokes;
        match writes {
            StripeSet::Unknown => self.unknown = true,
            known => self.writes.extend_from_slice(known.stripes()),
        }
        if self.writes.len() > StripeSet::KEYS_MAX {
            self.unknown = true;
            self.writes.clear();
        }
    }
}

/// A command whose effect on the connection is taken over when its transaction was executed.
pub(super) enum Change {
    Database(u32),
    User(Credentials),
    Hello { resp3: bool, name: Option<Bytes>, user: Option<Credentials> },
    Name(Bytes),
}

pub struct Executed {
    /// What to take over if the element at this index of EXEC's reply is no error.
    pub(super) changes: Vec<(u32, Change)>,
    pub(super) revokes: bool,
    pub(super) scripts: Vec<Scripted>,
    /// False for one command that was answered by itself.
    pub(super) in_transaction: bool,
}

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
/// Refused by L2 in a transaction, which fails with it: GET without a key.
const FAILS_THE_TRANSACTION: &[u8] = b"*1\r\n$3\r\nGET\r\n";
const CLIENT_REPLY_ON: &[u8] = b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$2\r\nON\r\n";
/// A MULTI block of more requests than this gets a link of its own.
const BLOCK_LEN_MAX: usize = 4096;

struct Block {
    lens: Vec<usize>,
    writes: StripeSet,
    reads: bool,
    scripts: bool,
    /// Before a cluster: the one of its keys.
    slot: Option<u16>,
}

impl Session {
    /// MULTI: a block that lies whole in the buffer goes over a shared link, another gets a link of its own.
    pub(super) fn multi(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &'static Row,
    ) -> Step {
        if request.args.len() != 1 {
            return self.shared(worker, st, request, row);
        }
        // CLIENT REPLY SKIP leaves out one reply, not a block's.
        if request.wire == MULTI
            && st.reply_mode != ReplyMode::Skip
            && let Some(block) = self.whole_block(worker, st, request.rest)
        {
            return self.send_block(worker, st, request, block);
        }
        self.begin_pin(worker, st, request, row)
    }

    /// Sends a MULTI that the client has been told of already; what comes behind it waits until it is accepted.
    pub(super) fn send_multi_ahead(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State) -> Step {
        let Some(pin) = &mut st.pin else { return Step::Again(Park::No) };
        pin.in_multi = true;
        pin.queued = Queued::default();
        let expect = PinnedExpect {
            writes: StripeSet::None,
            wakes: false,
            frames: Frames::One,
            meaning: PinnedReply::MultiAhead,
        };
        pin.link.send(
            worker,
            MULTI,
            Expect::Pinned(self.asker(u64::MAX), Box::new(expect)),
            Group::Transaction,
        );
        Step::Again(Park::Turn)
    }

    /// The requests up to EXEC, if all of them may go over a shared link.
    fn whole_block(&self, worker: &Worker, st: &State, rest: &[u8]) -> Option<Block> {
        let mut scanner = RequestScanner::default();
        let mut block =
            Block { lens: Vec::new(), writes: StripeSet::None, reads: false, scripts: false, slot: None };
        let mut stripes = Vec::new();
        let mut unknown = false;
        let mut at = 0;
        loop {
            let RequestScan::Complete { len } = scanner.scan(&rest[at..], &st.limits) else { return None };
            let args = resp::Args::new(&rest[at..at + len], scanner.ranges());
            let row = command::lookup(&args)?;
            at += len;
            block.lens.push(len);
            if row.route == Route::Exec && args.len() == 1 {
                break;
            }
            if !row.fits_shared_block() || worker.is_denied(row.index()) || block.lens.len() > BLOCK_LEN_MAX {
                return None;
            }
            if worker.shared.l2.cluster.is_some() {
                match row.slots(&args) {
                    Slots::None => {}
                    Slots::One(other) if *block.slot.get_or_insert(other) == other => {}
                    // Command by command it is refused where Redis refuses it.
                    Slots::One(_) | Slots::Many(_) => return None,
                }
            }
            block.scripts |= row.route == Route::Script;
            let effect = row.effect_of(&args);
            block.reads |= effect == Effect::Read;
            if matches!(effect, Effect::Write | Effect::Unknown) {
                match self.stripes(worker, row, &args) {
                    StripeSet::Unknown => unknown = true,
                    known => stripes.extend_from_slice(known.stripes()),
                }
            }
            if row.revokes_leases() {
                return None;
            }
        }
        block.writes = if unknown { StripeSet::Unknown } else { StripeSet::from_slice(&stripes) };
        Some(block)
    }

    fn send_block(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        block: Block,
    ) -> Step {
        let waits = match block.scripts {
            true => st.lanes.script_waits_for(st.head),
            // Its reads and writes must not overtake anything that is elsewhere.
            false => st.lanes.plain_waits_for(st.head),
        };
        if let Some(until) = waits {
            return Step::Again(Park::Until(until));
        }
        let resp3 = st.identity.resp3;
        let lane = if block.scripts { &st.lanes.here().script } else { &st.lanes.here().plain };
        let busy = lane.busy(st.head).filter(|link| link.is_usable()).cloned();
        let open = || {
            if block.scripts {
                st.lanes.links().script(worker, resp3)
            } else {
                st.lanes.links().plain(worker, resp3)
            }
        };
        let link = match busy.map_or_else(open, Ok) {
            Ok(link) => link,
            Err(failure) => {
                // As Redis does it while it is loading: each of them gets the error.
                for _ in 0..=block.lens.len() {
                    self.fail_here(worker, st, &failure);
                }
                st.taken_ahead = block.lens.iter().sum();
                return Step::Next;
            }
        };
        if link.is_of_a_cluster {
            return self.send_block_to_node(worker, st, request, block, &link);
        }
        let first = st.next_seq();
        let send = |st: &mut State, wire: &[u8], last: bool| {
            let seq = st.take_place(Waits::Reply);
            let asker = self.asker(seq);
            let expect = match (&block.writes, last) {
                (_, false) => Expect::Reply(asker),
                (StripeSet::Unknown, true) => {
                    Expect::WriteUnknown(asker, StripeSet::Unknown, Aftermath::Barrier)
                }
                (known, true) if block.reads => Expect::Executed(asker, known.clone()),
                (StripeSet::None, true) => Expect::Reply(asker),
                (known, true) => Expect::Write(asker, known.clone()),
            };
            link.send(worker, wire, expect, Group::Transaction);
            seq
        };
        send(st, request.wire, false);
        let mut at = 0;
        let mut last = first;
        for (index, len) in block.lens.iter().enumerate() {
            last = send(st, &request.rest[at..at + len], index + 1 == block.lens.len());
            at += len;
        }
        st.lanes.here_mut().note(&link, last);
        st.lanes.note_written(&link);
        // Its reads have an order too: nothing of this session overtakes the block.
        st.lanes.note_write(st.head, last, &StripeSet::Unknown);
        worker.metrics.forwarded.add(block.lens.len() as u64 + 1);
        st.taken_ahead = at;
        Step::Next
    }

    /// The same where it may have to go to another node as a whole.
    fn send_block_to_node(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        block: Block,
        link: &Rc<Link>,
    ) -> Step {
        let first = st.next_seq();
        let mut wires = vec![Bytes::copy_from_slice(request.wire)];
        let mut at = 0;
        for len in &block.lens {
            wires.push(Bytes::copy_from_slice(&request.rest[at..at + len]));
            at += len;
        }
        for _ in &wires {
            st.take_place(Waits::Reply);
        }
        let last = st.next_seq() - 1;
        let Block { writes, reads, slot, .. } = block;
        worker.metrics.forwarded.add(wires.len() as u64);
        let whole = worker.links_of(&st.identity.user, st.identity.db);
        let (asker, detour) = (self.asker(first), Detour::new(st.patient_since(worker.now())));
        let block = upstream::Block {
            asker,
            wires,
            slot,
            writes,
            reads,
            replies: Vec::new(),
            failed: false,
            detour,
            whole,
        };
        send_block(worker, link, &Rc::new(RefCell::new(block)));
        st.lanes.here_mut().note(link, last);
        st.lanes.note_written(link);
        st.lanes.note_write(st.head, last, &StripeSet::Unknown);
        st.taken_ahead = at;
        Step::Next
    }

    /// Inside MULTI nothing is answered here: what changes the connection is noted and taken over at EXEC.
    pub(super) fn queue_local(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &'static Row,
        local: Local,
    ) -> Option<Step> {
        let args = &request.args;
        let text = |i: usize| args.get(i).and_then(|a| std::str::from_utf8(a).ok()).map(str::to_owned);
        let user = |name: Option<String>, password: Option<String>| {
            Some(Credentials { user: Some(name.unwrap_or_else(|| "default".into())), password: password? })
        };
        if local == Local::Madcache {
            return Some(self.refuse(worker, st, "ERR MADCACHE commands are not allowed inside MULTI"));
        }
        // OFF and SKIP would leave out a part of EXEC's reply, or all of it.
        if local == Local::ClientReply
            && args.len() == 3
            && args
                .get(2)
                .is_some_and(|how| [&b"off"[..], b"skip"].iter().any(|word| how.eq_ignore_ascii_case(word)))
            && let Some(pin) = &mut st.pin
        {
            pin.queued.note(&StripeSet::None, false);
            let expect = PinnedExpect::one(StripeSet::None, PinnedReply::Plain);
            return Some(self.send_on_pin(worker, st, CLIENT_REPLY_ON, expect, Group::Local));
        }
        let change = match local {
            _ if !row.arity_fits(args.len()) => None,
            Local::Select => text(1).and_then(|i| i.parse().ok()).map(Change::Database),
            Local::Auth if args.len() == 2 => user(None, text(1)).map(Change::User),
            Local::Auth => user(text(1), text(2)).map(Change::User),
            Local::ClientSetname => {
                args.get(2).filter(|n| is_name(n)).map(|n| Change::Name(Bytes::copy_from_slice(n)))
            }
            Local::Hello => {
                let find = |option: &[u8]| {
                    (2..args.len()).find(|&i| args.get(i).is_some_and(|a| a.eq_ignore_ascii_case(option)))
                };
                let auth = find(b"AUTH").and_then(|i| user(text(i + 1), text(i + 2)));
                let name = find(b"SETNAME").and_then(|i| args.get(i + 1)).map(Bytes::copy_from_slice);
                let resp3 = text(1).map_or(st.identity.resp3, |version| version == "3");
                Some(Change::Hello { resp3, name, user: auth })
            }
            _ => None,
        };
        if let (Some(change), Some(pin)) = (change, &mut st.pin) {
            pin.queued.changes.push((pin.queued.len, change));
        }
        None
    }

    /// SELECT, AUTH and HELLO of a session with a link of its own: done on that link, and taken over here.
    pub(super) fn change_with_pin(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &'static Row,
        local: Local,
    ) -> Step {
        if st.is_waiting() {
            return Step::Again(Park::Until(st.next_seq()));
        }
        // As a transaction of one: the reply decides, and the link is closed when its state ends.
        let Some(pin) = &mut st.pin else { return Step::Again(Park::No) };
        pin.in_multi = true;
        let before = std::mem::take(&mut pin.queued);
        let refused = self.queue_local(worker, st, request, row, local);
        let Some(pin) = &mut st.pin else { return Step::Again(Park::No) };
        pin.in_multi = false;
        let changes = std::mem::replace(&mut pin.queued, before).changes;
        if let Some(step) = refused {
            return step;
        }
        pin.link.pinned.tainted.set(true);
        let link = pin.link.clone();
        let seq = st.take_place(Waits::Reply);
        let meaning = PinnedReply::Exec(Box::new(Executed {
            changes,
            revokes: false,
            scripts: Vec::new(),
            in_transaction: false,
        }));
        let expect = PinnedExpect::one(StripeSet::None, meaning);
        link.send(worker, request.wire, Expect::Pinned(self.asker(seq), Box::new(expect)), Group::Local);
        Step::Wait(Park::Until(seq + 1))
    }

    /// A request that the daemon refuses inside MULTI: the transaction fails, as if L2 had refused it.
    pub(super) fn refuse_in_multi(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, text: &str) -> Step {
        let mut line = Vec::new();
        resp::error(&mut line, text);
        let expect = PinnedExpect::one(StripeSet::None, PinnedReply::Refused(line.into()));
        self.send_on_pin(worker, st, FAILS_THE_TRANSACTION, expect, Group::Other)
    }
}
