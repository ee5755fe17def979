//! What HSCAN, SSCAN and ZSCAN have in common: cursor, options, and the reply of one step.

use super::super::context::{Fault, Reply};
use super::super::glob;
use super::arguments;
use crate::resp;

/// A scan that finds nothing looks at most at so many buckets per element that was asked for.
const BUCKETS_PER_ELEMENT: usize = 10;

/// Told of an element and what belongs to it, its value or its score.
pub(super) type Found<'f> = dyn FnMut(&[u8], Option<&[u8]>) + 'f;

pub(super) struct Options<'a> {
    count: usize,
    pattern: Option<&'a [u8]>,
}

/// As C's `strtoul` takes it, which wraps negative numbers.
pub(super) fn cursor(argument: &[u8]) -> Result<u64, Fault> {
    let invalid = Fault::of("ERR invalid cursor");
    let (is_negative, digits) = match argument {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if argument.is_empty() {
        return Ok(0);
    }
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(invalid);
    }
    let step = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    let cursor = digits.iter().try_fold(0, step).ok_or(invalid)?;
    Ok(if is_negative { cursor.wrapping_neg() } else { cursor })
}

/// `[MATCH pattern] [COUNT count]`.
pub(super) fn options<'a>(mut arguments: &[&'a [u8]]) -> Result<Options<'a>, Fault> {
    let mut options = Options { count: 10, pattern: None };
    loop {
        arguments = match arguments {
            [] => return Ok(options),
            [option, count, rest @ ..] if arguments::is(option, "COUNT") => {
                let count = arguments::integer(count)?;
                options.count =
                    usize::try_from(count).ok().filter(|&count| count > 0).ok_or(Fault::SYNTAX)?;
                rest
            }
            [option, pattern, rest @ ..] if arguments::is(option, "MATCH") => {
                options.pattern = Some(pattern);
                rest
            }
            _ => return Err(Fault::SYNTAX),
        };
    }
}

/// What a key that is not there answers.
pub(super) fn reply_nothing(reply: &mut Reply<'_>) {
    reply.array(2);
    reply.bulk(b"0");
    reply.array(0);
}

/// Steps of `scan` until there are enough elements. It hands over an element and what belongs to it.
pub(super) fn reply(
    reply: &mut Reply<'_>,
    cursor: u64,
    options: &Options<'_>,
    scan: impl Fn(u64, &mut Found<'_>) -> u64,
) {
    let (mut seen, mut texts, mut shown) = (0, 0, Vec::new());
    let mut cursor = cursor;
    for _ in 0..options.count.saturating_mul(BUCKETS_PER_ELEMENT) {
        cursor = scan(cursor, &mut |element, more| {
            seen += 1;
            if options.pattern.is_none_or(|pattern| glob::matches(pattern, element)) {
                for text in [Some(element), more].into_iter().flatten() {
                    resp::bulk(&mut shown, text);
                    texts += 1;
                }
            }
        });
        if cursor == 0 || seen >= options.count {
            break;
        }
    }
    reply.array(2);
    reply.bulk(cursor.to_string().as_bytes());
    reply.array(texts);
    reply.out.extend_from_slice(&shown);
}
