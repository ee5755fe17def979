//! What the proxy knows of each command: one row of `table` says arity, keys, effect and route.
//! Only this module knows key positions and routes.
mod keys;
mod own;
mod slots;
mod table;
#[cfg(test)]
mod tests;

pub use own::Asked;
pub use slots::{SLOTS, Slots, slot, slot_of_request};
pub use table::{ROWS, lookup, lookup_argv, lookup_name};

use crate::resp::Args;

/// Refused unless the setting `deny_commands` says otherwise: they stop, repoint or take apart L2.
pub const DENIED_BY_DEFAULT: &[&str] = &[
    "SHUTDOWN",
    "REPLICAOF",
    "SLAVEOF",
    "FAILOVER",
    "SYNC",
    "PSYNC",
    "REPLCONF",
    "DEBUG",
    "MODULE|LOAD",
    "MODULE|LOADEX",
    "MODULE|UNLOAD",
    "CLUSTER|ADDSLOTS",
    "CLUSTER|ADDSLOTSRANGE",
    "CLUSTER|BUMPEPOCH",
    "CLUSTER|CANCELSLOTMIGRATIONS",
    "CLUSTER|DELSLOTS",
    "CLUSTER|DELSLOTSRANGE",
    "CLUSTER|FAILOVER",
    "CLUSTER|FLUSHSLOT",
    "CLUSTER|FLUSHSLOTS",
    "CLUSTER|FORGET",
    "CLUSTER|MEET",
    "CLUSTER|MIGRATESLOTS",
    "CLUSTER|MIGRATION",
    "CLUSTER|REPLICATE",
    "CLUSTER|RESET",
    "CLUSTER|SAVECONFIG",
    "CLUSTER|SET-CONFIG-EPOCH",
    "CLUSTER|SETSLOT",
    "CLUSTER|SYNCSLOTS",
];

/// One command or subcommand (`"CONFIG|SET"`).
#[derive(Debug, Clone, Copy)]
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
    /// Which of its answers L1 keeps, where those are not the replies themselves.
    pub keeps: Keeps,
    group: Group,
    index: u16,
    /// Where the container's name ends in `name`; the length of `name` if it is no subcommand.
    split: u8,
    has_subcommands: bool,
    denied_by_default: bool,
}

impl Row {
    /// The position in `ROWS`, for bit sets and counters.
    #[inline]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Whether L2 would accept a request of `argc` arguments, the name among them.
    pub fn arity_fits(&self, argc: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { argc >= arity } else { argc == arity }
    }

    /// Hands each key of the request to `f`. Every key of a request that L2 accepts is covered, by a report
    /// or by the answer `Whole` or `Unknown`; for a request that L2 rejects, anything may be reported.
    pub fn for_each_key(&self, args: &Args, f: &mut dyn FnMut(&[u8])) -> KeySet {
        match self.keys {
            Keys::None => KeySet::Known,
            Keys::Range { first, last, step } => keys::range(args, first, last, step, f),
            Keys::Counted { at, plus_first } => keys::counted(args, at, plus_first, f),
            Keys::Special(find) => find(args, f),
            Keys::Whole => KeySet::Whole,
            Keys::Unknown => KeySet::Unknown,
        }
    }

    /// What this very request does: SORT, GEORADIUS and GEORADIUSBYMEMBER only read unless they store.
    pub fn effect_of(&self, args: &Args) -> Effect {
        match (self.effect, self.keys, self.name) {
            (Effect::Write, Keys::Special(_), "SORT" | "GEORADIUS" | "GEORADIUSBYMEMBER")
                if !keys::may_store(args) =>
            {
                Effect::Read
            }
            (effect, ..) => effect,
        }
    }

    /// How the reply of this very request reads in RESP2: ZRANK with WITHSCORE (7.2 and later) answers a null
    /// array where the plain form answers a null.
    pub fn shape_of(&self, args: &Args) -> Shape {
        match self.name {
            "ZRANK" | "ZREVRANK" if args.len() > 3 => Shape::NullArrays,
            _ => self.shape,
        }
    }

