//! PFADD, PFCOUNT, PFMERGE and what looks into HyperLogLogs. The structure is `hyperloglog`'s.

use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::hyperloglog;
use super::super::hyperloglog::{Corrupted, Registers};
use super::super::keys::Keys;
use super::super::object::Text;
use super::arguments::is;

pub(super) const COMMANDS: &[(&str, Handler)] = &[
    ("PFADD", pfadd),
    ("PFCOUNT", pfcount),
    ("PFDEBUG", pfdebug),
    ("PFMERGE", pfmerge),
    ("PFSELFTEST", pfselftest),
];

const NOT_VALID: Fault = Fault::of("WRONGTYPE Key is not a valid HyperLogLog string value.");

impl From<Corrupted> for Fault {
    fn from(_: Corrupted) -> Fault {
        Fault::of("INVALIDOBJ Corrupted HLL object detected")
    }
}

/// The HyperLogLog of the key for changing it; then call `changed`.
fn raw<'k>(keys: &'k mut Keys<'_>, key: &[u8]) -> Result<Option<&'k mut Vec<u8>>, Fault> {
    match keys.write_as::<Text>(key)? {
        Some(text) if text.with(hyperloglog::is_valid) => Ok(Some(text.raw())),
        Some(_) => Err(NOT_VALID),
        None => Ok(None),
    }
}

/// The same, made if there is none.
fn make_raw<'k>(keys: &'k mut Keys<'_>, key: &[u8]) -> Result<&'k mut Vec<u8>, Fault> {
    let raw = keys.make_as::<Text>(key)?.raw();
    if raw.is_empty() {
        *raw = hyperloglog::empty();
    }
    Ok(raw)
}

/// Hands the HyperLogLogs of the keys that are there to `f`.
fn each(keys: &mut Keys<'_>, names: &[&[u8]], f: &mut dyn FnMut(&[u8]) -> Outcome) -> Outcome {
    for name in names {
        if let Some(text) = keys.read_as::<Text>(name)? {
            text.with(|text| if hyperloglog::is_valid(text) { f(text) } else { Err(NOT_VALID) })?;
        }
    }
    Ok(())
}

fn pfadd(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let key = argv[1];
    let is_new = raw(&mut ctx.keys, key)?.is_none();
    let text = make_raw(&mut ctx.keys, key)?;
    let mut changed = is_new;
    let added: Result<(), Corrupted> = argv[2..].iter().try_for_each(|element| {
        changed |= hyperloglog::add(text, element)?;
        Ok(())
    });
    if changed && added.is_ok() {
        hyperloglog::invalidate(text);
        ctx.keys.changed(key);
    } else {
        ctx.keys.recount(key);
    }
    added?;
    ctx.reply.flag(changed);
    Ok(())
}

fn pfcount(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let mut registers = Registers::new();
    if let [_, key] = argv {
        let Some(text) = raw(&mut ctx.keys, key)? else {
            ctx.reply.integer(0);
            return Ok(());
        };
        if let Some(count) = hyperloglog::cached(text) {
            ctx.reply.count(count as usize);
            return Ok(());
        }
        registers.merge(text)?;
        hyperloglog::cache(text, registers.estimate());
        ctx.keys.changed(key);
    } else {
        each(&mut ctx.keys, &argv[1..], &mut |text| Ok(registers.merge(text)?))?;
    }
    ctx.reply.count(registers.estimate() as usize);
    Ok(())
}

fn pfmerge(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let mut registers = Registers::new();
    let mut is_dense = false;
    each(&mut ctx.keys, &argv[1..], &mut |text| {
        is_dense |= hyperloglog::is_dense(text);
        Ok(registers.merge(text)?)
    })?;
    let text = make_raw(&mut ctx.keys, argv[1])?;
    if is_dense {
        hyperloglog::make_dense(text)?;
    }
    registers.raise_all(text)?;
    hyperloglog::invalidate(text);
    ctx.keys.changed(argv[1]);
    ctx.reply.ok();
    Ok(())
}

fn pfselftest(ctx: &mut Context<'_>, _: &Argv<'_>) -> Outcome {
    ctx.reply.ok();
    Ok(())
}

fn pfdebug(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let (what, key) = (argv[1], argv[2]);
    let text = raw(&mut ctx.keys, key)?.ok_or(Fault::of("ERR The specified key does not exist"))?;
    let was_dense = hyperloglog::is_dense(text);
    if is(what, "GETREG") {
        hyperloglog::make_dense(text)?;
        let mut registers = Registers::new();
        registers.merge(text)?;
        ctx.reply.array(registers.ranks().len());
        registers.ranks().iter().for_each(|&rank| ctx.reply.integer(i64::from(rank)));
        ctx.keys.changed(key);
    } else if is(what, "DECODE") {
        if was_dense {
            return Err(Fault::of("ERR HLL encoding is not sparse"));
        }
        ctx.reply.bulk(hyperloglog::decode(text)?.as_bytes());
    } else if is(what, "ENCODING") {
        ctx.reply.simple(if was_dense { "dense" } else { "sparse" });
    } else if is(what, "TODENSE") {
        hyperloglog::make_dense(text)?;
        ctx.keys.changed(key);
        ctx.reply.flag(!was_dense);
    } else {
        let what = String::from_utf8_lossy(what);
        return Err(Fault::with(format!("ERR Unknown PFDEBUG subcommand '{what}'")));
    }
    Ok(())
}
