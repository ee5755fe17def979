//! PRESENCE commands of several scripts, and the entries that the daemon keeps for a connection (BIND): it beats for them,
//! and leaves for them when the connection is over.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use super::Session;
use super::plans::presence_ttl_ms;
use super::scripted::{Runner, random};
use crate::clock::Moment;
use crate::resp;
use crate::state::presence::hints::{self, Hint};
use crate::state::presence::{self, Beat, Cause, Entry, Join, Left};
use crate::state::{Reply, understood};
use crate::upstream::Failure;

/// An entry that was joined with BIND.
pub(super) struct Bound {
    join: Join,
    runner: Runner,
    /// The connection left, or joined again elsewhere.
    over: Cell<bool>,
}

/// Between repetitions of a leave that was not answered.
const REPEAT: Duration = Duration::from_millis(200);
const REPEATS_MAX: u32 = 50;

impl Runner {
    pub(super) async fn join(&self, join: Join) -> Result<Vec<u8>, Failure> {
        let frame = self.join_once(&join).await?;
        if !frame.starts_with(b"-") {
            self.keep_entry(&join);
        }
        let mut out = Vec::new();
        Reply::Fields(&["first", "users", "seq"]).convert(&frame, self.resp3, &mut out);
        Ok(out)
    }

    async fn join_once(&self, join: &Join) -> Result<Vec<u8>, Failure> {
        let ttl_ms = presence_ttl_ms(&self.worker);
        let began = Moment::now();
        let mut again = false;
        for call in join.hints(&self.naming, ttl_ms) {
            let frame = self.call(&call).await?;
            match hints::again(&frame) {
                Ok(wanted) => again |= wanted,
                Err(_) => return Ok(frame.to_vec()),
            }
        }
        let binding = self.session.binding_for(join);
        let frame = self.call(&join.call(&self.naming, ttl_ms, &binding)).await?;
        if again || Moment::now().since(began) > hints::SAFE {
            for call in join.hints(&self.naming, ttl_ms) {
                self.call(&call).await?;
            }
        }
        Ok(frame.to_vec())
    }

    /// Beats for the entry from now on.
    pub(super) fn keep_entry(&self, join: &Join) {
        if !join.bind {
            return;
        }
        let bound = Rc::new(Bound { join: join.clone(), runner: self.clone(), over: Cell::new(false) });
        if self.session.is_gone() {
            let entries = HashMap::from([(join.entry.clone(), bound)]);
            tokio::task::spawn_local(leave_bound(self.session.binding_for(join), entries));
            return;
        }
        let before = self.session.upheld.borrow_mut().entries.insert(join.entry.clone(), bound.clone());
        if let Some(before) = before {
            before.over.set(true);
        }
        tokio::task::spawn_local(keep_up(bound));
    }

    /// LEAVE was answered: its hints lead nowhere any more.
    pub(super) fn left(&self, entry: Entry, frame: &[u8]) {
        if let Some(bound) = self.session.upheld.borrow_mut().entries.remove(&entry) {
            bound.over.set(true);
        }
        let value = understood(frame).ok();
        let last = value.as_ref().and_then(|v| v.elements()?.first()?.int()) == Some(1);
        self.forget_hints(entry, last);
    }

    fn forget_hints(&self, entry: Entry, last: bool) {
        let mut hints = Vec::new();
        if last {
            hints.push(Hint::User { user: entry.user.clone(), channel: entry.channel.clone() });
        }
        hints.push(Hint::Connection(entry));
        self.call_aside(Hint::forget(&self.naming, &hints, Duration::ZERO));
    }

    pub(super) async fn leave_all(&self, connection: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let frame = self.call(&hints::of_connection(&self.naming, &connection)).await?;
        let Ok(entries) = hints::entries_of_connection(&connection, &frame) else {
            return Ok(frame.to_vec());
        };
        let mut count = 0;
        for entry in entries {
            if let Some(bound) = self.session.upheld.borrow_mut().entries.remove(&entry) {
                bound.over.set(true);
            }
            let frame = self.call(&entry.left(&self.naming, Cause::Client, b"")).await?;
            let Ok(left) = Left::parse(&frame) else { return Ok(frame.to_vec()) };
            count += i64::from(left.removed);
            self.forget_hints(entry, left.last);
        }
        let mut out = Vec::new();
        resp::integer(&mut out, count);
        Ok(out)
    }

