//! The commands that need more of the engine than keys, and their table.

use std::sync::LazyLock;

use super::super::context::{Argv, Outcome};
use super::dispatch::Turn;
use super::{config, info, listing, pubsub, scripting, server, transaction};
use crate::command::{self, ROWS, Row};

/// Called with arguments of the right number only. It either replies and gives Ok, or gives the error to reply.
pub(super) type Call = fn(&mut Turn<'_>, &Argv<'_>) -> Outcome;

const TABLES: &[&[(&str, Call)]] = &[
    transaction::CALLS,
    pubsub::CALLS,
    scripting::CALLS,
    server::CALLS,
    config::CALLS,
    info::CALLS,
    listing::CALLS,
];

static CALLS: LazyLock<Vec<Option<Call>>> = LazyLock::new(|| {
    let mut calls = vec![None; ROWS.len()];
    for &(name, call) in TABLES.iter().copied().flatten() {
        let row = command::lookup_name(name).unwrap_or_else(|| panic!("{name} has no row"));
        let slot = &mut calls[usize::from(row.index())];
        assert!(slot.replace(call).is_none(), "{name} has two calls");
    }
    calls
});

#[inline]
pub(super) fn of(row: &Row) -> Option<Call> {
    CALLS[usize::from(row.index())]
}
