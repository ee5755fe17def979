//! Rows of the shared-state commands, which the daemon turns into scripts. Their keys are named by `state`, so none are
//! found in the arguments.
use super::super::{Effect, Group, Keeps, Keys, Route, Row};
use super::row;

pub(super) const ROWS: &[Row] = &[
    write("LOCK.ACQUIRE", -3),
    read("LOCK.CHECK", 3),
    write("LOCK.EXTEND", 4),
    write("LOCK.FORCE", 2),
    read("LOCK.INFO", 2),
    write("LOCK.RELEASE", 3),
    write("CL.THROTTLE", -5),
    write("RATELIMIT.CHECK", -5).keeping(Keeps::Denials),
    write("RATELIMIT.MULTI", -6),
    read("RATELIMIT.PEEK", -5),
    write("RATELIMIT.REFUND", -6),
    write("RATELIMIT.RESET", 3),
    read("PRESENCE.CHANNELS", 2),
    read("PRESENCE.COUNT", 2),
    write("PRESENCE.HEARTBEAT", -4),
    write("PRESENCE.JOIN", -4),
    write("PRESENCE.LEAVE", 4),
    write("PRESENCE.LEAVEALL", 2),
    read("PRESENCE.MEMBERS", -2),
    read("PRESENCE.STATE", 2),
    write("PRESENCE.UPDATE", 6),
    read("SESSION.COUNT", 2),
    write("SESSION.CREATE", -2),
    write("SESSION.DESTROY", 2),
    write("SESSION.DESTROYALL", -2),
    read("SESSION.LIST", 2),
    write("SESSION.REVOKE", 2),
    write("SESSION.ROTATE", -2),
    write("SESSION.SET", -3),
    write("SESSION.TOUCH", 2),
    write("SESSION.VALIDATE", -2).keeping(Keeps::Validations),
];

const fn write(name: &'static str, arity: i16) -> Row {
    row(name, arity, Keys::None, Effect::Write, Route::State).grouped(Group::State)
}

const fn read(name: &'static str, arity: i16) -> Row {
    row(name, arity, Keys::None, Effect::Read, Route::State).grouped(Group::State)
}
