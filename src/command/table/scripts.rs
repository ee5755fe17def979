//! Rows of scripts and functions. What changes the libraries goes where the scripts go, to stay in order with them;
//! what must get through to a busy L2 goes over a fresh link.
use super::super::{Effect, Group, Keys, Route, Row};
use super::{row, via};

pub(super) const ROWS: &[Row] = &[
    script("EVAL", -3, Effect::Unknown),
    script("EVALSHA", -3, Effect::Unknown),
    script("EVALSHA_RO", -3, Effect::Read),
    script("EVAL_RO", -3, Effect::Read),
    script("FCALL", -3, Effect::Unknown),
    script("FCALL_RO", -3, Effect::Read),
    library("SCRIPT", -2),
    via("SCRIPT|DEBUG", 3, Route::LinkState),
    library("SCRIPT|EXISTS", -3),
    library("SCRIPT|FLUSH", -2),
    library("SCRIPT|HELP", 2),
    via("SCRIPT|KILL", 2, Route::Fresh).grouped(Group::Script),
    library("SCRIPT|LOAD", 3),
    library("SCRIPT|SHOW", 3),
    library("FUNCTION", -2),
    library("FUNCTION|DELETE", 3),
    library("FUNCTION|DUMP", 2),
    library("FUNCTION|FLUSH", -2),
    library("FUNCTION|HELP", 2),
    via("FUNCTION|KILL", 2, Route::Fresh).grouped(Group::Script),
    library("FUNCTION|LIST", -2),
    library("FUNCTION|LOAD", -3),
    library("FUNCTION|RESTORE", -3),
    via("FUNCTION|STATS", 2, Route::Fresh).grouped(Group::Script),
];

/// Scripts may touch keys that they were not given.
const fn script(name: &'static str, arity: i16, effect: Effect) -> Row {
    row(name, arity, Keys::Unknown, effect, Route::Script)
}

const fn library(name: &'static str, arity: i16) -> Row {
    via(name, arity, Route::Script)
}
