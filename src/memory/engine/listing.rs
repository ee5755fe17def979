//! COMMAND and ACL CAT: what the engine says of its commands. The facts are the command table's and `traits`'.

use super::super::context::{Argv, Fault, Outcome};
use super::super::traits::{self, Traits};
use super::super::{commands, glob};
use super::access;
use super::calls::{self, Call};
use super::dispatch::{self, Turn, Unknown};
use crate::command::{self, Keys, ROWS, Row};
use crate::resp::{self, Args};

pub(super) const CALLS: &[(&str, Call)] = &[
    ("COMMAND", command_all),
    ("COMMAND|COUNT", count),
    ("COMMAND|INFO", info),
    ("COMMAND|DOCS", docs),
    ("COMMAND|LIST", list),
    ("COMMAND|GETKEYS", get_keys),
    ("COMMAND|GETKEYSANDFLAGS", get_keys_and_flags),
    ("COMMAND|HELP", help),
    ("ACL|CAT", categories),
];

/// Whether somebody answers it: a handler, the engine, a session.
fn is_answered(row: &'static Row) -> bool {
    let is_container = || row.has_subcommands() && subcommands(row).next().is_some();
    traits::of(row).is_some()
        && (commands::handler(row).is_some()
            || calls::of(row).is_some()
            || dispatch::is_own(row)
            || is_container())
}

fn subcommands(row: &'static Row) -> impl Iterator<Item = &'static Row> {
    let name = row.name;
    ROWS.iter().filter(move |other| {
        other.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('|')) && is_answered(other)
    })
}

fn top_level() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(|row| !row.name.contains('|') && is_answered(row))
}

fn named(word: &[u8]) -> Option<&'static Row> {
    let name = std::str::from_utf8(word).ok()?;
    command::lookup_name(name).filter(|row| is_answered(row))
}

fn command_all(turn: &mut Turn<'_>, _: &Argv<'_>) -> Outcome {
    let rows: Vec<_> = top_level().collect();
    resp::array_header(turn.out, rows.len());
    rows.iter().for_each(|row| describe(turn, row));
    Ok(())
}

fn count(turn: &mut Turn<'_>, _: &Argv<'_>) -> Outcome {
    turn.reply().count(top_level().count());
    Ok(())
}

fn info(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Outcome {
    if argv.len() == 2 {
        return command_all(turn, argv);
    }
    resp::array_header(turn.out, argv.len() - 2);
    for word in &argv[2..] {
        match named(word) {
            Some(row) => describe(turn, row),
            None => turn.reply().null(),
        }
    }
    Ok(())
}

/// Name, arity, flags, first key, last key, step, categories, tips, key specifications, subcommands.
fn describe(turn: &mut Turn<'_>, row: &'static Row) {
    let Some(traits) = traits::of(row) else { return };
    let (first, last, step) = positions(row);
    // The table's rows are those of later versions too: from 7.2 on these take WITHSCORE.
    let arity = if matches!(row.name, "ZRANK" | "ZREVRANK") { 3 } else { row.arity };
    let inner: Vec<_> = if row.has_subcommands() { subcommands(row).collect() } else { Vec::new() };
    let mut reply = turn.reply();
    reply.array(10);
    reply.bulk(row.name.to_ascii_lowercase().as_bytes());
    reply.integer(i64::from(arity));
    let flags: Vec<&str> =
        traits.flags.split_ascii_whitespace().filter(|flag| *flag != "may_replicate").collect();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.simple(flag));
    for number in [first, last, step] {
        reply.integer(number);
    }
    let all = categories_of(traits);
    reply.set(all.len());
    all.iter().for_each(|category| reply.simple(&format!("@{category}")));
    reply.set(0);
    describe_keys(turn, row);
    turn.reply().set(inner.len());
    inner.into_iter().for_each(|row| describe(turn, row));
}

/// First key, last key and step, as far as they are the same in all requests.
fn positions(row: &Row) -> (i64, i64, i64) {
    match row.keys {
        Keys::Range { first, last, step } => (i64::from(first), i64::from(last), i64::from(step)),
        Keys::Counted { plus_first: true, .. } => (1, 1, 1),
        _ if matches!(row.name, "SORT" | "SORT_RO") => (1, 1, 1),
        _ => (0, 0, 0),
    }
}

