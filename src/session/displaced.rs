//! Before a cluster: requests that a node did not serve, until they are on their way to another one. Those of a session go one
//! after the other, each behind the reply of the one before it: sent all at once, one of them could find its slot served
//! and another, sent earlier, not yet.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::{Session, State, Waits};
use crate::clock::Moment;
use crate::upstream::{Frame, PATIENCE};
use crate::worker::Worker;

/// Sends a request anew. Where it has waited, what the node said may not hold any more.
pub type Again = Box<dyn FnOnce(&Rc<Worker>, Waited)>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waited {
    Yes,
    No,
}

/// A request, or a MULTI block, that was not executed where it was sent.
pub struct Displaced {
    /// The place of the first request in the session's queue.
    pub seq: u64,
    /// From when on its patience counts.
    pub since: Moment,
    /// How long it waits before it goes. Not at once: the node would not say where it is served.
    pub pause: Duration,
    /// The replies, one for each place: the client's where it cannot be sent again.
    pub replies: Vec<Bytes>,
    pub send: Again,
}

impl Displaced {
    fn last(&self) -> u64 {
        self.seq + self.replies.len() as u64 - 1
    }
}

/// Those of a session.
#[derive(Default)]
pub(super) struct Queue {
    /// In the order in which the client sent them.
    waiting: VecDeque<Displaced>,
    /// The last place of the one that is on its way.
    under_way: Option<u64>,
    /// Of these it is not known yet whether they were executed.
    doubted: Vec<u64>,
    /// When one of them was given up last.
    given_up: Moment,
}

impl Queue {
    /// Whether this place, which has its reply now, was the one that others waited for.
    pub(super) fn was_under_way(&mut self, seq: u64) -> bool {
        self.under_way.take_if(|last| *last == seq).is_some()
    }

    fn next(&mut self) -> Option<Displaced> {
        let first = self.waiting.front()?.seq;
        if self.under_way.is_some() || self.doubted.iter().any(|seq| *seq < first) {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.under_way = Some(next.last());
        Some(next)
    }
}

impl State {
    fn next_displaced(&mut self) -> Option<Displaced> {
        let end = self.next_seq();
        let has_left = self.closed;
        let queue = &mut self.course.as_mut()?.displaced;
        // What a client has sent is executed, though it has left; but not behind a request whose outcome is unknown.
        if !has_left && queue.waiting.front().is_some_and(|first| first.seq >= end) {
            queue.waiting.clear();
        }
        queue.next()
    }

    /// From when on the patience for a request counts that was sent then. What had been received when another one was given
    /// up shares that one's.
    pub(super) fn patient_since(&self, sent: Moment) -> Moment {
        let given_up = self.course.as_ref().map_or(Moment(0), |course| course.displaced.given_up);
        if given_up > self.last_use { self.last_use } else { sent }
    }

    /// A command that waits in Redis has been answered: what stands behind it has waited for that.
    pub(super) fn be_patient(&mut self) {
        if let Some(course) = &mut self.course {
            course.displaced.given_up = Moment(0);
        }
    }

    /// Whether a request of the same slot that was sent later has been answered: what is executed now would be seen, or would
    /// see, out of turn.
    fn was_overtaken(&self, displaced: &Displaced) -> bool {
        let Some(at) = displaced.seq.checked_sub(self.head).map(|at| at as usize) else { return false };
        let Some(slot) = self.queue.get(at).and_then(|place| place.slot) else { return false };
        let mut later = self.queue.iter().skip(at + displaced.replies.len());
        later.any(|place| place.slot == Some(slot) && matches!(place.what, Waits::Ready(_) | Waits::Early(_)))
    }
}

impl Session {
    /// See `State::patient_since`.
    pub fn patient_since(&self, sent: Moment) -> Moment {
        self.state.borrow().patient_since(sent)
    }

    /// A request of this session was sent to and fro for long enough.
    pub fn ran_out_of_patience(&self) {
        self.state.borrow_mut().course().displaced.given_up = Moment::now();
    }

    /// Whether this request was executed is being found out: what was sent behind it does not go ahead of it.
    pub fn doubt(&self, seq: u64) {
        let mut st = self.state.borrow_mut();
        let until = st.next_seq();
        let course = st.course();
        course.held_until = until;
        course.displaced.doubted.push(seq);
    }

    /// It was executed; or it is `displaced`.
    pub fn believe(self: &Rc<Self>, worker: &Rc<Worker>, seq: u64) {
        self.state.borrow_mut().course().displaced.doubted.retain(|doubted| *doubted != seq);
        self.send_displaced(worker);
    }

    /// Sends a request anew that a node did not serve, in its turn. What the client sends from here on stays behind it.
    pub fn displace(self: &Rc<Self>, worker: &Rc<Worker>, displaced: Displaced) {
        let seq = displaced.seq;
        {
            let mut st = self.state.borrow_mut();
            let until = st.next_seq();
            let course = st.course();
            course.held_until = until;
            let queue = &mut course.displaced;
            queue.doubted.retain(|doubted| *doubted != displaced.seq);
            queue.was_under_way(displaced.last());
            let at = queue.waiting.partition_point(|other| other.seq < displaced.seq);
            queue.waiting.insert(at, displaced);
        }
        self.send_next_displaced(worker, |next| if next == seq { Waited::No } else { Waited::Yes });
    }

    /// Sends the next one, if it may go.
    pub(super) fn send_displaced(self: &Rc<Self>, worker: &Rc<Worker>) {
        self.send_next_displaced(worker, |_| Waited::Yes);
    }

    fn send_next_displaced(self: &Rc<Self>, worker: &Rc<Worker>, waited: impl FnOnce(u64) -> Waited) {
        let next = self.state.borrow_mut().next_displaced();
        match next {
            Some(next) if next.pause.is_zero() => (next.send)(worker, waited(next.seq)),
            Some(next) => self.send_after_pause(worker, next),
            None => {}
        }
    }

    fn send_after_pause(self: &Rc<Self>, worker: &Rc<Worker>, displaced: Displaced) {
        let (session, worker) = (self.clone(), worker.clone());
        tokio::task::spawn_local(async move {
            // Those whose patience is over are tried once more, and not waited for.
            if Moment::now().since(displaced.since) <= PATIENCE {
                tokio::time::sleep(displaced.pause).await;
            }
            worker.tick_clock();
            let overtaken = session.state.borrow().was_overtaken(&displaced);
            if !overtaken {
                return (displaced.send)(&worker, Waited::Yes);
            }
            for (at, reply) in displaced.replies.into_iter().enumerate() {
                session.answer(&worker, displaced.seq + at as u64, Frame::Owned(reply));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn displaced(seq: u64) -> Displaced {
        Displaced {
            seq,
            since: Moment(0),
            pause: Duration::ZERO,
            replies: vec![Bytes::new()],
            send: Box::new(|_, _| {}),
        }
    }

    #[test]
    fn one_is_under_way_and_none_goes_ahead_of_one_that_is_doubted() {
        let mut queue = Queue::default();
        queue.waiting.extend([displaced(3), displaced(4)]);
        queue.doubted = vec![2];
        assert!(queue.next().is_none());
        queue.doubted.clear();
        assert_eq!(queue.next().map(|next| next.seq), Some(3));
        assert!(queue.next().is_none() && !queue.was_under_way(4));
        assert!(queue.was_under_way(3));
        queue.doubted = vec![5];
        assert_eq!(queue.next().map(|next| next.seq), Some(4));
    }
}
