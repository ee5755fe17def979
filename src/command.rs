//! What the proxy knows of each command: one row of `table` says arity, keys, effect and route.
//! Only this module knows key positions and routes.
mod keys;
mod table;

pub use table::{ROWS, lookup, lookup_name};

use crate::resp::Args;

/// One command or subcommand (`"CONFIG|SET"`).
#[derive(Debug)]
pub struct Row {
    /// Upper case; `CONTAINER|SUBCOMMAND` for a subcommand.
    pub name: &'static str,
    /// As in COMMAND: the number of arguments with the name, or at least `-arity`.
    pub arity: i16,
    pub keys: Keys,
    pub effect: Effect,
    pub route: Route,
    /// How a RESP3 reply of this command reads in RESP2 (only asked for cached reads).
    pub shape: Shape,
}

/// Where the keys of a request stand.
#[derive(Debug, Clone, Copy)]
pub enum Keys {
    /// The command touches no key.
    None,
    /// `first` to `last` (negative: from the end) in steps.
    Range { first: u8, last: i8, step: u8 },
    /// A count stands at `at`, its keys follow; `plus_first`: argument 1 is a key too (ZUNIONSTORE).
    Counted { at: u8, plus_first: bool },
    /// Found by looking at the arguments (SORT, GEORADIUS, MIGRATE, XREAD, ...).
    Special(fn(&Args, &mut dyn FnMut(&[u8])) -> KeySet),
    /// The whole keyspace (FLUSHALL, SWAPDB, KEYS, SCAN, DBSIZE).
    Whole,
    /// Not known for sure: scripts, functions.
    Unknown,
}

/// What `Row::for_each_key` found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySet {
    /// Exactly the keys that were reported (perhaps none).
    Known,
    /// Every key may be meant.
    Whole,
    /// It cannot be told from the arguments.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Neither reads nor writes the keyspace (PING, CONFIG GET, PUBLISH).
    None,
    Read,
    Write,
    /// May do anything (EVAL, FCALL).
    Unknown,
}

/// What answers a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// A deterministic read of one key: L1, or the tracked link.
    Cached,
    /// MGET and EXISTS: each key is an entry of its own.
    CachedEach,
    /// A plain shared link: exactly one reply.
    Shared,
    /// The script link: EVAL and kin.
    Script,
    /// A fresh link (SCRIPT KILL, FUNCTION KILL, FUNCTION STATS, CLIENT PAUSE, CLIENT UNPAUSE).
    Fresh,
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
    /// SUBSCRIBE, UNSUBSCRIBE and kin: pinned, any number of replies.
    Subscription,
    Monitor,
    /// CLIENT TRACKING, CLIENT CACHING, CLIENT NO-TOUCH: link state of the session's own.
    LinkState,
    /// A link of its own until it answers.
    Blocking,
    /// Blocking only with a BLOCK argument (XREAD, XREADGROUP), otherwise shared.
    BlockingIfAsked,
    Wait,
    Info,
    /// COMMAND DOCS and COMMAND INFO, which know our own commands too.
    CommandDocs,
    /// Answered by the daemon itself.
    Local(Local),
}

/// Commands that the daemon answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    Quit,
    Reset,
    Hello,
    Auth,
    Select,
    ClientId,
    ClientGetname,
    ClientSetname,
    ClientSetinfo,
    ClientInfo,
    ClientList,
    ClientKill,
    ClientUnblock,
    ClientReply,
    ClientNoEvict,
    ClientGetredir,
    ClientTrackinginfo,
    ClientHelp,
    Madcache,
}

/// How a RESP3 reply becomes the RESP2 reply of the same command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Nulls become `$-1`; maps, sets, doubles become arrays and bulk strings.
    Plain,
    /// Inner pairs are flattened when WITHSCORES was asked (ZRANGE and its family).
    Scores,
    /// Nulls become `*-1` (GEOPOS).
    NullArrays,
}
