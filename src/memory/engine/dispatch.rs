//! From a request to its handler: whether it exists, has the right arguments and may stand where it stands. Order and
//! words of the refusals are Redis's. What handlers do is not known here.

use std::cell::RefCell;
use std::sync::Arc;

use super::super::caller::Caller;
use super::super::commands;
use super::super::context::{Argv, Context, Fault, Handler, Outcome, Reply};
use super::super::keys::Keys;
use super::super::traits::{self, Traits};
use super::calls::{self, Call};
use super::waiters::Waiter;
use super::{Core, Executed, Inner, Own, transaction};
use crate::command::{self, Local, Route, Row};
use crate::resp;

/// Where a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Session,
    Transaction,
    Script,
}

/// One request on its way. The lock is held; nothing is borrowed of the core.
pub(super) struct Turn<'a> {
    pub inner: &'a Arc<Inner>,
    pub core: &'a RefCell<Core>,
    pub caller: &'a mut Caller,
    pub out: &'a mut Vec<u8>,
    /// Taken once per request, transaction or script.
    pub now_us: u64,
    pub place: Place,
    pub own: &'a mut Own<'a>,
}

impl Turn<'_> {
    pub fn now_ms(&self) -> u64 {
        self.now_us / 1000
    }

    pub fn reply(&mut self) -> Reply<'_> {
        Reply { out: self.out, resp3: self.caller.resp3 }
    }
}

/// What answers a command.
#[derive(Clone, Copy)]
pub(super) enum Answerer {
    /// It needs keys only.
    Keys(Handler),
    /// It needs the engine.
    Engine(Call),
    /// It needs the connection.
    Session,
}

/// A request that exists, with the right number of arguments.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub row: &'static Row,
    pub traits: &'static Traits,
    pub answerer: Answerer,
}

