//! A whole MULTI block on a shared link to a node of a cluster. If the node does not serve the keys' slot it executes
//! nothing of it, and the block is sent to another one as a whole.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::link::Link;
use super::pending::{Asker, Expect, Failure, Frame};
use super::redirects::Detour;
use super::{LinkSet, Purpose, replies};
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
    let mut block = block.borrow_mut();
    let replies = std::mem::take(&mut block.replies);
    let last = replies.len() - 1;
    worker.bump(&block.writes);
    if block.reads && !block.writes.is_unknown() {
        block.asker.session.passed_reads(worker);
    }
    for (at, reply) in replies.into_iter().enumerate() {
        let asker = Asker { session: block.asker.session.clone(), seq: block.asker.seq + at as u64 };
        if at == last && block.writes.is_unknown() && worker.caches() {
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
    let link = links.and_then(|links| match purpose {
        Purpose::Script => links.script(&worker, resp3),
        _ => links.plain(&worker, resp3),
    });
    match link {
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
    let (asker, reply) = {
        let mut block = block.borrow_mut();
        let at = block.replies.len() as u64;
        let asker = Asker { session: block.asker.session.clone(), seq: block.asker.seq + at };
        block.replies.push(Bytes::new());
        replies::invalidate(worker, &block.writes);
        (asker, failure)
    };
    asker.session.fail(worker, asker.seq, reply);
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
