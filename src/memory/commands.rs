//! Which handler answers which row of the command table. Each file below has the handlers of one group and their table.
mod arguments;
mod bitfield;
mod bits;
mod counters;
mod databases;
mod deadlines;
mod generic;
mod hashes;
mod hyperloglogs;
mod inspection;
mod lcs;
mod list_moves;
mod lists;
mod ranges;
mod sampling;
mod scanning;
mod scores;
mod set_algebra;
mod sets;
mod sort;
mod sorted;
mod sorted_algebra;
mod sorted_pops;
mod sorted_ranges;
mod strings;
mod substrings;
mod waiting;

use super::caller::Caller;
use super::context::{Argv, Context, Fault, Handler, Reply};
use super::keys::Keys;
use super::keyspace::Keyspace;
use super::number::integer_argument;
use crate::command;
use crate::command::{ROWS, Row};
use std::sync::LazyLock;

/// One line per file. Names as in the command table, subcommands as `OBJECT|FREQ`.
const TABLES: &[&[(&str, Handler)]] = &[
    strings::COMMANDS,
    substrings::COMMANDS,
    counters::COMMANDS,
    lcs::COMMANDS,
    bits::COMMANDS,
    bitfield::COMMANDS,
    hyperloglogs::COMMANDS,
    generic::COMMANDS,
    deadlines::COMMANDS,
    databases::COMMANDS,
    inspection::COMMANDS,
    hashes::COMMANDS,
    lists::COMMANDS,
    list_moves::COMMANDS,
    sets::COMMANDS,
    set_algebra::COMMANDS,
    sorted::COMMANDS,
    sorted_algebra::COMMANDS,
    sorted_pops::COMMANDS,
    sorted_ranges::COMMANDS,
    sort::COMMANDS,
    //
];

static HANDLERS: LazyLock<Vec<Option<Handler>>> = LazyLock::new(|| {
    let mut handlers = vec![None; ROWS.len()];
    for (name, handler) in TABLES.iter().copied().flatten() {
        let row = command::lookup_name(name).unwrap_or_else(|| panic!("{name} has no row"));
        assert_eq!(row.name, *name, "{name} has no row");
        let slot = &mut handlers[usize::from(row.index())];
        assert!(slot.replace(*handler).is_none(), "{name} has two handlers");
    }
    handlers
});

/// The handler of a row, if the engine has one.
#[inline]
pub fn handler(row: &Row) -> Option<Handler> {
    HANDLERS[usize::from(row.index())]
}

/// An argument that is a C int in Redis.
fn int(argument: &[u8]) -> Result<i64, Fault> {
    let value = integer_argument(argument)?;
    let (min, max) = (i64::from(i32::MIN), i64::from(i32::MAX));
    if !(min..=max).contains(&value) {
        return Err(Fault::with(format!("ERR value is out of range, value must between {min} and {max}")));
    }
    Ok(value)
}

/// Runs one request and appends its reply: row, arity, handler; nothing of connections, transactions or memory limits.
/// For tests of handlers; callers that serve clients go through the engine.
pub fn call(keyspace: &mut Keyspace, caller: &mut Caller, now_ms: u64, argv: &Argv<'_>, out: &mut Vec<u8>) {
    let name = String::from_utf8_lossy(argv[0]).to_uppercase();
    let sub = argv.get(1).map(|sub| format!("{name}|{}", String::from_utf8_lossy(sub)));
    let row = sub.and_then(|sub| command::lookup_name(&sub)).or_else(|| command::lookup_name(&name));
    let begin = out.len();
    let outcome = match row.map(|row| (row, handler(row))) {
        Some((row, _)) if !row.arity_fits(argv.len()) => Err(Fault::arity(row.name)),
        Some((_, Some(handler))) => {
            let mut context = Context {
                keys: Keys { keyspace, db: caller.db, now_ms },
                reply: Reply { out, resp3: caller.resp3 },
                may_block: false,
                woken_by: None,
                wait: None,
                caller,
            };
            handler(&mut context, argv)
        }
        Some((row, None)) if row.has_subcommands() => {
            let sub = String::from_utf8_lossy(argv.get(1).copied().unwrap_or_default());
            Err(Fault::with(format!("ERR unknown subcommand '{sub}'. Try {name} HELP.")))
        }
        _ => Err(Fault::with(format!("ERR unknown command '{name}'"))),
    };
    if let Err(fault) = outcome {
        out.truncate(begin);
        Reply { out, resp3: caller.resp3 }.error(&fault);
    }
}

#[cfg(test)]
pub(super) mod tests;
