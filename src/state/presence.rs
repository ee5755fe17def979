//! PRESENCE commands. Owns the names of a channel's keys and events; `lua/presence_shared.lua` says what stands in them.
//!
//! What is left to the caller (the daemon's session layer, the typed client):
//!
//! - JOIN: first `Join::hints`, all answered, then `Join::call`. Run the hints once more behind it if one of them answers
//!   so (`hints::again`) or if the call took longer than `hints::SAFE`.
//! - LEAVE: behind it `Hint::forget`: for the connection, and for the user too where `last` was answered.
//! - LEAVEALL: `hints::of_connection`, then for each entry found `Entry::left` and `Hint::forget`; the answer is how many
//!   were `Left::removed`. CHANNELS: `hints::of_user`, then `present` for each channel, and `Hint::forget` for those where
//!   the user is not. In MULTI, where nobody can look at a reply: `hints::leave_all` and `hints::channels`, one script
//!   each.
//! - HEARTBEAT: `heartbeats`; the answers in the order of the beats. The hints' own life is longer than any entry's by an
//!   hour: write those of a beaten entry again with its first beat here and then each `hints::REFRESH`.
//! - BIND: a JOIN carries the session's binding (random, the same for all its JOINs). Its entries are beaten each
//!   ttl / `BEATS_PER_TTL`, in batches, with that binding. `Beat::Gone`: JOIN again, as L2 had forgotten it. `Beat::Moved`:
//!   the connection joined elsewhere; drop it. When the client goes away: `Entry::left` with the binding, for each.
//! - Sweeping, about each second in every daemon: see `sweep`.
use super::script::script;
use super::{
    Arguments, Call, Fault, NOT_AN_INTEGER, Naming, Reply, SYNTAX_ERROR, Script, UNEXPECTED, escaped, json,
    understood,
};

pub mod hints;
mod member;
mod parse;
pub mod sweep;

pub use member::Member;
pub use parse::parse;

static JOIN: Script = script!("presence_join", "", "presence_shared");
static HEARTBEAT: Script = script!("presence_heartbeat", "allow-oom", "presence_shared");
static LEAVE: Script = script!("presence_leave", "allow-oom", "presence_shared");
static UPDATE: Script = script!("presence_update", "", "presence_shared");
static MEMBERS: Script = script!("presence_members");
static STATE: Script = script!("presence_state");
static COUNT: Script = script!("presence_count");
static PRESENT: Script = script!("presence_present");
static LEAVE_ALL: Script = script!("presence_leaveall", "allow-oom", "presence_shared").finding_keys();
static CHANNELS: Script = script!("presence_channels");
static HINT: Script = script!("presence_hint", "", "presence_hints_shared");
static HINTS: Script = script!("presence_hints");
static UNHINT: Script = script!("presence_unhint", "allow-oom", "presence_hints_shared");
static DUE: Script = script!("presence_due", "no-writes", "presence_hints_shared");
static SWEEP: Script = script!("presence_sweep", "allow-oom", "presence_shared");
static SETTLE: Script = script!("presence_settle", "allow-oom", "presence_hints_shared");

pub static SCRIPTS: &[&Script] = &[
    &JOIN, &HEARTBEAT, &LEAVE, &UPDATE, &MEMBERS, &STATE, &COUNT, &PRESENT, &HINT, &HINTS, &UNHINT, &DUE,
    &SWEEP, &SETTLE, &LEAVE_ALL, &CHANNELS,
];

/// An entry lives so long where JOIN says nothing else.
pub const TTL_MS_DEFAULT: u64 = 60_000;

/// So often within its ttl the daemon beats for an entry with BIND.
pub const BEATS_PER_TTL: u64 = 3;

/// Most beats in one script.
const BEATS_MAX: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Join(Join),
    Leave(Entry),
    LeaveAll { connection: Vec<u8> },
    Heartbeat { entries: Vec<Entry> },
    Update(Update),
    Members { channel: Vec<u8>, with_meta: bool },
    State { channel: Vec<u8> },
    Count { channel: Vec<u8> },
    Channels { user: Vec<u8> },
}

/// One connection of one user in one channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    pub channel: Vec<u8>,
    pub user: Vec<u8>,
    pub connection: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    pub entry: Entry,
    pub meta: Option<Vec<u8>>,
    pub ttl_ms: Option<u64>,
    pub bind: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    pub entry: Entry,
    pub meta: Vec<u8>,
}

