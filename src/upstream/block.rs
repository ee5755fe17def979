//! A whole MULTI block on a shared link to a node of a cluster. If the node does not serve the keys' slot it executes
//! nothing of it, and the block is sent to another one as a whole.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::link::Link;
use super::pending::{Asker, Expect, Failure, Frame};
use super::redirects::Detour;
use super::{LinkSet, Purpose};
use crate::cache::StripeSet;
use crate::command::Group;
use crate::worker::Worker;

pub struct Block {
    /// The session, and the place of MULTI.
    pub asker: Asker,
    /// MULTI to EXEC.
    pub wires: Vec<Bytes>,
    /// That of its keys.
    pub slot: Option<u16>,
    pub writes: StripeSet,
    pub reads: bool,
    pub replies: Vec<Bytes>,
    pub detour: Detour,
    /// The links of the whole cluster.
    pub whole: Rc<LinkSet>,
}

/// Sends it from the first to the last request, with nothing between them.
pub fn send_block(worker: &Rc<Worker>, link: &Rc<Link>, block: &Rc<RefCell<Block>>) {
    let wires = block.borrow().wires.clone();
    block.borrow().detour.ask(worker, link);
    for wire in wires {
        link.send(worker, &wire, Expect::Block(block.clone()), Group::Transaction);
    }
}

pub(super) fn block_reply(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    block: &Rc<RefCell<Block>>,
    frame: Frame<'_>,
) {
    {
        let mut block = block.borrow_mut();
        block.replies.push(frame.into_bytes());
        if block.replies.len() < block.wires.len() {
            return;
        }
    }
    let elsewhere = block.borrow_mut().must_go_elsewhere(worker, link);
    if let Some(pause) = elsewhere {
        let asker = block.borrow().asker.clone();
        asker.session.hold_back();
        tokio::task::spawn_local(go_elsewhere(
            worker.clone(),
            block.clone(),
            link.purpose,
            link.resp3,
            pause,
        ));
        return;
    }
    let (first, replies, writes, reads) = {
        let mut block = block.borrow_mut();
        let replies = std::mem::take(&mut block.replies);
        (block.asker.clone(), replies, block.writes.clone(), block.reads)
    };
    worker.bump(&writes);
    if reads && !writes.is_unknown() {
        first.session.passed_reads(worker);
    }
    let last = replies.len() - 1;
    for (at, reply) in replies.into_iter().enumerate() {
        let asker = Asker { seq: first.seq + at as u64, ..first.clone() };
        if at == last && writes.is_unknown() && worker.caches() {
            worker.hold_for_barrier(link, asker, reply);
        } else {
            asker.session.answer(worker, asker.seq, Frame::Owned(reply));
        }
    }
}

async fn go_elsewhere(
    worker: Rc<Worker>,
    block: Rc<RefCell<Block>>,
    purpose: Purpose,
    resp3: bool,
    pause: Duration,
) {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    let links = {
        let block = block.borrow();
        block.detour.links(&worker, &block.whole, block.slot)
    };
    match links.and_then(|links| links.of_purpose(&worker, purpose, resp3)) {
        Ok(link) => {
            block.borrow().asker.session.wrote_on(&link);
            send_block(&worker, &link, &block);
        }
        Err(failure) => {
            let len = block.borrow().wires.len();
            (0..len).for_each(|_| block_failed(&worker, &block, failure.clone()));
        }
    }
}

/// One of its requests has no reply.
pub(super) fn block_failed(worker: &Rc<Worker>, block: &Rc<RefCell<Block>>, failure: Failure) {
    let asker = {
        let mut block = block.borrow_mut();
        let at = block.replies.len() as u64;
        block.replies.push(Bytes::new());
        worker.bump(&block.writes);
        Asker { seq: block.asker.seq + at, ..block.asker.clone() }
    };
    asker.session.fail(worker, asker.seq, failure);
}

impl Block {
    fn must_go_elsewhere(&mut self, worker: &Worker, link: &Link) -> Option<Duration> {
        // Whatever its elements say: it was executed.
        if !self.replies.last()?.starts_with(b"-") {
            return None;
        }
        let pause = self.replies.iter().find_map(|reply| self.detour.follows(worker, link, reply))?;
        self.replies.clear();
        Some(pause)
    }
}
