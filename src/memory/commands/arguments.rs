//! Numbers and options of requests, with the texts of Redis for those that do not do. Knows no command.

use super::super::context::Fault;
use super::super::float;
use super::super::number;
use std::ops::Range;

/// Largest count in either direction: its negation is a number too.
const COUNT_MAX: i64 = i64::MAX;

pub(super) fn is(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}

pub(super) fn integer(argument: &[u8]) -> Result<i64, Fault> {
    number::integer(argument).ok_or(Fault::NOT_AN_INTEGER)
}

/// An integer of at least `min`; anything else is answered with `text`.
pub(super) fn at_least(min: i64, argument: &[u8], text: &'static str) -> Result<usize, Fault> {
    number::integer(argument).filter(|&value| value >= min).map(|value| value as usize).ok_or(Fault::of(text))
}

/// How many to pop.
pub(super) fn count(argument: &[u8]) -> Result<usize, Fault> {
    at_least(0, argument, "ERR value is out of range, must be positive")
}

/// How many to show, negative for repeated ones.
pub(super) fn signed_count(argument: &[u8]) -> Result<i64, Fault> {
    let value = integer(argument)?;
    if value == i64::MIN {
        let text = "ERR value is out of range, value must between";
        return Err(Fault::with(format!("{text} -{COUNT_MAX} and {COUNT_MAX}")));
    }
    Ok(value)
}

pub(super) fn double(argument: &[u8]) -> Result<f64, Fault> {
    float::parse_double(argument).ok_or(Fault::NOT_A_FLOAT)
}

/// The counted keys of a request, and what follows them.
type Split<'a, 'b> = (&'b [&'a [u8]], &'b [&'a [u8]]);

/// A count of keys, the keys, and more.
pub(super) fn counted_keys<'a, 'b>(
    arguments: &'b [&'a [u8]],
    too_many: Fault,
) -> Result<Split<'a, 'b>, Fault> {
    let count = at_least(1, arguments[0], "ERR numkeys should be greater than 0")?;
    arguments[1..].split_at_checked(count).ok_or(too_many)
}

/// How many to pop from one of several keys: `[COUNT count]`, 1 without.
pub(super) fn pop_count(options: &[&[u8]]) -> Result<usize, Fault> {
    match options {
        [] => Ok(1),
        [option, count, rest @ ..] if is(option, "COUNT") => {
            let count = at_least(1, count, "ERR count should be greater than 0")?;
            if rest.is_empty() { Ok(count) } else { Err(Fault::SYNTAX) }
        }
        _ => Err(Fault::SYNTAX),
    }
}

/// The indexes from `start` to `stop`, both counted from the end where they are negative.
pub(super) fn span(start: i64, stop: i64, len: usize) -> Range<usize> {
    let from_end = |index: i64| if index < 0 { index.saturating_add(len as i64) } else { index };
    let (start, stop) = (from_end(start).max(0), from_end(stop).min(len as i64 - 1));
    if start > stop { 0..0 } else { start as usize..stop as usize + 1 }
}

/// When a blocking command gives up: Unix ms, `None` for never.
pub(super) fn deadline(argument: &[u8], now_ms: u64) -> Result<Option<u64>, Fault> {
    let no_float = Fault::of("ERR timeout is not a float or out of range");
    let seconds = float::Extended::parse(argument).ok_or(no_float)?;
    // Infinite and huge ones overflow into negative ones in Redis.
    let ms = (seconds.to_double().unwrap_or(f64::INFINITY) * 1000.0).ceil();
    if !(0.0..9_223_372_036_854_775_808.0).contains(&ms) {
        return Err(Fault::of("ERR timeout is negative"));
    }
    match ms as u64 {
        0 => Ok(None),
        ms if ms > i64::MAX as u64 - now_ms => Err(Fault::of("ERR timeout is out of range")),
        ms => Ok(Some(now_ms + ms)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_count_from_both_ends_and_never_leave_the_collection() {
        for (start, stop, expected) in [
            (0, -1, 0..5),
            (1, 2, 1..3),
            (-2, -1, 3..5),
            (-100, 100, 0..5),
            (3, 2, 0..0),
            (5, 9, 0..0),
            (0, -6, 0..0),
            (i64::MIN, i64::MAX, 0..5),
        ] {
            assert_eq!(span(start, stop, 5), expected, "{start} {stop}");
        }
        assert_eq!(span(0, -1, 0), 0..0);
    }

    #[test]
    fn timeouts_are_rounded_up_to_milliseconds() {
        assert_eq!(deadline(b"0", 1000), Ok(None));
        assert_eq!(deadline(b"-0", 1000), Ok(None));
        assert_eq!(deadline(b"0.0001", 1000), Ok(Some(1001)));
        assert_eq!(deadline(b"1.5", 1000), Ok(Some(2500)));
        let too_late = deadline(b"9223372036854770", 1 << 40);
        assert_eq!(too_late, Err(Fault::of("ERR timeout is out of range")));
        for (text, error) in [
            ("-1", "ERR timeout is negative"),
            ("inf", "ERR timeout is negative"),
            ("1e300", "ERR timeout is negative"),
            ("x", "ERR timeout is not a float or out of range"),
        ] {
            assert_eq!(deadline(text.as_bytes(), 1000), Err(Fault::of(error)), "{text}");
        }
    }
}
