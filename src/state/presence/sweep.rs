//! Sweeping: what a daemon does about each second, so that connections whose heartbeats stopped leave.
//!
//! Ask `due`. For each `Due` (several at a time, if wanted): `Due::look` without members, then again with those that the
//! look found expired, until it finds none; behind each look `Look::hints` to forget. Then `Due::settle` with the last look's
//! `next_ms`. Any number of daemons may do this at once: each leave is announced by the one whose script removed it. What
//! fails is left as it is: the hint stays, and the next round does it. If `due` answered `CHANNELS_MAX` channels, ask again
//! at once.
use super::hints::{Hint, due_key, texts};
use super::{
    Call, DUE, Entry, Fault, Keys, Member, Naming, Reply, SETTLE, SWEEP, UNEXPECTED, understood, user_key,
};
use crate::resp::Value;

/// Most channels in one round.
pub const CHANNELS_MAX: usize = 500;

/// Most connections removed by one script.
pub const MEMBERS_MAX: usize = 500;

/// A round's first question; `Due::parse_all` reads the reply.
pub fn due(naming: &Naming) -> Call {
    let limit = CHANNELS_MAX.to_string().into_bytes();
    Call::new(&DUE, vec![due_key(naming)], vec![limit], Reply::AsIs)
}

/// A channel in which a deadline may have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    pub channel: Vec<u8>,
    /// As it was read: the hint is touched only while it is the same.
    score: Vec<u8>,
}

impl Due {
    pub fn parse_all(frame: &[u8]) -> Result<Vec<Due>, Fault> {
        let flat = texts(frame)?;
        let due = |pair: &[Vec<u8>]| Due { channel: pair[0].clone(), score: pair[1].clone() };
        Ok(flat.chunks_exact(2).map(due).collect())
    }

    /// Removes those of `members` that are expired still, and finds others; `Look::parse` reads the reply.
    pub fn look(&self, naming: &Naming, members: &[Member]) -> Call {
        debug_assert!(members.len() <= MEMBERS_MAX, "a look names no more than that");
        let keys = Keys::new(naming, &self.channel);
        let mut keys = vec![keys.users, keys.connections, keys.entries, keys.roster];
        keys.extend(members.iter().map(|member| user_key(naming, &self.channel, &member.user)));
        let mut args = vec![naming.events("presence", &self.channel), MEMBERS_MAX.to_string().into_bytes()];
        args.extend(members.iter().map(|member| Member::text(&member.user, &member.other)));
        Call::new(&SWEEP, keys, args, Reply::AsIs)
    }

    /// Says when to look again, or that there is nothing left to look for.
    pub fn settle(&self, naming: &Naming, next_ms: Option<u64>) -> Call {
        let next = next_ms.map_or_else(|| "-1".to_owned(), |ms| ms.to_string());
        let args = vec![self.channel.clone(), self.score.clone(), next.into_bytes()];
        Call::new(&SETTLE, vec![due_key(naming)], args, Reply::AsIs)
    }
}

/// What a look at a channel found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// Till the next deadline; None: nobody is left.
    pub next_ms: Option<u64>,
    /// To be given to the next look.
    pub expired: Vec<Member>,
    /// Connections that this look removed.
    pub removed: Vec<Member>,
    /// Users whose last connection that was.
    pub gone: Vec<Vec<u8>>,
}

impl Look {
    pub fn parse(frame: &[u8]) -> Result<Look, Fault> {
        let value = understood(frame)?;
        let Some([next, expired, removed, gone]) = value.elements() else { return Err(UNEXPECTED.into()) };
        let list = |value: &Value| -> Result<Vec<Vec<u8>>, Fault> {
            let elements = value.elements().ok_or(UNEXPECTED)?;
            elements.iter().map(|text| text.text().map(<[u8]>::to_vec).ok_or(UNEXPECTED.into())).collect()
        };
        let members = |value: &Value| -> Result<Vec<Member>, Fault> {
            list(value)?.iter().map(|text| Member::parse(text).ok_or(UNEXPECTED.into())).collect()
        };
        Ok(Look {
            next_ms: u64::try_from(next.int().ok_or(UNEXPECTED)?).ok(),
            expired: members(expired)?,
            removed: members(removed)?,
            gone: list(gone)?,
        })
    }

    /// The hints of what this look removed.
    pub fn hints(&self, channel: &[u8]) -> Vec<Hint> {
        let connection = |member: &Member| {
            let (user, connection) = (member.user.clone(), member.other.clone());
            Hint::Connection(Entry { channel: channel.to_vec(), user, connection })
        };
        let user = |user: &Vec<u8>| Hint::User { user: user.clone(), channel: channel.to_vec() };
        self.removed.iter().map(connection).chain(self.gone.iter().map(user)).collect()
    }
}
