//! Calls of one script that become one request: those that are queued one right behind the other before the link is flushed.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::Link;
use crate::command::Group;
use crate::resp;
use crate::session::OneScript;
use crate::upstream::pending::{Expect, Pending};
use crate::worker::Worker;

/// Calls in one request. SCRIPT KILL ends all of a run or, once one of them has written, none.
const CALLS_MAX: usize = 32;
/// A call does not join when there is more before it already.
const JOINED_BYTES_MAX: usize = 16 * 1024;

/// Whether L2 takes the keys of several calls in one request.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Takes {
    /// A node of a cluster does not where they are of several slots, and a user who may not use all keys would be refused those
    /// of others. Nor is it known of a link that is not up yet.
    #[default]
    No,
    /// L2 has not been asked yet what the user may do.
    NotAsked,
    Yes,
}

#[derive(Default)]
pub(super) struct Batch {
    takes: Cell<Takes>,
    /// The request of what was queued last is not encoded yet: more may join it.
    is_open: Cell<bool>,
    /// The size of the calls in that one.
    bytes: Cell<usize>,
    /// Commands that wait beyond one for each request.
    more: Cell<usize>,
}

impl Batch {
    pub(super) fn more(&self) -> usize {
        self.more.get()
    }

    /// The link is up.
    pub(super) fn begin(&self, may_take: bool) {
        self.takes.set(if may_take { Takes::NotAsked } else { Takes::No });
    }

    /// The link is over.
    pub(super) fn clear(&self) {
        self.is_open.set(false);
        self.more.set(0);
    }
}

impl Link {
    /// Queues a command's one script, in one request with those right before it if its script takes them.
    pub fn send_one_script(self: &Rc<Self>, worker: &Rc<Worker>, script: OneScript) {
        let takes = self.batch.takes.get();
        if !script.batches() || takes != Takes::Yes {
            if script.batches() && takes == Takes::NotAsked {
                self.ask_for_all_keys(worker);
            }
            return self.send_with(
                worker,
                Box::new(script),
                |script, out| OneScript::append_batch(std::slice::from_ref(&**script), self, out),
                Expect::OneScript,
                Group::State,
            );
        }
        let len = script.bytes();
        if self.batch.is_open.get()
            && self.batch.bytes.get() + len <= JOINED_BYTES_MAX
            && let Some(Pending { expect: Expect::Batch(scripts), .. }) = self.pending.borrow_mut().back_mut()
            && scripts.len() < CALLS_MAX
            && scripts.first().is_some_and(|first| first.goes_with(&script))
        {
            scripts.push(script);
            self.batch.bytes.set(self.batch.bytes.get() + len);
            self.batch.more.set(self.batch.more.get() + 1);
            return self.queue(worker, 0);
        }
        self.close_batch(worker);
        let pending = self.owed(worker, Expect::Batch(vec![script]), Group::State);
        self.note(worker, 0, pending);
        self.batch.bytes.set(len);
        self.batch.is_open.set(true);
    }

    /// The answer is for `batch_allowed`. No pattern of keys but one for all of them fits this one.
    fn ask_for_all_keys(self: &Rc<Self>, worker: &Rc<Worker>) {
        self.batch.takes.set(Takes::No);
        let user = self.set.user.name().as_bytes();
        let ask = resp::encode_request(&[b"ACL", b"DRYRUN", user, b"EVALSHA", b"-", b"1", b"\0\x01\xff"]);
        self.send(worker, &ask, Expect::BatchAllowed, Group::Other);
    }

    pub(in crate::upstream) fn batch_allowed(&self, answer: &[u8]) {
        if answer == b"+OK\r\n" {
            self.batch.takes.set(Takes::Yes);
        }
    }

    /// Encodes what was queued last as it is; called before anything else is queued, or the link is written.
    #[inline]
    pub(super) fn close_batch(&self, worker: &Worker) {
        if self.batch.is_open.replace(false) {
            self.encode_batch(worker);
        }
    }

    fn encode_batch(&self, worker: &Worker) {
        let pending = self.pending.borrow();
        let Some(Pending { expect: Expect::Batch(scripts), .. }) = pending.back() else {
            unreachable!("an open batch is what was queued last");
        };
        let mut out = self.out.borrow_mut();
        out.lend(&mut worker.pool.borrow_mut());
        let before = out.len();
        out.push_with(|out| OneScript::append_batch(scripts, self, out));
        self.queued_bytes.set(self.queued_bytes.get() + (out.len() - before) as u64);
    }

    /// Hands over what the run said of each; `took` is how long the first one waited.
    pub(in crate::upstream) fn batch_reply(
        &self,
        worker: &Worker,
        scripts: Vec<OneScript>,
        took: Duration,
        frame: &[u8],
    ) {
        let more = scripts.len() - 1;
        self.batch.more.set(self.batch.more.get() - more);
        // Nothing was executed because of one key, as the user's rights have changed, or somebody divides the keys behind its back.
        if more > 0 && [&b"-NOPERM"[..], b"-CROSSSLOT"].iter().any(|refusal| frame.starts_with(refusal)) {
            self.batch.takes.set(Takes::No);
            return scripts.into_iter().for_each(OneScript::send_again);
        }
        // The first one was counted as the request.
        (0..more).for_each(|_| worker.metrics.latency(Group::State, took));
        OneScript::answered_batch(scripts, self, frame);
    }
}
