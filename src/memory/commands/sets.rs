//! Handlers of one set at a time; `set_algebra` has those that combine several.

use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::types::Set;
use super::scanning::Found;
use super::{arguments, sampling, scanning};
use std::borrow::Cow;

pub(super) const COMMANDS: &[(&str, Handler)] = &[
    ("SADD", sadd),
    ("SCARD", scard),
    ("SISMEMBER", sismember),
    ("SMEMBERS", smembers),
    ("SMISMEMBER", smismember),
    ("SMOVE", smove),
    ("SPOP", spop),
    ("SRANDMEMBER", srandmember),
    ("SREM", srem),
    ("SSCAN", sscan),
];

/// A set keeps what is left of it, instead of losing what was popped, where that is less than 1/n of it.
const LEFT_OVER: usize = 5;

fn sadd(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let set = ctx.keys.make_as::<Set>(argv[1])?;
    let added = argv[2..].iter().filter(|member| set.add(member)).count();
    if added > 0 {
        ctx.keys.changed(argv[1]);
    }
    ctx.reply.count(added);
    Ok(())
}

fn srem(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let mut removed = 0;
    if let Some(set) = ctx.keys.write_as::<Set>(argv[1])? {
        removed = argv[2..].iter().filter(|member| set.remove(member)).count();
    }
    if removed > 0 {
        ctx.keys.changed(argv[1]);
    }
    ctx.reply.count(removed);
    Ok(())
}

fn smove(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let (source, target, member) = (argv[1], argv[2], argv[3]);
    let Some(is_member) = ctx.keys.write_as::<Set>(source)?.map(|set| set.contains(member)) else {
        ctx.reply.flag(false);
        return Ok(());
    };
    ctx.keys.write_as::<Set>(target)?;
    if is_member && source != target {
        ctx.keys.write_as::<Set>(source)?.expect("it was there just now").remove(member);
        ctx.keys.changed(source);
        if ctx.keys.make_as::<Set>(target)?.add(member) {
            ctx.keys.changed(target);
        }
    }
    ctx.reply.flag(is_member);
    Ok(())
}

fn sismember(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let set = ctx.keys.read_as::<Set>(argv[1])?;
    ctx.reply.flag(set.is_some_and(|set| set.contains(argv[2])));
    Ok(())
}

fn smismember(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let set = ctx.keys.read_as::<Set>(argv[1])?;
    ctx.reply.array(argv.len() - 2);
    for member in &argv[2..] {
        ctx.reply.flag(set.is_some_and(|set| set.contains(member)));
    }
    Ok(())
}

fn scard(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let set = ctx.keys.read_as::<Set>(argv[1])?;
    ctx.reply.count(set.map_or(0, Set::len));
    Ok(())
}

fn smembers(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let set = ctx.keys.read_as::<Set>(argv[1])?;
    ctx.reply.set(set.map_or(0, Set::len));
    set.iter().flat_map(|set| set.iter()).for_each(|member| ctx.reply.bulk(&member));
    Ok(())
}

fn spop(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    if argv.len() > 3 {
        return Err(Fault::SYNTAX);
    }
    let count = argv.get(2).map(|count| arguments::count(count)).transpose()?;
    let seed = ctx.keys.keyspace.random.next_u64();
    let Some(set) = ctx.keys.write_as::<Set>(argv[1])? else {
        match count {
            Some(_) => ctx.reply.set(0),
            None => ctx.reply.null(),
        }
        return Ok(());
    };
    let wanted = count.unwrap_or(1).min(i64::MAX as usize) as i64;
    let positions = sampling::positions(seed, set.len(), wanted);
    let popped: Vec<Vec<u8>> = positions.into_iter().map(|at| set.at(at).into_owned()).collect();
    if count.is_some() {
        ctx.reply.set(popped.len());
    }
    for member in &popped {
        set.remove(member);
        ctx.reply.bulk(member);
    }
    if count.is_some() && set.len() * LEFT_OVER <= popped.len() {
        // As in Redis, what is left becomes integers again where it can.
        *set = set.iter().fold(Set::default(), |mut left, member| {
            left.add(&member);
            left
        });
    }
    if !popped.is_empty() {
        ctx.keys.changed(argv[1]);
    }
    Ok(())
}

fn srandmember(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    if argv.len() > 3 {
        return Err(Fault::SYNTAX);
    }
    let seed = ctx.keys.keyspace.random.next_u64();
    let options = sampling::parse(argv, "")?;
    let set = ctx.keys.read_as::<Set>(argv[1])?;
    let Some(options) = options else {
        ctx.reply.bulk_or_null(set.map(|set| set.at(sampling::below(seed, set.len()))).as_deref());
        return Ok(());
    };
    let positions = sampling::positions(seed, set.map_or(0, Set::len), options.count);
    ctx.reply.array(positions.len());
    if let Some(set) = set {
        positions.into_iter().map(|at| set.at(at)).for_each(|member: Cow<'_, [u8]>| ctx.reply.bulk(&member));
    }
    Ok(())
}

fn sscan(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let cursor = scanning::cursor(argv[2])?;
    let Some(set) = ctx.keys.read_as::<Set>(argv[1])? else {
        scanning::reply_nothing(&mut ctx.reply);
        return Ok(());
    };
    let options = scanning::options(&argv[3..])?;
    let scan = |cursor, found: &mut Found<'_>| set.scan(cursor, &mut |member| found(member, None));
    scanning::reply(&mut ctx.reply, cursor, &options, scan);
    Ok(())
}