fn categories_of(traits: &'static Traits) -> Vec<&'static str> {
    let mut all: Vec<&str> = traits.categories.split_ascii_whitespace().collect();
    all.push(if traits.is_fast { "fast" } else { "slow" });
    all
}

/// One specification, for those commands whose keys stand in one range.
fn describe_keys(turn: &mut Turn<'_>, row: &Row) {
    let resp3 = turn.caller.resp3;
    let Keys::Range { first, last, step } = row.keys else {
        return resp::set_header(turn.out, 0, resp3);
    };
    resp::set_header(turn.out, 1, resp3);
    resp::map_header(turn.out, 3, resp3);
    resp::bulk(turn.out, b"flags");
    describe_access(turn, access::of(row).first);
    let out = &mut *turn.out;
    resp::bulk(out, b"begin_search");
    typed(out, resp3, "index", &[("index", i64::from(first))]);
    resp::bulk(out, b"find_keys");
    // Counted from the first key, or from the end.
    let last = if last < 0 { i64::from(last) } else { i64::from(last) - i64::from(first) };
    typed(out, resp3, "range", &[("lastkey", last), ("keystep", i64::from(step)), ("limit", 0)]);
}

fn describe_access(turn: &mut Turn<'_>, flags: &str) {
    let flags: Vec<&str> = flags.split(' ').collect();
    let mut reply = turn.reply();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.simple(flag));
}

fn typed(out: &mut Vec<u8>, resp3: bool, kind: &str, fields: &[(&str, i64)]) {
    resp::map_header(out, 2, resp3);
    resp::bulk(out, b"type");
    resp::bulk(out, kind.as_bytes());
    resp::bulk(out, b"spec");
    resp::map_header(out, fields.len(), resp3);
    for (name, value) in fields {
        resp::bulk(out, name.as_bytes());
        resp::integer(out, *value);
    }
}

/// Only the group: the words about each command are Redis's.
fn docs(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Outcome {
    let rows: Vec<&'static Row> = match argv.len() {
        2 => top_level().collect(),
        _ => argv[2..].iter().filter_map(|word| named(word)).collect(),
    };
    let resp3 = turn.caller.resp3;
    resp::map_header(turn.out, rows.len(), resp3);
    for row in rows {
        let group =
            traits::of(row).and_then(|traits| traits.categories.split_ascii_whitespace().find(is_group));
        resp::bulk(turn.out, row.name.to_ascii_lowercase().as_bytes());
        resp::map_header(turn.out, 2, resp3);
        resp::bulk(turn.out, b"summary");
        resp::bulk(turn.out, format!("{} as Redis 7.0 has it.", row.name.replace('|', " ")).as_bytes());
        resp::bulk(turn.out, b"group");
        resp::bulk(turn.out, group.unwrap_or("server").as_bytes());
    }
    Ok(())
}

fn is_group(category: &&str) -> bool {
    !matches!(*category, "read" | "write" | "admin" | "dangerous" | "blocking" | "keyspace")
}

fn list(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Outcome {
    let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    let all = || ROWS.iter().filter(|row| is_answered(row));
    let rows: Vec<&'static Row> = match &argv[2..] {
        [] => all().collect(),
        [filter, by, value] if is(filter, "filterby") && is(by, "pattern") => {
            let pattern = value.to_ascii_lowercase();
            all().filter(|row| glob::matches(&pattern, row.name.to_ascii_lowercase().as_bytes())).collect()
        }
        [filter, by, value] if is(filter, "filterby") && is(by, "aclcat") => {
            let of = |row: &&'static Row| {
                traits::of(row)
                    .is_some_and(|traits| categories_of(traits).iter().any(|category| is(value, category)))
            };
            all().filter(of).collect()
        }
        [filter, by, _] if is(filter, "filterby") && is(by, "module") => Vec::new(),
        _ => return Err(Fault::SYNTAX),
    };
    resp::array_header(turn.out, rows.len());
    rows.iter().for_each(|row| resp::bulk(turn.out, row.name.to_ascii_lowercase().as_bytes()));
    Ok(())
}

