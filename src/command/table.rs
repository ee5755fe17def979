//! The rows of all commands, gathered at compile time, and the look-up of a request's row.
//! Reads names only; what a row means is the business of `command`.
mod collections;
mod connection;
mod keyspace;
mod scripts;
mod server;
mod sorted;
mod state;
mod streams;
mod strings;

use super::{DENIED_BY_DEFAULT, Effect, Group, Keeps, Keys, Local, Route, Row, Shape};
use crate::resp::Args;

/// One row per command and subcommand: all of Redis 7.0.15 and what later versions and Valkey added.
pub static ROWS: &[Row] = &GATHERED;

/// The row of a request. For a container, that of its subcommand; its own if the subcommand is missing or not
/// known. Cases do not matter.
#[inline]
pub fn lookup(args: &Args) -> Option<&'static Row> {
    let name = args.get(0)?;
    let row = find(name, None)?;
    match args.get(1) {
        Some(subcommand) if row.has_subcommands => Some(find(name, Some(subcommand)).unwrap_or(row)),
        _ => Some(row),
    }
}

/// The row of a request whose arguments are slices, as `lookup`.
#[inline]
pub fn lookup_argv(argv: &[&[u8]]) -> Option<&'static Row> {
    let row = find(argv.first()?, None)?;
    match argv.get(1) {
        Some(subcommand) if row.has_subcommands => Some(find(argv[0], Some(subcommand)).unwrap_or(row)),
        _ => Some(row),
    }
}

/// The row called `get` or `config|set`, in any case.
pub fn lookup_name(name: &str) -> Option<&'static Row> {
    match name.split_once('|') {
        Some((container, subcommand)) => find(container.as_bytes(), Some(subcommand.as_bytes())),
        None => find(name.as_bytes(), None),
    }
}

const GROUPS: &[&[Row]] = &[
    strings::ROWS,
    collections::ROWS,
    sorted::ROWS,
    streams::ROWS,
    keyspace::ROWS,
    scripts::ROWS,
    connection::ROWS,
    server::ROWS,
    state::ROWS,
];

const LEN: usize = {
    let mut len = 0;
    let mut group = 0;
    while group < GROUPS.len() {
        len += GROUPS[group].len();
        group += 1;
    }
    len
};

static GATHERED: [Row; LEN] = gather();

/// A container stands before its subcommands.
const fn gather() -> [Row; LEN] {
    let mut rows = [GROUPS[0][0]; LEN];
    let mut container = 0;
    let (mut group, mut at) = (0, 0);
    while group < GROUPS.len() {
        let mut i = 0;
        while i < GROUPS[group].len() {
            rows[at] = GROUPS[group][i];
            rows[at].index = at as u16;
            rows[at].denied_by_default = is_denied(rows[at].name);
            if (rows[at].split as usize) < rows[at].name.len() {
                rows[container].has_subcommands = true;
            } else {
                container = at;
            }
            at += 1;
            i += 1;
        }
        group += 1;
    }
    rows
}

const fn is_denied(name: &str) -> bool {
    let mut i = 0;
    while i < DENIED_BY_DEFAULT.len() {
        if is_same(DENIED_BY_DEFAULT[i].as_bytes(), name.as_bytes()) {
            return true;
        }
        i += 1;
    }
    false
}

const fn is_same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

// The index: open addressing with a quarter of the slots taken, so that nearly every look-up compares one name.

const SLOT_BITS: u32 = 11;
const SLOTS: usize = 1 << SLOT_BITS;
const FREE: u16 = u16::MAX;
/// Longer names are not commands: a client's megabyte is not hashed.
const NAME_LEN_MAX: usize = 32;

const _: () = assert!(LEN * 3 < SLOTS, "the index is too small for its rows");

static INDEX: [u16; SLOTS] = build_index();

const fn build_index() -> [u16; SLOTS] {
    let rows = gather();
    let mut slots = [FREE; SLOTS];
    let mut at = 0;
    while at < LEN {
        assert!(rows[at].name.len() <= NAME_LEN_MAX, "a name is longer than NAME_LEN_MAX");
        let mut slot = slot_of(fold(0, rows[at].name.as_bytes()));
        while slots[slot] != FREE {
            let other = rows[slots[slot] as usize].name;
            assert!(!is_same(other.as_bytes(), rows[at].name.as_bytes()), "a command has two rows");
            slot = (slot + 1) % SLOTS;
        }
        slots[slot] = at as u16;
        at += 1;
    }
    slots
}

#[inline]
fn find(name: &[u8], subcommand: Option<&[u8]>) -> Option<&'static Row> {
    if name.len() + subcommand.map_or(0, <[u8]>::len) > NAME_LEN_MAX {
        return None;
    }
    let mut hash = fold(0, name);
    if let Some(subcommand) = subcommand {
        hash = fold(fold(hash, b"|"), subcommand);
    }
    let mut slot = slot_of(hash);
    while INDEX[slot] != FREE {
        let row = &GATHERED[usize::from(INDEX[slot])];
        if is_called(row, name, subcommand) {
            return Some(row);
        }
        slot = (slot + 1) % SLOTS;
    }
    None
}

