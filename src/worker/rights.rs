//! Which of the commands that the daemon answers itself an L2 user may run: what L2 said of it (ACL DRYRUN), believed
//! for a short while. Asks nothing itself.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Moment;
use crate::upstream::User;

/// How long a right is believed; an ACL change through the daemon ends that at once.
const BELIEVED: Duration = Duration::from_secs(1);
/// The same for the daemon's own user, whose rights hardly change: its sessions shall not wait for L2 at every turn.
const BELIEVED_OF_OWN: Duration = Duration::from_secs(60);
/// How long L2 is not asked after it refused to tell the daemon's own user.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
const KNOWN_MAX: usize = 4096;

/// A command of a user. SELECT's index counts: rights can be given for one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Asked {
    pub user: u32,
    pub row: u16,
    pub db: u32,
    /// `Shared::rights_version` when it was asked.
    pub version: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Right {
    Granted,
    /// L2 said so just now.
    Denied,
    NotKnown,
}

#[derive(Default)]
pub struct Rights {
    known: RefCell<HashMap<Asked, (Right, Moment)>>,
    refused_until: Cell<Moment>,
}

impl Rights {
    /// A denial is told once: L2 is asked again before the next one, so that nobody is refused for too long.
    pub fn of(&self, asked: Asked, now: Moment) -> Right {
        if now < self.refused_until.get() {
            return Right::Granted;
        }
        self.known(asked, now)
    }

    /// The same where it was found out by trying.
    pub fn known(&self, asked: Asked, now: Moment) -> Right {
        let believed = if asked.user == User::OWN { BELIEVED_OF_OWN } else { BELIEVED };
        let mut known = self.known.borrow_mut();
        match known.get(&asked).copied() {
            Some((Right::Denied, _)) => {
                known.remove(&asked);
                Right::Denied
            }
            Some((right, heard)) if now.since(heard) < believed => right,
            _ => Right::NotKnown,
        }
    }

    /// L2's answer to ACL DRYRUN; `None`: none came. Where L2 does not say no, the daemon does not either.
    pub fn heard(&self, asked: Asked, answer: Option<&[u8]>, now: Moment) {
        let answer = answer.unwrap_or_default();
        let right = if is_denial(answer) { Right::Denied } else { Right::Granted };
        let unable = [&b"-NOPERM"[..], b"-ERR unknown", b"-ERR Unknown"];
        if unable.iter().any(|start| answer.starts_with(start)) {
            self.refused_until.set(now.after(REFUSED_PAUSE));
        }
        self.note(asked, right, now);
    }

    /// What the user got who ran it.
    pub fn ran(&self, asked: Asked, answer: &[u8], now: Moment) {
        let refused = [&b"-NOPERM"[..], b"-NOAUTH"].iter().any(|start| answer.starts_with(start));
        self.note(asked, if refused { Right::Denied } else { Right::Granted }, now);
    }

    fn note(&self, asked: Asked, right: Right, now: Moment) {
        let mut known = self.known.borrow_mut();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(asked, (right, now));
    }
}

/// ACL DRYRUN answers OK, or says in a bulk string what the user may not do.
pub fn is_denial(answer: &[u8]) -> bool {
    matches!(answer.first(), Some(b'$' | b'='))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SELECT_3: Asked = Asked { user: 1, row: 2, db: 3, version: 0 };
    const NO: &[u8] = b"$2\r\nno\r\n";

    #[test]
    fn a_right_is_believed_for_a_second_and_until_rights_change() {
        let (rights, now) = (Rights::default(), Moment::now());
        assert_eq!(rights.of(SELECT_3, now), Right::NotKnown);
        rights.heard(SELECT_3, Some(b"+OK\r\n"), now);
        assert_eq!(rights.of(SELECT_3, now), Right::Granted);
        assert_eq!(rights.of(SELECT_3, now.after(BELIEVED)), Right::NotKnown);
        assert_eq!(rights.of(Asked { version: 1, ..SELECT_3 }, now), Right::NotKnown);
        assert_eq!(rights.of(Asked { db: 4, ..SELECT_3 }, now), Right::NotKnown);
    }

    #[test]
    fn a_denial_is_told_once() {
        let (rights, now) = (Rights::default(), Moment::now());
        rights.heard(SELECT_3, Some(NO), now);
        assert_eq!(rights.of(SELECT_3, now), Right::Denied);
        assert_eq!(rights.of(SELECT_3, now), Right::NotKnown);
    }

    #[test]
    fn nobody_is_refused_where_the_daemon_may_not_ask() {
        let (rights, now) = (Rights::default(), Moment::now());
        rights.heard(SELECT_3, Some(b"-NOPERM this user has no permissions to run ..\r\n"), now);
        assert_eq!(rights.of(Asked { user: 9, ..SELECT_3 }, now), Right::Granted);
        assert_eq!(rights.of(Asked { user: 9, ..SELECT_3 }, now.after(REFUSED_PAUSE)), Right::NotKnown);
        rights.heard(SELECT_3, None, now.after(REFUSED_PAUSE));
        assert_eq!(rights.of(SELECT_3, now.after(REFUSED_PAUSE)), Right::Granted);
    }
}
