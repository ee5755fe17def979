//! The shared-state commands (LOCK, RATELIMIT, CL.THROTTLE, PRESENCE, SESSION): parses them, names their keys, chooses
//! their scripts and says how the replies read. Pure: no I/O, no clock, no random numbers, no waiting.
//!
//! Both the daemon and the typed client run what this module returns, so both run the same scripts:
//!
//! 1. `parse` makes a `Command` of a request, or the `Fault` that answers it.
//! 2. A method of the command gives a `Call`; tokens, nonces and ids that must be random come from the caller.
//! 3. The caller sends `Call::evalsha` (after NOSCRIPT, and inside MULTI, `Call::eval`) and gives the reply to `Call::reply`.
//!
//! What a script cannot do (waiting, timers, clean-ups, L1) is the caller's; the doc comments of each kind say when.
mod arguments;
mod json;
pub mod lock;
mod naming;
pub mod presence;
pub mod ratelimit;
mod reply;
mod script;
pub mod session;
pub mod throttle;

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::config::Kind;

pub use arguments::Arguments;
pub use naming::{Naming, escaped};
pub use reply::{Reply, UNEXPECTED, understood};
pub use script::{Call, Known, Script};

/// What is wrong with a request: an error line without `-`.
pub type Fault = Cow<'static, str>;

pub const SYNTAX_ERROR: &str = "ERR syntax error";
pub const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

/// A request that was found sound: numbers are numbers, options are known and fit together.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    Lock(lock::Command),
    Ratelimit(ratelimit::Command),
    Throttle(throttle::Throttle),
    Presence(presence::Command),
    Session(session::Command),
}

impl Command {
    pub fn kind(&self) -> Kind {
        match self {
            Command::Lock(_) => Kind::Lock,
            Command::Ratelimit(_) | Command::Throttle(_) => Kind::Ratelimit,
            Command::Presence(_) => Kind::Presence,
            Command::Session(_) => Kind::Session,
        }
    }
}

/// Understands a request, its name first. Names and options are taken in any case.
pub fn parse(argv: &[&[u8]]) -> Result<Command, Fault> {
    let Some((name, rest)) = argv.split_first() else { return Err("ERR unknown command ''".into()) };
    let name: SmallVec<[u8; 32]> = name.iter().map(u8::to_ascii_uppercase).collect();
    let mut args = Arguments::new(&name, rest);
    let command = match name.iter().position(|&byte| byte == b'.').map(|dot| name.split_at(dot)) {
        Some((b"LOCK", verb)) => lock::parse(&verb[1..], &mut args)?.map(Command::Lock),
        Some((b"RATELIMIT", verb)) => ratelimit::parse(&verb[1..], &mut args)?.map(Command::Ratelimit),
        Some((b"PRESENCE", verb)) => presence::parse(&verb[1..], &mut args)?.map(Command::Presence),
        Some((b"SESSION", verb)) => session::parse(&verb[1..], &mut args)?.map(Command::Session),
        Some((b"CL", b".THROTTLE")) => Some(Command::Throttle(throttle::parse(&mut args)?)),
        _ => None,
    };
    command.ok_or_else(|| format!("ERR unknown command '{}'", String::from_utf8_lossy(argv[0])).into())
}

/// Every script, for SCRIPT LOAD ahead of use and for finding one by its SHA-1.
pub fn scripts() -> impl Iterator<Item = &'static Script> {
    [lock::SCRIPTS, ratelimit::SCRIPTS, throttle::SCRIPTS, presence::SCRIPTS, session::SCRIPTS]
        .into_iter()
        .flatten()
        .copied()
}