    /// Whether everything in L1 is invalid after it: it concerns the whole keyspace, or rights, of which L2 pushes
    /// nothing.
    pub fn revokes_leases(&self) -> bool {
        matches!(self.name, "FLUSHALL" | "FLUSHDB" | "SWAPDB" | "ACL|SETUSER" | "ACL|DELUSER" | "ACL|LOAD")
    }

    /// Whether this very request may wait in L2. When it cannot be told, it may.
    pub fn is_blocking(&self, args: &Args) -> bool {
        match self.route {
            Route::Blocking => true,
            Route::BlockingIfAsked => keys::stream_read_may_block(args),
            _ => false,
        }
    }

    /// Whether the command may stand in a MULTI block that goes whole over a shared link: it gives one reply
    /// and leaves no state on the link, and nobody has to look at it before L2 does.
    pub fn fits_shared_block(&self) -> bool {
        let plain = match self.route {
            Route::Cached | Route::CachedEach | Route::Shared | Route::Script => true,
            Route::Info | Route::CommandDocs => true,
            Route::Fresh | Route::LinkState | Route::Subscription | Route::Monitor | Route::Local(_) => false,
            Route::Blocking | Route::BlockingIfAsked | Route::Wait => false,
            // What is sent is not what the client wrote.
            Route::State => false,
            Route::Multi | Route::Exec | Route::Discard | Route::Watch | Route::Unwatch => false,
        };
        plain && !self.denied_by_default
    }

    /// Whether `DENIED_BY_DEFAULT` names this row.
    pub fn is_denied_by_default(&self) -> bool {
        self.denied_by_default
    }

    /// Whether its name alone tells it from all others: it is no subcommand and has none.
    pub fn is_of_one_word(&self) -> bool {
        !self.has_subcommands && usize::from(self.split) == self.name.len()
    }

    /// Whether rows of subcommands exist (CONFIG, CLIENT).
    pub fn has_subcommands(&self) -> bool {
        self.has_subcommands
    }

    /// The class whose latencies are counted together.
    #[inline]
    pub fn group(&self) -> Group {
        self.group
    }
}

/// What L1 keeps of a shared-state command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    Nothing,
    Validations,
    Denials,
}

/// Commands whose latencies are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    Read,
    Write,
    Script,
    Transaction,
    Pubsub,
    Blocking,
    /// Locks, rate limits, presence, user sessions.
    State,
    Local,
    Other,
}

impl Group {
    pub const ALL: [Group; 9] = [
        Group::Read,
        Group::Write,
        Group::Script,
        Group::Transaction,
        Group::Pubsub,
        Group::Blocking,
        Group::State,
        Group::Local,
        Group::Other,
    ];

    /// The value of the metrics' label.
    pub fn name(self) -> &'static str {
        match self {
            Group::Read => "read",
            Group::Write => "write",
            Group::Script => "script",
            Group::Transaction => "transaction",
            Group::Pubsub => "pubsub",
            Group::Blocking => "blocking",
            Group::State => "state",
            Group::Local => "local",
            Group::Other => "other",
        }
    }
}

/// Hands each key of a request to its second argument.
pub type FindKeys = fn(&Args, &mut dyn FnMut(&[u8])) -> KeySet;

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
    Special(FindKeys),
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
    /// CLIENT TRACKING, CLIENT CACHING, CLIENT NO-TOUCH, READONLY, ASKING: link state of the session's own.
    LinkState,
    /// A link of its own until it answers.
    Blocking,
    /// Blocking only with a BLOCK argument (XREAD, XREADGROUP), otherwise shared.
    BlockingIfAsked,
    Wait,
    Info,
    /// A shared-state command: a script that the daemon chooses.
    State,
    /// COMMAND DOCS, INFO and GETKEYS, which know our own commands too.
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
    /// Nulls become `*-1` (GEOPOS, XRANGE).
    NullArrays,
}
