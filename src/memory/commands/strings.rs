//! Whole strings: GET, SET and their kin, with deadlines and conditions.

use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::keys::Keys;
use super::super::object::{Text, Value};
use super::arguments::is;
use super::deadlines::{Due, Start, Unit};

pub(super) const COMMANDS: &[(&str, Handler)] = &[
    ("GET", get),
    ("GETDEL", getdel),
    ("GETEX", getex),
    ("GETSET", getset),
    ("MGET", mget),
    ("MSET", mset),
    ("MSETNX", msetnx),
    ("PSETEX", psetex),
    ("SET", set),
    ("SETEX", setex),
    ("SETNX", setnx),
];

fn get(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    reply_text(ctx, argv[1])
}

/// The string of the key, or null.
#[inline]
fn reply_text(ctx: &mut Context<'_>, key: &[u8]) -> Outcome {
    match ctx.keys.read_as::<Text>(key)? {
        Some(text) => text.with(|text| ctx.reply.bulk(text)),
        None => ctx.reply.null(),
    }
    Ok(())
}

fn set(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    if argv.len() == 3 {
        ctx.keys.store(argv[1], Value::from(Text::of(argv[2])), None);
        ctx.reply.ok();
        return Ok(());
    }
    set_with(ctx, argv, Options::of_set(&argv[3..])?)
}

fn set_with(ctx: &mut Context<'_>, argv: &Argv<'_>, options: Options<'_>) -> Outcome {
    let key = argv[1];
    let deadline = match options.due {
        Some((due, argument)) => Some(due.parse(argument, argv[0], ctx.keys.now_ms)?),
        None => None,
    };
    if options.get {
        reply_text(ctx, key)?;
    }
    let (hash, found) = ctx.keys.locate(key);
    if found.is_some() && options.only_new || found.is_none() && options.only_old {
        if !options.get {
            ctx.reply.null();
        }
        return Ok(());
    }
    let kept = found.filter(|_| options.keep).and_then(|at| ctx.keys.object(at).deadline());
    ctx.keys.store_at(hash, found, key, Text::of(argv[2]).into(), deadline.or(kept));
    if !options.get {
        ctx.reply.ok();
    }
    Ok(())
}

/// What SET and GETEX may be told behind their operands.
#[derive(Default)]
struct Options<'a> {
    only_new: bool,
    only_old: bool,
    get: bool,
    keep: bool,
    persist: bool,
    due: Option<(Due, &'a [u8])>,
}

impl<'a> Options<'a> {
    fn of_set(arguments: &[&'a [u8]]) -> Result<Options<'a>, Fault> {
        let mut options = Options::default();
        let mut left = arguments.iter();
        while let Some(option) = left.next() {
            let has_time = options.keep || options.due.is_some();
            if is(option, "NX") && !options.only_old {
                options.only_new = true;
            } else if is(option, "XX") && !options.only_new {
                options.only_old = true;
            } else if is(option, "GET") {
                options.get = true;
            } else if is(option, "KEEPTTL") && options.due.is_none() {
                options.keep = true;
            } else {
                options.set_due(option, has_time, left.next())?;
            }
        }
        Ok(options)
    }

    fn of_getex(arguments: &[&'a [u8]]) -> Result<Options<'a>, Fault> {
        let mut options = Options::default();
        let mut left = arguments.iter();
        while let Some(option) = left.next() {
            if is(option, "PERSIST") && options.due.is_none() {
                options.persist = true;
            } else {
                let has_time = options.persist || options.due.is_some();
                options.set_due(option, has_time, left.next())?;
            }
        }
        Ok(options)
    }

    fn set_due(&mut self, option: &[u8], has_time: bool, argument: Option<&&'a [u8]>) -> Outcome {
        let due = match option.to_ascii_uppercase().as_slice() {
            b"EX" => Due(Unit::Seconds, Start::Now),
            b"PX" => Due(Unit::Milliseconds, Start::Now),
            b"EXAT" => Due(Unit::Seconds, Start::Epoch),
            b"PXAT" => Due(Unit::Milliseconds, Start::Epoch),
            _ => return Err(Fault::SYNTAX),
        };
        // One option of time; the same one twice is Redis's too.
        if has_time && self.due.is_none_or(|(other, _)| other != due) {
            return Err(Fault::SYNTAX);
        }
        self.due = Some((due, argument.ok_or(Fault::SYNTAX)?));
        Ok(())
    }
}

fn setex(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    store_due(ctx, argv, Unit::Seconds)
}

fn psetex(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    store_due(ctx, argv, Unit::Milliseconds)
}

fn store_due(ctx: &mut Context<'_>, argv: &Argv<'_>, unit: Unit) -> Outcome {
    let deadline = Due(unit, Start::Now).parse(argv[2], argv[0], ctx.keys.now_ms)?;
    ctx.keys.store(argv[1], Text::of(argv[3]).into(), Some(deadline));
    ctx.reply.ok();
    Ok(())
}

fn setnx(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let (hash, found) = ctx.keys.locate(argv[1]);
    if found.is_none() {
        ctx.keys.store_at(hash, found, argv[1], Text::of(argv[2]).into(), None);
    }
    ctx.reply.flag(found.is_none());
    Ok(())
}

fn getset(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    reply_text(ctx, argv[1])?;
    ctx.keys.store(argv[1], Text::of(argv[2]).into(), None);
    Ok(())
}

fn getdel(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    reply_text(ctx, argv[1])?;
    ctx.keys.remove(argv[1]);
    Ok(())
}

fn getex(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let options = Options::of_getex(&argv[2..])?;
    let key = argv[1];
    reply_text(ctx, key)?;
    if !ctx.keys.exists(key) {
        return Ok(());
    }
    if let Some((due, argument)) = options.due {
        let deadline = due.parse(argument, argv[0], ctx.keys.now_ms)?;
        expire_or_remove(&mut ctx.keys, key, deadline);
    } else if options.persist && ctx.keys.peek(key).is_some_and(|object| object.deadline().is_some()) {
        ctx.keys.expire_at(key, None);
    }
    Ok(())
}

/// A deadline that has passed removes the key.
fn expire_or_remove(keys: &mut Keys<'_>, key: &[u8], deadline: u64) {
    if deadline <= keys.now_ms {
        keys.remove(key);
    } else {
        keys.expire_at(key, Some(deadline));
    }
}

fn mget(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    ctx.reply.array(argv.len() - 1);
    for key in &argv[1..] {
        match ctx.keys.read(key).and_then(|object| object.as_kind::<Text>()) {
            Some(text) => text.with(|text| ctx.reply.bulk(text)),
            None => ctx.reply.null(),
        }
    }
    Ok(())
}

fn mset(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    store_pairs(ctx, argv, "mset")?;
    ctx.reply.ok();
    Ok(())
}

fn msetnx(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let are_new = argv[1..].iter().step_by(2).all(|key| !ctx.keys.exists(key));
    if are_new || argv.len().is_multiple_of(2) {
        store_pairs(ctx, argv, "msetnx")?;
    }
    ctx.reply.flag(are_new);
    Ok(())
}

fn store_pairs(ctx: &mut Context<'_>, argv: &Argv<'_>, name: &str) -> Outcome {
    let pairs = argv[1..].chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(Fault::arity(name));
    }
    pairs.for_each(|pair| ctx.keys.store(pair[0], Text::of(pair[1]).into(), None));
    Ok(())
}
