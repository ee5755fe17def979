//! Walks over the arguments of a request, with Redis's words for what is wrong. Knows no command.
use smallvec::SmallVec;

use super::{Fault, NOT_AN_INTEGER, SYNTAX_ERROR};

/// The arguments behind the name, one after the other.
pub struct Arguments<'a> {
    /// In upper case.
    name: &'a [u8],
    rest: &'a [&'a [u8]],
}

impl<'a> Arguments<'a> {
    pub fn new(name: &'a [u8], rest: &'a [&'a [u8]]) -> Self {
        Self { name, rest }
    }

    pub fn len(&self) -> usize {
        self.rest.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The command's name as errors write it: in lower case.
    pub fn command(&self) -> String {
        String::from_utf8_lossy(self.name).to_ascii_lowercase()
    }

    pub fn wrong_number(&self) -> Fault {
        format!("ERR wrong number of arguments for '{}' command", self.command()).into()
    }

    /// A required argument. Its absence is a wrong number of arguments.
    pub fn required(&mut self) -> Result<&'a [u8], Fault> {
        self.take().ok_or_else(|| self.wrong_number())
    }

    /// A required integer within `range`.
    pub fn number(&mut self, range: std::ops::RangeInclusive<u64>) -> Result<u64, Fault> {
        integer(self.required()?, range)
    }

    /// The next argument in upper case, if there is one: the name of an option.
    pub fn option(&mut self) -> Option<SmallVec<[u8; 16]>> {
        self.take().map(|word| word.iter().map(u8::to_ascii_uppercase).collect())
    }

    /// What belongs to an option. Its absence is a syntax error.
    pub fn value(&mut self) -> Result<&'a [u8], Fault> {
        self.take().ok_or(SYNTAX_ERROR.into())
    }

    /// The same, an integer within `range`.
    pub fn value_number(&mut self, range: std::ops::RangeInclusive<u64>) -> Result<u64, Fault> {
        integer(self.value()?, range)
    }

    /// Whatever is left.
    pub fn take_rest(&mut self) -> &'a [&'a [u8]] {
        std::mem::take(&mut self.rest)
    }

    /// For commands without options: what is left over makes the number of arguments wrong.
    pub fn end(&self) -> Result<(), Fault> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.wrong_number()) }
    }

    fn take(&mut self) -> Option<&'a [u8]> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }
}

/// As strict as Redis: no plus, no blanks, no leading zeros.
pub fn integer(text: &[u8], range: std::ops::RangeInclusive<u64>) -> Result<u64, Fault> {
    let digits =
        !text.is_empty() && text.iter().all(u8::is_ascii_digit) && (text.len() == 1 || text[0] != b'0');
    let value = if digits { std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()) } else { None };
    value.filter(|value| range.contains(value)).ok_or(NOT_AN_INTEGER.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_taken_as_strictly_as_redis_takes_them() {
        assert_eq!(integer(b"0", 0..=9), Ok(0));
        assert_eq!(integer(b"18446744073709551615", 0..=u64::MAX), Ok(u64::MAX));
        for text in ["", "-1", "+1", " 1", "1 ", "01", "1.0", "18446744073709551616", "x"] {
            assert_eq!(integer(text.as_bytes(), 0..=u64::MAX), Err(NOT_AN_INTEGER.into()), "{text}");
        }
        assert_eq!(integer(b"10", 0..=9), Err(NOT_AN_INTEGER.into()));
    }

    #[test]
    fn what_is_missing_or_left_over_is_said_in_redis_words() {
        let wrong: Fault = "ERR wrong number of arguments for 'lock.info' command".into();
        let mut args = Arguments::new(b"LOCK.INFO", &[]);
        assert_eq!(args.required(), Err(wrong.clone()));
        assert_eq!(args.value(), Err(SYNTAX_ERROR.into()));
        assert_eq!(args.option(), None);
        assert_eq!(args.end(), Ok(()));
        assert_eq!(Arguments::new(b"LOCK.INFO", &[b"x"]).end(), Err(wrong));
    }
}
