//! Before a cluster: a request that concerns several slots or all nodes is divided. Its parts stand in the session's queue
//! like requests of their own, and their replies are put together before they are written.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use memchr::memmem;

use super::dispatch::{Outgoing, Request};
use super::input::Step;
use super::{Park, Session, State};
use crate::cache::StripeSet;
use crate::command::{Effect, Row, Slots, slot};
use crate::resp::{self, Args, RequestLimits, RequestScan, RequestScanner};
use crate::upstream::{Aftermath, Expect, Frame, LinkSet, Upstream};
use crate::worker::Worker;

/// Behind the error of one part.
const IN_PART: &[u8] = b" (done in part: other nodes have executed their parts)";

/// How the replies become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// The numbers are added.
    Sum,
    /// They say the same.
    Same,
    /// Elements of arrays, one behind the other.
    Chain,
    /// The same, each once.
    Union,
    /// Of arrays of numbers, or numbers: the least.
    Least,
    /// Names and numbers in turn: the numbers of a name are added.
    Tally,
    /// Any that is not nil.
    Any,
    /// One node had something to do: its reply, rather than the others' errors.
    Done,
    /// Each element has its place among those of the whole.
    Placed,
}

/// Who gets the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parts {
    /// The slots of the keys, with so many arguments for each key.
    Keys(usize),
    EveryNode,
}

/// How one request is divided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Division {
    parts: Parts,
    how: How,
}

/// Parts of one request in the queue.
pub(super) struct Join {
    how: How,
    first: u64,
    /// Where the elements of each part belong.
    places: Vec<Vec<usize>>,
    replies: Vec<Bytes>,
}

/// Of a request that is being divided: a part that has not been sent.
pub(super) struct Part {
    wire: Vec<u8>,
    /// Where it goes; `None`: where its keys are.
    node: Option<u32>,
}

impl Join {
    /// Whether this request is divided.
    pub(super) fn of(row: &Row, args: &Args<'_>, slots: Slots) -> Option<Division> {
        use Parts::{EveryNode, Keys};
        let several = matches!(slots, Slots::Many(_));
        let (parts, how) = match row.name {
            "MGET" if several => (Keys(1), How::Placed),
            "MSET" if several && args.len() % 2 == 1 => (Keys(2), How::Same),
            "DEL" | "UNLINK" | "EXISTS" | "TOUCH" if several => (Keys(1), How::Sum),
            "DBSIZE" | "PUBSUB|NUMPAT" => (EveryNode, How::Sum),
            "KEYS" => (EveryNode, How::Chain),
            "FLUSHALL" | "FLUSHDB" | "SCRIPT|LOAD" | "SCRIPT|FLUSH" => (EveryNode, How::Same),
            "FUNCTION|LOAD" | "FUNCTION|DELETE" | "FUNCTION|FLUSH" | "FUNCTION|RESTORE" => {
                (EveryNode, How::Same)
            }
            "CONFIG|SET" | "CONFIG|RESETSTAT" | "CONFIG|REWRITE" => (EveryNode, How::Same),
            "ACL|SETUSER" | "ACL|DELUSER" | "ACL|LOAD" | "ACL|SAVE" => (EveryNode, How::Same),
            "SCRIPT|EXISTS" => (EveryNode, How::Least),
            "PUBSUB|CHANNELS" | "PUBSUB|SHARDCHANNELS" => (EveryNode, How::Union),
            "PUBSUB|NUMSUB" | "PUBSUB|SHARDNUMSUB" => (EveryNode, How::Tally),
            "RANDOMKEY" => (EveryNode, How::Any),
            _ => return None,
        };
        row.arity_fits(args.len()).then_some(Division { parts, how })
    }

    /// Of replies that stand in no queue.
    pub(super) fn of_all(how: How, replies: Vec<Bytes>) -> Vec<u8> {
        let mut out = Vec::new();
        Join { how, first: 0, places: Vec::new(), replies }.put_together(&mut out, 0);
        out
    }

