//! Cacheable reads of a session: answered from L1, by following the same read, by a fill, or passed through.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use smallvec::SmallVec;

use super::dispatch::{Outgoing, Request};
use super::input::Step;
use super::kept::{is_kept, still_tells};
use super::{PASSED_LEN, Park, Session, State, Waits};
use crate::cache::{Admission, Cache, Entry, Follower, RequestId, Scope, Stripe};
use crate::clock::Moment;
use crate::command::{self, Group, Keeps, Row, Shape};
use crate::resp;
use crate::upstream::{Each, Expect, KeyedRead};
use crate::worker::Worker;

/// More keys than this go straight to L2.
const EACH_MAX: usize = 64;

impl Session {
    /// L1, if this session may use it now.
    #[inline]
    pub(super) fn l1<'w>(&self, worker: &'w Worker, st: &State) -> Option<&'w Arc<Cache>> {
        worker.shared.cache.as_ref().filter(|_| may_use_l1(worker, st))
    }

    #[inline]
    pub(super) fn scope(st: &State) -> Scope {
        Scope { user: st.identity.user.id, db: st.identity.db, resp3: st.identity.resp3 }
    }

    #[inline]
    pub(super) fn read_cached(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &Row,
    ) -> Step {
        let (Some(cache), Some(key)) = (worker.shared.cache.as_ref(), request.args.get(1)) else {
            return self.shared(worker, st, request, row);
        };
        if !row.arity_fits(request.args.len()) || request.wire.len() > worker.cached_request_bytes_max() {
            return self.shared(worker, st, request, row);
        }
        let key_hash = worker.shared.hash(key);
        let id =
            worker.request_id(cache, Self::scope(st), row, request.wire, request.args.tail_at(), key_hash);
        if !may_use_l1(worker, st) {
            return self.pass(worker, st, &id);
        }
        if st.lanes.read_meets_write(st.head, &[id.stripe]) {
            worker.metrics.l1_misses.add(1);
            return self.pass(worker, st, &id);
        }
        if self.show(worker, st, cache, &id) {
            if !request.rest.is_empty() {
                self.show_run(worker, st, cache, request, row);
            }
            return Step::Next;
        }
        if let Some(until) = st.lanes.miss_waits_for(st.head, &[id.stripe]) {
            return Step::Again(Park::Until(until));
        }
        worker.metrics.l1_misses.add(1);
        self.miss(worker, st, cache, &id, row.shape_of(&request.args))
    }

    /// Answers from L1 if that is possible: at once, or when the turn of the request comes.
    #[inline]
    pub(super) fn show(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        cache: &Cache,
        id: &RequestId<'_>,
    ) -> bool {
        let shown = worker.look_up(cache, id, |entry| {
            if older_than_passed(st, cache, entry) {
                return false;
            }
            if st.is_waiting() {
                let seq = st.take_place(Waits::Provisional(entry.clone()));
                st.lanes.note_aside(st.head, seq, &[id.stripe]);
                return true;
            }
            worker.metrics.l1_hits.add(1);
            if !st.is_mute() {
                st.out.lend(&mut worker.pool.borrow_mut());
                st.out.push_slice(entry.reply());
                self.mark_dirty(worker);
            }
            true
        });
        shown == Some(true)
    }

    fn hit(&self, worker: &Worker, st: &State, cache: &Cache, id: &RequestId<'_>) -> Option<Entry> {
        worker.look_up(cache, id, |entry| (!older_than_passed(st, cache, entry)).then(|| entry.clone()))?
    }

    /// Whether a hit may still be shown now that its turn has come.
    pub(super) fn may_show(&self, worker: &Worker, st: &State, entry: &Entry) -> bool {
        let Some(cache) = self.l1(worker, st) else { return false };
        cache.is_valid(entry, worker.now(), worker.freshness())
            && !older_than_passed(st, cache, entry)
            && still_tells(entry, worker.now())
    }

    fn miss(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        cache: &Cache,
        id: &RequestId<'_>,
        shape: Shape,
    ) -> Step {
        let admission = worker.admit(cache, id);
        if admission == Admission::Pass && !cache.stamps.is_claimed(id.stripe) {
            return self.pass(worker, st, id);
        }
        // Behind scripts that are under way, or reads of the key on the plain lane, it takes their link.
        if st.lanes.here().script.busy(st.head).is_some() || st.lanes.meets_passing(st.head, &[id.stripe]) {
            return self.pass(worker, st, id);
        }
        let seq = st.next_seq();
        let done = match admission {
            Admission::Fill => worker.fill(cache, &st.lanes.links().clone(), id, shape, &self.asker(seq)),
            Admission::Pass => {
                let follower = Follower { worker: worker.id, session: self.id, seq };
                cache.flights.follow_only(id, &cache.stamps, follower, worker.now())
            }
        };
        if !done {
            return self.pass(worker, st, id);
        }
        st.take_place(Waits::Reply);
        st.lanes.note_aside(st.head, seq, &[id.stripe]);
        Step::Next
    }

    /// The read takes the plain lane as it is.
    fn pass(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, id: &RequestId<'_>) -> Step {
        let read = KeyedRead { key: id.key_hash, cacheable: true };
        let (seq, huge) = (st.next_seq(), worker.is_huge(id.key_hash));
        let outgoing = Outgoing { huge, ..Outgoing::new(id.wire, Group::Read) };
        let step = self.send_plain(worker, st, outgoing, |asker| Expect::Read(asker, read));
        if st.next_seq() > seq {
            st.lanes.note_passing(st.head, seq, &[id.stripe]);
        }
        step
    }

    /// The turn of a hit has come and it is not valid any more: it is read now. Its place is at the head.
    pub(super) fn read_now(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        seq: u64,
        id: &RequestId<'_>,
    ) {
        let Some(cache) = worker.shared.cache.clone() else { return };
        if command::ROWS[usize::from(id.command)].keeps != Keeps::Nothing {
            return self.run_again(worker, st, seq, id.wire);
        }
        if self.l1(worker, st).is_some()
            && let Some(entry) = self.hit(worker, st, &cache, id)
        {
            st.queue[(seq - st.head) as usize].what = Waits::Provisional(entry);
            return;
        }
        worker.metrics.l1_misses.add(1);
        let shape = command::ROWS[usize::from(id.command)].shape;
        let admitted = self.l1(worker, st).is_some() && worker.admit(&cache, id) == Admission::Fill;
        if admitted
            && let Ok(links) = self.links_for(worker, st, id.wire)
            && worker.fill(&cache, &links, id, shape, &self.asker(seq))
        {
            return;
        }
        self.send_again(worker, st, seq, id.wire);
    }

    /// A read that was under way elsewhere has failed there: it is sent again.
    pub fn read_again(self: &Rc<Self>, worker: &Rc<Worker>, seq: u64, wire: &[u8]) {
        let mut st = self.state.borrow_mut();
        if !st.closed && seq >= st.head {
            match is_kept(wire) {
                true => self.run_again(worker, &mut st, seq, wire),
                false => self.send_again(worker, &mut st, seq, wire),
            }
            self.settle(worker, &mut st);
        }
    }

    /// Sends a read for a place that is taken already; whoever calls settles the queue.
    fn send_again(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, seq: u64, wire: &[u8]) {
        let links = self.links_for(worker, st, wire);
        match links.and_then(|links| links.plain(worker, st.identity.resp3)) {
            Ok(link) => {
                worker.metrics.forwarded.add(1);
                link.send(worker, wire, Expect::Reply(self.asker(seq)), Group::Read);
            }
            Err(failure) => {
                let line = self.failure_line(worker, &failure);
                let at = (seq - st.head) as usize;
                if let Some(place) = st.queue.get_mut(at) {
                    place.what = line.map_or(Waits::Close, Waits::Ready);
                }
            }
        }
    }

    /// A passed read has been answered: older entries are not shown to this session from here on. Without a claim there
    /// are none, and what is filled later is read later.
    pub fn passed_read(&self, worker: &Worker, cache: &Cache, stripe: Stripe) {
        if !cache.stamps.is_claimed(stripe) {
            return;
        }
        let mut st = self.state.borrow_mut();
        let passed = st.passed.get_or_insert_with(|| Box::new([(0, Moment(0)); PASSED_LEN]));
        passed[stripe as usize % PASSED_LEN] = (stripe, worker.now());
    }

    /// The same for a transaction's reads, whose keys are not kept.
    pub fn passed_reads(&self, worker: &Worker) {
        self.state.borrow_mut().passed_all = worker.now();
    }

    // MGET and EXISTS.

    pub(super) fn read_each(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        request: Request<'_>,
        row: &Row,
    ) -> Step {
        let keys: SmallVec<[&[u8]; 8]> = request.args.iter().skip(1).collect();
        let usable =
            (1..=EACH_MAX).contains(&keys.len()) && request.wire.len() <= worker.cached_request_bytes_max();
        let Some(cache) = worker.shared.cache.as_ref().filter(|_| usable) else {
            return self.shared(worker, st, request, row);
        };
        let of = if row.name == "MGET" { Each::Mget } else { Each::Exists };
        let wires: SmallVec<[Vec<u8>; 8]> = keys.iter().map(|key| element_wire(of, key)).collect();
        let scope = Self::scope(st);
        let ids: SmallVec<[RequestId<'_>; 8]> = (wires.iter().zip(&keys))
            .map(|(wire, key)| {
                let tail_at = element_tail_at(of);
                worker.request_id(cache, scope, row, wire, tail_at, worker.shared.hash(key))
            })
            .collect();
        let stripes: SmallVec<[Stripe; 8]> = ids.iter().map(|id| id.stripe).collect();
        let behind = !may_use_l1(worker, st)
            || st.lanes.read_meets_write(st.head, &stripes)
            || st.lanes.here().script.busy(st.head).is_some();
        if !behind
            && !st.is_waiting()
            && let Some(entries) = self.hit_each(worker, st, cache, &ids)
        {
            worker.metrics.l1_hits.add(1);
            self.reply_here(worker, st, |out| answer_each(out, of, &entries));
            return Step::Next;
        }
        if let Some(until) = st.lanes.miss_waits_for(st.head, &stripes) {
            return Step::Again(Park::Until(until));
        }
        if may_use_l1(worker, st) {
            worker.metrics.l1_misses.add(1);
        }
        let behind = behind || st.lanes.meets_passing(st.head, &stripes);
        let admitted = !behind
            && ids.iter().filter(|id| worker.admit(cache, id) == Admission::Fill).count() == ids.len();
        let seq = st.next_seq();
        if admitted
            && worker.fill_each(cache, &st.lanes.links().clone(), of, request.wire, &ids, &self.asker(seq))
        {
            st.take_place(Waits::Reply);
            st.lanes.note_aside(st.head, seq, &stripes);
            return Step::Next;
        }
        let passed: Box<[Stripe]> = stripes.as_slice().into();
        let outgoing = Outgoing::new(request.wire, Group::Read);
        let step = self.send_plain(worker, st, outgoing, |asker| Expect::ReadEach(asker, passed));
        if st.next_seq() > seq {
            st.lanes.note_passing(st.head, seq, &stripes);
        }
        step
    }

    /// All elements, only if they are of one moment: the same link's, and all still valid after the last was found.
    fn hit_each(
        &self,
        worker: &Worker,
        st: &State,
        cache: &Cache,
        ids: &[RequestId<'_>],
    ) -> Option<SmallVec<[Entry; 8]>> {
        let mut entries = SmallVec::<[Entry; 8]>::new();
        for id in ids {
            entries.push(self.hit(worker, st, cache, id)?);
        }
        let first = entries.first()?;
        let one_link = |e: &Entry| {
            Arc::ptr_eq(&e.terms.lease, &first.terms.lease) && e.terms.incarnation == first.terms.incarnation
        };
        let valid = |e: &Entry| cache.is_valid(e, worker.now(), worker.freshness());
        (entries.iter().all(one_link) && entries.iter().all(valid)).then_some(entries)
    }
}

/// Not after MADCACHE BYPASS ON, and not while anybody monitors, who is to see every request.
#[inline]
fn may_use_l1(worker: &Worker, st: &State) -> bool {
    !st.bypass && worker.shared.monitors.load(Relaxed) == 0
}

/// Until pushes have been proven to be past it, an entry may be older than a reply that this session has seen.
#[inline]
pub(super) fn older_than_passed(st: &State, cache: &Cache, entry: &Entry) -> bool {
    let proof = entry.terms.lease.proof();
    let of_key = st.passed.as_ref().map(|passed| passed[entry.stripe as usize % PASSED_LEN]);
    let of_key = of_key.filter(|(stripe, _)| *stripe == entry.stripe).map_or(Moment(0), |(_, when)| when);
    let passed = of_key.max(st.passed_all);
    // The stamp is looked at behind the proof: a push that was read between the two has moved both.
    passed != Moment(0) && (proof < passed || !cache.is_unchanged(entry))
}

/// What an element of MGET or EXISTS is kept as. Not as GET of the key: a user may have the right to one and not to
/// the other.
fn element_wire(of: Each, key: &[u8]) -> Vec<u8> {
    match of {
        Each::Mget => resp::encode_request(&[b"MGET", key]),
        Each::Exists => resp::encode_request(&[b"EXISTS", key]),
    }
}

fn element_tail_at(of: Each) -> usize {
    match of {
        Each::Mget => b"*2\r\n$4\r\nMGET\r\n".len(),
        Each::Exists => b"*2\r\n$6\r\nEXISTS\r\n".len(),
    }
}

fn answer_each(out: &mut Vec<u8>, of: Each, entries: &[Entry]) {
    match of {
        Each::Mget => {
            resp::array_header(out, entries.len());
            for entry in entries {
                out.extend_from_slice(entry.reply());
            }
        }
        Each::Exists => {
            let count = entries.iter().filter(|entry| entry.reply() == b":1\r\n").count();
            resp::integer(out, count as i64);
        }
    }
}