/// Why a request is not known.
pub(super) enum Unknown {
    Command,
    Subcommand,
    /// Redis has it, the engine does not.
    Lacking,
    Arity(&'static Row),
}

pub(super) fn know(argv: &Argv<'_>) -> Result<Known, Unknown> {
    let row = command::lookup_argv(argv).ok_or(Unknown::Command)?;
    if row.has_subcommands() && argv.len() > 1 && !row.name.contains('|') {
        // COMMAND alone has arguments only for its subcommands.
        return Err(Unknown::Subcommand);
    }
    let traits = traits::of(row).ok_or(match row.name.contains('|') {
        true => Unknown::Subcommand,
        false => Unknown::Command,
    })?;
    let answerer = match commands::handler(row) {
        Some(handler) => Answerer::Keys(handler),
        None => match calls::of(row) {
            Some(call) => Answerer::Engine(call),
            None if is_own(row) => Answerer::Session,
            // Of a container only its subcommands are answered; alone it has too few arguments.
            None if row.has_subcommands() => return Err(Unknown::Arity(row)),
            None => return Err(Unknown::Lacking),
        },
    };
    if !row.arity_fits(argv.len()) {
        return Err(Unknown::Arity(row));
    }
    Ok(Known { row, traits, answerer })
}

/// What only the connection's session can answer.
pub(super) fn is_own(row: &Row) -> bool {
    let is_connections = matches!(row.route, Route::Local(local) if local != Local::Select);
    is_connections || row.name.starts_with("CLIENT|")
}

impl Unknown {
    /// The error's text, without the code ERR.
    pub fn text(&self, argv: &Argv<'_>) -> String {
        let name = String::from_utf8_lossy(until_nul(argv[0]));
        let name = clipped(&name, 128);
        match self {
            Unknown::Command => {
                let mut args = String::new();
                for arg in &argv[1..] {
                    if args.len() >= 128 {
                        break;
                    }
                    let arg = String::from_utf8_lossy(until_nul(arg));
                    args.push_str(&format!("'{}' ", clipped(&arg, 128 - args.len())));
                }
                format!("unknown command '{name}', with args beginning with: {args}")
            }
            Unknown::Subcommand => {
                let sub = String::from_utf8_lossy(until_nul(argv[1]));
                let (sub, name) = (clipped(&sub, 128), argv[0].to_ascii_uppercase());
                format!("unknown subcommand '{sub}'. Try {} HELP.", String::from_utf8_lossy(&name))
            }
            Unknown::Lacking => {
                let sub =
                    argv.get(1).filter(|_| command::lookup_argv(argv).is_some_and(|r| r.name.contains('|')));
                let sub = sub.map(|sub| format!(" {}", String::from_utf8_lossy(sub))).unwrap_or_default();
                format!("unknown command '{name}{sub}' (needs REDIS_URL)")
            }
            Unknown::Arity(row) => {
                format!("wrong number of arguments for '{}' command", row.name.to_ascii_lowercase())
            }
        }
    }
}

fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn clipped(text: &str, len: usize) -> &str {
    let end = (0..=len.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// For what no session answers either.
pub fn answer_unknown(argv: &Argv<'_>, out: &mut Vec<u8>) {
    resp::error(out, &format!("ERR {}", Unknown::Lacking.text(argv)));
}

/// A request of a session: refused, queued or run.
pub(super) fn process(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Executed {
    turn.core.borrow_mut().counters.commands += 1;
    let known = match admit(turn, argv) {
        Ok(known) => known,
        Err(fault) => {
            refuse(turn, argv, fault);
            return Executed::Replied;
        }
    };
    if let Some(queue) = &mut turn.caller.queue
        && !is_obeyed_in_transaction(known.row)
    {
        queue.denies_oom |= known.traits.denies_oom;
        queue.requests.push(argv.iter().map(|arg| arg.to_vec()).collect());
        resp::simple(turn.out, "QUEUED");
        return Executed::Replied;
    }
    run(turn, known, argv)
}

fn is_obeyed_in_transaction(row: &Row) -> bool {
    matches!(row.route, Route::Exec | Route::Discard | Route::Multi | Route::Watch)
        || matches!(row.route, Route::Local(Local::Quit | Local::Reset))
}

fn admit(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Result<Known, Fault> {
    let known = know(argv).map_err(|unknown| Fault::with(format!("ERR {}", unknown.text(argv))))?;
    let Known { row, traits, .. } = known;
    let queue = turn.caller.queue.as_deref();
    if queue.is_some() && traits.in_no_transaction {
        return Err(Fault::of("ERR Command not allowed inside a transaction"));
    }
    let core = &mut *turn.core.borrow_mut();
    core.is_out_of_memory =
        core.keyspace.is_over_limit() && core.keyspace.make_room(turn.now_us / 1000).is_err();
    if core.is_out_of_memory {
        let is_denied = match (queue, row.route) {
            (Some(queue), Route::Exec) => queue.denies_oom,
            (Some(_), Route::Discard | Route::Local(Local::Quit | Local::Reset)) => false,
            (Some(_), _) => true,
            (None, _) => traits.denies_oom,
        };
        if is_denied {
            return Err(Fault::OUT_OF_MEMORY);
        }
    }
    if turn.caller.is_subscriber() && !turn.caller.resp3 && !is_for_subscribers(row) {
        let name = row.name.to_ascii_lowercase();
        return Err(Fault::with(format!(
            "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are \
             allowed in this context"
        )));
    }
    Ok(known)
}

fn is_for_subscribers(row: &Row) -> bool {
    row.name == "PING" || matches!(row.route, Route::Subscription | Route::Local(Local::Quit | Local::Reset))
}

/// A refused command breaks the transaction it was to stand in; a refused EXEC ends it.
fn refuse(turn: &mut Turn<'_>, argv: &Argv<'_>, fault: Fault) {
    turn.core.borrow_mut().counters.errors += 1;
    if argv[0].eq_ignore_ascii_case(b"exec") {
        transaction::discard(turn);
        let why = fault.0.strip_prefix("ERR ").unwrap_or(&fault.0);
        return resp::error(turn.out, &format!("EXECABORT Transaction discarded because of: {why}"));
    }
    if let Some(queue) = &mut turn.caller.queue {
        queue.is_broken = true;
    }
    resp::error(turn.out, &fault.0);
}

/// Runs what may run.
pub(super) fn run(turn: &mut Turn<'_>, known: Known, argv: &Argv<'_>) -> Executed {
    let begin = turn.out.len();
    let outcome = match known.answerer {
        Answerer::Keys(handler) => match run_handler(turn, handler, argv) {
            Ok(executed) => return executed,
            Err(fault) => Err(fault),
        },
        Answerer::Engine(call) => call(turn, argv),
        Answerer::Session => {
            (turn.own)(turn.caller, argv, turn.out);
            Ok(())
        }
    };
    if let Err(fault) = outcome {
        turn.out.truncate(begin);
        turn.core.borrow_mut().counters.errors += 1;
        resp::error(turn.out, &fault.0);
    }
    Executed::Replied
}

fn run_handler(turn: &mut Turn<'_>, handler: Handler, argv: &Argv<'_>) -> Result<Executed, Fault> {
    let core = &mut *turn.core.borrow_mut();
    let may_block = turn.place == Place::Session;
    let now_ms = turn.now_us / 1000;
    let mut context = Context {
        keys: Keys { keyspace: &mut core.keyspace, db: turn.caller.db, now_ms },
        reply: Reply { out: turn.out, resp3: turn.caller.resp3 },
        may_block,
        woken_by: None,
        wait: None,
        caller: turn.caller,
    };
    handler(&mut context, argv)?;
    match context.wait.take() {
        None => Ok(Executed::Replied),
        Some(_) if !may_block => {
            context.reply.null_array();
            Ok(Executed::Replied)
        }
        Some(wait) => {
            let waiter = Waiter::new(turn.caller, handler, argv, wait);
            core.waiters.add(&mut core.keyspace, waiter);
            Ok(Executed::Blocked)
        }
    }
}

/// For handlers that have nothing to say but OK.
pub(super) fn ok(turn: &mut Turn<'_>) -> Outcome {
    turn.reply().ok();
    Ok(())
}
