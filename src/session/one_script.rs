//! A shared-state command of one script, from when it was sent to the reply.

use std::time::Duration;

use bytes::Bytes;

use super::displaced::Displaced;
use super::plans::Then;
use super::scripted::Runner;
use crate::cache::StripeSet;
use crate::command::Group;
use crate::resp;
use crate::state::Call;
use crate::upstream::{Detour, Expect, Failure, Frame, Link, Way};
use crate::worker::{Home, Worker, is_unknown_script};

/// A command's one script, which was sent.
pub struct OneScript {
    pub(super) runner: Runner,
    /// The command's place among its session's requests.
    pub(super) seq: u64,
    pub(super) call: Call,
    pub(super) writes: StripeSet,
    pub(super) then: Then,
    pub(super) detour: Detour,
}

impl OneScript {
    /// Whether one run may serve others with it.
    pub fn batches(&self) -> bool {
        self.call.batches && !self.writes_unknown_keys()
    }
    pub fn goes_with(&self, other: &OneScript) -> bool {
        std::ptr::eq(self.call.script, other.call.script)
    }
    /// The size of its keys and arguments, in bytes.
    pub fn bytes(&self) -> usize {
        self.call.bytes()
    }

    /// One request for all of them.
    pub fn append_batch(scripts: &[OneScript], link: &Link, out: &mut Vec<u8>) {
        let Some(first) = scripts.first() else { return };
        let known = Worker::knows_script(link, &first.call);
        Call::append_batch(scripts.iter().map(|script| &script.call), known, out);
    }

    /// The reply to that.
    pub fn answered_batch(scripts: Vec<OneScript>, link: &Link, frame: &[u8]) {
        let is_alone = scripts.len() == 1;
        let each = if is_alone { None } else { resp::array_elements(frame) };
        let each = each.filter(|each| each.len() == scripts.len());
        // What is refused as a whole is refused to each.
        let is_for_all = is_alone || frame.starts_with(b"-");
        debug_assert!(is_for_all || each.is_some(), "a batch has as many replies as calls");
        for (at, script) in scripts.into_iter().enumerate() {
            match &each {
                Some(each) => script.answered(link, Frame::Borrowed(each[at])),
                None if is_for_all => script.answered(link, Frame::Borrowed(frame)),
                None => script.failed(Failure::Unknown),
            }
        }
    }

    /// Before the reply is handed over, L1 shows nothing from before the script any more.
    pub fn answered(mut self, link: &Link, frame: Frame<'_>) {
        let frame = frame.as_slice();
        if is_unknown_script(frame) {
            return self.send_again();
        }
        let last_word;
        let frame =
            match self.detour.follows_script(&self.runner.worker, link, self.call.script.finds_keys, frame) {
                Way::Stands => frame,
                Way::Elsewhere(pause, last_word) => return self.go_elsewhere(pause, last_word),
                Way::Ends(word) => {
                    self.runner.session.ran_out_of_patience();
                    last_word = word;
                    &last_word
                }
            };
        let OneScript { runner, seq, call, writes, then, .. } = self;
        let (worker, session) = (&runner.worker, &runner.session);
        worker.bump(&writes);
        runner.has_passed(&call, &then);
        let mut converted = Vec::new();
        let reply = match call.reply.is_as_said(runner.resp3) {
            true => frame,
            false => {
                call.reply.convert(frame, runner.resp3, &mut converted);
                &converted
            }
        };
        runner.follow(then, frame);
        match writes.is_unknown() {
            true => worker.hold_for_barrier(link, session.asker(seq), Bytes::copy_from_slice(reply)),
            false => session.answer(worker, seq, Frame::Borrowed(reply)),
        }
    }

    /// Nothing was executed: somebody flushed L2's scripts, or it was refused because of another's key.
    pub fn send_again(self) {
        let worker = self.runner.worker.clone();
        let links = match &self.runner.home {
            Home::Redis(links) => self.detour.links(&worker, links, self.call.slot()),
            Home::Masters(_) | Home::Engine { .. } => unreachable!("only one Redis is sent one script"),
        };
        match links.and_then(|links| links.plain(&worker, self.runner.resp3)) {
            Ok(link) => {
                self.runner.session.wrote_on(&link);
                self.detour.ask(&worker, &link);
                link.send(&worker, &self.call.eval(), Expect::OneScript(Box::new(self)), Group::State);
            }
            Err(failure) => self.failed(failure),
        }
    }

    /// The node did not serve its slot: nothing was executed.
    fn go_elsewhere(mut self, pause: Duration, last_word: Bytes) {
        let (Runner { session, worker, .. }, seq) = (self.runner.clone(), self.seq);
        let since = self.detour.since();
        let send = Box::new(|_: &_, waited| {
            self.detour.go_on(waited);
            self.send_again();
        });
        session.displace(&worker, Displaced { seq, since, pause, replies: vec![last_word], send });
    }

    /// Whether what it writes is known by pushes alone.
    pub fn writes_unknown_keys(&self) -> bool {
        self.writes.is_unknown()
    }

    pub fn failed(self, failure: Failure) {
        let OneScript { runner, seq, writes, then, .. } = self;
        let (worker, session) = (&runner.worker, &runner.session);
        worker.bump(&writes);
        match runner.without_l2(&then, &failure) {
            Some(reply) => session.answer(worker, seq, Frame::Owned(reply.into())),
            None if writes.is_unknown() && matches!(failure, Failure::Unknown) => {
                worker.hold_failure_for_barrier(session.asker(seq), failure);
            }
            None => session.fail(worker, seq, failure),
        }
    }
}
