//! Strings as bitmaps: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP. Bit 0 is the highest of the first byte.

use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::number::{integer, integer_argument};
use super::super::object::Text;
use super::arguments::is;
use super::substrings::STRING_BYTES_MAX;
use std::ops::Range;

pub(super) const COMMANDS: &[(&str, Handler)] =
    &[("BITCOUNT", bitcount), ("BITOP", bitop), ("BITPOS", bitpos), ("GETBIT", getbit), ("SETBIT", setbit)];

/// An offset in bits; `#n` counts in fields of so many bits, where there are fields.
pub(super) fn bit_offset(argument: &[u8], field_bits: Option<u32>) -> Result<usize, Fault> {
    let offset = match (argument, field_bits) {
        ([b'#', count @ ..], Some(bits)) => integer(count).and_then(|n| n.checked_mul(i64::from(bits))),
        _ => integer(argument),
    };
    let offset = offset.and_then(|offset| usize::try_from(offset).ok());
    offset
        .filter(|offset| offset / 8 < STRING_BYTES_MAX)
        .ok_or(Fault::of("ERR bit offset is not an integer or out of range"))
}

/// Changes the key's string, made and grown so that this bit is in it. `change` gives an answer and whether it changed
/// anything; growing is one of the changes only if something is written, as in Redis.
pub(super) fn change_bits<T>(
    ctx: &mut Context<'_>,
    key: &[u8],
    last_bit: usize,
    change: impl FnOnce(&mut [u8], bool) -> (T, bool),
) -> Result<T, Fault> {
    let raw = ctx.keys.make_as::<Text>(key)?.raw();
    let bytes = raw.len().max(last_bit / 8 + 1);
    let grows = bytes > raw.len();
    raw.resize(bytes, 0);
    let (answer, is_changed) = change(raw, grows);
    match is_changed {
        true => ctx.keys.changed(key),
        false => ctx.keys.recount(key),
    }
    Ok(answer)
}

fn setbit(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let bit = bit_offset(argv[2], None)?;
    let on = integer(argv[3]).filter(|on| matches!(on, 0 | 1));
    let on = on.ok_or(Fault::of("ERR bit is not an integer or out of range"))? == 1;
    let mask = 0x80 >> (bit % 8);
    let before = change_bits(ctx, argv[1], bit, |raw, grows| {
        let before = raw[bit / 8] & mask != 0;
        raw[bit / 8] = raw[bit / 8] & !mask | if on { mask } else { 0 };
        (before, grows || before != on)
    })?;
    ctx.reply.flag(before);
    Ok(())
}

fn getbit(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let bit = bit_offset(argv[2], None)?;
    let is_set = |text: &[u8]| text.get(bit / 8).is_some_and(|byte| byte & 0x80 >> (bit % 8) != 0);
    let is_set = ctx.keys.read_as::<Text>(argv[1])?.is_some_and(|text| text.with(is_set));
    ctx.reply.flag(is_set);
    Ok(())
}

/// `start end` in bytes, or in bits; negative ones count from the end. The bits meant, none if they are crossed.
fn bit_span(start: i64, end: i64, in_bits: bool, bytes: usize) -> Range<usize> {
    let unit = if in_bits { 1 } else { 8 };
    let total = (bytes * 8 / unit) as i64;
    let from_end = |index: i64| if index < 0 { index.saturating_add(total).max(0) } else { index };
    let (start, end) = (from_end(start), from_end(end).min(total - 1));
    if start > end { 0..0 } else { start as usize * unit..(end as usize + 1) * unit }
}

/// BIT or BYTE.
fn counts_bits(argument: &[u8]) -> Result<bool, Fault> {
    match () {
        _ if is(argument, "BIT") => Ok(true),
        _ if is(argument, "BYTE") => Ok(false),
        _ => Err(Fault::SYNTAX),
    }
}

fn bitcount(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let Some(text) = ctx.keys.read_as::<Text>(argv[1])? else {
        ctx.reply.integer(0);
        return Ok(());
    };
    let (start, end, in_bits) = match &argv[2..] {
        [] => (0, -1, false),
        [start, end, unit @ ..] if unit.len() < 2 => {
            let (start, end) = (integer_argument(start)?, integer_argument(end)?);
            // Redis answers these before it looks at the unit.
            if start < 0 && end < 0 && start > end {
                ctx.reply.integer(0);
                return Ok(());
            }
            (start, end, unit.first().map_or(Ok(false), |unit| counts_bits(unit))?)
        }
        _ => return Err(Fault::SYNTAX),
    };
    let count = text.with(|text| ones(text, bit_span(start, end, in_bits, text.len())));
    ctx.reply.count(count);
    Ok(())
}

