//! What a link owes: one record per request that was written or waits to be, in order.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::link::Kept;
use super::redirects::Detour;
use crate::cache::{Flight, StripeSet};
use crate::clock::Moment;
use crate::command::Group;
use crate::session::{OneScript, Session, Turn};

/// Who waits for a reply, and for which of its requests.
#[derive(Clone)]
pub struct Asker {
    pub session: Rc<Session>,
    pub seq: u64,
}

/// What is to be done with a reply.
pub enum Expect {
    /// Hand it over as it is.
    Reply(Asker),
    /// Hand it over, and remember if it is huge.
    Read(Asker, KeyedRead),
    /// The same for MGET and EXISTS: the stripes that it passed by L1 for.
    ReadEach(Asker, Box<[crate::cache::Stripe]>),
    /// Invalidate, then hand it over.
    Write(Asker, StripeSet),
    /// The same for EXEC of a transaction that reads, too.
    Executed(Asker, StripeSet),
    /// Invalidate, then hand it over behind a barrier.
    WriteUnknown(Asker, StripeSet, Aftermath),
    /// Of a command's one script: see what it says.
    OneScript(Box<OneScript>),
    /// The same of several commands whose script runs once for all of them.
    Batch(Vec<OneScript>),
    /// ACL GETUSER of the link's user: whether batches are possible.
    UserRights,
    /// Hand it, or why there is none, to the one who runs a script.
    Script(oneshot::Sender<Result<Bytes, Failure>>),
    /// The session goes on once it has looked at the reply.
    Turn(Asker, Box<Turn>),
    /// SCAN of the node that has this slot as its lowest.
    Scanned(Asker, u16),
    /// Of a MULTI block before a cluster.
    Block(Rc<RefCell<super::Block>>),
    /// INFO: our own section is appended.
    Info(Asker),
    /// COMMAND DOCS and kin: our own commands are put into the reply.
    Described(Asker, Box<crate::command::Asked>),
    /// The value of a fill, and then the time that it has to live.
    FillValue(Box<Fill>),
    FillTtl(Box<Fill>),
    /// MGET or EXISTS with the PTTL of each key behind it.
    FillEach(Box<crate::upstream::FillEach>),
    FillEachTtl,
    /// On a pinned link; see `pinned`.
    Pinned(Asker, Box<crate::upstream::PinnedExpect>),
    /// A barrier's sign of life, or TIME for one that began early.
    Barrier(u64),
    /// TIME behind the writes that a barrier was begun early for.
    Mark(u64),
    /// A barrier's request on behalf of another worker.
    BarrierFor {
        worker: u16,
        round: u64,
    },
    /// Something that the daemon itself asked.
    Internal(oneshot::Sender<Bytes>),
    /// Probes, heartbeats, TOUCH.
    Nobody,
}

impl Expect {
    /// Whether its reply is held until L1 shows nothing from before.
    pub fn waits_for_barrier(&self) -> bool {
        match self {
            Expect::WriteUnknown(_, _, aftermath) => *aftermath == Aftermath::Barrier,
            Expect::OneScript(script) => script.writes_unknown_keys(),
            _ => false,
        }
    }

    /// Who waits for it in a session's queue.
    pub fn asker(&self) -> Option<&Asker> {
        use Expect::{Described, Executed, Info, Pinned, Read, ReadEach, Reply, Turn, Write, WriteUnknown};
        match self {
            Reply(asker) | Read(asker, _) | ReadEach(asker, _) | Write(asker, _) | Executed(asker, _) => {
                Some(asker)
            }
            Expect::Scanned(asker, _) => Some(asker),
            WriteUnknown(asker, ..)
            | Turn(asker, _)
            | Info(asker)
            | Described(asker, _)
            | Pinned(asker, _) => Some(asker),
            _ => None,
        }
    }

    /// Whether the request may have to go to another node of a cluster; those that are not kept for that are sent anew by
    /// whoever asked.
    pub fn may_go_elsewhere(&self) -> bool {
        self.asker().is_some()
    }

    /// Whether a session gets the reply as L2 sends it.
    pub fn is_handed_over(&self) -> bool {
        matches!(
            self,
            Expect::Reply(_)
                | Expect::Read(..)
                | Expect::ReadEach(..)
                | Expect::Write(..)
                | Expect::Executed(..)
                | Expect::WriteUnknown(..)
        )
    }
}

/// Hashes of a read that passes by L1.
#[derive(Clone, Copy, Debug)]
pub struct KeyedRead {
    pub key: u64,
    /// L1 could have answered it.
    pub cacheable: bool,
}

/// What else follows from a write whose keys are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aftermath {
    Barrier,
    /// SWAPDB and ACL changes push nothing, flushes are not waited for: all leases are revoked.
    RevokeLeases,
}

/// A read that will become an entry: the session that leads its flight.
pub struct Fill {
    pub asker: Asker,
    pub flight: Arc<Flight>,
    pub incarnation: u64,
    /// How the reply reads in RESP2, where the session speaks that.
    pub shape: crate::command::Shape,
    pub reply: Vec<u8>,
    /// The reply was an error, too large or not convertible: it is handed over and not kept.
    pub keep: bool,
}

pub struct Pending {
    pub expect: Expect,
    pub sent: Moment,
    /// Where the request begins in everything that was ever queued on the link.
    pub starts_at: u64,
    /// What L2 pushed while it executed the request.
    pub pushed: Option<Box<Vec<u8>>>,
    pub group: Group,
    /// Of a node of a cluster: the request, to be sent to another one if this one does not serve its slot.
    pub kept: Kept,
    /// Where it was sent before.
    pub detour: Option<Box<Detour>>,
}

/// Why a request has no reply.
#[derive(Clone, Debug)]
pub enum Failure {
    /// L2 cannot have seen it.
    NotSent(Rc<str>),
    /// L2 may have executed it.
    Unknown,
    /// L2 refused the link itself with this error line.
    Refused(Bytes),
}

/// One whole reply or push.
pub enum Frame<'a> {
    Borrowed(&'a [u8]),
    /// Large ones are passed on without a copy.
    Owned(Bytes),
}

impl Frame<'_> {
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Frame::Borrowed(bytes) => bytes,
            Frame::Owned(bytes) => bytes,
        }
    }
    pub fn into_bytes(self) -> Bytes {
        match self {
            Frame::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Frame::Owned(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_small() {
        // Thousands are under way, and each is moved in and out: what is rare is boxed.
        assert!(size_of::<Expect>() <= 48, "{}", size_of::<Expect>());
        assert!(size_of::<Pending>() <= 104, "{}", size_of::<Pending>());
    }
}