/// The split keeps a client's `CONFIG|SET`, sent as one word, from being taken for the subcommand.
#[inline]
fn is_called(row: &Row, name: &[u8], subcommand: Option<&[u8]>) -> bool {
    let (own, rest) = row.name.as_bytes().split_at(usize::from(row.split));
    own.eq_ignore_ascii_case(name)
        && match (rest.split_first(), subcommand) {
            (Some((_, own)), Some(subcommand)) => own.eq_ignore_ascii_case(subcommand),
            (None, None) => true,
            _ => false,
        }
}

/// The mask makes the cases of a letter alike; that other bytes may meet too only costs a comparison.
#[inline]
const fn fold(mut hash: u64, name: &[u8]) -> u64 {
    let mut i = 0;
    while i < name.len() {
        hash = hash.rotate_left(5) ^ (name[i] & 0xDF) as u64;
        i += 1;
    }
    hash
}

#[inline]
const fn slot_of(hash: u64) -> usize {
    (hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - SLOT_BITS)) as usize
}

// What the rows are written with.

/// Argument 1.
const FIRST: Keys = Keys::Range { first: 1, last: 1, step: 1 };
/// Argument 2.
const SECOND: Keys = Keys::Range { first: 2, last: 2, step: 1 };
/// Arguments 1 and 2.
const BOTH: Keys = Keys::Range { first: 1, last: 2, step: 1 };
/// All arguments.
const ALL: Keys = Keys::Range { first: 1, last: -1, step: 1 };
/// All arguments but the first.
const REST: Keys = Keys::Range { first: 2, last: -1, step: 1 };
/// All arguments but the last.
const BUT_LAST: Keys = Keys::Range { first: 1, last: -2, step: 1 };
/// Every other argument.
const PAIRS: Keys = Keys::Range { first: 1, last: -1, step: 2 };
/// A count at 1.
const COUNTED: Keys = Keys::Counted { at: 1, plus_first: false };
/// A count at 2.
const COUNTED_AT_2: Keys = Keys::Counted { at: 2, plus_first: false };
/// A destination at 1, a count at 2.
const INTO_COUNTED: Keys = Keys::Counted { at: 2, plus_first: true };

const fn row(name: &'static str, arity: i16, keys: Keys, effect: Effect, route: Route) -> Row {
    let mut split = 0;
    while split < name.len() && name.as_bytes()[split] != b'|' {
        split += 1;
    }
    Row {
        name,
        arity,
        keys,
        effect,
        route,
        shape: Shape::Plain,
        keeps: Keeps::Nothing,
        group: group_of(effect, route),
        index: 0,
        split: split as u8,
        has_subcommands: false,
        denied_by_default: false,
    }
}

const fn group_of(effect: Effect, route: Route) -> Group {
    match (route, effect) {
        (Route::Local(_), _) => Group::Local,
        (Route::Script, _) => Group::Script,
        (Route::Multi | Route::Exec | Route::Discard | Route::Watch | Route::Unwatch, _) => {
            Group::Transaction
        }
        (Route::Subscription, _) => Group::Pubsub,
        (Route::Blocking | Route::BlockingIfAsked | Route::Wait, _) => Group::Blocking,
        (_, Effect::Read) => Group::Read,
        (_, Effect::Write) => Group::Write,
        _ => Group::Other,
    }
}

/// A deterministic read of the key at 1.
const fn cached(name: &'static str, arity: i16) -> Row {
    row(name, arity, FIRST, Effect::Read, Route::Cached)
}

/// A read that L2 answers.
const fn read(name: &'static str, arity: i16, keys: Keys) -> Row {
    row(name, arity, keys, Effect::Read, Route::Shared)
}

const fn write(name: &'static str, arity: i16, keys: Keys) -> Row {
    row(name, arity, keys, Effect::Write, Route::Shared)
}

/// A write that waits in L2 until there is something to take.
const fn blocking(name: &'static str, arity: i16, keys: Keys) -> Row {
    row(name, arity, keys, Effect::Write, Route::Blocking)
}

/// One reply from L2, no keys.
const fn plain(name: &'static str, arity: i16) -> Row {
    via(name, arity, Route::Shared)
}

/// No keys, and a route of its own.
const fn via(name: &'static str, arity: i16, route: Route) -> Row {
    row(name, arity, Keys::None, Effect::None, route)
}

const fn local(name: &'static str, arity: i16, local: Local) -> Row {
    via(name, arity, Route::Local(local))
}

impl Row {
    const fn shaped(mut self, shape: Shape) -> Row {
        self.shape = shape;
        self
    }

    const fn grouped(mut self, group: Group) -> Row {
        self.group = group;
        self
    }

    const fn keeping(mut self, keeps: Keeps) -> Row {
        self.keeps = keeps;
        self
    }
}
