//! Parts of strings, and strings that grow: GETRANGE, SETRANGE, APPEND, STRLEN.

use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::number::integer_argument;
use super::super::object::Text;
use std::ops::Range;

pub(super) const COMMANDS: &[(&str, Handler)] = &[
    ("APPEND", append),
    ("GETRANGE", getrange),
    ("SETRANGE", setrange),
    ("STRLEN", strlen),
    ("SUBSTR", getrange),
];

/// The longest string, Redis's proto-max-bulk-len.
pub(super) const STRING_BYTES_MAX: usize = 512 * 1024 * 1024;

const TOO_LONG: Fault = Fault::of("ERR string exceeds maximum allowed size (proto-max-bulk-len)");

fn append(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let (key, tail) = (argv[1], argv[2]);
    let len = match ctx.keys.write_as::<Text>(key)? {
        Some(text) if text.len() + tail.len() > STRING_BYTES_MAX => return Err(TOO_LONG),
        Some(text) => {
            let raw = text.raw();
            raw.extend_from_slice(tail);
            let len = raw.len();
            ctx.keys.changed(key);
            len
        }
        None => {
            ctx.keys.insert(key, Text::of(tail));
            tail.len()
        }
    };
    ctx.reply.count(len);
    Ok(())
}

fn strlen(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let len = ctx.keys.read_as::<Text>(argv[1])?.map_or(0, Text::len);
    ctx.reply.count(len);
    Ok(())
}

fn getrange(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let (start, end) = (integer_argument(argv[2])?, integer_argument(argv[3])?);
    match ctx.keys.read_as::<Text>(argv[1])? {
        Some(text) => text.with(|text| ctx.reply.bulk(&text[span(start, end, text.len())])),
        None => ctx.reply.bulk(b""),
    }
    Ok(())
}

/// From `start` to `end`, negative ones counted from the end; what is still negative then is 0.
pub(super) fn span(start: i64, end: i64, len: usize) -> Range<usize> {
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    let from_end = |index: i64| if index < 0 { index.saturating_add(len as i64).max(0) } else { index };
    let (start, end) = (from_end(start), from_end(end).min(len as i64 - 1));
    if start > end { 0..0 } else { start as usize..end as usize + 1 }
}

fn setrange(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let (key, part) = (argv[1], argv[3]);
    let offset = integer_argument(argv[2])?;
    let offset = usize::try_from(offset).map_err(|_| Fault::of("ERR offset is out of range"))?;
    let found = ctx.keys.write_as::<Text>(key)?.map(|text| text.len());
    if part.is_empty() {
        ctx.reply.count(found.unwrap_or(0));
        return Ok(());
    }
    let end = offset.checked_add(part.len()).filter(|&end| end <= STRING_BYTES_MAX).ok_or(TOO_LONG)?;
    let raw = ctx.keys.make_as::<Text>(key)?.raw();
    if raw.len() < end {
        raw.resize(end, 0);
    }
    raw[offset..end].copy_from_slice(part);
    let len = raw.len();
    ctx.keys.changed(key);
    ctx.reply.count(len);
    Ok(())
}