/// Why an entry ends, as events say it. The sweeper's cause is `expired`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// LEAVE or LEAVEALL.
    Client,
    /// The connection that had joined with BIND was closed.
    Closed,
}

/// The keys of one channel.
struct Keys {
    users: Vec<u8>,
    connections: Vec<u8>,
    entries: Vec<u8>,
    roster: Vec<u8>,
}

impl Keys {
    fn new(naming: &Naming, channel: &[u8]) -> Keys {
        let companion = |what: &[u8]| naming.key([b"x:presence:{", channel, b"}:", what]);
        Keys {
            users: primary(naming, channel, b":users", b""),
            connections: companion(b"connections"),
            entries: companion(b"entries"),
            roster: companion(b"roster"),
        }
    }
}

fn primary(naming: &Naming, channel: &[u8], what: &[u8], id: &[u8]) -> Vec<u8> {
    let (open, close): (&[u8], &[u8]) = if naming.tagged { (b"{", b"}") } else { (b"", b"") };
    naming.key([b"presence:channel:", open, channel, close, what, id])
}

fn user_key(naming: &Naming, channel: &[u8], user: &[u8]) -> Vec<u8> {
    primary(naming, channel, b":user:", &escaped(user))
}

impl Entry {
    fn member(&self) -> Vec<u8> {
        Member::text(&self.user, &self.connection)
    }

    /// The five keys that most scripts take, in their order.
    fn keys(&self, naming: &Naming) -> Vec<Vec<u8>> {
        let keys = Keys::new(naming, &self.channel);
        let user = user_key(naming, &self.channel, &self.user);
        vec![keys.users, user, keys.connections, keys.entries, keys.roster]
    }

    fn leave(&self, naming: &Naming, cause: Cause, binding: &[u8], tells: &[u8], reply: Reply) -> Call {
        let cause: &[u8] = match cause {
            Cause::Client => b"client",
            Cause::Closed => b"closed",
        };
        let args = vec![
            naming.events("presence", &self.channel),
            self.user.clone(),
            self.member(),
            cause.to_vec(),
            binding.to_vec(),
            tells.to_vec(),
        ];
        Call::new(&LEAVE, self.keys(naming), args, reply)
    }

    /// LEAVE as a client asked for it. May be repeated.
    pub fn call(&self, naming: &Naming) -> Call {
        self.leave(naming, Cause::Client, b"", b"", Reply::Fields(&["last", "users", "seq"]))
    }

    /// LEAVE for the daemon itself, whose reply `Left` understands. With a binding only the entry leaves that was made
    /// with it: one that joined again elsewhere stays. May be repeated.
    pub fn left(&self, naming: &Naming, cause: Cause, binding: &[u8]) -> Call {
        self.leave(naming, cause, binding, b"1", Reply::AsIs)
    }
}

/// What `Entry::left` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// No connection of the user is left.
    pub last: bool,
    /// The entry was there, and was taken out.
    pub removed: bool,
}

impl Left {
    pub fn parse(frame: &[u8]) -> Result<Left, Fault> {
        match understood(frame)?.elements() {
            Some([last, _, _, removed]) => {
                Ok(Left { last: last.int() == Some(1), removed: removed.int() == Some(1) })
            }
            _ => Err(UNEXPECTED.into()),
        }
    }
}

impl Join {
    pub fn ttl_ms(&self, default_ms: u64) -> u64 {
        self.ttl_ms.unwrap_or(default_ms)
    }

    /// What must be written before `call` runs.
    pub fn hints(&self, naming: &Naming, default_ms: u64) -> Vec<Call> {
        self.entry.hints(naming, self.ttl_ms(default_ms))
    }

    /// `binding`: the session's, or empty without BIND. May be repeated.
    pub fn call(&self, naming: &Naming, default_ms: u64, binding: &[u8]) -> Call {
        let args = vec![
            naming.events("presence", &self.entry.channel),
            self.entry.user.clone(),
            self.entry.member(),
            self.ttl_ms(default_ms).to_string().into_bytes(),
            binding.to_vec(),
            self.meta.clone().unwrap_or_default(),
        ];
        Call::new(&JOIN, self.entry.keys(naming), args, Reply::Fields(&["first", "users", "seq"]))
    }
}

