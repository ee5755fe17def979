//! Typed trees for replies that the daemon itself must understand (HELLO, COMMAND, CONFIG GET). Not for the hot path.
use super::element::{Content, Cursor, DEPTH_MAX, Element};
use super::number::strict_integer;

/// One reply, understood. Attributes are left out.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    /// A bulk string, or the text of a verbatim string.
    Bulk(Vec<u8>),
    Simple(Vec<u8>),
    /// The line of an error, or the text of a blob error; begins with its code.
    Error(Vec<u8>),
    Int(i64),
    /// As it was written.
    Double(String),
    Big(String),
    Bool(bool),
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Push(Vec<Value>),
}

impl Value {
    /// The bytes of a string of either kind.
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Value::Bulk(text) | Value::Simple(text) => Some(text),
            _ => None,
        }
    }

    /// A number, also one that is written as a string.
    pub fn int(&self) -> Option<i64> {
        match self {
            Value::Int(value) => Some(*value),
            other => strict_integer(other.text()?),
        }
    }

    /// The elements of an array, set or push.
    pub fn elements(&self) -> Option<&[Value]> {
        match self {
            Value::Array(elements) | Value::Set(elements) | Value::Push(elements) => Some(elements),
            _ => None,
        }
    }

    /// What stands under a name in a map, which RESP2 writes as a flat array.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let named = |key: &Value| key.text() == Some(name.as_bytes());
        match self {
            Value::Map(pairs) => pairs.iter().find(|(key, _)| named(key)).map(|(_, value)| value),
            Value::Array(flat) => flat.chunks_exact(2).find(|pair| named(&pair[0])).map(|pair| &pair[1]),
            _ => None,
        }
    }
}

/// Understands exactly one whole frame; `None` for anything else, and for what nests deeper than 128.
pub fn parse(frame: &[u8]) -> Option<Value> {
    let mut cursor = Cursor::new(frame);
    let first = cursor.frame()?;
    let value = value_of(first, &mut cursor, DEPTH_MAX)?;
    cursor.is_at_end().then_some(value)
}

fn value_of(element: Element, cursor: &mut Cursor, depth_left: usize) -> Option<Value> {
    let Element { kind, content } = element;
    Some(match content {
        Content::Null => Value::Null,
        Content::Blob(text) => match kind {
            b'!' => Value::Error(text.to_vec()),
            b'=' => Value::Bulk(text.get(4..)?.to_vec()),
            _ => Value::Bulk(text.to_vec()),
        },
        Content::Line(text) => match kind {
            b'-' => Value::Error(text.to_vec()),
            b':' => Value::Int(strict_integer(text)?),
            b',' => Value::Double(String::from_utf8(text.to_vec()).ok()?),
            b'(' => Value::Big(String::from_utf8(text.to_vec()).ok()?),
            b'#' => Value::Bool(text == b"t"),
            _ => Value::Simple(text.to_vec()),
        },
        Content::Aggregate(count) => {
            let depth_left = depth_left.checked_sub(1)?;
            let mut next = || -> Option<Value> {
                let element = cursor.element()?;
                value_of(element, cursor, depth_left)
            };
            // Collected one by one: the announced count reserves nothing.
            if kind == b'%' {
                let mut pairs = Vec::new();
                for _ in 0..count / 2 {
                    pairs.push((next()?, next()?));
                }
                return Some(Value::Map(pairs));
            }
            let mut elements = Vec::new();
            for _ in 0..count {
                elements.push(next()?);
            }
            match kind {
                b'~' => Value::Set(elements),
                b'>' => Value::Push(elements),
                _ => Value::Array(elements),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::Bulk(text.into())
    }

    #[test]
    fn every_type_is_understood() {
        let frame = b"|1\r\n+ttl\r\n:9\r\n*12\r\n$1\r\na\r\n+b\r\n-ERR c\r\n!5\r\nERR d\r\n=5\r\ntxt:e\r\n:-6\r\n,1.5\r\n(77\r\n#t\r\n\
            _\r\n%1\r\n+k\r\n~1\r\n:1\r\n>1\r\n+pushed\r\n*-1\r\n";
        let expected = Value::Array(vec![
            bulk("a"),
            Value::Simple(b"b".to_vec()),
            Value::Error(b"ERR c".to_vec()),
            Value::Error(b"ERR d".to_vec()),
            bulk("e"),
            Value::Int(-6),
            Value::Double("1.5".to_owned()),
            Value::Big("77".to_owned()),
            Value::Bool(true),
            Value::Null,
            Value::Map(vec![(Value::Simple(b"k".to_vec()), Value::Set(vec![Value::Int(1)]))]),
            Value::Null,
        ]);
        assert_eq!(parse(frame), Some(expected));
        assert_eq!(parse(b">1\r\n+a\r\n"), Some(Value::Push(vec![Value::Simple(b"a".to_vec())])));
    }

    #[test]
    fn a_field_is_found_in_a_map_and_in_a_flat_array() {
        for frame in [
            &b"%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n$1\r\n2\r\n"[..],
            b"*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n$1\r\n2\r\n",
        ] {
            let value = parse(frame).expect("a sound frame");
            assert_eq!(value.field("b").and_then(Value::int), Some(2));
            assert_eq!(value.field("c"), None);
        }
    }

    #[test]
    fn unfinished_overlong_and_too_deep_frames_are_refused() {
        let deep = |depth: usize| [b"*1\r\n".repeat(depth), b":1\r\n".to_vec()].concat();
        assert!(parse(&deep(128)).is_some());
        assert!(parse(&deep(129)).is_none());
        assert!(parse(b"*2147483647\r\n:1\r\n").is_none());
        assert!(parse(b":1\r\n:2\r\n").is_none());
        assert!(parse(b"$5\r\nab\r\n").is_none());
        assert!(parse(b"").is_none());
    }
}
