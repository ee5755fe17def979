//! What a key holds: a value of one of five kinds, its deadline, and when it was used. Knows nothing of keys.

use super::compact::Compact;
use super::number::Digits;
use super::types::{Hash, List, Set, Sorted};

/// Texts longer than this are no longer "embstr" to OBJECT ENCODING.
const EMBEDDED_LEN_MAX: usize = 44;

/// No deadline.
const NEVER: u64 = u64::MAX;

/// The object is not in the list of keys with a deadline.
pub(super) const NOWHERE: u32 = u32::MAX;

#[derive(Clone)]
pub enum Value {
    String(Text),
    List(Box<List>),
    Hash(Box<Hash>),
    Set(Box<Set>),
    Sorted(Box<Sorted>),
}

/// A string, as small as it can be.
#[derive(Clone)]
pub enum Text {
    Integer(i64),
    Fixed(Compact),
    /// One that was changed in place (APPEND, SETRANGE, SETBIT) and may be again.
    Raw(Box<Vec<u8>>),
}

/// A value with what the keyspace notes about it.
pub struct Object {
    pub value: Value,
    deadline_ms: u64,
    /// Bytes that the keyspace counts for it.
    pub(super) charged: usize,
    /// Tenths of a second (LRU), or minutes and a counter (LFU): see `eviction`.
    pub(super) access: u32,
    /// Where it stands in its database's list of keys with a deadline.
    pub(super) volatile_at: u32,
}

/// One of the five kinds of values, so that access by kind is written once.
pub trait Kind: Sized + Into<Value> + Default {
    fn of(value: &Value) -> Option<&Self>;
    fn of_mut(value: &mut Value) -> Option<&mut Self>;
}

macro_rules! kinds {
    ($($variant:ident $kind:ty;)*) => { $(
        impl Kind for $kind {
            #[inline]
            fn of(value: &Value) -> Option<&Self> {
                if let Value::$variant(value) = value { Some(value) } else { None }
            }
            #[inline]
            fn of_mut(value: &mut Value) -> Option<&mut Self> {
                if let Value::$variant(value) = value { Some(value) } else { None }
            }
        }
    )* };
}

kinds! { String Text; List List; Hash Hash; Set Set; Sorted Sorted; }

macro_rules! boxed {
    ($($variant:ident)*) => { $(
        impl From<$variant> for Value {
            fn from(value: $variant) -> Value {
                Value::$variant(Box::new(value))
            }
        }
    )* };
}

boxed! { List Hash Set Sorted }

impl From<Text> for Value {
    #[inline]
    fn from(text: Text) -> Value {
        Value::String(text)
    }
}

impl Value {
    /// As TYPE names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::String(_) => "string",
            Value::List(_) => "list",
            Value::Hash(_) => "hash",
            Value::Set(_) => "set",
            Value::Sorted(_) => "zset",
        }
    }

    /// As OBJECT ENCODING names it.
    pub fn encoding(&self) -> &'static str {
        match self {
            Value::String(text) => text.encoding(),
            Value::List(list) => list.encoding(),
            Value::Hash(hash) => hash.encoding(),
            Value::Set(set) => set.encoding(),
            Value::Sorted(sorted) => sorted.encoding(),
        }
    }

    /// Bytes of the heap, about.
    #[inline]
    pub fn bytes(&self) -> usize {
        match self {
            Value::String(text) => text.heap_bytes(),
            Value::List(list) => size_of::<List>() + list.bytes(),
            Value::Hash(hash) => size_of::<Hash>() + hash.bytes(),
            Value::Set(set) => size_of::<Set>() + set.bytes(),
            Value::Sorted(sorted) => size_of::<Sorted>() + sorted.bytes(),
        }
    }

    /// Whether it is a collection without elements, which no key may hold.
    #[inline]
    pub fn is_vacant(&self) -> bool {
        match self {
            Value::String(_) => false,
            Value::List(list) => list.is_empty(),
            Value::Hash(hash) => hash.is_empty(),
            Value::Set(set) => set.is_empty(),
            Value::Sorted(sorted) => sorted.is_empty(),
        }
    }
}

