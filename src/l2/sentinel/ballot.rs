//! What the sentinels of a service say, and what follows from it. Asks nobody.
//!
//! The newest word counts, and not the most voices: a failover gives its master a greater configuration epoch, once a
//! majority of the sentinels has agreed, and a sentinel that was cut off keeps to an older one. Where sentinels contradict
//! each other within one epoch, as two that were set up by hand may, most voices decide.

use std::collections::HashMap;

use crate::config::{Address, Sentinels};

/// Sentinels that are asked, at most; who knows of more is not believed.
const ASKED_MAX: usize = 64;

/// What became of a question to one sentinel.
pub(super) struct Report {
    pub from: Address,
    pub said: Result<Vote, Silence>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vote {
    /// The sentinel's own name, the same under each of its addresses; empty where it does not say.
    pub id: String,
    pub master: Address,
    pub epoch: u64,
    /// It is about to promote another one.
    pub is_replacing: bool,
    /// Others that it knows, with their names. None: it was not asked this time.
    pub others: Vec<(Address, String)>,
}

/// Why a sentinel says nothing of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// It knows no such service.
    NoService,
    /// It lets us not ask.
    Refused(String),
    Away(String),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Too few have been heard to say anything.
    Early,
    Named(Address),
    /// This one is named, and about to be replaced.
    Replaced(Address),
    /// Nobody says anything that counts.
    Unknown(String),
}

/// What is to be done after a report.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// Sentinels to be asked too.
    pub further: Vec<Address>,
    /// Addresses of a sentinel that is asked under another one.
    pub twice: Vec<Address>,
}

pub(super) struct Ballot {
    service: String,
    /// Everybody who is asked, in the order in which they became known; None before the first answer.
    said: Vec<(Address, Option<Result<Vote, Silence>>)>,
    /// Who each of them is, kept while it is silent.
    ids: HashMap<Address, String>,
    /// The newest epoch that was followed.
    newest: u64,
}

impl Ballot {
    pub(super) fn new(sentinels: &Sentinels) -> Ballot {
        Ballot {
            service: sentinels.service.clone(),
            said: sentinels.addresses.iter().map(|address| (address.clone(), None)).collect(),
            ids: HashMap::new(),
            newest: 0,
        }
    }

    pub(super) fn hear(&mut self, report: Report) -> Heard {
        let mut heard = Heard::default();
        if !self.said.iter().any(|(address, _)| *address == report.from) {
            return heard;
        }
        if let Ok(vote) = &report.said {
            if let Some(other) = self.other_address_of(&report.from, &vote.id) {
                // Sentinels tell of addresses that may lead nowhere from here: the one that answers is kept.
                let dropped = if self.answers(&other) { report.from.clone() } else { other };
                self.said.retain(|(address, _)| *address != dropped);
                self.ids.remove(&dropped);
                heard.twice.push(dropped.clone());
                if dropped == report.from {
                    return heard;
                }
            }
            self.ids.insert(report.from.clone(), vote.id.clone());
            for (address, id) in &vote.others {
                if !self.is_known(address, id) && self.said.len() < ASKED_MAX {
                    self.ids.insert(address.clone(), id.clone());
                    self.said.push((address.clone(), None));
                    heard.further.push(address.clone());
                }
            }
        }
        if let Some((_, said)) = self.said.iter_mut().find(|(address, _)| *address == report.from) {
            *said = Some(report.said);
        }
        heard
    }

    fn other_address_of(&self, from: &Address, id: &str) -> Option<Address> {
        let mut same =
            self.ids.iter().filter(|(address, known)| *address != from && !id.is_empty() && *known == id);
        same.next().map(|(address, _)| address.clone())
    }

    fn answers(&self, address: &Address) -> bool {
        self.said.iter().any(|(known, said)| known == address && matches!(said, Some(Ok(_))))
    }

    /// Whether this sentinel is asked, there or at another address that has not failed.
    fn is_known(&self, address: &Address, id: &str) -> bool {
        self.said.iter().any(|(known, said)| {
            let is_same = self.ids.get(known).is_some_and(|known| known == id);
            known == address || is_same && !matches!(said, Some(Err(_)))
        })
    }

    fn votes(&self) -> impl Iterator<Item = &Vote> {
        self.said.iter().filter_map(|(_, said)| said.as_ref()?.as_ref().ok())
    }

    fn is_majority(&self, count: usize) -> bool {
        count * 2 > self.said.len()
    }