    pub(super) async fn channels(&self, user: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let asked = Moment::now();
        let frame = self.call(&hints::of_user(&self.naming, &user)).await?;
        let Ok(channels) = hints::channels_of_user(&frame) else { return Ok(frame.to_vec()) };
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        for channel in channels {
            let frame = self.call(&presence::present(&self.naming, &channel, &user)).await?;
            match frame.as_ref() {
                b":1\r\n" => found.push(channel),
                frame if frame.starts_with(b"-") => return Ok(frame.to_vec()),
                _ => wrong.push(Hint::User { user: user.clone(), channel }),
            }
        }
        self.call_aside(Hint::forget(&self.naming, &wrong, Moment::now().since(asked)));
        let mut out = Vec::new();
        resp::array_header(&mut out, found.len());
        found.iter().for_each(|channel| resp::bulk(&mut out, channel));
        Ok(out)
    }

    pub(super) async fn beat(&self, entries: Vec<Entry>) -> Result<Vec<u8>, Failure> {
        let beats: Vec<_> = entries.iter().map(|entry| (entry, &b""[..])).collect();
        let mut answers = vec![0; entries.len()];
        for beats in presence::heartbeats(&self.naming, &beats) {
            let frame = self.call(&beats.call).await?;
            let Ok(found) = Beat::parse_all(&frame) else { return Ok(frame.to_vec()) };
            for (place, beat) in beats.places.iter().zip(found) {
                answers[*place] = i64::from(beat == Beat::Refreshed);
            }
        }
        let mut out = Vec::new();
        resp::array_header(&mut out, answers.len());
        answers.iter().for_each(|answer| resp::integer(&mut out, *answer));
        Ok(out)
    }
}

/// Beats for one entry as long as its connection is there; joins again where L2 has forgotten it.
async fn keep_up(bound: Rc<Bound>) {
    let (runner, join) = (&bound.runner, &bound.join);
    let binding = runner.session.binding_for(join);
    let mut hinted = Moment::now();
    loop {
        let ttl_ms = join.ttl_ms(presence_ttl_ms(&runner.worker));
        let pace = Duration::from_millis((ttl_ms / presence::BEATS_PER_TTL).max(1));
        tokio::time::sleep(runner.worker.jitter(pace).min(pace)).await;
        if bound.over.get() || runner.session.is_gone() {
            return;
        }
        let beat = [(&join.entry, &binding[..])];
        let Some(beats) = presence::heartbeats(&runner.naming, &beat).pop() else { return };
        let Ok(frame) = runner.call(&beats.call).await else { continue };
        if bound.over.get() {
            return;
        }
        match Beat::parse_all(&frame).ok().and_then(|beats| beats.first().copied()) {
            Some(Beat::Moved) => {
                bound.over.set(true);
                runner.session.upheld.borrow_mut().entries.remove(&join.entry);
                return;
            }
            // A failure now is one beat that is missing.
            Some(Beat::Gone) => drop(runner.join_once(join).await),
            Some(Beat::Refreshed) if Moment::now().since(hinted) > hints::REFRESH => {
                hinted = Moment::now();
                runner.call_aside(join.hints(&runner.naming, ttl_ms));
            }
            _ => {}
        }
    }
}

/// Leaves for the entries of a connection that is over.
pub(super) async fn leave_bound(binding: Vec<u8>, entries: HashMap<Entry, Rc<Bound>>) {
    for (entry, bound) in entries {
        if bound.over.replace(true) {
            continue;
        }
        let runner = &bound.runner;
        for _ in 0..REPEATS_MAX {
            if let Ok(frame) = runner.call(&entry.left(&runner.naming, Cause::Closed, &binding)).await {
                let last = Left::parse(&frame).is_ok_and(|left| left.last);
                runner.forget_hints(entry, last);
                break;
            }
            tokio::time::sleep(REPEAT).await;
        }
    }
}

impl Session {
    /// LEAVEALL took these out.
    pub(super) fn drop_entries_of(&self, connection: &[u8]) {
        self.upheld.borrow_mut().entries.retain(|entry, bound| {
            let stays = entry.connection != connection;
            bound.over.set(bound.over.get() || !stays);
            stays
        });
    }

    /// What ties a JOIN to this connection: empty without BIND.
    pub(super) fn binding_for(&self, join: &Join) -> Vec<u8> {
        if !join.bind {
            return Vec::new();
        }
        let mut upheld = self.upheld.borrow_mut();
        if upheld.binding.is_empty() {
            upheld.binding = crate::state::lock::token_text(&random());
        }
        upheld.binding.clone()
    }
}