impl Text {
    /// As SET stores it: an integer where the text is one.
    #[inline]
    pub fn of(text: &[u8]) -> Text {
        match super::number::integer(text) {
            Some(value) => Text::Integer(value),
            None => Text::plain(text),
        }
    }

    /// Stored as the text it is.
    #[inline]
    pub fn plain(text: &[u8]) -> Text {
        Text::Fixed(Compact::from(text))
    }

    /// Hands the bytes to `f`. (An integer's digits stand nowhere else.)
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Text::Integer(value) => f(&Digits::of(*value)),
            Text::Fixed(text) => f(text),
            Text::Raw(text) => f(text),
        }
    }

    pub fn to_vec(&self) -> Vec<u8> {
        self.with(<[u8]>::to_vec)
    }

    pub fn len(&self) -> usize {
        self.with(<[u8]>::len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The integer that it is, if Redis would take it for one.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Text::Integer(value) => Some(*value),
            other => other.with(super::number::integer),
        }
    }

    /// For changing it in place.
    pub fn raw(&mut self) -> &mut Vec<u8> {
        if !matches!(self, Text::Raw(_)) {
            *self = Text::Raw(Box::new(self.to_vec()));
        }
        match self {
            Text::Raw(text) => text,
            _ => unreachable!("it was made raw above"),
        }
    }

    pub fn encoding(&self) -> &'static str {
        match self {
            Text::Integer(_) => "int",
            Text::Fixed(text) if text.len() <= EMBEDDED_LEN_MAX => "embstr",
            _ => "raw",
        }
    }

    #[inline]
    pub fn heap_bytes(&self) -> usize {
        match self {
            Text::Integer(_) => 0,
            Text::Fixed(text) => text.heap_bytes(),
            Text::Raw(text) => size_of::<Vec<u8>>() + text.capacity(),
        }
    }
}

impl Default for Text {
    /// The empty string, to be changed in place.
    fn default() -> Text {
        Text::Raw(Box::default())
    }
}

impl Object {
    #[inline]
    pub fn new(value: Value) -> Object {
        Object { value, deadline_ms: NEVER, charged: 0, access: 0, volatile_at: NOWHERE }
    }

    /// The same value and deadline, for another key.
    pub fn duplicate(&self) -> Object {
        Object { value: self.value.clone(), volatile_at: NOWHERE, ..*self }
    }

    /// What the keyspace counts for it.
    pub fn bytes(&self) -> usize {
        self.charged
    }

    /// Unix milliseconds.
    #[inline]
    pub fn deadline(&self) -> Option<u64> {
        (self.deadline_ms != NEVER).then_some(self.deadline_ms)
    }

    /// Only the keyspace sets it, since it lists the keys that have one.
    pub(super) fn set_deadline(&mut self, deadline: Option<u64>) {
        self.deadline_ms = deadline.unwrap_or(NEVER);
    }

    #[inline]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        now_ms > self.deadline_ms
    }

    /// The value as one of this kind.
    #[inline]
    pub fn as_kind<T: Kind>(&self) -> Option<&T> {
        T::of(&self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_takes_no_more_room_than_a_key() {
        assert_eq!(size_of::<Value>(), 24);
        assert_eq!(size_of::<Object>(), 48);
    }

    #[test]
    fn texts_are_integers_only_where_redis_says_so() {
        for (text, encoding) in [
            ("12", "int"),
            ("-9223372036854775808", "int"),
            ("9223372036854775808", "embstr"),
            ("012", "embstr"),
            ("", "embstr"),
            (&"x".repeat(44), "embstr"),
            (&"x".repeat(45), "raw"),
        ] {
            assert_eq!(Text::of(text.as_bytes()).encoding(), encoding, "{text}");
            assert_eq!(Text::of(text.as_bytes()).to_vec(), text.as_bytes());
        }
    }
}
