//! When keys end: EXPIRE, TTL, PERSIST and their kin, and times in arguments.

use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::number::integer_argument;
use super::arguments::is;

pub(super) const COMMANDS: &[(&str, Handler)] = &[
    ("EXPIRE", |ctx, argv| expire(ctx, argv, Due(Unit::Seconds, Start::Now))),
    ("EXPIREAT", |ctx, argv| expire(ctx, argv, Due(Unit::Seconds, Start::Epoch))),
    ("EXPIRETIME", |ctx, argv| reply_time(ctx, argv, Unit::Seconds, Start::Epoch)),
    ("PERSIST", persist),
    ("PEXPIRE", |ctx, argv| expire(ctx, argv, Due(Unit::Milliseconds, Start::Now))),
    ("PEXPIREAT", |ctx, argv| expire(ctx, argv, Due(Unit::Milliseconds, Start::Epoch))),
    ("PEXPIRETIME", |ctx, argv| reply_time(ctx, argv, Unit::Milliseconds, Start::Epoch)),
    ("PTTL", |ctx, argv| reply_time(ctx, argv, Unit::Milliseconds, Start::Now)),
    ("TTL", |ctx, argv| reply_time(ctx, argv, Unit::Seconds, Start::Now)),
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
}

/// What a time counts from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    Now,
    Epoch,
}

/// How an argument says when a key ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Due(pub(super) Unit, pub(super) Start);

impl Due {
    /// Unix milliseconds. Zero and what is negative is not a time, nor is what does not fit.
    pub(super) fn parse(self, argument: &[u8], name: &[u8], now_ms: u64) -> Result<u64, Fault> {
        let time = integer_argument(argument)?;
        let factor = if self.0 == Unit::Seconds { 1000 } else { 1 };
        let start = if self.1 == Start::Now { now_ms as i64 } else { 0 };
        let deadline = Some(time).filter(|&time| time > 0).and_then(|time| time.checked_mul(factor));
        let deadline = deadline.and_then(|time| time.checked_add(start));
        deadline.map(|deadline| deadline as u64).ok_or_else(|| Fault::expire_time(name))
    }

    /// The same, where a time that has passed is a time too.
    fn parse_any(self, argument: &[u8], name: &[u8], now_ms: u64) -> Result<i64, Fault> {
        let time = integer_argument(argument)?;
        let factor = if self.0 == Unit::Seconds { 1000 } else { 1 };
        let start = if self.1 == Start::Now { now_ms as i64 } else { 0 };
        let deadline = time.checked_mul(factor).and_then(|time| time.checked_add(start));
        deadline.ok_or_else(|| Fault::expire_time(name))
    }
}

/// Under which condition EXPIRE sets a deadline.
#[derive(Default)]
struct Conditions {
    none_yet: bool,
    one_already: bool,
    later: bool,
    earlier: bool,
}

impl Conditions {
    fn parse(options: &[&[u8]]) -> Result<Conditions, Fault> {
        let mut conditions = Conditions::default();
        for option in options {
            match () {
                _ if is(option, "NX") => conditions.none_yet = true,
                _ if is(option, "XX") => conditions.one_already = true,
                _ if is(option, "GT") => conditions.later = true,
                _ if is(option, "LT") => conditions.earlier = true,
                _ => {
                    let option = String::from_utf8_lossy(option);
                    return Err(Fault::with(format!("ERR Unsupported option {option}")));
                }
            }
        }
        let Conditions { none_yet, one_already, later, earlier } = conditions;
        if none_yet && (one_already || later || earlier) {
            return Err(Fault::of("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if later && earlier {
            return Err(Fault::of("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(conditions)
    }

    /// No deadline is later than all.
    fn hold(&self, now: Option<u64>, coming: i64) -> bool {
        let now = now.map(|now| now as i64);
        !(self.none_yet && now.is_some()
            || self.one_already && now.is_none()
            || self.later && now.is_none_or(|now| coming <= now)
            || self.earlier && now.is_some_and(|now| coming >= now))
    }
}

fn expire(ctx: &mut Context<'_>, argv: &Argv<'_>, due: Due) -> Outcome {
    let conditions = Conditions::parse(&argv[3..])?;
    let deadline = due.parse_any(argv[2], argv[0], ctx.keys.now_ms)?;
    let key = argv[1];
    let Some(now) = ctx.keys.peek(key).map(|object| object.deadline()) else {
        ctx.reply.flag(false);
        return Ok(());
    };
    let holds = conditions.hold(now, deadline);
    if holds && deadline <= ctx.keys.now_ms as i64 {
        ctx.keys.remove(key);
    } else if holds {
        ctx.keys.expire_at(key, Some(deadline as u64));
    }
    ctx.reply.flag(holds);
    Ok(())
}

fn persist(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let ends = ctx.keys.write(argv[1]).is_some_and(|object| object.deadline().is_some());
    if ends {
        ctx.keys.expire_at(argv[1], None);
    }
    ctx.reply.flag(ends);
    Ok(())
}

fn reply_time(ctx: &mut Context<'_>, argv: &Argv<'_>, unit: Unit, start: Start) -> Outcome {
    let now_ms = ctx.keys.now_ms;
    let time = match ctx.keys.read_untouched(argv[1]).map(|object| object.deadline()) {
        None => -2,
        Some(None) => -1,
        Some(Some(deadline)) => {
            let ms = if start == Start::Now { deadline.saturating_sub(now_ms) } else { deadline };
            // Rounded, and without overflow at the far end.
            let time = if unit == Unit::Seconds { ms / 1000 + u64::from(ms % 1000 >= 500) } else { ms };
            time as i64
        }
    };
    ctx.reply.integer(time);
    Ok(())
}
