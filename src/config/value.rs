//! Reads one value of a key from a file, a variable or a flag, and writes it as TOML.
//! An error text says what is expected; what was found is added by the caller, unless the key is a secret.
use std::fmt;

use toml::de::DeValue;

use super::declare::Key;

/// A value as a source gives it. Has no `Debug`: it may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Raw {
    Bool(bool),
    Integer(i64),
    /// A string of a TOML file.
    Text(String),
    /// The text of a variable or flag: the key decides what it means.
    Words(String),
    List(Vec<String>),
    /// Anything else, by the name of its type.
    Other(&'static str),
}

impl Raw {
    pub(super) fn from_toml(value: &DeValue) -> Self {
        match value {
            DeValue::Boolean(yes) => Raw::Bool(*yes),
            DeValue::String(text) => Raw::Text(text.to_string()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Raw::Other("integer that is too large"), Raw::Integer),
            DeValue::Array(items) => items
                .iter()
                .map(|item| item.get_ref().as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
                .map_or(Raw::Other("array of something else than strings"), Raw::List),
            other => Raw::Other(other.type_str()),
        }
    }

    pub(super) fn word(&self) -> Option<&str> {
        match self {
            Raw::Text(text) | Raw::Words(text) => Some(text),
            _ => None,
        }
    }

    fn is_empty_text(&self) -> bool {
        self.word() == Some("")
    }
}

/// What was found, for error messages about keys that are not secret.
impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Raw::Bool(yes) => write!(f, "{yes}"),
            Raw::Integer(number) => write!(f, "{number}"),
            Raw::Text(text) | Raw::Words(text) => write!(f, "{text:?}"),
            Raw::List(items) => write!(f, "{items:?}"),
            Raw::Other(kind) => write!(f, "a {kind}"),
        }
    }
}

/// A type that a key can have.
pub(super) trait Value: Sized {
    const SECRET: bool = false;

    fn read(raw: &Raw, key: &Key) -> Result<Self, String>;

    fn show(&self, key: &Key) -> String;
}

/// A password, token or URL with a password in it: never printed, compared by value.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself: for the wire and for comparison, never for a log or an error.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl Value for Secret {
    const SECRET: bool = true;

    fn read(raw: &Raw, _key: &Key) -> Result<Self, String> {
        raw.word().map(Secret::new).ok_or_else(|| "a string".to_owned())
    }

    fn show(&self, _key: &Key) -> String {
        quoted(&self.0)
    }
}

impl Value for String {
    fn read(raw: &Raw, _key: &Key) -> Result<Self, String> {
        raw.word().map(str::to_owned).ok_or_else(|| "a string".to_owned())
    }

    fn show(&self, _key: &Key) -> String {
        quoted(self)
    }
}

/// Absent is the empty string, as in Redis's own configuration.
impl<T: Value> Value for Option<T> {
    const SECRET: bool = T::SECRET;

    fn read(raw: &Raw, key: &Key) -> Result<Self, String> {
        if raw.is_empty_text() { Ok(None) } else { T::read(raw, key).map(Some) }
    }

    fn show(&self, key: &Key) -> String {
        self.as_ref().map_or_else(|| quoted(""), |value| value.show(key))
    }
}

impl Value for bool {
    fn read(raw: &Raw, _key: &Key) -> Result<Self, String> {
        match raw {
            Raw::Bool(yes) => Ok(*yes),
            Raw::Words(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Ok(true),
                "false" | "no" | "off" | "0" => Ok(false),
                _ => Err("true or false".to_owned()),
            },
            _ => Err("true or false".to_owned()),
        }
    }

    fn show(&self, _key: &Key) -> String {
        self.to_string()
    }
}

impl Value for u64 {
    fn read(raw: &Raw, key: &Key) -> Result<Self, String> {
        let range = key.range();
        let found = match raw {
            Raw::Integer(number) => u64::try_from(*number).map_err(|_| String::new()),
            Raw::Text(text) | Raw::Words(text) if key.is_size() => parse_size(text),
            Raw::Words(text) => text.parse().map_err(|_| String::new()),
            _ => Err(String::new()),
        };
        match found {
            Ok(number) if range.contains(&number) => Ok(number),
            Err(hint) if !hint.is_empty() => Err(hint),
            _ => Err(expected_number(key)),
        }
    }

