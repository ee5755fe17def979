//! One stored reply, and how a request is matched with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use triomphe::ThinArc;

use super::{Lease, Stripe};
use crate::clock::Moment;

/// Whose replies these are: never mixed between users, databases or protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    pub user: u32,
    pub db: u32,
    pub resp3: bool,
}

/// A request that may be answered from L1. Canonical: an array request, its name told by `command`.
#[derive(Clone, Copy)]
pub struct RequestId<'a> {
    pub hash: u64,
    pub scope: Scope,
    /// The row of the command table.
    pub command: u16,
    /// The request as it was sent.
    pub wire: &'a [u8],
    /// Where the arguments after the name begin in `wire`.
    pub tail_at: usize,
    /// The hash of its key, and the stripe of that.
    pub key_hash: u64,
    pub stripe: Stripe,
}

impl RequestId<'_> {
    fn tail(&self) -> &[u8] {
        &self.wire[self.tail_at..]
    }
}

/// The key that a request names.
pub fn key_of<'a>(id: &RequestId<'a>) -> &'a [u8] {
    first_argument(&id.wire[id.tail_at..])
}

fn first_argument(tail: &[u8]) -> &[u8] {
    let line_end = memchr::memchr(b'\n', tail).map_or(tail.len(), |at| at + 1);
    let digits = tail.get(1..line_end.saturating_sub(2)).unwrap_or_default();
    let len = std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok()).unwrap_or(0usize);
    tail.get(line_end..line_end + len).unwrap_or_default()
}

/// What an entry is valid by.
#[derive(Clone)]
pub struct Terms {
    /// The key's stamp and the lease's incarnation as read before the request was sent.
    pub stamp: u32,
    pub incarnation: u64,
    pub lease: Arc<Lease>,
    pub deadline: Moment,
    /// How old it may be shown while L2 is away; zero: not at all.
    pub stale_ms_max: u32,
}

/// What an entry knows beside its reply, where that is not what clients get: they are told what follows from it when
/// they ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Derived<'a> {
    /// The key that the reply was made of. The request does not name it.
    pub key: &'a [u8],
    /// When the request was sent.
    pub sent: Moment,
    /// How to read the reply; means something to whoever stored it alone.
    pub kind: u8,
}

const DERIVED_HEAD_LEN: usize = 9;

/// What stands before the bytes of an entry.
pub struct Head {
    pub hash: u64,
    pub key_hash: u64,
    pub scope: Scope,
    pub command: u16,
    hit: AtomicBool,
    pub stripe: Stripe,
    tail_at: u32,
    wire_len: u32,
    reply_at: u32,
    pub terms: Terms,
}

/// A stored reply: one allocation of its terms, its request's wire form and the reply. Cloning shares it.
#[derive(Clone)]
pub struct Entry(ThinArc<Head, u8>);

impl std::ops::Deref for Entry {
    type Target = Head;
    #[inline]
    fn deref(&self) -> &Head {
        &self.0.header.header
    }
}

/// Memory that an entry takes beside its bytes, in moka and here.
const OVERHEAD_BYTES: usize = 200;

impl Entry {
    /// `reply` is copied: a slice of a read buffer would keep the whole buffer alive.
    pub fn new(id: &RequestId<'_>, reply: &[u8], terms: Terms) -> Entry {
        Entry::with_parts(id, [&[], &[], &[]], reply, terms)
    }

    /// One whose reply is not what clients get.
    pub fn derived(id: &RequestId<'_>, derived: Derived<'_>, reply: &[u8], terms: Terms) -> Entry {
        let sent = derived.sent.0.to_le_bytes();
        Entry::with_parts(id, [&[derived.kind], &sent, derived.key], reply, terms)
    }

    fn with_parts(id: &RequestId<'_>, derived: [&[u8]; 3], reply: &[u8], terms: Terms) -> Entry {
        let bytes = [id.wire, derived[0], derived[1], derived[2], reply].concat();
        let head = Head {
            hash: id.hash,
            key_hash: id.key_hash,
            scope: id.scope,
            command: id.command,
            hit: AtomicBool::new(false),
            stripe: id.stripe,
            tail_at: id.tail_at as u32,
            wire_len: id.wire.len() as u32,
            reply_at: (bytes.len() - reply.len()) as u32,
            terms,
        };
        Entry(ThinArc::from_header_and_slice(head, &bytes))
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.0.slice
    }

    #[inline]
    pub fn reply(&self) -> &[u8] {
        &self.bytes()[self.reply_at as usize..]
    }

    /// Reads its head, and the first, the middle and the last of its bytes. What it gives means nothing.
    #[inline]
    pub fn prefetch(&self) -> u64 {
        let bytes = self.bytes();
        let at = |at: usize| u64::from(bytes.get(at).copied().unwrap_or(0));
        self.hash ^ at(0) ^ at(bytes.len() / 2) ^ at(bytes.len().wrapping_sub(1))
    }

    pub fn wire(&self) -> &[u8] {
        &self.bytes()[..self.wire_len as usize]
    }

    #[inline]
    pub fn as_derived(&self) -> Option<Derived<'_>> {
        let (head, key) = self.bytes()[self.wire_len as usize..self.reply_at as usize]
            .split_first_chunk::<DERIVED_HEAD_LEN>()?;
        let &[kind, ref sent @ ..] = head;
        Some(Derived { key, sent: Moment(u64::from_le_bytes(*sent)), kind })
    }

    /// The key: unless it is derived, the first argument after the name.
    pub fn key(&self) -> &[u8] {
        match self.as_derived() {
            Some(derived) => derived.key,
            None => first_argument(&self.wire()[self.tail_at as usize..]),
        }
    }

    pub fn id(&self) -> RequestId<'_> {
        RequestId {
            hash: self.hash,
            scope: self.scope,
            command: self.command,
            wire: self.wire(),
            tail_at: self.tail_at as usize,
            key_hash: self.key_hash,
            stripe: self.stripe,
        }
    }

    #[inline]
    pub fn answers(&self, id: &RequestId<'_>) -> bool {
        self.hash == id.hash
            && self.scope == id.scope
            && self.command == id.command
            && self.wire()[self.tail_at as usize..] == *id.tail()
    }

    #[inline]
    pub fn mark_hit(&self) {
        if !self.hit.load(Relaxed) {
            self.hit.store(true, Relaxed);
        }
    }
    pub fn was_hit(&self) -> bool {
        self.hit.load(Relaxed)
    }
    pub fn take_hit(&self) -> bool {
        self.hit.swap(false, Relaxed)
    }

    pub fn weight(&self) -> u32 {
        (self.bytes().len() + OVERHEAD_BYTES).min(u32::MAX as usize) as u32
    }
}
