//! What a reply must be, given its request. Every value names its database, its key and its sequence number, and the
//! rest of it follows from these, so that a value of another key, database or version, or one torn in the middle, shows.

use crate::wire::Value;

/// The bytes that key `key` of database `db` holds after write number `seq`: of at least `len` bytes.
pub fn stamped(db: u8, key: &str, seq: u64, len: usize) -> Vec<u8> {
    let mut value = format!("{db}|{key}|{seq}|{len}|").into_bytes();
    value.resize(value.len() + len + (seq % 97) as usize, b'a' + (seq % 26) as u8);
    value.extend_from_slice(format!("|{key}|{db}").as_bytes());
    value
}

/// Whether these bytes are what some write put at the key.
pub fn is_stamped(bytes: &[u8], db: u8, key: &str) -> bool {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned();
    let mut parts = head.split('|').skip(2);
    let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok());
    let (Some(seq), Some(len)) = (number(), number()) else { return false };
    // A length read from a foreign value must not make the test allocate without bound.
    len as usize <= bytes.len() && bytes == stamped(db, key, seq, len as usize)
}

#[derive(Debug, Clone)]
pub enum Check {
    /// Exactly this.
    Is(Value),
    /// A stamped value of this key.
    Stamped(String),
    /// A list whose elements pass these, one by one.
    Each(Vec<Check>),
}

impl Check {
    pub fn passes(&self, db: u8, value: &Value) -> bool {
        match (self, value) {
            (Check::Is(wanted), value) => wanted == value,
            (Check::Stamped(key), Value::Bulk(bytes)) => is_stamped(bytes, db, key),
            (Check::Each(checks), Value::List(items)) => {
                checks.len() == items.len()
                    && checks.iter().zip(items).all(|(check, item)| check.passes(db, item))
            }
            _ => false,
        }
    }

    /// How many replies it checks (an EXEC's elements are replies of their own).
    pub fn replies(&self) -> u64 {
        match self {
            Check::Each(checks) => checks.len() as u64,
            _ => 1,
        }
    }
}

#[test]
fn a_value_of_another_key_database_or_version_is_told_apart() {
    let value = stamped(0, "k:1", 5, 10);
    assert!(is_stamped(&value, 0, "k:1"));
    assert!(!is_stamped(&value, 0, "k:2"));
    assert!(!is_stamped(&value, 1, "k:1"));
    assert!(!is_stamped(&value[..value.len() - 1], 0, "k:1"));
    let mut torn = stamped(0, "k:1", 6, 10);
    torn[15] = b'?';
    assert!(!is_stamped(&torn, 0, "k:1"));
}
