//! Replies in the order of their requests, whatever answered them: what has come to its turn is written, what came before it
//! is kept.

use std::cell::RefMut;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;

use super::{Park, Place, Session, State, Waits};
use crate::config::ErrorsStyle;
use crate::net::OutBuf;
use crate::resp;
use crate::upstream::{Asker, Failure, Frame};
use crate::worker::Worker;

/// Small replies that came before their turn, one behind the other, until nothing is under way.
#[derive(Default)]
pub(super) struct EarlyReplies(Vec<u8>);

/// One of them: from where to where.
#[derive(Clone, Copy)]
pub(super) struct Early(u32, u32);

/// A larger reply is kept by itself, and so are those for which there is no room.
const EARLY_REPLY_BYTES_MAX: usize = 512;
const EARLY_BYTES_MAX: usize = 16 * 1024;

impl EarlyReplies {
    fn keep(&mut self, frame: Frame<'_>) -> Waits {
        let bytes = frame.as_slice();
        let (begin, end) = (self.0.len(), self.0.len() + bytes.len());
        if bytes.len() > EARLY_REPLY_BYTES_MAX || end > EARLY_BYTES_MAX {
            return Waits::Ready(frame.into_bytes());
        }
        if self.0.capacity() == 0 {
            self.0.reserve(EARLY_REPLY_BYTES_MAX * 2);
        }
        self.0.extend_from_slice(bytes);
        Waits::Early(Early(begin as u32, end as u32))
    }

    fn get(&self, Early(begin, end): Early) -> &[u8] {
        &self.0[begin as usize..end as usize]
    }
}

impl Session {
    /// The reply of a request has come.
    pub fn answer(self: &Rc<Self>, worker: &Rc<Worker>, seq: u64, frame: Frame<'_>) {
        let mut st = self.state.borrow_mut();
        if st.closed || seq < st.head {
            return self.was_answered(worker, st, seq);
        }
        if seq == st.head {
            let mute = st.queue.pop_front().is_some_and(|place| place.mute);
            st.head += 1;
            deliver(worker, &mut st, seq, mute, frame);
            self.settle(worker, &mut st);
        } else {
            let at = (seq - st.head) as usize;
            if at < st.queue.len() {
                st.queue[at].what = st.early.keep(frame);
            }
        }
        self.was_answered(worker, st, seq);
    }

    /// Sends on what waits for the reply of this request.
    fn was_answered(self: &Rc<Self>, worker: &Rc<Worker>, mut st: RefMut<'_, State>, seq: u64) {
        if let Some(course) = &mut st.course
            && course.displaced.was_under_way(seq)
        {
            drop(st);
            self.send_displaced(worker);
        }
    }

    /// The reply of a request will not come.
    pub fn fail(self: &Rc<Self>, worker: &Rc<Worker>, seq: u64, failure: Failure) {
        match self.failure_line(worker, &failure) {
            Some(line) => self.answer(worker, seq, Frame::Owned(line)),
            None => {
                let mut st = self.state.borrow_mut();
                if st.closed || seq < st.head {
                    return self.was_answered(worker, st, seq);
                }
                let at = (seq - st.head) as usize;
                if let Some(place) = st.queue.get_mut(at) {
                    place.what = Waits::Close;
                }
                self.settle(worker, &mut st);
                self.was_answered(worker, st, seq);
            }
        }
    }

    /// What the client is told; `None`: its connection closes.
    pub(super) fn failure_line(&self, worker: &Rc<Worker>, failure: &Failure) -> Option<Bytes> {
        let named = worker.live().config.upstream.errors == ErrorsStyle::Named;
        let mut line = Vec::new();
        match failure {
            Failure::Refused(line) => return Some(line.clone()),
            Failure::NotSent(why) if named => {
                resp::error(&mut line, &format!("UPSTREAMDOWN not sent: {why}"))
            }
            Failure::NotSent(why) => resp::error(&mut line, &format!("LOADING madcache: not sent: {why}")),
            Failure::Unknown if named => {
                resp::error(&mut line, "UPSTREAMLOST outcome unknown: the link to Redis was lost");
            }
            Failure::Unknown => return None,
        }
        worker.metrics.refused_l2_away.add(1);
        Some(line.into())
    }

