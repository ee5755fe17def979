//! Runs the scripts of shared-state commands over links: by digest where the link has carried the text before, with the
//! text otherwise, so that what is sent on one link stays in order.

use std::rc::Rc;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::Worker;
use crate::cache::{Stripe, StripeSet};
use crate::command::Group;
use crate::memory::Engine;
use crate::resp;
use crate::state::{Call, Known};
use crate::upstream::{Expect, Failure, Link, LinkSet};

/// The lowest bits of a caller's number are its worker's.
pub const CALLER_WORKER_BITS: u32 = 16;

impl Worker {
    /// The stripes of the keys that a script may write.
    pub fn stripes_of(&self, call: &Call) -> StripeSet {
        let Some(cache) = &self.shared.cache else { return StripeSet::None };
        if !call.script.writes() {
            return StripeSet::None;
        }
        // Some reach other sessions of a user by an index.
        if call.script.name.starts_with("session_") {
            return StripeSet::Unknown;
        }
        let stripes: SmallVec<[Stripe; 4]> =
            call.keys.iter().map(|key| cache.stamps.stripe(self.shared.hash(key))).collect();
        StripeSet::from_slice(&stripes)
    }

    /// The request that runs a script behind whatever was sent on this link.
    pub fn script_request(link: &Link, call: &Call) -> Vec<u8> {
        if link.has_carried(call.script.name) { call.evalsha() } else { call.eval() }
    }

    /// By which number the engine knows a session: it says whose worker to tell.
    pub fn caller_id(&self, session: u64) -> u64 {
        session << CALLER_WORKER_BITS | u64::from(self.id)
    }

    /// Runs a script on the embedded engine.
    pub fn call_embedded(&self, engine: &Engine, db: u32, call: &Call) -> Bytes {
        let mut caller = self.script_caller.borrow_mut();
        let caller = caller.get_or_insert_with(|| engine.connect(u64::MAX));
        caller.db = db;
        let mut out = Vec::new();
        call.with_argv(Known::Yes, |argv| engine.execute(caller, argv, &mut out));
        if is_unknown_script(&out) {
            out.clear();
            call.with_argv(Known::No, |argv| engine.execute(caller, argv, &mut out));
        }
        out.into()
    }

    /// Publishes over a shared link, or here.
    pub fn publish(self: &Rc<Self>, links: &Rc<LinkSet>, wire: &[u8]) {
        if let Some(engine) = &self.shared.engine {
            let Some(words) = resp::array_elements(wire) else { return };
            let argv: Vec<&[u8]> = words.into_iter().filter_map(resp::bulk_text).collect();
            let mut caller = self.script_caller.borrow_mut();
            engine.execute(caller.get_or_insert_with(|| engine.connect(u64::MAX)), &argv, &mut Vec::new());
        } else if let Ok(link) = links.plain(self, false) {
            link.send(self, wire, Expect::Nobody, Group::State);
        }
    }

    /// Sends a script over a shared link and waits for its reply. Before it is handed over, L1 shows nothing from before
    /// the script any more.
    pub async fn call(self: &Rc<Self>, links: &Rc<LinkSet>, call: &Call) -> Result<Bytes, Failure> {
        if let Some(engine) = &self.shared.engine {
            return Ok(self.call_embedded(engine, links.db, call));
        }
        let writes = self.stripes_of(call);
        let link = links.plain(self, false)?;
        let mut outcome = self.reply_of(&link, &Worker::script_request(&link, call)).await;
        // Somebody flushed L2's scripts: nothing was executed.
        if outcome.as_ref().is_ok_and(|frame| is_unknown_script(frame)) {
            outcome = self.reply_of(&links.plain(self, false)?, &call.eval()).await;
        }
        match writes.is_unknown() {
            true => self.barrier().await,
            false => self.bump(&writes),
        }
        outcome
    }

    async fn reply_of(self: &Rc<Self>, link: &Rc<Link>, request: &[u8]) -> Result<Bytes, Failure> {
        let (to, reply) = oneshot::channel();
        link.send(self, request, Expect::Script(to), Group::State);
        reply.await.unwrap_or(Err(Failure::Unknown))
    }
}

/// L2 has lost the text of a script that it had: it must be sent again.
pub fn is_unknown_script(frame: &[u8]) -> bool {
    frame.starts_with(b"-NOSCRIPT")
}
