//! Counts and lengths as they stand on the wire. Owns the digits in both directions, nothing else.

/// More digits than this are left to `strict_integer`; nine always fit into 32 bits.
const SHORT_DIGITS_MAX: usize = 9;

/// Enough of a line for every count: a sign, 19 digits, CR.
pub(super) const COUNT_LINE_BYTES_MAX: usize = 22;

/// The usual count: one to nine digits from `at`, without a leading zero. Gives the value and where the CR stands;
/// `None` when it is anything else or not all there yet.
#[inline(always)]
pub(super) fn short_count(buf: &[u8], at: usize) -> Option<(u32, usize)> {
    let tail = buf.get(at..)?;
    let (&first, rest) = tail.split_first()?;
    let mut value = u32::from(first.wrapping_sub(b'0'));
    if value > 9 {
        return None;
    }
    for (i, &byte) in rest.iter().take(SHORT_DIGITS_MAX).enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return (byte == b'\r').then_some((value, at + 1 + i));
        }
        // "0" stands alone, and the ninth digit is the last that surely fits.
        if value == 0 || i + 1 == SHORT_DIGITS_MAX {
            return None;
        }
        value = value * 10 + u32::from(digit);
    }
    None
}

/// A whole integer as Redis's own parser takes it: no plus, no leading zeros, no `-0`, no blanks, nothing past 64 bits.
pub fn strict_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    // Counted downwards, because there is one more negative number than positive ones.
    let mut value: i64 = 0;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// Appends the decimal digits of `value`.
#[inline]
pub(super) fn push_decimal(out: &mut Vec<u8>, value: i64) {
    if (0..10).contains(&value) {
        out.push(b'0' + value as u8);
        return;
    }
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut left = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_taken_as_strictly_as_redis_takes_them() {
        for (text, value) in [
            ("0", Some(0)),
            ("7", Some(7)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("99999999999999999999", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("+1", None),
            ("01", None),
            (" 1", None),
            ("1 ", None),
            ("1a", None),
        ] {
            assert_eq!(strict_integer(text.as_bytes()), value, "{text}");
        }
    }

    #[test]
    fn the_short_way_agrees_with_the_strict_one_or_abstains() {
        for text in ["0", "7", "10", "123456789", "1234567890", "01", "-1", "+1", "", "1a", "00"] {
            let line = format!("${text}\r\n");
            if let Some((value, cr)) = short_count(line.as_bytes(), 1) {
                assert_eq!(strict_integer(text.as_bytes()), Some(i64::from(value)), "{text}");
                assert_eq!(cr, 1 + text.len());
            }
        }
        assert_eq!(short_count(b"$12345678\r", 1), Some((12_345_678, 9)));
        assert_eq!(short_count(b"$12", 1), None);
        assert_eq!(short_count(b"$", 1), None);
    }

    #[test]
    fn digits_are_written_as_the_standard_library_writes_them() {
        for value in [0, 9, 10, 99, 100, -1, -10, 12_345, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            push_decimal(&mut out, value);
            assert_eq!(out, value.to_string().into_bytes());
        }
    }
}