impl Update {
    pub fn call(&self, naming: &Naming) -> Call {
        let mut keys = self.entry.keys(naming);
        keys.remove(0);
        let args = vec![
            naming.events("presence", &self.entry.channel),
            self.entry.user.clone(),
            self.entry.member(),
            self.meta.clone(),
        ];
        Call::new(&UPDATE, keys, args, Reply::AsIs)
    }
}

/// One script's worth of heartbeats.
#[derive(Debug, Clone)]
pub struct Beats {
    pub call: Call,
    /// For each element of its reply, which of the beats it answers.
    pub places: Vec<usize>,
}

/// What became of one beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    Refreshed,
    Gone,
    /// The entry was made anew under another binding.
    Moved,
}

impl Beat {
    pub fn parse_all(frame: &[u8]) -> Result<Vec<Beat>, Fault> {
        let value = understood(frame)?;
        let beat = |number: &crate::resp::Value| match number.int() {
            Some(1) => Ok(Beat::Refreshed),
            Some(0) => Ok(Beat::Gone),
            Some(-1) => Ok(Beat::Moved),
            _ => Err(UNEXPECTED.into()),
        };
        value.elements().ok_or(UNEXPECTED)?.iter().map(beat).collect()
    }
}

/// Heartbeats for entries, each with the binding that it must have, or an empty one (then `Beat::Moved` never comes). One
/// call where L2 is no cluster and there are not very many; the reply to a client's HEARTBEAT is then that call's.
pub fn heartbeats(naming: &Naming, beats: &[(&Entry, &[u8])]) -> Vec<Beats> {
    let mut order: Vec<usize> = (0..beats.len()).collect();
    if naming.tagged {
        order.sort_by_key(|&place| &beats[place].0.channel);
    }
    let apart = |&a: &usize, &b: &usize| !naming.tagged || beats[a].0.channel == beats[b].0.channel;
    let same_slot = order.chunk_by(apart);
    same_slot
        .flat_map(|group| group.chunks(BEATS_MAX))
        .map(|places| {
            let beats = places.iter().map(|&place| beats[place]);
            Beats { call: beats_in_one(naming, beats), places: places.to_vec() }
        })
        .collect()
}

/// The same as one script, however many: for MULTI, where the reply is the client's. In a cluster Redis refuses it if the
/// channels are in several slots.
pub fn beats_in_one<'a>(naming: &Naming, beats: impl Iterator<Item = (&'a Entry, &'a [u8])>) -> Call {
    let (mut keys, mut args) = (Vec::new(), Vec::new());
    for (entry, binding) in beats {
        keys.extend(entry.keys(naming));
        args.extend([entry.member(), binding.to_vec()]);
    }
    Call::new(&HEARTBEAT, keys, args, Reply::AsIs)
}

/// MEMBERS.
pub fn members(naming: &Naming, channel: &[u8], with_meta: bool) -> Call {
    let (flag, reply) = if with_meta { (&b"1"[..], Reply::Pairs) } else { (&b""[..], Reply::AsIs) };
    Call::new(&MEMBERS, vec![Keys::new(naming, channel).roster], vec![flag.to_vec()], reply)
}

/// STATE.
pub fn state(naming: &Naming, channel: &[u8]) -> Call {
    let keys = Keys::new(naming, channel);
    let reply = Reply::Headed { head: &["seq"], rest: "members", row: &["user", "connections", "meta"] };
    Call::new(&STATE, vec![keys.entries, keys.roster], Vec::new(), reply)
}

/// COUNT.
pub fn count(naming: &Naming, channel: &[u8]) -> Call {
    let keys = Keys::new(naming, channel);
    let reply = Reply::Fields(&["users", "connections"]);
    Call::new(&COUNT, vec![keys.roster, keys.connections], Vec::new(), reply)
}

/// One step of CHANNELS: answers 1 if the user is in the channel.
pub fn present(naming: &Naming, channel: &[u8], user: &[u8]) -> Call {
    Call::new(&PRESENT, vec![Keys::new(naming, channel).roster], vec![user.to_vec()], Reply::AsIs)
}

#[cfg(test)]
mod tests;
