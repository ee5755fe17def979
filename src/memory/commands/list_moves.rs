//! Handlers that move elements of lists from key to key, pop from one of several keys, or wait for an element.

use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::types::{End, List};
use super::{arguments, waiting};

pub(super) const COMMANDS: &[(&str, Handler)] = &[
    ("BLMOVE", blmove),
    ("BLMPOP", blmpop),
    ("BLPOP", blpop),
    ("BRPOP", brpop),
    ("BRPOPLPUSH", brpoplpush),
    ("LMOVE", lmove),
    ("LMPOP", lmpop),
    ("RPOPLPUSH", rpoplpush),
];

fn end(argument: &[u8]) -> Result<End, Fault> {
    match argument {
        end if arguments::is(end, "LEFT") => Ok(End::Left),
        end if arguments::is(end, "RIGHT") => Ok(End::Right),
        _ => Err(Fault::SYNTAX),
    }
}

fn rpoplpush(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    if !shift(ctx, argv, End::Right, End::Left)? {
        ctx.reply.null();
    }
    Ok(())
}

fn lmove(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    if !shift(ctx, argv, end(argv[3])?, end(argv[4])?)? {
        ctx.reply.null();
    }
    Ok(())
}

/// Moves an element from the key at 1 to the one at 2 and replies it; gives whether there was one.
fn shift(ctx: &mut Context<'_>, argv: &Argv<'_>, from: End, to: End) -> Result<bool, Fault> {
    let (source, target) = (argv[1], argv[2]);
    if ctx.keys.write_as::<List>(source)?.is_none() {
        return Ok(false);
    }
    ctx.keys.write_as::<List>(target)?;
    let popped = ctx.keys.write_as::<List>(source)?.and_then(|list| list.pop(from));
    let element = popped.expect("a key holds no empty list");
    // First the target: the list may be both and must not be removed for being empty meanwhile.
    ctx.keys.make_as::<List>(target)?.push(to, &element);
    ctx.keys.changed(target);
    if source != target {
        ctx.keys.changed(source);
    }
    ctx.reply.bulk(&element);
    Ok(true)
}

fn blmove(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let (from, to) = (end(argv[3])?, end(argv[4])?);
    shift_or_wait(ctx, argv, from, to, argv[5])
}

fn brpoplpush(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    shift_or_wait(ctx, argv, End::Right, End::Left, argv[3])
}

fn shift_or_wait(ctx: &mut Context<'_>, argv: &Argv<'_>, from: End, to: End, timeout: &[u8]) -> Outcome {
    let deadline = arguments::deadline(timeout, ctx.keys.now_ms)?;
    if waiting::candidates::<List>(ctx, &argv[1..2])?.is_some() {
        shift(ctx, argv, from, to)?;
    } else if ctx.may_block {
        waiting::begin(ctx, &argv[1..2], deadline);
    } else {
        ctx.reply.null();
    }
    Ok(())
}

fn blpop(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    pop_or_wait(ctx, argv, End::Left)
}

fn brpop(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    pop_or_wait(ctx, argv, End::Right)
}

fn pop_or_wait(ctx: &mut Context<'_>, argv: &Argv<'_>, end: End) -> Outcome {
    let (timeout, keys) = argv[1..].split_last().expect("the arity asks for a timeout");
    let deadline = arguments::deadline(timeout, ctx.keys.now_ms)?;
    let Some(key) = waiting::candidates::<List>(ctx, keys)? else {
        waiting::begin_or_null(ctx, keys, deadline);
        return Ok(());
    };
    let list = ctx.keys.write_as::<List>(key)?;
    let element = list.and_then(|list| list.pop(end)).expect("a key holds no empty list");
    ctx.keys.changed(key);
    ctx.reply.array(2);
    ctx.reply.bulk(key);
    ctx.reply.bulk(&element);
    Ok(())
}

/// `numkeys key.. LEFT|RIGHT [COUNT count]`
struct Pops<'a, 'b> {
    keys: &'b [&'a [u8]],
    end: End,
    count: usize,
}

fn lmpop(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let pops = Pops::parse(&argv[1..])?;
    match waiting::candidates::<List>(ctx, pops.keys)? {
        Some(key) => pops.pop(ctx, key),
        None => {
            ctx.reply.null_array();
            Ok(())
        }
    }
}

fn blmpop(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let pops = Pops::parse(&argv[2..])?;
    let deadline = arguments::deadline(argv[1], ctx.keys.now_ms)?;
    match waiting::candidates::<List>(ctx, pops.keys)? {
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
        let (side, rest) = rest.split_first().ok_or(Fault::SYNTAX)?;
        Ok(Pops { keys, end: end(side)?, count: arguments::pop_count(rest)? })
    }

    fn pop(&self, ctx: &mut Context<'_>, key: &[u8]) -> Outcome {
        let list = ctx.keys.write_as::<List>(key)?.expect("it was there just now");
        let count = self.count.min(list.len());
        ctx.reply.array(2);
        ctx.reply.bulk(key);
        ctx.reply.array(count);
        (0..count).filter_map(|_| list.pop(self.end)).for_each(|element| ctx.reply.bulk(&element));
        ctx.keys.changed(key);
        Ok(())
    }
}