    fn put_together(self, out: &mut Vec<u8>, random: u64) {
        let is_error = |reply: &Bytes| reply.starts_with(b"-");
        if let Some(error) = self.replies.iter().find(|reply| is_error(reply) && self.how != How::Done) {
            // The client must not believe that nothing was sent.
            let nothing_done =
                error.starts_with(b"-TRYAGAIN ") || memmem::find(error, b" not sent: ").is_some();
            let in_part = nothing_done
                && matches!(self.how, How::Sum | How::Same)
                && !self.replies.iter().all(is_error);
            let line = error.strip_suffix(b"\r\n").unwrap_or(error);
            out.extend_from_slice(line);
            out.extend_from_slice(if in_part { IN_PART } else { b"" });
            return out.extend_from_slice(b"\r\n");
        }
        let first = self.replies.first().cloned().unwrap_or_default();
        let arrays = || self.replies.iter().map(|reply| resp::array_elements(reply));
        let numbers = || self.replies.iter().map(|reply| resp::parse_integer(reply));
        match self.how {
            How::Same => out.extend_from_slice(&first),
            How::Done => {
                let had_nothing = |reply: &&Bytes| (is_error(reply), reply.starts_with(b"-NOTBUSY"));
                out.extend_from_slice(self.replies.iter().min_by_key(had_nothing).unwrap_or(&first));
            }
            How::Sum => resp::integer(out, numbers().map(Option::unwrap_or_default).sum()),
            How::Least => match resp::parse_integer(&first) {
                Some(_) => resp::integer(out, numbers().flatten().min().unwrap_or(0)),
                None => least_of_each(out, arrays().flatten().collect()),
            },
            How::Any => {
                let is_nil = |reply: &Bytes| reply.starts_with(b"$-1") || reply.starts_with(b"_");
                let some: Vec<&Bytes> = self.replies.iter().filter(|reply| !is_nil(reply)).collect();
                let chosen = (random as usize).checked_rem(some.len()).map_or(&first, |at| some[at]);
                out.extend_from_slice(chosen);
            }
            How::Chain | How::Union => {
                let mut elements: Vec<&[u8]> = arrays().flatten().flatten().collect();
                if self.how == How::Union {
                    elements.sort_unstable();
                    elements.dedup();
                }
                write_array(out, &elements);
            }
            How::Tally => tally(out, arrays().flatten().collect()),
            How::Placed => {
                let len = self.places.iter().map(Vec::len).sum();
                let mut elements: Vec<&[u8]> = vec![b"$-1\r\n"; len];
                for (places, array) in self.places.iter().zip(arrays()) {
                    for (&place, element) in places.iter().zip(array.unwrap_or_default()) {
                        elements[place] = element;
                    }
                }
                write_array(out, &elements);
            }
        }
    }
}

fn write_array(out: &mut Vec<u8>, elements: &[&[u8]]) {
    resp::array_header(out, elements.len());
    elements.iter().for_each(|element| out.extend_from_slice(element));
}

fn least_of_each(out: &mut Vec<u8>, arrays: Vec<Vec<&[u8]>>) {
    let len = arrays.iter().map(Vec::len).min().unwrap_or(0);
    resp::array_header(out, len);
    for at in 0..len {
        let least = arrays.iter().filter_map(|array| resp::parse_integer(array[at])).min();
        resp::integer(out, least.unwrap_or(0));
    }
}

/// In the order of the first array.
fn tally(out: &mut Vec<u8>, arrays: Vec<Vec<&[u8]>>) {
    let mut sums: HashMap<&[u8], i64> = HashMap::new();
    for pair in arrays.iter().flat_map(|array| array.chunks_exact(2)) {
        *sums.entry(pair[0]).or_default() += resp::parse_integer(pair[1]).unwrap_or(0);
    }
    let names = arrays.first().map(|array| array.chunks_exact(2).map(|pair| pair[0]).collect::<Vec<_>>());
    let names = names.unwrap_or_default();
    resp::array_header(out, names.len() * 2);
    for name in names {
        out.extend_from_slice(name);
        resp::integer(out, sums.get(name).copied().unwrap_or(0));
    }
}

impl State {
    /// The reply of the request whose turn it is; that of a part is kept until the last one has come.
    pub(super) fn gather(&mut self, seq: u64, mute: bool, random: u64, frame: Frame<'_>) -> Option<Bytes> {
        let course = self.course.as_mut()?;
        let join = course.joins.front_mut().filter(|join| seq >= join.first)?;
        join.replies.push(frame.into_bytes());
        if join.replies.len() < join.places.len() {
            return Some(Bytes::new());
        }
        let join = course.joins.pop_front()?;
        let mut out = Vec::new();
        if !mute {
            join.put_together(&mut out, random);
        }
        Some(out.into())
    }

    /// Whether the replies of this request are put together with others'.
    pub(super) fn is_part(&self, seq: u64) -> bool {
        let joins = self.course.as_ref().map(|course| &course.joins);
        joins.and_then(|joins| joins.front()).is_some_and(|join| seq >= join.first)
    }
}

