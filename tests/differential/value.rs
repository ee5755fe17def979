//! A reply as a tree, so that masks can reach into it. Unmasked replies are compared as bytes and never come here.

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// `+ - : , # ( _`, and null bulks and arrays: a tag and the rest of the line.
    Line(u8, Vec<u8>),
    /// `$ = !` with a payload.
    Bulk(u8, Vec<u8>),
    /// `* ~ > %`; a map's keys and values alternate.
    Aggregate(u8, Vec<Value>),
}

/// The frames of a whole reply; `None` where it is not well-formed.
pub fn parse_all(mut bytes: &[u8]) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        values.push(parse(&mut bytes)?);
    }
    Some(values)
}

fn parse(bytes: &mut &[u8]) -> Option<Value> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let (tag, line) = (bytes[0], bytes[1..end].to_vec());
    *bytes = &bytes[end + 2..];
    let count = std::str::from_utf8(&line).ok().and_then(|line| line.parse::<usize>().ok());
    Some(match (tag, count) {
        (b'$' | b'=' | b'!', Some(len)) => {
            let payload = bytes.get(..len)?.to_vec();
            *bytes = bytes.get(len + 2..)?;
            Value::Bulk(tag, payload)
        }
        (b'*' | b'~' | b'>', Some(count)) => Value::Aggregate(tag, items(bytes, count)?),
        (b'%' | b'|', Some(count)) => Value::Aggregate(tag, items(bytes, count * 2)?),
        _ => Value::Line(tag, line),
    })
}

fn items(bytes: &mut &[u8], count: usize) -> Option<Vec<Value>> {
    (0..count).map(|_| parse(bytes)).collect()
}

impl Value {
    /// Calls `change` on this value and everything in it, outermost last.
    pub fn walk(&mut self, change: &mut impl FnMut(&mut Value)) {
        if let Value::Aggregate(_, items) = self {
            items.iter_mut().for_each(|item| item.walk(change));
        }
        change(self);
    }

    /// The payload of a string or a line; nothing of an aggregate.
    pub fn payload(&self) -> &[u8] {
        match self {
            Value::Line(_, payload) | Value::Bulk(_, payload) => payload,
            Value::Aggregate(..) => &[],
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.payload()).into_owned()
    }
}