    /// Writes what has come to its turn, and lets the session go on where it waited for that.
    pub(super) fn settle(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State) {
        loop {
            match st.queue.front().map(|place| &place.what) {
                None | Some(Waits::Reply) => break,
                Some(Waits::Close) => {
                    st.closing = true;
                    st.queue.clear();
                    break;
                }
                Some(Waits::Ready(_) | Waits::Early(_)) => {}
                Some(Waits::Provisional(entry)) => {
                    let entry = entry.clone();
                    if !self.may_show(worker, st, &entry) {
                        st.queue[0].what = Waits::Reply;
                        let seq = st.head;
                        self.read_now(worker, st, seq, &entry.id());
                        if matches!(st.queue.front(), Some(Place { what: Waits::Reply, .. })) {
                            break;
                        }
                        continue;
                    }
                }
            }
            let Some(place) = st.queue.pop_front() else { break };
            let seq = st.head;
            st.head += 1;
            if place.mute && !st.is_part(seq) {
                continue;
            }
            match place.what {
                Waits::Ready(bytes) => deliver(worker, st, seq, place.mute, Frame::Owned(bytes)),
                Waits::Early(early) => {
                    let replies = std::mem::take(&mut st.early);
                    deliver(worker, st, seq, place.mute, Frame::Borrowed(replies.get(early)));
                    st.early = replies;
                }
                Waits::Provisional(entry) if entry.as_derived().is_some() => {
                    self.tell_in_turn(worker, st, &entry);
                }
                Waits::Provisional(entry) => {
                    worker.metrics.l1_hits.add(1);
                    deliver(worker, st, seq, place.mute, Frame::Borrowed(entry.reply()));
                }
                Waits::Reply | Waits::Close => {}
            }
        }
        if st.queue.is_empty() {
            st.early = EarlyReplies::default();
            if st.queue.capacity() > 64 {
                st.queue = VecDeque::new();
            }
        }
        self.mark_dirty(worker);
        match st.park {
            Park::Until(seq) if st.head >= seq => worker.resume(self.clone()),
            _ => {}
        }
    }

    /// A push, outside the order of replies.
    pub fn push(self: &Rc<Self>, worker: &Rc<Worker>, bytes: Bytes) {
        let mut st = self.state.borrow_mut();
        // One that is closed for not reading gets nothing more.
        if st.closed || self.is_shut.get() {
            return;
        }
        write_frame(worker, &mut st.out, Frame::Owned(bytes));
        self.mark_dirty(worker);
    }

    /// Answers the present request by itself, in its turn.
    pub(super) fn reply_here(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        if !st.is_waiting() {
            if !st.is_mute() {
                st.out.lend(&mut worker.pool.borrow_mut());
                st.out.push_with(encode);
                self.mark_dirty(worker);
            }
            return;
        }
        let mut reply = Vec::new();
        encode(&mut reply);
        st.take_place(Waits::Ready(reply.into()));
    }

    pub(super) fn error_here(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, text: &str) {
        self.reply_here(worker, st, |out| resp::error(out, text));
    }

    /// Takes the place of a request that could not be sent.
    pub(super) fn fail_here(self: &Rc<Self>, worker: &Rc<Worker>, st: &mut State, failure: &Failure) {
        match self.failure_line(worker, failure) {
            Some(line) => self.reply_here(worker, st, |out| out.extend_from_slice(&line)),
            None => {
                st.take_place(Waits::Close);
                self.settle(worker, st);
            }
        }
    }

    pub(super) fn asker(self: &Rc<Self>, seq: u64) -> Asker {
        Asker { session: self.clone(), seq }
    }
}

/// Writes the reply of the request whose turn it is.
#[inline]
fn deliver(worker: &Rc<Worker>, st: &mut State, seq: u64, mute: bool, frame: Frame<'_>) {
    if st.is_part(seq) {
        if let Some(whole) = st.gather(seq, mute, worker.random(), frame) {
            write_frame(worker, &mut st.out, Frame::Owned(whole));
        }
    } else if !mute {
        write_frame(worker, &mut st.out, frame);
    }
}

fn write_frame(worker: &Rc<Worker>, out: &mut OutBuf, frame: Frame<'_>) {
    match frame {
        Frame::Borrowed(bytes) => {
            out.lend(&mut worker.pool.borrow_mut());
            out.push_slice(bytes);
        }
        Frame::Owned(bytes) => out.push_bytes(bytes),
    }
}
