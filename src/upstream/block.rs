//! A whole MULTI block on a shared link to a node of a cluster. If the node does not serve the keys' slot it executes
//! nothing of it, and the block is sent to another one as a whole.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::link::Link;
use super::pending::{Asker, Expect, Failure, Frame};
use super::redirects::{Detour, Way, told_instead};
use super::{LinkSet, Purpose};
use crate::cache::StripeSet;
use crate::command::Group;
use crate::session::Displaced;
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
    /// The link is lost; what had come before was handed over.
    pub failed: bool,
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
    let pause = block.borrow_mut().must_go_elsewhere(worker, link);
    if let Some(pause) = pause {
        let (Asker { session, seq }, replies) = {
            let mut block = block.borrow_mut();
            (block.asker.clone(), std::mem::take(&mut block.replies))
        };
        let since = block.borrow().detour.since();
        let (block, purpose, resp3) = (block.clone(), link.purpose, link.resp3);
        let send = Box::new(move |worker: &Rc<Worker>, waited| {
            block.borrow_mut().detour.go_on(waited);
            go_elsewhere(worker, &block, purpose, resp3);
        });
        return session.displace(worker, Displaced { seq, since, pause, replies, send });
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

fn go_elsewhere(worker: &Rc<Worker>, block: &Rc<RefCell<Block>>, purpose: Purpose, resp3: bool) {
    let links = {
        let block = block.borrow();
        block.detour.links(worker, &block.whole, block.slot)
    };
    match links.and_then(|links| links.of_purpose(worker, purpose, resp3)) {
        Ok(link) => {
            block.borrow().asker.session.wrote_on(&link);
            send_block(worker, &link, block);
        }
        Err(failure) => {
            let len = block.borrow().wires.len();
            (0..len).for_each(|_| block_failed(worker, block, failure.clone()));
        }
    }
}

/// One of its requests has no reply.
pub(super) fn block_failed(worker: &Rc<Worker>, block: &Rc<RefCell<Block>>, failure: Failure) {
    let (Asker { session, seq }, at, come) = {
        let mut block = block.borrow_mut();
        let at = block.replies.len() as u64;
        let come = if block.failed { Vec::new() } else { block.replies.clone() };
        block.failed = true;
        block.replies.push(Bytes::new());
        worker.bump(&block.writes);
        (block.asker.clone(), at, come)
    };
    for (at, reply) in come.into_iter().enumerate() {
        session.answer(worker, seq + at as u64, Frame::Owned(reply));
    }
    session.fail(worker, seq + at, failure);
}

impl Block {
    /// After which pause; what a client is not to see is taken out of the replies.
    fn must_go_elsewhere(&mut self, worker: &Worker, link: &Link) -> Option<Duration> {
        // Whatever its elements say: it was executed.
        if !self.replies.last()?.starts_with(b"-") {
            return None;
        }
        let mut way = Way::Stands;
        for reply in &mut self.replies {
            if matches!(way, Way::Stands) {
                way = self.detour.follows(worker, link, reply);
                if let Way::Elsewhere(_, last_word) | Way::Ends(last_word) = &way {
                    *reply = last_word.clone();
                }
            } else if let Some(instead) = told_instead(worker, link, reply) {
                *reply = instead;
            }
        }
        match way {
            Way::Stands => None,
            Way::Elsewhere(pause, _) => Some(pause),
            Way::Ends(_) => {
                self.asker.session.ran_out_of_patience();
                None
            }
        }
    }
}