// Keys.

/// The keys of the request that begins at 2, in order.
fn keys_of(argv: &Argv<'_>) -> Result<(&'static Row, Vec<Vec<u8>>), Fault> {
    let request = &argv[2..];
    let row = match dispatch::know(request) {
        Ok(known) => known.row,
        Err(Unknown::Arity(_)) => {
            return Err(Fault::of("ERR Invalid number of arguments specified for command"));
        }
        Err(_) => return Err(Fault::of("ERR Invalid command specified")),
    };
    let mut keys = Vec::new();
    if is_script(row) {
        let count = std::str::from_utf8(request[2]).ok().and_then(|digits| digits.parse().ok());
        let count = count.filter(|count: &usize| *count <= request.len() - 3);
        let count = count.ok_or(Fault::of("ERR Invalid arguments specified for command"))?;
        keys.extend(request[3..3 + count].iter().map(|key| key.to_vec()));
    } else {
        let buffer = request.concat();
        let mut at = 0;
        let ranges: Vec<(u32, u32)> = request
            .iter()
            .map(|arg| {
                let start = at;
                at += arg.len() as u32;
                (start, at)
            })
            .collect();
        row.for_each_key(&Args::new(&buffer, &ranges), &mut |key| keys.push(key.to_vec()));
    }
    match keys.is_empty() && !is_script(row) {
        true => Err(Fault::of("ERR The command has no key arguments")),
        false => Ok((row, keys)),
    }
}

fn is_script(row: &Row) -> bool {
    row.name.starts_with("EVAL")
}

fn get_keys(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Outcome {
    let (_, keys) = keys_of(argv)?;
    resp::array_header(turn.out, keys.len());
    keys.iter().for_each(|key| resp::bulk(turn.out, key));
    Ok(())
}

fn get_keys_and_flags(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Outcome {
    let (row, keys) = keys_of(argv)?;
    let access = access::of_request(row, &argv[2..]);
    turn.reply().array(keys.len());
    for (place, key) in keys.iter().enumerate() {
        turn.reply().array(2);
        turn.reply().bulk(key);
        describe_access(turn, access.of_key(place));
    }
    Ok(())
}

const CATEGORIES: &[&str] = &[
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

fn categories(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Outcome {
    let names: Vec<String> = match argv.get(2) {
        None => CATEGORIES.iter().map(|name| name.to_string()).collect(),
        Some(_) if argv.len() > 3 => return Err(super::server::wrong_subcommand(argv)),
        Some(asked) => {
            let asked = String::from_utf8_lossy(asked).to_ascii_lowercase();
            if !CATEGORIES.contains(&asked.as_str()) {
                return Err(Fault::with(format!("ERR Unknown category '{asked}'")));
            }
            let rows = ROWS.iter().filter(|row| is_answered(row));
            let of = |row: &&'static Row| {
                traits::of(row).is_some_and(|traits| categories_of(traits).contains(&asked.as_str()))
            };
            rows.filter(of).map(|row| row.name.to_ascii_lowercase()).collect()
        }
    };
    resp::array_header(turn.out, names.len());
    names.iter().for_each(|name| resp::bulk(turn.out, name.as_bytes()));
    Ok(())
}

fn help(turn: &mut Turn<'_>, _: &Argv<'_>) -> Outcome {
    turn.reply().help(&[
        "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "(no subcommand)",
        "    All commands.",
        "COUNT",
        "    How many there are.",
        "DOCS [<command-name> ...]",
        "    What they are for, in short.",
        "GETKEYS <full-command>",
        "    The keys of a request.",
        "GETKEYSANDFLAGS <full-command>",
        "    The keys of a request and what it does with them.",
        "INFO [<command-name> ...]",
        "    Flags and positions of keys.",
        "LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
        "    Their names.",
        "HELP",
        "    This text.",
    ]);
    Ok(())
}
