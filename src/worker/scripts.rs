//! Runs the scripts of shared-state commands over links: by digest where the link has carried the text before, with the
//! text otherwise, so that what is sent on one link stays in order.

use std::rc::Rc;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::{Home, Worker};
use crate::cache::{Stripe, StripeSet};
use crate::command::Group;
use crate::memory::{Caller, Engine};
use crate::resp;
use crate::state::{Call, Known};
use crate::upstream::{Detour, Expect, Failure, Link, LinkSet, Way};

/// The lowest bits of a caller's number are its worker's.
pub const CALLER_WORKER_BITS: u32 = 16;

/// Where the reply of a script comes.
type Replied = oneshot::Receiver<Result<Bytes, Failure>>;

fn run(engine: &Engine, caller: &mut Caller, call: &Call) -> Bytes {
    let mut out = Vec::new();
    call.with_argv(Known::Yes, |argv| engine.execute(caller, argv, &mut out));
    if is_unknown_script(&out) {
        out.clear();
        call.with_argv(Known::No, |argv| engine.execute(caller, argv, &mut out));
    }
    out.into()
}

impl Worker {
    /// The stripes of the keys that a script may write.
    pub fn stripes_of(&self, call: &Call) -> StripeSet {
        let Some(cache) = &self.shared.cache else { return StripeSet::None };
        if !call.script.writes() {
            return StripeSet::None;
        }
        if call.script.finds_keys {
            return StripeSet::Unknown;
        }
        let stripes: SmallVec<[Stripe; 4]> =
            call.keys().map(|key| cache.stamps.stripe(self.shared.hash(key))).collect();
        StripeSet::from_slice(&stripes)
    }

    /// Whether L2 knows a script by its digest, behind whatever was sent on this link; the next time it does.
    pub fn knows_script(link: &Link, call: &Call) -> Known {
        if link.has_carried(call.script.name) { Known::Yes } else { Known::No }
    }

    /// By which number the engine knows a session: it says whose worker to tell.
    pub fn caller_id(&self, session: u64) -> u64 {
        session << CALLER_WORKER_BITS | u64::from(self.id)
    }

    /// Runs a script on the embedded engine.
    pub fn call_embedded(&self, engine: &Engine, db: u32, call: &Call) -> Bytes {
        let mut caller = self.script_caller.borrow_mut();
        let caller = caller.get_or_insert_with(|| engine.attach(u64::MAX));
        caller.db = db;
        run(engine, caller, call)
    }

    /// Runs a script about a limit on what this daemon counts by itself.
    pub fn count_here(&self, db: u32, call: &Call) -> Bytes {
        let engine = self.shared.limits_here();
        let mut caller = engine.connect(u64::MAX);
        caller.db = db % crate::shared::LIMIT_DATABASES;
        let frame = run(engine, &mut caller, call);
        engine.disconnect(&mut caller);
        frame
    }

    /// Publishes in L2 what an engine beside it has to tell.
    pub fn publish_in_l2(self: &Rc<Self>, wire: &[u8]) {
        self.publish(&Home::Redis(self.upstream.own_set()), wire);
    }

    /// Publishes over a shared link, or here.
    pub fn publish(self: &Rc<Self>, home: &Home, wire: &[u8]) {
        match home {
            Home::Engine { engine, .. } => {
                let Some(words) = resp::array_elements(wire) else { return };
                let argv: Vec<&[u8]> = words.into_iter().filter_map(resp::bulk_text).collect();
                let mut caller = self.script_caller.borrow_mut();
                engine.execute(caller.get_or_insert_with(|| engine.attach(u64::MAX)), &argv, &mut Vec::new());
            }
            Home::Masters(sets) => {
                for link in sets.iter().filter_map(|links| links.script(self, false).ok()) {
                    link.send(self, wire, Expect::Nobody, Group::State);
                }
            }
            Home::Redis(links) => {
                // Who listens asks for the state where an event is missed.
                let Ok(link) = links.plain(self, false) else { return };
                link.send(self, wire, Expect::Nobody, Group::State);
            }
        }
    }

    /// Runs a script where its kind lives, and waits for its reply. Before it is handed over, L1 shows nothing from before
    /// the script any more.
    pub async fn call(self: &Rc<Self>, home: &Home, call: &Call) -> Result<Bytes, Failure> {
        self.call_telling(home, call, &|_| {}).await
    }

    /// The same; `sent` learns where in the sessions' Redis it goes.
    pub async fn call_telling(
        self: &Rc<Self>,
        home: &Home,
        call: &Call,
        sent: &dyn Fn(&Rc<Link>),
    ) -> Result<Bytes, Failure> {
        let links = match home {
            Home::Engine { engine, db } => return Ok(self.call_embedded(engine, *db, call)),
            Home::Masters(sets) => return self.call_masters(sets, call).await,
            Home::Redis(links) => links,
        };
        let writes = if links.upstream.remote.is_cached { self.stripes_of(call) } else { StripeSet::None };
        let outcome = self.call_where_it_is_served(links, call, sent).await;
        match writes.is_unknown() {
            true => self.barrier().await,
            false => self.bump(&writes),
        }
        outcome
    }

    /// In a cluster the node may have changed, or may not know the script: then nothing was executed, and it is called
    /// again.
    async fn call_where_it_is_served(
        self: &Rc<Self>,
        links: &Rc<LinkSet>,
        call: &Call,
        sent: &dyn Fn(&Rc<Link>),
    ) -> Result<Bytes, Failure> {
        let mut detour = Detour::new(self.now());
        let mut with_text = false;
        loop {
            let link = detour.links(self, links, call.slot())?.plain(self, false)?;
            if links.upstream.remote.is_l2 {
                sent(&link);
            }
            detour.ask(self, &link);
            let known = with_text.then_some(Known::No);
            let frame = self.reply_of(&link, call, known).await?;
            if is_unknown_script(&frame) && !with_text {
                with_text = true;
                continue;
            }
            match detour.follows_script(self, &link, call.script.finds_keys, &frame) {
                Way::Stands => return Ok(frame),
                Way::Ends(last_word) => return Ok(last_word),
                Way::Elsewhere(pause, _) => tokio::time::sleep(pause).await,
            }
        }
    }

    /// Sends a script behind whatever was sent on this link.
    pub fn send_script(self: &Rc<Self>, link: &Rc<Link>, call: &Call) -> Replied {
        self.send_for_reply(link, call, None)
    }

    /// Without `known` as the link knows it, when everything before it has been queued.
    fn send_for_reply(self: &Rc<Self>, link: &Rc<Link>, call: &Call, known: Option<Known>) -> Replied {
        let (to, reply) = oneshot::channel();
        let encode = |_: &_, out: &mut Vec<u8>| {
            call.append_to(known.unwrap_or_else(|| Worker::knows_script(link, call)), out);
        };
        link.send_with(self, to, encode, Expect::Script, Group::State);
        reply
    }

    pub(super) async fn reply_of(
        self: &Rc<Self>,
        link: &Rc<Link>,
        call: &Call,
        known: Option<Known>,
    ) -> Result<Bytes, Failure> {
        self.send_for_reply(link, call, known).await.unwrap_or(Err(Failure::Unknown))
    }
}

/// L2 has lost the text of a script that it had: it must be sent again.
pub fn is_unknown_script(frame: &[u8]) -> bool {
    frame.starts_with(b"-NOSCRIPT")
}
