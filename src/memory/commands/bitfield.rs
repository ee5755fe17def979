//! BITFIELD and BITFIELD_RO: integers of any width at any bit of a string.

use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::number::{integer, integer_argument};
use super::super::object::Text;
use super::arguments::is;
use super::bits::{bit_offset, change_bits};

pub(super) const COMMANDS: &[(&str, Handler)] = &[
    ("BITFIELD", |ctx, argv| bitfield(ctx, argv, false)),
    ("BITFIELD_RO", |ctx, argv| bitfield(ctx, argv, true)),
];

/// `i5` or `u12`.
#[derive(Clone, Copy)]
struct Field {
    is_signed: bool,
    bits: u32,
}

/// What a sum that does not fit becomes.
#[derive(Clone, Copy)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

struct Operation {
    field: Field,
    offset: usize,
    overflow: Overflow,
    action: Action,
}

fn bitfield(ctx: &mut Context<'_>, argv: &Argv<'_>, reads_only: bool) -> Outcome {
    let operations = parse(&argv[2..])?;
    let writes = operations.iter().filter(|operation| !matches!(operation.action, Action::Get));
    let Some(last_bit) = writes.map(|write| write.offset + write.field.bits as usize - 1).max() else {
        return reply_fields(ctx, argv[1], &operations);
    };
    if reads_only {
        return Err(Fault::of("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    let answers = change_bits(ctx, argv[1], last_bit, |raw, grows| {
        let mut is_changed = false;
        let apply = |operation: &Operation| {
            let (answer, changes) = operation.apply(raw)?;
            is_changed |= changes || grows && !matches!(operation.action, Action::Get);
            Some(answer)
        };
        let answers: Vec<Option<i64>> = operations.iter().map(apply).collect();
        (answers, is_changed)
    })?;
    ctx.reply.array(answers.len());
    for answer in answers {
        match answer {
            Some(value) => ctx.reply.integer(value),
            None => ctx.reply.null(),
        }
    }
    Ok(())
}

fn reply_fields(ctx: &mut Context<'_>, key: &[u8], operations: &[Operation]) -> Outcome {
    let found = ctx.keys.read_as::<Text>(key)?;
    ctx.reply.array(operations.len());
    let mut show = |text: &[u8]| {
        for operation in operations {
            ctx.reply.integer(operation.field.read(text, operation.offset));
        }
    };
    match found {
        Some(text) => text.with(show),
        None => show(b""),
    }
    Ok(())
}

fn parse(mut arguments: &[&[u8]]) -> Result<Vec<Operation>, Fault> {
    let mut operations = Vec::new();
    let mut overflow = Overflow::Wrap;
    while let [name, rest @ ..] = arguments {
        if let (true, [kind, rest @ ..]) = (is(name, "OVERFLOW"), rest) {
            overflow = Overflow::parse(kind)?;
            arguments = rest;
            continue;
        }
        let makes: Option<fn(i64) -> Action> = match () {
            _ if is(name, "GET") => None,
            _ if is(name, "SET") => Some(Action::Set),
            _ if is(name, "INCRBY") => Some(Action::Add),
            _ => return Err(Fault::SYNTAX),
        };
        let (operands, rest) =
            rest.split_at_checked(if makes.is_some() { 3 } else { 2 }).ok_or(Fault::SYNTAX)?;
        let field = Field::parse(operands[0])?;
        let offset = bit_offset(operands[1], Some(field.bits))?;
        let action = match makes {
            Some(make) => make(integer_argument(operands[2])?),
            None => Action::Get,
        };
        operations.push(Operation { field, offset, overflow, action });
        arguments = rest;
    }
    Ok(operations)
}

impl Overflow {
    fn parse(argument: &[u8]) -> Result<Overflow, Fault> {
        match () {
            _ if is(argument, "WRAP") => Ok(Overflow::Wrap),
            _ if is(argument, "SAT") => Ok(Overflow::Saturate),
            _ if is(argument, "FAIL") => Ok(Overflow::Fail),
            _ => Err(Fault::of("ERR Invalid OVERFLOW type specified")),
        }
    }
}

impl Operation {
    /// Gives what is answered and whether the field has another value now; none for what overflows and may not.
    fn apply(&self, text: &mut [u8]) -> Option<(i64, bool)> {
        let before = self.field.read(text, self.offset);
        let (base, step) = match self.action {
            Action::Get => return Some((before, false)),
            Action::Set(value) => (value, 0),
            Action::Add(step) => (before, step),
        };
        let sum = self.field.sum(base, step, self.overflow)?;
        self.field.write(text, self.offset, sum);
        Some((if let Action::Set(_) = self.action { before } else { sum }, sum != before))
    }
}

impl Field {
    fn parse(argument: &[u8]) -> Result<Field, Fault> {
        let invalid = Fault::of(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        );
        let (is_signed, bits) = match argument {
            [b'i', bits @ ..] => (true, bits),
            [b'u', bits @ ..] => (false, bits),
            _ => return Err(invalid),
        };
        let bits_max = if is_signed { 64 } else { 63 };
        let bits = integer(bits).filter(|bits| (1..=bits_max).contains(bits)).ok_or(invalid)?;
        Ok(Field { is_signed, bits: bits as u32 })
    }

    /// What lies behind the end of the text is 0.
    fn read(self, text: &[u8], offset: usize) -> i64 {
        let mut value: u64 = 0;
        for at in offset..offset + self.bits as usize {
            let byte = text.get(at / 8).copied().unwrap_or(0);
            value = value << 1 | u64::from(byte >> (7 - at % 8) & 1);
        }
        self.extend(value)
    }

    fn write(self, text: &mut [u8], offset: usize, value: i64) {
        for (at, bit) in (offset..).zip((0..self.bits).rev()) {
            let mask = 0x80 >> (at % 8);
            let is_set = value as u64 >> bit & 1 == 1;
            text[at / 8] = text[at / 8] & !mask | if is_set { mask } else { 0 };
        }
    }

    /// The value of the low bits.
    fn extend(self, value: u64) -> i64 {
        let unused = 64 - self.bits;
        match self.is_signed {
            true => (value << unused) as i64 >> unused,
            false => (value << unused >> unused) as i64,
        }
    }

    fn sum(self, base: i64, step: i64, overflow: Overflow) -> Option<i64> {
        let beyond =
            if self.is_signed { self.signed_limit(base, step) } else { self.unsigned_limit(base, step) };
        match (beyond, overflow) {
            (None, _) => Some(base.wrapping_add(step)),
            (Some(_), Overflow::Wrap) => Some(self.extend(base.wrapping_add(step) as u64)),
            (Some(limit), Overflow::Saturate) => Some(limit),
            (Some(_), Overflow::Fail) => None,
        }
    }

    /// The limit that the sum is beyond. Its differences wrap as Redis's do, which shows for far too small bases.
    fn signed_limit(self, base: i64, step: i64) -> Option<i64> {
        let max = ((1u64 << (self.bits - 1)) - 1) as i64;
        let min = -max - 1;
        let (step_max, step_min) = (max.wrapping_sub(base), min.wrapping_sub(base));
        let is_narrow = self.bits != 64;
        if base > max || is_narrow && step > step_max || base >= 0 && step > 0 && step > step_max {
            Some(max)
        } else if base < min || is_narrow && step < step_min || base < 0 && step < 0 && step < step_min {
            Some(min)
        } else {
            None
        }
    }

    fn unsigned_limit(self, base: i64, step: i64) -> Option<i64> {
        let max = u64::MAX >> (64 - self.bits);
        let base = base as u64;
        let step_max = max.wrapping_sub(base) as i64;
        if base > max || step > 0 && step > step_max {
            Some(max as i64)
        } else if step < 0 && step < (base as i64).wrapping_neg() {
            Some(0)
        } else {
            None
        }
    }
}