impl Session {
    /// Sends a request in parts.
    pub(super) fn divide(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &'static Row,
        division: Division,
    ) -> Step {
        let everywhere = division.parts == Parts::EveryNode;
        if everywhere && st.is_waiting() {
            return Step::Again(Park::Until(st.next_seq()));
        }
        if let Some(until) = st.lanes.waits_for_any_node(st.head) {
            return Step::Again(Park::Until(until));
        }
        let (parts, places) = match division.parts {
            Parts::Keys(each) => by_slot(&request.args, each),
            Parts::EveryNode => {
                let whole = worker.links_of(&st.identity.user, st.identity.db);
                let nodes = worker.nodes_of(&whole.upstream);
                let part = |node: &Rc<Upstream>| Part {
                    wire: request.wire.to_vec(),
                    node: Some(node.remote.number),
                };
                (nodes.iter().map(part).collect(), vec![Vec::new(); nodes.len()])
            }
        };
        if parts.is_empty() {
            self.turn_to(st, worker.links_of(&st.identity.user, st.identity.db));
            return self.routed(worker, st, request, row);
        }
        let first = st.next_seq();
        let join = Join { how: division.how, first, places, replies: Vec::new() };
        let course = st.course();
        course.joins.push_back(join);
        course.dividing = Some(parts);
        self.go_on_dividing(worker, st, row)
    }

    /// Each part takes exactly one place in the queue.
    pub(super) fn go_on_dividing(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        row: &'static Row,
    ) -> Step {
        while let Some(part) = st.course().dividing.as_mut().and_then(VecDeque::pop_front) {
            let before = st.next_seq();
            let step = self.send_part(worker, st, &part, row);
            match step {
                Step::Next if st.next_seq() == before + 1 => {}
                Step::Again(park) => {
                    if let Some(parts) = &mut st.course().dividing {
                        parts.push_front(part);
                    }
                    return Step::Again(park);
                }
                _ => {
                    debug_assert!(false, "a part of {} took another way", row.name);
                    return Step::Close;
                }
            }
        }
        st.course().dividing = None;
        self.settle(worker, st);
        // What goes over a link of the session's own could overtake it.
        if st.pin.is_some() && st.is_waiting() { Step::Wait(Park::Until(st.next_seq())) } else { Step::Next }
    }

    fn send_part(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        part: &Part,
        row: &'static Row,
    ) -> Step {
        let mut scanner = RequestScanner::default();
        let RequestScan::Complete { len } = scanner.scan(&part.wire, &RequestLimits::NONE) else {
            return Step::Close;
        };
        let request =
            Request { wire: &part.wire, args: Args::new(&part.wire[..len], scanner.ranges()), rest: &[] };
        match part.node {
            None => {
                let (Slots::One(slot) | Slots::Many(slot)) = row.slots(&request.args) else {
                    return Step::Close;
                };
                if let Some(step) = self.turn_to_slot(worker, st, slot) {
                    return step;
                }
                self.routed(worker, st, request, row)
            }
            Some(number) => self.send_to_node(worker, st, request, row, number),
        }
    }

    /// The session's links to one node of the cluster.
    pub(super) fn links_to_node(&self, worker: &Rc<Worker>, st: &State, number: u32) -> Rc<LinkSet> {
        let whole = worker.links_of(&st.identity.user, st.identity.db);
        let node = worker.nodes_of(&whole.upstream).into_iter().find(|node| node.remote.number == number);
        match node {
            Some(node) => node.set(&st.identity.user, st.identity.db),
            // There is no cluster, or it has left meanwhile: what it would have said another one knows.
            None => whole,
        }
    }

    fn send_to_node(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &'static Row,
        number: u32,
    ) -> Step {
        let links = self.links_to_node(worker, st, number);
        st.slot = None;
        self.turn_to(st, links);
        let (writes, revokes) = (row.effect_of(&request.args) == Effect::Write, row.revokes_leases());
        let outgoing = Outgoing::new(request.wire, row.group());
        let outgoing = if writes { outgoing.writing(StripeSet::Unknown) } else { outgoing };
        let aftermath = if revokes { Aftermath::RevokeLeases } else { Aftermath::Barrier };
        self.send_plain(worker, st, outgoing, |asker| match writes || revokes {
            true => Expect::WriteUnknown(asker, StripeSet::None, aftermath),
            false => Expect::Reply(asker),
        })
    }
}

/// One request for each slot, and where the replies for its keys belong.
fn by_slot(args: &Args<'_>, each: usize) -> (VecDeque<Part>, Vec<Vec<usize>>) {
    let words: Vec<&[u8]> = args.iter().collect();
    let mut order = Vec::new();
    let mut groups: HashMap<u16, (Vec<&[u8]>, Vec<usize>)> = HashMap::new();
    for (at, group) in words[1..].chunks(each).enumerate() {
        let slot = slot(group[0]);
        let (of_slot, places) = groups.entry(slot).or_insert_with(|| {
            order.push(slot);
            (vec![words[0]], Vec::new())
        });
        of_slot.extend_from_slice(group);
        places.push(at);
    }
    let mut parts = VecDeque::new();
    let mut places = Vec::new();
    for slot in order {
        if let Some((words, of_slot)) = groups.remove(&slot) {
            parts.push_back(Part { wire: resp::encode_request(&words), node: None });
            places.push(of_slot);
        }
    }
    (parts, places)
}
