//! MULTI, EXEC, DISCARD, WATCH, UNWATCH. A key's version, which the keyspace counts for watched keys, tells at EXEC
//! whether it was changed.

use super::super::caller::{Caller, Queue, Watched};
use super::super::context::{Argv, Fault, Outcome};
use super::super::keys::Keys;
use super::super::keyspace::Keyspace;
use super::calls::Call;
use super::dispatch::{self, Place, Turn};
use crate::resp;

pub(super) const CALLS: &[(&str, Call)] =
    &[("MULTI", multi), ("EXEC", exec), ("DISCARD", discard_call), ("WATCH", watch), ("UNWATCH", unwatch)];

fn multi(turn: &mut Turn<'_>, _: &Argv<'_>) -> Outcome {
    if turn.caller.queue.is_some() {
        return Err(Fault::of("ERR MULTI calls can not be nested"));
    }
    turn.caller.queue = Some(Box::default());
    dispatch::ok(turn)
}

fn discard_call(turn: &mut Turn<'_>, _: &Argv<'_>) -> Outcome {
    if turn.caller.queue.is_none() {
        return Err(Fault::of("ERR DISCARD without MULTI"));
    }
    discard(turn);
    dispatch::ok(turn)
}

/// Ends the transaction, if there is one, and what it watched.
pub(super) fn discard(turn: &mut Turn<'_>) {
    turn.caller.queue = None;
    unwatch_all(&mut turn.core.borrow_mut().keyspace, turn.caller);
}

fn watch(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Outcome {
    if turn.caller.queue.is_some() {
        return Err(Fault::of("ERR WATCH inside MULTI is not allowed"));
    }
    let (db, now_ms) = (turn.caller.db, turn.now_ms());
    let core = &mut *turn.core.borrow_mut();
    for &key in &argv[1..] {
        if turn.caller.watched.iter().any(|watched| watched.db == db && watched.key == key) {
            continue;
        }
        let version = Keys { keyspace: &mut core.keyspace, db, now_ms }.watch(key);
        turn.caller.watched.push(Watched { db, key: key.to_vec(), version });
    }
    turn.reply().ok();
    Ok(())
}

fn unwatch(turn: &mut Turn<'_>, _: &Argv<'_>) -> Outcome {
    unwatch_all(&mut turn.core.borrow_mut().keyspace, turn.caller);
    dispatch::ok(turn)
}

pub(super) fn unwatch_all(keyspace: &mut Keyspace, caller: &mut Caller) {
    for watched in caller.watched.drain(..) {
        keyspace.unwatch(watched.db, &watched.key);
    }
}

fn exec(turn: &mut Turn<'_>, _: &Argv<'_>) -> Outcome {
    let Some(queue) = turn.caller.queue.take() else {
        return Err(Fault::of("ERR EXEC without MULTI"));
    };
    let was_changed = is_any_changed(turn);
    unwatch_all(&mut turn.core.borrow_mut().keyspace, turn.caller);
    if queue.is_broken {
        return Err(Fault::of("EXECABORT Transaction discarded because of previous errors."));
    }
    if was_changed {
        turn.reply().null_array();
        return Ok(());
    }
    run_all(turn, *queue);
    Ok(())
}

fn is_any_changed(turn: &mut Turn<'_>) -> bool {
    let now_ms = turn.now_ms();
    let core = &mut *turn.core.borrow_mut();
    turn.caller.watched.iter().any(|watched| {
        let mut keys = Keys { keyspace: &mut core.keyspace, db: watched.db, now_ms };
        keys.watched_version(&watched.key) != watched.version
    })
}

fn run_all(turn: &mut Turn<'_>, queue: Queue) {
    resp::array_header(turn.out, queue.requests.len());
    turn.place = Place::Transaction;
    for request in &queue.requests {
        let argv: Vec<&[u8]> = request.iter().map(Vec::as_slice).collect();
        match dispatch::know(&argv) {
            Ok(known) => {
                dispatch::run(turn, known, &argv);
            }
            Err(unknown) => resp::error(turn.out, &format!("ERR {}", unknown.text(&argv))),
        }
    }
    turn.place = Place::Session;
}
