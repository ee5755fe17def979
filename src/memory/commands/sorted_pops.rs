//! Handlers that take the lowest or highest members of sorted sets, also from one of several keys, also waiting for them.

use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::types::{Entry, Sorted};
use super::{arguments, waiting};

pub(super) const COMMANDS: &[(&str, Handler)] = &[
    ("BZMPOP", bzmpop),
    ("BZPOPMAX", bzpopmax),
    ("BZPOPMIN", bzpopmin),
    ("ZMPOP", zmpop),
    ("ZPOPMAX", zpopmax),
    ("ZPOPMIN", zpopmin),
];

#[derive(Clone, Copy)]
enum Side {
    Lowest,
    Highest,
}

fn zpopmin(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    pop(ctx, argv, Side::Lowest)
}

fn zpopmax(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    pop(ctx, argv, Side::Highest)
}

fn pop(ctx: &mut Context<'_>, argv: &Argv<'_>, side: Side) -> Outcome {
    if argv.len() > 3 {
        return Err(Fault::SYNTAX);
    }
    let count = argv.get(2).map(|count| arguments::count(count)).transpose()?;
    let popped = take(ctx, argv[1], side, count.unwrap_or(1))?;
    // Without a count the one pair is flat even in RESP3.
    let is_nested = ctx.reply.resp3 && count.is_some();
    ctx.reply.array(if is_nested { popped.len() } else { 2 * popped.len() });
    for entry in popped {
        if is_nested {
            ctx.reply.array(2);
        }
        ctx.reply.bulk(&entry.member);
        ctx.reply.score(entry.score);
    }
    Ok(())
}

fn take(ctx: &mut Context<'_>, key: &[u8], side: Side, count: usize) -> Result<Vec<Entry>, Fault> {
    let Some(sorted) = ctx.keys.write_as::<Sorted>(key)? else { return Ok(Vec::new()) };
    let taken = (0..count.min(sorted.len())).map(|_| match side {
        Side::Lowest => sorted.remove_at(0),
        Side::Highest => sorted.remove_at(sorted.len() - 1),
    });
    let taken: Vec<Entry> = taken.collect();
    if !taken.is_empty() {
        ctx.keys.changed(key);
    }
    Ok(taken)
}

fn bzpopmin(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    pop_or_wait(ctx, argv, Side::Lowest)
}

fn bzpopmax(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    pop_or_wait(ctx, argv, Side::Highest)
}

fn pop_or_wait(ctx: &mut Context<'_>, argv: &Argv<'_>, side: Side) -> Outcome {
    let (timeout, keys) = argv[1..].split_last().expect("the arity asks for a timeout");
    let deadline = arguments::deadline(timeout, ctx.keys.now_ms)?;
    let Some(key) = waiting::candidates::<Sorted>(ctx, keys)? else {
        waiting::begin_or_null(ctx, keys, deadline);
        return Ok(());
    };
    let entry = take(ctx, key, side, 1)?.pop().expect("a key holds no empty set");
    ctx.reply.array(3);
    ctx.reply.bulk(key);
    ctx.reply.bulk(&entry.member);
    ctx.reply.score(entry.score);
    Ok(())
}

/// `numkeys key.. MIN|MAX [COUNT count]`
struct Pops<'a, 'b> {
    keys: &'b [&'a [u8]],
    side: Side,
    count: usize,
}

fn zmpop(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let pops = Pops::parse(&argv[1..])?;
    match waiting::candidates::<Sorted>(ctx, pops.keys)? {
        Some(key) => pops.pop(ctx, key),
        None => {
            ctx.reply.null_array();
            Ok(())
        }
    }
}

fn bzmpop(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let pops = Pops::parse(&argv[2..])?;
    let deadline = arguments::deadline(argv[1], ctx.keys.now_ms)?;
    match waiting::candidates::<Sorted>(ctx, pops.keys)? {
        Some(key) => pops.pop(ctx, key),
        None => {
            waiting::begin_or_null(ctx, pops.keys, deadline);
            Ok(())
        }
    }
}

impl<'a, 'b> Pops<'a, 'b> {
    fn parse(arguments: &'b [&'a [u8]]) -> Result<Pops<'a, 'b>, Fault> {
        let (keys, rest) = arguments::counted_keys(arguments, Fault::SYNTAX)?;
        let side = match rest.first() {
            Some(side) if arguments::is(side, "MIN") => Side::Lowest,
            Some(side) if arguments::is(side, "MAX") => Side::Highest,
            _ => return Err(Fault::SYNTAX),
        };
        Ok(Pops { keys, side, count: arguments::pop_count(&rest[1..])? })
    }

    fn pop(&self, ctx: &mut Context<'_>, key: &[u8]) -> Outcome {
        let popped = take(ctx, key, self.side, self.count)?;
        ctx.reply.array(2);
        ctx.reply.bulk(key);
        ctx.reply.array(popped.len());
        for entry in popped {
            ctx.reply.array(2);
            ctx.reply.bulk(&entry.member);
            ctx.reply.score(entry.score);
        }
        Ok(())
    }
}
