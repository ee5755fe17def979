//! Handlers of hashes.

use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::float::Extended;
use super::super::number;
use super::super::number::Digits;
use super::super::types::Hash;
use super::scanning::Found;
use super::{arguments, sampling, scanning};

pub(super) const COMMANDS: &[(&str, Handler)] = &[
    ("HDEL", hdel),
    ("HEXISTS", hexists),
    ("HGET", hget),
    ("HGETALL", hgetall),
    ("HINCRBY", hincrby),
    ("HINCRBYFLOAT", hincrbyfloat),
    ("HKEYS", hkeys),
    ("HLEN", hlen),
    ("HMGET", hmget),
    ("HMSET", hmset),
    ("HRANDFIELD", hrandfield),
    ("HSCAN", hscan),
    ("HSET", hset),
    ("HSETNX", hsetnx),
    ("HSTRLEN", hstrlen),
    ("HVALS", hvals),
];

fn hset(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let new = set_all(ctx, argv, "hset")?;
    ctx.reply.count(new);
    Ok(())
}

fn hmset(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    set_all(ctx, argv, "hmset")?;
    ctx.reply.ok();
    Ok(())
}

fn set_all(ctx: &mut Context<'_>, argv: &Argv<'_>, name: &str) -> Result<usize, Fault> {
    let (pairs, []) = argv[2..].as_chunks::<2>() else { return Err(Fault::arity(name)) };
    let hash = ctx.keys.make_as::<Hash>(argv[1])?;
    let new = pairs.iter().filter(|[field, value]| hash.set(field, value)).count();
    ctx.keys.changed(argv[1]);
    Ok(new)
}

fn hsetnx(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let hash = ctx.keys.make_as::<Hash>(argv[1])?;
    let is_new = !hash.contains(argv[2]);
    if is_new {
        hash.set(argv[2], argv[3]);
        ctx.keys.changed(argv[1]);
    }
    ctx.reply.flag(is_new);
    Ok(())
}

fn hget(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let hash = ctx.keys.read_as::<Hash>(argv[1])?;
    ctx.reply.bulk_or_null(hash.and_then(|hash| hash.get(argv[2])));
    Ok(())
}

fn hmget(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let hash = ctx.keys.read_as::<Hash>(argv[1])?;
    ctx.reply.array(argv.len() - 2);
    for field in &argv[2..] {
        ctx.reply.bulk_or_null(hash.and_then(|hash| hash.get(field)));
    }
    Ok(())
}

fn hdel(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let mut removed = 0;
    if let Some(hash) = ctx.keys.write_as::<Hash>(argv[1])? {
        removed = argv[2..].iter().filter(|field| hash.remove(field)).count();
    }
    if removed > 0 {
        ctx.keys.changed(argv[1]);
    }
    ctx.reply.count(removed);
    Ok(())
}

fn hexists(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let hash = ctx.keys.read_as::<Hash>(argv[1])?;
    ctx.reply.flag(hash.is_some_and(|hash| hash.contains(argv[2])));
    Ok(())
}

fn hlen(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let hash = ctx.keys.read_as::<Hash>(argv[1])?;
    ctx.reply.count(hash.map_or(0, Hash::len));
    Ok(())
}

fn hstrlen(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let hash = ctx.keys.read_as::<Hash>(argv[1])?;
    ctx.reply.count(hash.and_then(|hash| hash.get(argv[2])).map_or(0, <[u8]>::len));
    Ok(())
}

fn hgetall(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let hash = ctx.keys.read_as::<Hash>(argv[1])?;
    ctx.reply.map(hash.map_or(0, Hash::len));
    for (field, value) in hash.iter().flat_map(|hash| hash.iter()) {
        ctx.reply.bulk(field);
        ctx.reply.bulk(value);
    }
    Ok(())
}

fn hkeys(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let hash = ctx.keys.read_as::<Hash>(argv[1])?;
    ctx.reply.array(hash.map_or(0, Hash::len));
    hash.iter().flat_map(|hash| hash.iter()).for_each(|(field, _)| ctx.reply.bulk(field));
    Ok(())
}

fn hvals(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let hash = ctx.keys.read_as::<Hash>(argv[1])?;
    ctx.reply.array(hash.map_or(0, Hash::len));
    hash.iter().flat_map(|hash| hash.iter()).for_each(|(_, value)| ctx.reply.bulk(value));
    Ok(())
}

fn hincrby(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let increment = arguments::integer(argv[3])?;
    let hash = ctx.keys.make_as::<Hash>(argv[1])?;
    let old = match hash.get(argv[2]) {
        Some(value) => number::integer(value).ok_or(Fault::of("ERR hash value is not an integer"))?,
        None => 0,
    };
    let overflow = Fault::of("ERR increment or decrement would overflow");
    let new = old.checked_add(increment).ok_or(overflow)?;
    hash.set(argv[2], &Digits::of(new));
    ctx.keys.changed(argv[1]);
    ctx.reply.integer(new);
    Ok(())
}

fn hincrbyfloat(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let increment = Extended::parse(argv[3]).ok_or(Fault::NOT_A_FLOAT)?;
    if !increment.is_finite() {
        return Err(Fault::of("ERR value is NaN or Infinity"));
    }
    let hash = ctx.keys.make_as::<Hash>(argv[1])?;
    let old = match hash.get(argv[2]) {
        Some(value) => Extended::parse(value).ok_or(Fault::of("ERR hash value is not a float"))?,
        None => Extended::ZERO,
    };
    let new = old.plus(increment);
    if !new.is_finite() {
        return Err(Fault::of("ERR increment would produce NaN or Infinity"));
    }
    let text = new.human();
    hash.set(argv[2], &text);
    ctx.keys.changed(argv[1]);
    ctx.reply.bulk(&text);
    Ok(())
}

fn hrandfield(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let seed = ctx.keys.keyspace.random.next_u64();
    let options = sampling::parse(argv, "WITHVALUES")?;
    let hash = ctx.keys.read_as::<Hash>(argv[1])?;
    let Some(options) = options else {
        ctx.reply.bulk_or_null(hash.map(|hash| hash.at(sampling::below(seed, hash.len())).0));
        return Ok(());
    };
    let Some(hash) = hash else {
        ctx.reply.array(0);
        return Ok(());
    };
    let positions = sampling::positions(seed, hash.len(), options.count);
    let nested = options.with_more && ctx.reply.resp3;
    ctx.reply.array(if options.with_more && !nested { 2 * positions.len() } else { positions.len() });
    // To find many packed fields by position would take long: they are listed once.
    let listed: Vec<_> = hash.iter().take(if hash.is_packed() { hash.len() } else { 0 }).collect();
    for at in positions {
        let (field, value) = listed.get(at).copied().unwrap_or_else(|| hash.at(at));
        if nested {
            ctx.reply.array(2);
        }
        ctx.reply.bulk(field);
        if options.with_more {
            ctx.reply.bulk(value);
        }
    }
    Ok(())
}

fn hscan(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let cursor = scanning::cursor(argv[2])?;
    let Some(hash) = ctx.keys.read_as::<Hash>(argv[1])? else {
        scanning::reply_nothing(&mut ctx.reply);
        return Ok(());
    };
    let options = scanning::options(&argv[3..])?;
    let scan =
        |cursor, found: &mut Found<'_>| hash.scan(cursor, &mut |field, value| found(field, Some(value)));
    scanning::reply(&mut ctx.reply, cursor, &options, scan);
    Ok(())
}
