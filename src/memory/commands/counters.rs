//! Strings that are numbers: INCR and its kin.

use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::float::Extended;
use super::super::number::integer_argument;
use super::super::object::Text;

pub(super) const COMMANDS: &[(&str, Handler)] = &[
    ("DECR", |ctx, argv| add(ctx, argv[1], -1)),
    ("DECRBY", decrby),
    ("INCR", |ctx, argv| add(ctx, argv[1], 1)),
    ("INCRBY", |ctx, argv| add(ctx, argv[1], integer_argument(argv[2])?)),
    ("INCRBYFLOAT", incrbyfloat),
];

fn decrby(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let step = integer_argument(argv[2])?.checked_neg();
    add(ctx, argv[1], step.ok_or(Fault::of("ERR decrement would overflow"))?)
}

fn add(ctx: &mut Context<'_>, key: &[u8], step: i64) -> Outcome {
    let (hash, found) = ctx.keys.locate(key);
    let before = match found {
        Some(at) => {
            let text = ctx.keys.object(at).as_kind::<Text>().ok_or(Fault::WRONG_TYPE)?;
            text.integer().ok_or(Fault::NOT_AN_INTEGER)?
        }
        None => 0,
    };
    let sum = before.checked_add(step).ok_or(Fault::of("ERR increment or decrement would overflow"))?;
    let deadline = found.and_then(|at| ctx.keys.object(at).deadline());
    ctx.keys.store_at(hash, found, key, Text::Integer(sum).into(), deadline);
    ctx.reply.integer(sum);
    Ok(())
}

fn incrbyfloat(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let key = argv[1];
    let before = match ctx.keys.write_as::<Text>(key)? {
        Some(text) => text.with(Extended::parse).ok_or(Fault::NOT_A_FLOAT)?,
        None => Extended::ZERO,
    };
    let step = Extended::parse(argv[2]).ok_or(Fault::NOT_A_FLOAT)?;
    let sum = before.plus(step);
    if !sum.is_finite() {
        return Err(Fault::of("ERR increment would produce NaN or Infinity"));
    }
    let text = sum.human();
    ctx.keys.replace(key, Text::plain(&text));
    ctx.reply.bulk(&text);
    Ok(())
}
