//! Integers as Redis reads and writes them. Floating point numbers are `float`'s.

use super::context::Fault;
use std::ops::Deref;

/// A whole integer: no plus, no leading zeros, no `-0`, no blanks, nothing past 64 bits.
#[inline]
pub fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut value: u64 = 0;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // 19 digits fit into 64 bits without a sign.
        value = value * 10 + u64::from(digit);
    }
    match (negative, value) {
        (true, 0x8000_0000_0000_0000) => Some(i64::MIN),
        (true, _) => i64::try_from(value).ok().map(|value| -value),
        (false, _) => i64::try_from(value).ok(),
    }
}

/// The same for an argument.
pub fn integer_argument(text: &[u8]) -> Result<i64, Fault> {
    integer(text).ok_or(Fault::NOT_AN_INTEGER)
}

/// The decimal digits of an integer, in place.
pub struct Digits {
    text: [u8; 20],
    start: usize,
}

impl Digits {
    #[inline]
    pub fn of(value: i64) -> Digits {
        let mut text = [0; 20];
        let mut start = text.len();
        let mut left = value.unsigned_abs();
        loop {
            start -= 1;
            text[start] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        if value < 0 {
            start -= 1;
            text[start] = b'-';
        }
        Digits { text, start }
    }
}

impl Deref for Digits {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_come_back_as_they_were_written() {
        for value in [0, 7, -7, 10, i64::MAX, i64::MIN, i64::MIN + 1, 1_000_000] {
            assert_eq!(*Digits::of(value), *value.to_string().as_bytes());
            assert_eq!(integer(&Digits::of(value)), Some(value));
        }
    }

    #[test]
    fn what_is_not_quite_an_integer_is_none() {
        for text in
            ["", "-", "-0", "+1", "01", " 1", "1 ", "1.0", "9223372036854775808", "-9223372036854775809"]
        {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
        assert_eq!(integer(b"99999999999999999999"), None);
    }
}
