//! Requests on their way out: queued with what waits for their replies, written at the end of a scheduler's tick.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;

use bytes::Bytes;

use super::{Link, Phase};
use crate::command::Group;
use crate::net::BIG_PIECE_BYTES;
use crate::upstream::pending::{Expect, Pending};
use crate::upstream::redirects::Again;
use crate::worker::Worker;

impl Link {
    /// Queues one request; it is written at the end of the scheduler's tick.
    #[inline]
    pub fn send(self: &Rc<Self>, worker: &Rc<Worker>, wire: &[u8], expect: Expect, group: Group) {
        let again = self.is_of_a_cluster && expect.may_go_elsewhere();
        self.send_again(worker, wire, expect, group, again.then(|| Again::new(wire, worker.now())));
    }

    /// The same of a request that another node of the cluster did not serve.
    pub(in crate::upstream) fn send_again(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        wire: &[u8],
        expect: Expect,
        group: Group,
        again: Option<Box<Again>>,
    ) {
        self.note(worker, wire.len(), expect, group, again);
        let mut out = self.out.borrow_mut();
        if wire.len() >= BIG_PIECE_BYTES * 4 {
            out.push_bytes(Bytes::copy_from_slice(wire));
        } else {
            out.lend(&mut worker.pool.borrow_mut());
            out.push_slice(wire);
        }
    }

    /// The same, encoded on the spot: of whatever then waits for the reply.
    pub fn send_with<W>(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        waits: W,
        encode: impl FnOnce(&W, &mut Vec<u8>),
        expect: impl FnOnce(W) -> Expect,
        group: Group,
    ) {
        let mut out = self.out.borrow_mut();
        out.lend(&mut worker.pool.borrow_mut());
        let before = out.len();
        out.push_with(|out| encode(&waits, out));
        let len = out.len() - before;
        drop(out);
        self.note(worker, len, expect(waits), group, None);
    }

    /// The same where L2 gives no reply.
    pub fn send_unanswered(self: &Rc<Self>, worker: &Rc<Worker>, wire: &[u8]) {
        self.queue(worker, wire.len());
        self.out.borrow_mut().push_slice(wire);
    }

    fn note(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        len: usize,
        expect: Expect,
        group: Group,
        again: Option<Box<Again>>,
    ) {
        debug_assert!(self.is_usable(), "closed links take no requests");
        if expect.waits_for_barrier() {
            worker.barrier_is_coming(self);
        }
        let (sent, starts_at) = (worker.now(), self.queued_bytes.get());
        self.pending.borrow_mut().push_back(Pending { expect, sent, starts_at, pushed: None, group, again });
        self.queue(worker, len);
    }

    fn queue(self: &Rc<Self>, worker: &Rc<Worker>, len: usize) {
        self.queued_bytes.set(self.queued_bytes.get() + len as u64);
        self.last_use.set(worker.now());
        if !self.dirty.replace(true) {
            worker.link_is_dirty(self.clone());
        }
    }

    /// Writes what is queued; called once per tick.
    pub fn flush(self: &Rc<Self>, worker: &Rc<Worker>) {
        self.dirty.set(false);
        if self.phase.get() != Phase::Ready || self.writing.get() {
            return;
        }
        match self.write_now(worker) {
            Ok(true) => {}
            Ok(false) => {
                self.writing.set(true);
                tokio::task::spawn_local(self.clone().write_rest(worker.clone()));
            }
            Err(_) => self.shutdown(),
        }
    }

    /// Whether everything went out.
    fn write_now(&self, worker: &Rc<Worker>) -> io::Result<bool> {
        let Some(stream) = self.stream.get() else { return Ok(true) };
        let mut out = self.out.borrow_mut();
        let written = out.write_to(stream, &mut worker.pool.borrow_mut())?;
        self.flushed_bytes.set(self.flushed_bytes.get() + written as u64);
        Ok(out.is_empty())
    }

    async fn write_rest(self: Rc<Self>, worker: Rc<Worker>) {
        let Some(stream) = self.stream.get() else { return };
        loop {
            if poll_fn(|cx| stream.poll_write_ready(cx)).await.is_err() {
                break self.shutdown();
            }
            match self.write_now(&worker) {
                Ok(true) => break,
                Ok(false) => {}
                Err(_) => break self.shutdown(),
            }
        }
        self.writing.set(false);
    }
}