/// How many bits of the span are set.
fn ones(text: &[u8], span: Range<usize>) -> usize {
    if span.is_empty() {
        return 0;
    }
    let (first, last) = (span.start / 8, (span.end - 1) / 8);
    let (words, rest) = text[first..=last].as_chunks::<8>();
    let whole: u32 = words.iter().map(|word| u64::from_ne_bytes(*word).count_ones()).sum();
    let rest: u32 = rest.iter().map(|byte| byte.count_ones()).sum();
    let before = u32::from(text[first]) >> (8 - span.start % 8);
    let after = text[last] & ((1u32 << (7 - (span.end - 1) % 8)) - 1) as u8;
    whole as usize + rest as usize - before.count_ones() as usize - after.count_ones() as usize
}

fn bitpos(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let bit = integer_argument(argv[2])?;
    if !matches!(bit, 0 | 1) {
        return Err(Fault::of("ERR The bit argument must be 1 or 0."));
    }
    let Some(text) = ctx.keys.read_as::<Text>(argv[1])? else {
        ctx.reply.integer(if bit == 1 { -1 } else { 0 });
        return Ok(());
    };
    let rest = &argv[3..];
    if rest.len() > 3 {
        return Err(Fault::SYNTAX);
    }
    let start = rest.first().map_or(Ok(0), |start| integer_argument(start))?;
    let in_bits = rest.get(2).map_or(Ok(false), |unit| counts_bits(unit))?;
    let end = rest.get(1).map(|end| integer_argument(end)).transpose()?;
    let found = text.with(|text| {
        let span = bit_span(start, end.unwrap_or(-1), in_bits, text.len());
        // Behind a text without an end everything is 0.
        let beyond = if bit == 0 && end.is_none() && !span.is_empty() { span.end as i64 } else { -1 };
        first_bit(text, bit == 1, span).map_or(beyond, |at| at as i64)
    });
    ctx.reply.integer(found);
    Ok(())
}

/// The first bit of the span that is as asked.
fn first_bit(text: &[u8], on: bool, span: Range<usize>) -> Option<usize> {
    if span.is_empty() {
        return None;
    }
    let flip = if on { 0 } else { 0xFF };
    let first = span.start / 8;
    let begun = (text[first] ^ flip) & (0xFF >> (span.start % 8));
    let at = if begun != 0 {
        first * 8 + begun.leading_zeros() as usize
    } else {
        let last = (span.end - 1) / 8;
        let byte = first + 1 + text[first + 1..=last].iter().position(|byte| byte ^ flip != 0)?;
        byte * 8 + (text[byte] ^ flip).leading_zeros() as usize
    };
    (at < span.end).then_some(at)
}

fn bitop(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let (target, sources) = (argv[2], &argv[3..]);
    let combine: fn(u8, u8) -> u8 = match argv[1].to_ascii_uppercase().as_slice() {
        b"AND" => |a, b| a & b,
        b"OR" => |a, b| a | b,
        b"XOR" => |a, b| a ^ b,
        b"NOT" if sources.len() == 1 => |a, _| a,
        b"NOT" => return Err(Fault::of("ERR BITOP NOT must be called with a single source key.")),
        _ => return Err(Fault::SYNTAX),
    };
    let mut texts = Vec::with_capacity(sources.len());
    for key in sources {
        texts.push(ctx.keys.read_as::<Text>(key)?.map_or(Vec::new(), Text::to_vec));
    }
    let len = texts.iter().map(Vec::len).max().unwrap_or(0);
    let mut texts = texts.into_iter();
    let mut result = texts.next().unwrap_or_default();
    result.resize(len, 0);
    for text in texts {
        let (common, tail) = result.split_at_mut(text.len());
        common.iter_mut().zip(&text).for_each(|(byte, other)| *byte = combine(*byte, *other));
        tail.iter_mut().for_each(|byte| *byte = combine(*byte, 0));
    }
    if is(argv[1], "NOT") {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    if len == 0 {
        ctx.keys.remove(target);
    } else {
        ctx.keys.insert(target, Text::Raw(Box::new(result)));
    }
    ctx.reply.count(len);
    Ok(())
}
