//! Follows the master of a service: hears what the sentinels say and what the one they name says of itself, decides who leads,
//! and moves all links when that changes. Alone in deciding it; everybody else reads `Remote::leader`.
//!
//! Two must agree: the sentinels' word (`ballot`) and the server's own (`role`). An old master that comes back says for
//! seconds that it is one, and an outdated sentinel names it. Who moves, leaves first: L1 and all links of all workers are
//! rid of the old one before anybody may connect to its successor.

mod ballot;
mod conversation;
mod role;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::config::{Address, Sentinels, Target};
use crate::shared::{Errand, Leader, Mail, Remote, Shared};
use ballot::{Ballot, Report, Verdict};
use role::Role;

/// Notes that may wait; who has more to tell waits.
const NOTES_MAX: usize = 64;

/// What the follower is told by those who ask.
enum Note {
    Said(Report),
    Role(Address, Role),
}

/// Follows the master as long as the daemon runs.
pub async fn follow(shared: Arc<Shared>, remote: Arc<Remote>) {
    let Some(sentinels) = remote.target.sentinels().cloned() else { return };
    let (notes, mut told) = mpsc::channel(NOTES_MAX);
    let (subject, subjects) = watch::channel(None);
    tokio::spawn(role::examine(shared.clone(), remote.clone(), subjects, notes.clone()));
    let mut follower = Follower {
        ballot: Ballot::new(&sentinels),
        sentinels: Arc::new(sentinels),
        named: None,
        last: None,
        subject,
        notes,
        asked: HashMap::new(),
        shared,
        remote,
    };
    follower.sentinels.clone().addresses.iter().for_each(|address| follower.ask(address));
    while let Some(note) = told.recv().await {
        match note {
            Note::Said(report) => follower.hear(report).await,
            Note::Role(address, role) => follower.examined(&address, role).await,
        }
    }
}

struct Follower {
    shared: Arc<Shared>,
    remote: Arc<Remote>,
    sentinels: Arc<Sentinels>,
    ballot: Ballot,
    /// Whom the sentinels name, and nobody is replacing.
    named: Option<Address>,
    /// Who led last.
    last: Option<Address>,
    /// Who is asked for his role.
    subject: watch::Sender<Option<(Address, Arc<Target>)>>,
    notes: mpsc::Sender<Note>,
    asked: HashMap<Address, AbortHandle>,
}

impl Follower {
    /// Begins to talk with a sentinel.
    fn ask(&mut self, address: &Address) {
        let talk = conversation::talk(
            self.shared.clone(),
            self.remote.clone(),
            self.sentinels.clone(),
            address.clone(),
            self.notes.clone(),
        );
        self.asked.insert(address.clone(), tokio::spawn(talk).abort_handle());
    }

    async fn hear(&mut self, report: Report) {
        let heard = self.ballot.hear(report);
        for address in &heard.twice {
            if let Some(talk) = self.asked.remove(address) {
                talk.abort();
            }
        }
        for address in &heard.further {
            tracing::debug!(%address, "{}: a further sentinel", self.sentinels.service);
            self.ask(address);
        }
        match self.ballot.verdict() {
            Verdict::Early => {}
            Verdict::Named(address) => self.hear_of(address).await,
            Verdict::Replaced(address) => {
                self.named = None;
                self.subject.send_replace(None);
                self.leave(format!("{address} is being replaced")).await;
            }
            // Whoever leads goes on without them.
            Verdict::Unknown(reason) if self.named.is_none() => self.leave(reason).await,
            Verdict::Unknown(_) => {}
        }
    }

    /// The sentinels name this one.
    async fn hear_of(&mut self, address: Address) {
        if self.named.as_ref() == Some(&address) {
            return;
        }
        if !matches!(self.remote.leader.now(), Leader::Nobody(_)) {
            self.move_to(Leader::Soon).await;
        }
        let target = Arc::new(self.remote.target.at(&address));
        self.subject.send_replace(Some((address.clone(), target)));
        self.named = Some(address);
    }

    /// What the one they name says of itself.
    async fn examined(&mut self, address: &Address, role: Role) {
        if self.named.as_ref() != Some(address) {
            return;
        }
        let leads = self.remote.leader.is_at(address);
        match role {
            Role::Master if !leads => self.lead(address),
            Role::Replica => self.leave(format!("{address}, which is named, is a replica")).await,
            // Links find out by themselves, and try again.
            Role::Silent(reason) if !leads => self.leave(format!("{address} is named: {reason}")).await,
            Role::Master | Role::Silent(_) => {}
        }
    }

    fn lead(&mut self, address: &Address) {
        let service = &self.sentinels.service;
        match self.last.replace(address.clone()) {
            Some(before) if before != *address => {
                self.remote.leader.count_failover();
                tracing::warn!(master = %address, %before, "{service} has a new master: all links move to it");
            }
            Some(_) => tracing::info!(master = %address, "{service} has its master again"),
            None => tracing::info!(master = %address, "{service} has a master"),
        }
        self.remote.leader.set(Leader::Known(Arc::new(self.remote.target.at(address))));
    }

    /// Nobody leads, for this reason.
    async fn leave(&mut self, reason: String) {
        let reason: Arc<str> = format!("no master of {}: {reason}", self.sentinels.service).into();
        if self.remote.leader.now() == Leader::Nobody(reason.clone()) {
            return;
        }
        if self.ballot.is_hopeless() {
            tracing::error!("{reason}: check {}", self.remote.setting());
        } else {
            tracing::warn!("{reason}");
        }
        self.move_to(Leader::Nobody(reason)).await;
    }

    /// Whoever led does so no more. When this returns, no link to him is left in any worker, and no entry that he filled.
    async fn move_to(&self, leader: Leader) {
        let led = matches!(self.remote.leader.now(), Leader::Known(_));
        self.remote.leader.set(leader);
        if !led {
            return;
        }
        if self.remote.is_l2 {
            self.shared.revoke_leases();
            self.shared.learned.clear();
        }
        let mut left = Vec::new();
        for mailbox in &self.shared.mailboxes {
            let (done, is_done) = oneshot::channel();
            let remote = self.remote.clone();
            let leave: Errand = Box::new(move |worker| {
                worker.leave(&remote);
                let _ = done.send(());
            });
            // A worker that has ended has left.
            if mailbox.send(Mail::Errand(leave)).await.is_ok() {
                left.push(is_done);
            }
        }
        for is_done in left {
            let _ = is_done.await;
        }
    }
}