    fn show(&self, key: &Key) -> String {
        if key.is_size() { show_size(*self) } else { self.to_string() }
    }
}

impl Value for usize {
    fn read(raw: &Raw, key: &Key) -> Result<Self, String> {
        usize::try_from(u64::read(raw, key)?).map_err(|_| expected_number(key))
    }

    fn show(&self, key: &Key) -> String {
        (*self as u64).show(key)
    }
}

/// In a variable a comma stands between them; one within a password is written as %2C.
impl Value for Vec<Secret> {
    const SECRET: bool = true;

    fn read(raw: &Raw, key: &Key) -> Result<Self, String> {
        Ok(Vec::<String>::read(raw, key)?.into_iter().map(Secret).collect())
    }

    fn show(&self, _key: &Key) -> String {
        let items: Vec<String> = self.iter().map(|item| quoted(&item.0)).collect();
        format!("[{}]", items.join(", "))
    }
}

impl Value for Vec<String> {
    fn read(raw: &Raw, _key: &Key) -> Result<Self, String> {
        match raw {
            Raw::List(items) => Ok(items.clone()),
            Raw::Words(text) if text == "none" => Ok(Vec::new()),
            Raw::Words(text) => Ok(text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect()),
            _ => Err("an array of strings".to_owned()),
        }
    }

    fn show(&self, _key: &Key) -> String {
        let items: Vec<String> = self.iter().map(|item| quoted(item)).collect();
        format!("[{}]", items.join(", "))
    }
}

pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => unreachable!("a choice has words"),
    }
}

const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// `256MiB`, `64 KiB`, `1024`. `MB` is refused: in Redis's files it means MiB, everywhere else a million.
fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = (&text[..digits], text[digits..].trim_start());
    let scale = if unit.is_empty() {
        Some(1)
    } else {
        UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, scale)| *scale)
    };
    match (number.parse::<u64>(), scale) {
        (Ok(number), Some(scale)) => number.checked_mul(scale).ok_or_else(String::new),
        (Ok(number), None) => match unit.to_ascii_lowercase().as_str() {
            "k" | "kb" => Err(format!("a unit with one meaning: {number}KiB")),
            "m" | "mb" => Err(format!("a unit with one meaning: {number}MiB")),
            "g" | "gb" => Err(format!("a unit with one meaning: {number}GiB")),
            _ => Err(String::new()),
        },
        (Err(_), _) => Err(String::new()),
    }
}

fn show_size(bytes: u64) -> String {
    match UNITS.iter().find(|(_, scale)| bytes != 0 && bytes.is_multiple_of(*scale)) {
        Some((name, scale)) if *scale > 1 => format!("\"{}{name}\"", bytes / scale),
        _ => bytes.to_string(),
    }
}

fn expected_number(key: &Key) -> String {
    let range = key.range();
    let what = if key.is_size() { "a size such as \"64MiB\" or a number of bytes" } else { "an integer" };
    match (*range.start(), *range.end()) {
        (0, end) if end == i64::MAX as u64 => format!("{what}, 0 or more"),
        (start, end) if end == i64::MAX as u64 => format!("{what}, {start} or more"),
        (start, end) => format!("{what} from {start} to {end}"),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counts_of_bytes_with_or_without_a_unit() {
        let cases =
            [("0", 0), ("1024", 1024), ("64KiB", 65_536), ("64 kib", 65_536), ("1GiB", 1 << 30), ("7B", 7)];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_unit_with_two_meanings_is_refused_with_the_one_to_write() {
        assert_eq!(parse_size("10MB"), Err("a unit with one meaning: 10MiB".to_owned()));
        assert_eq!(parse_size("3k"), Err("a unit with one meaning: 3KiB".to_owned()));
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in
            ["", "MiB", "-1", "1.5MiB", "1 light year", "99999999999999999999", "18446744073709551615KiB"]
        {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_unit_that_fits() {
        for (bytes, text) in
            [(0, "0"), (1, "1"), (1500, "1500"), (65_536, "\"64KiB\""), (1 << 30, "\"1GiB\"")]
        {
            assert_eq!(show_size(bytes), text);
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
    }
}
