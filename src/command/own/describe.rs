//! Writes what COMMAND INFO and COMMAND DOCS answer about one command, in the shapes of Redis 7.

use super::Own;
use super::usage::{self, Argument, Kind};
use crate::resp::{array_header, bulk, integer, map_header, set_header, simple};

/// Name, arity, flags, first key, last key, step, categories, tips, key specifications, subcommands.
pub(super) fn info(own: &Own, resp3: bool, out: &mut Vec<u8>) {
    array_header(out, 10);
    bulk(out, own.name().as_bytes());
    integer(out, i64::from(own.row().arity));
    words(&own.flags(), resp3, out);
    // Their keys are not among their arguments.
    for _ in 0..3 {
        integer(out, 0);
    }
    words(&own.categories(), resp3, out);
    set_header(out, 0, resp3);
    set_header(out, 0, resp3);
    let inner = own.subcommands();
    match inner.is_empty() {
        true => set_header(out, 0, resp3),
        false => array_header(out, inner.len()),
    }
    inner.into_iter().for_each(|own| info(own, resp3, out));
}

fn words(words: &[&str], resp3: bool, out: &mut Vec<u8>) {
    set_header(out, words.len(), resp3);
    words.iter().for_each(|word| simple(out, word));
}

/// The name, and the map of what is to be said about it.
pub(super) fn docs(own: &Own, resp3: bool, out: &mut Vec<u8>) {
    bulk(out, own.name().as_bytes());
    let (inner, accepts) = (own.subcommands(), usage::parse(own.usage));
    let parts = 4 + usize::from(!accepts.is_empty()) + usize::from(!inner.is_empty());
    map_header(out, parts, resp3);
    let group = own.group();
    let texts =
        [("summary", own.summary), ("since", own.since()), ("group", &group), ("complexity", own.complexity)];
    for (name, text) in texts {
        field(name, text, out);
    }
    if !accepts.is_empty() {
        bulk(out, b"arguments");
        arguments(&accepts, resp3, out);
    }
    if !inner.is_empty() {
        bulk(out, b"subcommands");
        map_header(out, inner.len(), resp3);
        inner.into_iter().for_each(|own| docs(own, resp3, out));
    }
}

fn arguments(all: &[Argument], resp3: bool, out: &mut Vec<u8>) {
    array_header(out, all.len());
    all.iter().for_each(|one| argument(one, resp3, out));
}

fn argument(argument: &Argument, resp3: bool, out: &mut Vec<u8>) {
    let (kind, inner) = match &argument.kind {
        Kind::Text => ("string", None),
        Kind::Integer => ("integer", None),
        Kind::Word => ("pure-token", None),
        Kind::OneOf(inner) => ("oneof", Some(inner)),
        Kind::Block(inner) => ("block", Some(inner)),
    };
    let mut flags = Vec::new();
    flags.extend(argument.optional.then_some("optional"));
    flags.extend(argument.multiple.then_some("multiple"));
    let parts = [argument.token.is_some(), !flags.is_empty(), inner.is_some()];
    map_header(out, 2 + parts.into_iter().filter(|part| *part).count(), resp3);
    field("name", &argument.name, out);
    field("type", kind, out);
    if let Some(token) = &argument.token {
        field("token", token, out);
    }
    if !flags.is_empty() {
        bulk(out, b"flags");
        words(&flags, resp3, out);
    }
    if let Some(inner) = inner {
        bulk(out, b"arguments");
        arguments(inner, resp3, out);
    }
}

fn field(name: &str, text: &str, out: &mut Vec<u8>) {
    bulk(out, name.as_bytes());
    bulk(out, text.as_bytes());
}
