//! Callers that wait for keys. The first who came is served first; after the command, transaction or script that changed
//! a key, never within it. What a caller waits for runs again as it was asked, with the key that changed.

use std::collections::{BTreeSet, HashMap, VecDeque};

use bytes::Bytes;

use super::super::caller::Caller;
use super::super::context::{Argv, Context, Handler, Reply, Wait};
use super::super::keys::Keys;
use super::super::keyspace::Keyspace;
use super::{Core, Delivery, Inner};
use crate::resp;

#[derive(Default)]
pub(super) struct Waiters {
    waiting: HashMap<u64, Waiter>,
    /// Tickets in the order of coming.
    by_key: HashMap<(u32, Vec<u8>), VecDeque<u64>>,
    by_caller: HashMap<u64, u64>,
    by_deadline: BTreeSet<(u64, u64)>,
    next_ticket: u64,
}

/// One blocked request.
pub(super) struct Waiter {
    caller: u64,
    db: u32,
    resp3: bool,
    handler: Handler,
    argv: Vec<Vec<u8>>,
    wait: Wait,
}

impl Waiter {
    pub fn new(caller: &Caller, handler: Handler, argv: &Argv<'_>, mut wait: Wait) -> Waiter {
        wait.keys.sort();
        wait.keys.dedup();
        let argv = argv.iter().map(|arg| arg.to_vec()).collect();
        Waiter { caller: caller.id, db: caller.db, resp3: caller.resp3, handler, argv, wait }
    }

    /// Runs the request once more. `None`: there was nothing for it.
    fn serve(&self, keyspace: &mut Keyspace, key: &[u8], now_ms: u64) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let argv: Vec<&[u8]> = self.argv.iter().map(Vec::as_slice).collect();
        let mut caller = Caller { id: self.caller, db: self.db, resp3: self.resp3, ..Caller::default() };
        let mut context = Context {
            keys: Keys { keyspace, db: self.db, now_ms },
            reply: Reply { out: &mut out, resp3: self.resp3 },
            may_block: true,
            woken_by: Some(key),
            wait: None,
            caller: &mut caller,
        };
        match (self.handler)(&mut context, &argv) {
            Ok(()) if context.wait.is_some() => return None,
            Ok(()) => {}
            Err(fault) => {
                out.clear();
                resp::error(&mut out, &fault.0);
            }
        }
        Some(out)
    }
}

impl Waiters {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn holds(&self, caller: u64) -> bool {
        self.by_caller.contains_key(&caller)
    }

    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    pub fn add(&mut self, keyspace: &mut Keyspace, waiter: Waiter) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        for key in &waiter.wait.keys {
            keyspace.wait_for(waiter.db, key);
            self.by_key.entry((waiter.db, key.clone())).or_default().push_back(ticket);
        }
        if let Some(deadline) = waiter.wait.deadline_ms {
            self.by_deadline.insert((deadline, ticket));
        }
        self.by_caller.insert(waiter.caller, ticket);
        self.waiting.insert(ticket, waiter);
    }

    pub fn remove_caller(&mut self, keyspace: &mut Keyspace, caller: u64) -> Option<Waiter> {
        let ticket = *self.by_caller.get(&caller)?;
        self.remove(keyspace, ticket)
    }

    fn remove(&mut self, keyspace: &mut Keyspace, ticket: u64) -> Option<Waiter> {
        let waiter = self.waiting.remove(&ticket)?;
        for key in &waiter.wait.keys {
            keyspace.stop_waiting(waiter.db, key);
            let place = (waiter.db, key.clone());
            if let Some(queue) = self.by_key.get_mut(&place) {
                queue.retain(|other| *other != ticket);
                if queue.is_empty() {
                    self.by_key.remove(&place);
                }
            }
        }
        if let Some(deadline) = waiter.wait.deadline_ms {
            self.by_deadline.remove(&(deadline, ticket));
        }
        self.by_caller.remove(&waiter.caller);
        Some(waiter)
    }
}

impl Core {
    /// Serves those who wait for what has changed, until nothing more changes by it.
    pub fn serve_waiters(&mut self, inner: &Inner, now_us: u64) {
        while self.keyspace.has_ready() {
            for (db, key) in self.keyspace.take_ready() {
                self.serve_key(inner, db, &key, now_us / 1000);
            }
        }
    }

    fn serve_key(&mut self, inner: &Inner, db: u32, key: &[u8], now_ms: u64) {
        let tickets: Vec<u64> = match self.waiters.by_key.get(&(db, key.to_vec())) {
            Some(queue) => queue.iter().copied().collect(),
            None => return,
        };
        for ticket in tickets {
            if !(Keys { keyspace: &mut self.keyspace, db, now_ms }).exists(key) {
                return;
            }
            let Some(waiter) = self.waiters.waiting.get(&ticket) else { continue };
            let Some(reply) = waiter.serve(&mut self.keyspace, key, now_ms) else { continue };
            let caller = waiter.caller;
            self.waiters.remove(&mut self.keyspace, ticket);
            inner.post(Delivery::Unblocked { caller, reply: Bytes::from(reply) });
        }
    }

    /// Ends the waits whose time is up.
    pub fn end_waits(&mut self, inner: &Inner, now_ms: u64) {
        while let Some(&(deadline, ticket)) = self.waiters.by_deadline.first() {
            if deadline > now_ms {
                return;
            }
            if let Some(waiter) = self.waiters.remove(&mut self.keyspace, ticket) {
                end(inner, &waiter, false);
            }
        }
    }

    pub fn end_wait_of(&mut self, inner: &Inner, caller: u64, with_error: bool) -> bool {
        match self.waiters.remove_caller(&mut self.keyspace, caller) {
            Some(waiter) => {
                end(inner, &waiter, with_error);
                true
            }
            None => false,
        }
    }
}

fn end(inner: &Inner, waiter: &Waiter, with_error: bool) {
    let mut reply = Vec::new();
    match with_error {
        true => resp::error(&mut reply, "UNBLOCKED client unblocked via CLIENT UNBLOCK"),
        false => resp::null_array(&mut reply, waiter.resp3),
    }
    inner.post(Delivery::Unblocked { caller: waiter.caller, reply: Bytes::from(reply) });
}
