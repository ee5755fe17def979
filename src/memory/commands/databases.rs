//! Commands on a whole database, or on all: DBSIZE, KEYS, SCAN, RANDOMKEY, FLUSHDB, FLUSHALL, SWAPDB.

use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::glob;
use super::super::number::integer_argument;
use super::arguments::is;
use super::scanning;
use crate::resp;

pub(super) const COMMANDS: &[(&str, Handler)] = &[
    ("DBSIZE", dbsize),
    ("FLUSHALL", flushall),
    ("FLUSHDB", flushdb),
    ("KEYS", keys),
    ("RANDOMKEY", randomkey),
    ("SCAN", scan),
    ("SWAPDB", swapdb),
];

/// A scan that finds nothing looks at most at so many buckets per key that was asked for.
const BUCKETS_PER_KEY: usize = 10;

fn dbsize(ctx: &mut Context<'_>, _: &Argv<'_>) -> Outcome {
    ctx.reply.count(ctx.keys.keyspace.len(ctx.keys.db));
    Ok(())
}

/// ASYNC and SYNC are the same here: the host drops what was emptied after it has released the keyspace.
fn check_flush(argv: &Argv<'_>) -> Outcome {
    match &argv[1..] {
        [] => Ok(()),
        [way] if is(way, "ASYNC") || is(way, "SYNC") => Ok(()),
        _ => Err(Fault::SYNTAX),
    }
}

fn flushall(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    check_flush(argv)?;
    ctx.keys.keyspace.flush_all();
    ctx.reply.ok();
    Ok(())
}

fn flushdb(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    check_flush(argv)?;
    ctx.keys.keyspace.flush(ctx.keys.db);
    ctx.reply.ok();
    Ok(())
}

fn swapdb(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let first = super::int(argv[1]).map_err(|_| Fault::of("ERR invalid first DB index"))?;
    let second = super::int(argv[2]).map_err(|_| Fault::of("ERR invalid second DB index"))?;
    let exists = |db: i64| (0..i64::from(ctx.keys.keyspace.databases())).contains(&db);
    if !exists(first) || !exists(second) {
        return Err(Fault::of("ERR DB index is out of range"));
    }
    ctx.keys.keyspace.swap(first as u32, second as u32, ctx.keys.now_ms);
    ctx.reply.ok();
    Ok(())
}

fn randomkey(ctx: &mut Context<'_>, _: &Argv<'_>) -> Outcome {
    match ctx.keys.random() {
        Some(key) => ctx.reply.bulk(&key),
        None => ctx.reply.null(),
    }
    Ok(())
}

fn keys(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let (mut found, mut count) = (Vec::new(), 0);
    for (key, _) in ctx.keys.iter().filter(|(key, _)| glob::matches(argv[1], key)) {
        resp::bulk(&mut found, key);
        count += 1;
    }
    ctx.reply.array(count);
    ctx.reply.out.extend_from_slice(&found);
    Ok(())
}

struct ScanOptions<'a> {
    count: usize,
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
}

impl<'a> ScanOptions<'a> {
    fn parse(arguments: &[&'a [u8]]) -> Result<ScanOptions<'a>, Fault> {
        let mut options = ScanOptions { count: 10, pattern: None, kind: None };
        let pairs = arguments.chunks_exact(2);
        let is_whole = pairs.remainder().is_empty();
        for pair in pairs {
            match () {
                _ if is(pair[0], "COUNT") => {
                    let count = integer_argument(pair[1])?;
                    options.count =
                        usize::try_from(count).ok().filter(|&count| count > 0).ok_or(Fault::SYNTAX)?;
                }
                _ if is(pair[0], "MATCH") => options.pattern = Some(pair[1]),
                _ if is(pair[0], "TYPE") => options.kind = Some(pair[1]),
                _ => return Err(Fault::SYNTAX),
            }
        }
        if is_whole { Ok(options) } else { Err(Fault::SYNTAX) }
    }
}

fn scan(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let mut cursor = scanning::cursor(argv[1])?;
    let options = ScanOptions::parse(&argv[2..])?;
    let (mut seen, mut shown, mut count) = (0, Vec::new(), 0);
    for _ in 0..options.count.saturating_mul(BUCKETS_PER_KEY) {
        cursor = ctx.keys.scan(cursor, &mut |key, object| {
            seen += 1;
            let fits = options.pattern.is_none_or(|pattern| glob::matches(pattern, key));
            if fits && options.kind.is_none_or(|kind| is(kind, object.value.kind())) {
                resp::bulk(&mut shown, key);
                count += 1;
            }
        });
        if cursor == 0 || seen >= options.count {
            break;
        }
    }
    ctx.reply.array(2);
    ctx.reply.bulk(cursor.to_string().as_bytes());
    ctx.reply.array(count);
    ctx.reply.out.extend_from_slice(&shown);
    Ok(())
}
