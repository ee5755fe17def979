//! Calls of one script that become one request: those that are queued one right behind the other before the link is flushed.

use std::cell::Cell;
use std::rc::Rc;

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

/// Whether a user may use all keys; one who may not would be refused those of others with its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) enum AllKeys {
    NotAsked,
    Asked,
    Yes,
    No,
}

#[derive(Default)]
pub(super) struct Batch {
    /// L2 is up and no node of a cluster: it takes keys of several slots in one request.
    is_taken: Cell<bool>,
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
    pub(super) fn is_open(&self) -> bool {
        self.is_open.get()
    }

    /// The link is up.
    pub(super) fn begin(&self, is_standalone: bool) {
        self.is_taken.set(is_standalone);
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
        let may_join = script.batches() && self.batch.is_taken.get();
        if may_join && self.set.all_keys.get() == AllKeys::NotAsked {
            self.ask_for_all_keys(worker);
        }
        if !may_join || self.set.all_keys.get() != AllKeys::Yes {
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

    fn ask_for_all_keys(self: &Rc<Self>, worker: &Rc<Worker>) {
        self.set.all_keys.set(AllKeys::Asked);
        let ask = resp::encode_request(&[b"ACL", b"GETUSER", self.set.user.name().as_bytes()]);
        self.send(worker, &ask, Expect::UserRights, Group::Other);
    }

    pub(in crate::upstream) fn user_rights(&self, answer: &[u8]) {
        // Busy, for instance: it is asked again.
        if answer.starts_with(b"-") && !answer.starts_with(b"-NOPERM") {
            return self.set.all_keys.set(AllKeys::NotAsked);
        }
        let rights = resp::parse(answer);
        let keys = rights.as_ref().and_then(|rights| rights.field("keys")?.text());
        let all = keys.is_some_and(|keys| keys.split(|byte| *byte == b' ').any(|pattern| pattern == b"~*"));
        self.set.all_keys.set(if all { AllKeys::Yes } else { AllKeys::No });
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
        // An open batch is what was queued last.
        let Some(Pending { expect: Expect::Batch(scripts), .. }) = pending.back() else {
            return self.shutdown();
        };
        let mut out = self.out.borrow_mut();
        out.lend(&mut worker.pool.borrow_mut());
        let before = out.len();
        out.push_with(|out| OneScript::append_batch(scripts, self, out));
        self.queued_bytes.set(self.queued_bytes.get() + (out.len() - before) as u64);
    }

    /// Hands over what the run said of each; `took_ns` is how long the first one waited.
    pub(in crate::upstream) fn batch_reply(
        &self,
        worker: &Worker,
        scripts: Vec<OneScript>,
        took_ns: u64,
        frame: &[u8],
    ) {
        let more = scripts.len() - 1;
        self.batch.more.set(self.batch.more.get() - more);
        // Nothing was executed because of one key.
        if more > 0 && frame.starts_with(b"-NOPERM") {
            self.set.all_keys.set(AllKeys::NotAsked);
            return scripts.into_iter().for_each(OneScript::send_again);
        }
        if more > 0 && frame.starts_with(b"-CROSSSLOT") {
            self.batch.is_taken.set(false);
            return scripts.into_iter().for_each(OneScript::send_again);
        }
        // The first one was counted as the request.
        (0..more).for_each(|_| worker.metrics.latency(Group::State, took_ns));
        OneScript::answered_batch(scripts, self, frame);
    }
}
