//! SUBSCRIBE and its family, PUBLISH, PUBSUB. Who listens is in `registry`.

use bytes::Bytes;

use super::super::context::{Argv, Outcome};
use super::Delivery;
use super::calls::Call;
use super::dispatch::{Place, Turn};
use super::registry::Kind;
use crate::resp;

pub(super) const CALLS: &[(&str, Call)] = &[
    ("SUBSCRIBE", |turn, argv| subscribe(turn, argv, Kind::Channel, "subscribe")),
    ("PSUBSCRIBE", |turn, argv| subscribe(turn, argv, Kind::Pattern, "psubscribe")),
    ("SSUBSCRIBE", |turn, argv| subscribe(turn, argv, Kind::Shard, "ssubscribe")),
    ("UNSUBSCRIBE", |turn, argv| unsubscribe(turn, argv, Kind::Channel, "unsubscribe")),
    ("PUNSUBSCRIBE", |turn, argv| unsubscribe(turn, argv, Kind::Pattern, "punsubscribe")),
    ("SUNSUBSCRIBE", |turn, argv| unsubscribe(turn, argv, Kind::Shard, "sunsubscribe")),
    ("PUBLISH", |turn, argv| publish(turn, argv, Kind::Channel)),
    ("SPUBLISH", |turn, argv| publish(turn, argv, Kind::Shard)),
    ("PUBSUB|CHANNELS", |turn, argv| channels(turn, argv, Kind::Channel)),
    ("PUBSUB|SHARDCHANNELS", |turn, argv| channels(turn, argv, Kind::Shard)),
    ("PUBSUB|NUMSUB", |turn, argv| numsub(turn, argv, Kind::Channel)),
    ("PUBSUB|SHARDNUMSUB", |turn, argv| numsub(turn, argv, Kind::Shard)),
    ("PUBSUB|NUMPAT", numpat),
    ("PUBSUB|HELP", help),
];

fn subscribe(turn: &mut Turn<'_>, argv: &Argv<'_>, kind: Kind, word: &str) -> Outcome {
    for &name in &argv[1..] {
        turn.core.borrow_mut().registry.subscribe(turn.caller, kind, name);
        confirm(turn, kind, word, Some(name));
    }
    Ok(())
}

fn unsubscribe(turn: &mut Turn<'_>, argv: &Argv<'_>, kind: Kind, word: &str) -> Outcome {
    let all;
    let names: Vec<&[u8]> = match argv.len() {
        1 => {
            all = kind.names(&turn.caller.subscribed);
            all.iter().map(Vec::as_slice).collect()
        }
        _ => argv[1..].to_vec(),
    };
    if names.is_empty() {
        confirm(turn, kind, word, None);
    }
    for name in names {
        turn.core.borrow_mut().registry.unsubscribe(turn.caller, kind, name);
        confirm(turn, kind, word, Some(name));
    }
    Ok(())
}

fn confirm(turn: &mut Turn<'_>, kind: Kind, word: &str, name: Option<&[u8]>) {
    let (count, resp3) = (kind.count(&turn.caller.subscribed), turn.caller.resp3);
    resp::push_header(turn.out, 3, resp3);
    resp::bulk(turn.out, word.as_bytes());
    match name {
        Some(name) => resp::bulk(turn.out, name),
        None => resp::null(turn.out, resp3),
    }
    resp::integer(turn.out, count as i64);
}

/// The publisher's own message comes before the reply that counts it, as in Redis.
fn publish(turn: &mut Turn<'_>, argv: &Argv<'_>, kind: Kind) -> Outcome {
    let core = &mut *turn.core.borrow_mut();
    let mut own: Vec<Bytes> = Vec::new();
    let (inner, id) = (turn.inner, turn.caller.id);
    let count = core.registry.publish(kind, argv[1], argv[2], |caller, frame| match caller == id {
        true => own.push(frame),
        false => inner.post(Delivery::Push { caller, frame }),
    });
    let to_caller = match (&mut core.frame, turn.place) {
        // A script's reply is still to come.
        (Some(frame), Place::Script) => &mut frame.own_messages,
        _ => &mut *turn.out,
    };
    own.iter().for_each(|frame| to_caller.extend_from_slice(frame));
    resp::integer(turn.out, count as i64);
    Ok(())
}

fn channels(turn: &mut Turn<'_>, argv: &Argv<'_>, kind: Kind) -> Outcome {
    if argv.len() > 3 {
        return Err(super::server::wrong_subcommand(argv));
    }
    let core = turn.core.borrow();
    let names = core.registry.names(kind, argv.get(2).copied());
    resp::array_header(turn.out, names.len());
    names.iter().for_each(|name| resp::bulk(turn.out, name));
    Ok(())
}

fn numsub(turn: &mut Turn<'_>, argv: &Argv<'_>, kind: Kind) -> Outcome {
    let core = turn.core.borrow();
    resp::array_header(turn.out, 2 * (argv.len() - 2));
    for &name in &argv[2..] {
        resp::bulk(turn.out, name);
        resp::integer(turn.out, core.registry.listeners(kind, name) as i64);
    }
    Ok(())
}

fn numpat(turn: &mut Turn<'_>, _: &Argv<'_>) -> Outcome {
    let count = turn.core.borrow().registry.patterns();
    turn.reply().count(count);
    Ok(())
}

fn help(turn: &mut Turn<'_>, _: &Argv<'_>) -> Outcome {
    turn.reply().help(&[
        "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CHANNELS [<pattern>]",
        "    The channels that somebody listens to.",
        "NUMPAT",
        "    How many patterns there are.",
        "NUMSUB [<channel> ...]",
        "    How many listen to these channels, patterns not counted.",
        "SHARDCHANNELS [<pattern>]",
        "    The shard channels that somebody listens to.",
        "SHARDNUMSUB [<shardchannel> ...]",
        "    How many listen to these shard channels.",
        "HELP",
        "    This text.",
    ]);
    Ok(())
}
