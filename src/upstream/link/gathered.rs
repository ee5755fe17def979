//! Calls of one script that become one request: those that are queued one right behind the other before the link is written.

use std::cell::Cell;
use std::rc::Rc;

use super::Link;
use crate::command::Group;
use crate::session::OneScript;
use crate::upstream::pending::{Expect, Pending};
use crate::worker::Worker;

/// A run of more would keep L2 from others for long.
const GATHERED_MAX: usize = 32;

#[derive(Default)]
pub(super) struct Gathering {
    /// The request of what was queued last is not written yet: more may join it.
    is_open: Cell<bool>,
    /// Commands that wait beyond one for each request.
    more: Cell<usize>,
    /// L2 takes keys of several commands at once here.
    is_allowed: Cell<bool>,
}

impl Gathering {
    pub(super) fn more(&self) -> usize {
        self.more.get()
    }
    /// Nodes of a cluster do not take keys of several slots, and who may not use all keys would be refused those of others.
    pub(super) fn allow(&self, is_allowed: bool) {
        self.is_allowed.set(is_allowed);
    }
    /// The link is over.
    pub(super) fn clear(&self) {
        self.is_open.set(false);
        self.more.set(0);
    }
}

impl Link {
    /// Queues a command's one script, with those of others if its script takes them.
    pub fn send_script(self: &Rc<Self>, worker: &Rc<Worker>, script: OneScript) {
        if !script.gathers() || !self.gathering.is_allowed.get() {
            return self.send_with(
                worker,
                Box::new(script),
                |script, out| script.append_to(self, out),
                Expect::OneScript,
                Group::State,
            );
        }
        if self.gathering.is_open.get()
            && let Some(Pending { expect: Expect::Gathered(scripts), .. }) =
                self.pending.borrow_mut().back_mut()
            && scripts.len() < GATHERED_MAX
            && scripts.first().is_some_and(|first| first.goes_with(&script))
        {
            scripts.push(script);
            self.gathering.more.set(self.gathering.more.get() + 1);
            return self.queue(worker, 0);
        }
        self.end_gathering(worker);
        let pending = self.owed(worker, Expect::Gathered(vec![script]), Group::State);
        self.note(worker, 0, pending);
        self.gathering.is_open.set(true);
    }

    /// What was queued last is written as it is; called before anything else is queued or written.
    #[inline]
    pub(super) fn end_gathering(&self, worker: &Worker) {
        if self.gathering.is_open.replace(false) {
            self.encode_gathered(worker);
        }
    }

    fn encode_gathered(&self, worker: &Worker) {
        let pending = self.pending.borrow();
        let Some(Pending { expect: Expect::Gathered(scripts), .. }) = pending.back() else { return };
        let mut out = self.out.borrow_mut();
        out.lend(&mut worker.pool.borrow_mut());
        let before = out.len();
        out.push_with(|out| OneScript::append_together(scripts, self, out));
        self.queued_bytes.set(self.queued_bytes.get() + (out.len() - before) as u64);
    }

    /// Hands over what the run said of each; `took` is how long it took.
    pub(in crate::upstream) fn gathered_reply(
        &self,
        worker: &Worker,
        scripts: Vec<OneScript>,
        took: std::time::Duration,
        frame: &[u8],
    ) {
        let more = scripts.len() - 1;
        self.gathering.more.set(self.gathering.more.get() - more);
        // The first one was counted as the request.
        (0..more).for_each(|_| worker.metrics.latency(Group::State, took));
        // Redis looks at the rights to all keys before it runs anything. What others may not use is not to be suffered again.
        if more > 0 && frame.starts_with(b"-NOPERM") {
            self.gathering.allow(false);
            return scripts.into_iter().for_each(OneScript::send_again);
        }
        OneScript::answered_together(scripts, self, frame);
    }
}
