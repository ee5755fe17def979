//! The indexes of presence that lie in slots of their own: what a connection has joined, where a user may be, which
//! channels a sweeper should look at. `lua/presence_hints_shared.lua` says what stands in them and when it may be removed.
use std::time::Duration;

use super::{
    CHANNELS, Call, Entry, Fault, HINT, HINTS, LEAVE_ALL, Member, Naming, Reply, UNEXPECTED, UNHINT, escaped,
    understood,
};

/// A JOIN whose script was answered later than this after its hints were sent writes them again: they may have been
/// removed before it ran.
pub const SAFE: Duration = Duration::from_secs(5);

/// Entries that are beaten have their hints written again so often, well within the hour that hints outlive a ttl.
pub const REFRESH: Duration = Duration::from_secs(20 * 60);

/// Most hints in one script.
const HINTS_MAX: usize = 500;

pub(super) fn due_key(naming: &Naming) -> Vec<u8> {
    naming.key([b"x:presence:due"])
}

fn connection_key(naming: &Naming, connection: &[u8]) -> Vec<u8> {
    naming.key([b"x:presence:connection:", &escaped(connection)])
}

fn user_key(naming: &Naming, user: &[u8]) -> Vec<u8> {
    naming.key([b"x:presence:user:", &escaped(user)])
}

impl Entry {
    /// Writes the three hints of an entry: one call, or one per slot where L2 is a cluster.
    pub fn hints(&self, naming: &Naming, ttl_ms: u64) -> Vec<Call> {
        let hints = [
            (due_key(naming), &b"due"[..], self.channel.clone()),
            (connection_key(naming, &self.connection), b"written", Member::text(&self.user, &self.channel)),
            (user_key(naming, &self.user), b"written", self.channel.clone()),
        ];
        let per_call = if naming.tagged { 1 } else { hints.len() };
        let call = |hints: &[(Vec<u8>, &[u8], Vec<u8>)]| {
            let keys = hints.iter().map(|(key, ..)| key.clone()).collect();
            let mut args = vec![ttl_ms.to_string().into_bytes()];
            args.extend(hints.iter().flat_map(|(_, kind, member)| [kind.to_vec(), member.clone()]));
            Call::new(&HINT, keys, args, Reply::AsIs)
        };
        hints.chunks(per_call).map(call).collect()
    }
}

/// Whether the reply to a call of `Entry::hints` wants all of them written again behind the JOIN.
pub fn again(frame: &[u8]) -> Result<bool, Fault> {
    let value = understood(frame)?;
    Ok(value.elements().ok_or(UNEXPECTED)?.iter().any(|flag| flag.int() == Some(1)))
}

/// What LEAVEALL asks first; `entries_of_connection` reads the reply.
pub fn of_connection(naming: &Naming, connection: &[u8]) -> Call {
    Call::new(&HINTS, vec![connection_key(naming, connection)], Vec::new(), Reply::AsIs)
}

/// The entries that a connection may have.
pub fn entries_of_connection(connection: &[u8], frame: &[u8]) -> Result<Vec<Entry>, Fault> {
    let members = texts(frame)?;
    let entry = |text: Vec<u8>| {
        let Member { user, other } = Member::parse(&text)?;
        Some(Entry { channel: other, user, connection: connection.to_vec() })
    };
    Ok(members.into_iter().filter_map(entry).collect())
}

/// What CHANNELS asks first; `channels_of_user` reads the reply.
pub fn of_user(naming: &Naming, user: &[u8]) -> Call {
    Call::new(&HINTS, vec![user_key(naming, user)], Vec::new(), Reply::AsIs)
}

/// The channels in which a user may be; ask `present` of each.
pub fn channels_of_user(frame: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
    texts(frame)
}

/// LEAVEALL in one script, which names the channels' keys by itself.
pub fn leave_all(naming: &Naming, connection: &[u8]) -> Call {
    let (brace, closing): (&[u8], &[u8]) = if naming.tagged { (b"{", b"}") } else { (b"", b"") };
    let args = [&naming.prefix, connection, brace, closing].map(<[u8]>::to_vec);
    Call::new(&LEAVE_ALL, vec![connection_key(naming, connection)], args.into(), Reply::AsIs)
}

/// CHANNELS in one script.
pub fn channels(naming: &Naming, user: &[u8]) -> Call {
    let args = vec![naming.prefix.clone(), user.to_vec()];
    Call::new(&CHANNELS, vec![user_key(naming, user)], args, Reply::AsIs)
}

pub(super) fn texts(frame: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
    let value = understood(frame)?;
    let elements = value.elements().ok_or(UNEXPECTED)?;
    elements.iter().map(|text| text.text().map(<[u8]>::to_vec).ok_or(UNEXPECTED.into())).collect()
}

/// A hint that was found to hint at nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// This connection has no such entry.
    Connection(Entry),
    /// This user is not in the channel.
    User { user: Vec<u8>, channel: Vec<u8> },
}

impl Hint {
    fn parts(&self, naming: &Naming) -> (Vec<u8>, Vec<u8>) {
        match self {
            Hint::Connection(entry) => {
                (connection_key(naming, &entry.connection), Member::text(&entry.user, &entry.channel))
            }
            Hint::User { user, channel } => (user_key(naming, user), channel.clone()),
        }
    }

    /// Removes hints, unless they were written since they were found wrong, or shortly before. `age`: what has passed since
    /// the question was sent whose answer showed them to be wrong. Nobody needs to wait for these.
    pub fn forget(naming: &Naming, hints: &[Hint], age: Duration) -> Vec<Call> {
        let per_call = if naming.tagged { 1 } else { HINTS_MAX };
        let call = |hints: &[Hint]| {
            let (keys, members): (Vec<_>, Vec<_>) = hints.iter().map(|hint| hint.parts(naming)).unzip();
            let mut args = vec![age.as_millis().to_string().into_bytes()];
            args.extend(members);
            Call::new(&UNHINT, keys, args, Reply::AsIs)
        };
        hints.chunks(per_call).map(call).collect()
    }
}