    pub(super) fn verdict(&mut self) -> Verdict {
        let answered = self.votes().count();
        let all_were_asked = self.said.iter().all(|(_, said)| said.is_some());
        if !all_were_asked && !self.is_majority(answered) {
            return Verdict::Early;
        }
        let Some(epoch) = self.votes().map(|vote| vote.epoch).max() else {
            return Verdict::Unknown(self.silence());
        };
        // Sentinels that were set up anew begin again; a single one is just outdated.
        if epoch < self.newest && !self.is_majority(answered) {
            return Verdict::Unknown("the sentinels that answer tell of an older one".into());
        }
        self.newest = epoch;
        let mut voices: HashMap<&Address, usize> = HashMap::new();
        for vote in self.votes().filter(|vote| vote.epoch == epoch) {
            *voices.entry(&vote.master).or_default() += 1;
        }
        let most = voices.values().copied().max().unwrap_or(0);
        let newest = || self.votes().filter(|vote| vote.epoch == epoch);
        let Some(master) = newest().map(|vote| &vote.master).find(|master| voices[master] == most) else {
            return Verdict::Unknown(self.silence());
        };
        match newest().any(|vote| vote.master == *master && vote.is_replacing) {
            true => Verdict::Replaced(master.clone()),
            false => Verdict::Named(master.clone()),
        }
    }

    /// Nobody can be asked until somebody corrects the configuration.
    pub(super) fn is_hopeless(&self) -> bool {
        let refuses = |silence: &Silence| matches!(silence, Silence::NoService | Silence::Refused(_));
        self.votes().next().is_none() && self.silences().any(|(_, silence)| refuses(silence))
    }

    fn silences(&self) -> impl Iterator<Item = (&Address, &Silence)> {
        self.said.iter().filter_map(|(address, said)| Some((address, said.as_ref()?.as_ref().err()?)))
    }

    /// Why nobody says anything: what can be corrected first.
    fn silence(&self) -> String {
        let service = &self.service;
        let refused = self.silences().find(|(_, silence)| matches!(silence, Silence::Refused(_)));
        let unknown = self.silences().find(|(_, silence)| **silence == Silence::NoService);
        match unknown.or(refused).or_else(|| self.silences().next()) {
            Some((address, Silence::NoService)) => {
                format!("the sentinel at {address} knows no service called {service}")
            }
            Some((address, Silence::Refused(reason))) => {
                format!("the sentinel at {address} refuses to be asked: {reason}")
            }
            Some((address, Silence::Away(reason))) => {
                format!("no sentinel answers, the one at {address} for this reason: {reason}")
            }
            None => "no sentinel was asked yet".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Address {
        Address { host: "h".into(), port }
    }

    fn ballot(ports: &[u16]) -> Ballot {
        Ballot::new(&Sentinels {
            service: "m".into(),
            addresses: ports.iter().map(|port| address(*port)).collect(),
            username: None,
            password: None,
        })
    }

    fn vote(from: u16, master: u16, epoch: u64) -> Report {
        let id = format!("id{from}");
        let vote = Vote { id, master: address(master), epoch, is_replacing: false, others: Vec::new() };
        Report { from: address(from), said: Ok(vote) }
    }

    fn silent(from: u16, silence: Silence) -> Report {
        Report { from: address(from), said: Err(silence) }
    }

    fn away(from: u16) -> Report {
        silent(from, Silence::Away("gone".into()))
    }

    fn after(ballot: &mut Ballot, report: Report) -> Verdict {
        ballot.hear(report);
        ballot.verdict()
    }

    #[test]
    fn nobody_is_named_before_a_majority_or_all_have_been_heard() {
        let mut three = ballot(&[1, 2, 3]);
        assert_eq!(after(&mut three, vote(1, 7, 0)), Verdict::Early);
        assert_eq!(after(&mut three, vote(2, 7, 0)), Verdict::Named(address(7)));
        let mut three = ballot(&[1, 2, 3]);
        assert_eq!(after(&mut three, away(3)), Verdict::Early);
        assert_eq!(after(&mut three, away(1)), Verdict::Early);
        assert_eq!(after(&mut three, vote(2, 7, 0)), Verdict::Named(address(7)));
    }

    #[test]
    fn the_newest_epoch_counts_whoever_tells_of_it() {
        let mut three = ballot(&[1, 2, 3]);
        after(&mut three, vote(1, 7, 4));
        assert_eq!(after(&mut three, vote(2, 7, 4)), Verdict::Named(address(7)));
        assert_eq!(after(&mut three, vote(3, 8, 5)), Verdict::Named(address(8)));
        // It has died before it told anybody: the others go on as if nothing had been.
        assert_eq!(after(&mut three, away(3)), Verdict::Named(address(7)));
    }

    #[test]
    fn an_outdated_sentinel_changes_nothing() {
        let mut three = ballot(&[1, 2, 3]);
        after(&mut three, vote(1, 7, 3));
        assert_eq!(after(&mut three, vote(2, 8, 5)), Verdict::Named(address(8)));
        assert_eq!(after(&mut three, vote(3, 8, 5)), Verdict::Named(address(8)));
        assert_eq!(after(&mut three, away(2)), Verdict::Named(address(8)));
        assert!(matches!(after(&mut three, away(3)), Verdict::Unknown(_)), "it is the only one left");
    }

    #[test]
    fn sentinels_that_begin_again_are_believed_together() {
        let mut three = ballot(&[1, 2, 3]);
        (1..=3).for_each(|from| drop(three.hear(vote(from, 7, 9))));
        assert_eq!(three.verdict(), Verdict::Named(address(7)));
        (1..=3).for_each(|from| drop(three.hear(away(from))));
        assert!(matches!(after(&mut three, vote(1, 8, 0)), Verdict::Unknown(_)));
        assert_eq!(after(&mut three, vote(2, 8, 0)), Verdict::Named(address(8)));
    }

    #[test]
    fn within_one_epoch_most_voices_count() {
        let mut three = ballot(&[1, 2, 3]);
        after(&mut three, vote(1, 7, 0));
        after(&mut three, vote(2, 8, 0));
        assert_eq!(after(&mut three, vote(3, 8, 0)), Verdict::Named(address(8)));
    }

    #[test]
    fn one_who_is_being_replaced_is_not_used() {
        let mut three = ballot(&[1, 2, 3]);
        after(&mut three, vote(1, 7, 0));
        after(&mut three, vote(2, 7, 0));
        let replacing = |is_replacing| {
            let mut report = vote(3, 7, 0);
            if let Ok(vote) = &mut report.said {
                vote.is_replacing = is_replacing;
            }
            report
        };
        assert_eq!(after(&mut three, replacing(true)), Verdict::Replaced(address(7)));
        assert_eq!(after(&mut three, replacing(false)), Verdict::Named(address(7)));
    }

    #[test]
    fn further_sentinels_are_learned_once_and_nobody_is_asked_twice() {
        let mut ballot = ballot(&[1, 2]);
        let mut report = vote(1, 7, 0);
        if let Ok(vote) = &mut report.said {
            vote.others =
                vec![(address(3), "id3".into()), (address(2), "id2".into()), (address(4), "id3".into())];
        }
        assert_eq!(ballot.hear(report), Heard { further: vec![address(3)], twice: vec![] });
        // The second one is the first by another name.
        let mut report = vote(2, 7, 0);
        if let Ok(vote) = &mut report.said {
            vote.id = "id1".into();
        }
        assert_eq!(ballot.hear(report), Heard { further: vec![], twice: vec![address(2)] });
        assert_eq!(ballot.said.len(), 2);
    }

    #[test]
    fn of_two_addresses_of_one_sentinel_the_one_that_answers_is_kept() {
        let mut ballot = ballot(&[1, 2]);
        let telling = |others: &[(u16, &str)]| {
            let mut report = vote(1, 7, 0);
            if let Ok(vote) = &mut report.said {
                vote.others = others.iter().map(|(port, id)| (address(*port), (*id).into())).collect();
            }
            report
        };
        // As it is called where it runs; we know it by another name.
        assert_eq!(ballot.hear(telling(&[(9, "id2")])).further, [address(9)]);
        ballot.hear(away(9));
        assert_eq!(ballot.hear(vote(2, 7, 0)), Heard { further: vec![], twice: vec![address(9)] });
        assert_eq!(ballot.hear(telling(&[(9, "id2")])), Heard::default());
        // It has moved.
        ballot.hear(away(2));
        assert_eq!(ballot.hear(telling(&[(8, "id2")])).further, [address(8)]);
    }

    #[test]
    fn the_reason_names_what_can_be_corrected() {
        let mut three = ballot(&[1, 2, 3]);
        three.hear(away(1));
        assert!(!three.is_hopeless());
        three.hear(silent(2, Silence::NoService));
        let verdict = after(&mut three, away(3));
        assert_eq!(verdict, Verdict::Unknown("the sentinel at h:2 knows no service called m".into()));
        assert!(three.is_hopeless());
        let verdict = after(&mut three, silent(2, Silence::Refused("NOAUTH".into())));
        assert_eq!(verdict, Verdict::Unknown("the sentinel at h:2 refuses to be asked: NOAUTH".into()));
        three.hear(vote(3, 7, 0));
        assert!(!three.is_hopeless());
    }
}
