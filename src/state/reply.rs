//! How a script's reply reads for a client: in RESP2 as the array that it is, in RESP3 with names. Knows no script.
use super::{Fault, session};
use crate::command::Shape;
use crate::resp::{
    Value, array_elements, array_fixed, array_header, bulk, map_header, parse, resp3_to_resp2,
};

/// The value of a script's reply, for those who understand it themselves. An error is the `Fault` that it says.
pub fn understood(frame: &[u8]) -> Result<Value, Fault> {
    match parse(frame) {
        Some(Value::Error(text)) => Err(String::from_utf8_lossy(&text).into_owned().into()),
        Some(value) => Ok(value),
        None => Err(UNEXPECTED.into()),
    }
}

/// Of a reply that no script of ours gives.
pub const UNEXPECTED: &str = "ERR unexpected reply of a script";

/// The names of the elements of a script's array. Errors, nulls and arrays of another length pass as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    AsIs,
    /// `[a, b]`: a map of these names.
    Fields(&'static [&'static str]),
    /// `[[a, b]..]`: an array of such maps.
    Rows(&'static [&'static str]),
    /// `[a, b]`: a map of these names, whose values have names in turn.
    Nested(&'static [(&'static str, Reply)]),
    /// `[a, b, row..]`: a map of the head's names and of `rest`, under which stand the rows as in `Rows`.
    Headed {
        head: &'static [&'static str],
        rest: &'static str,
        row: &'static [&'static str],
    },
    /// `[name, value, name, value..]`: a map.
    Pairs,
    /// `[id, expires_in_ms]`: a map of these and of the token, which no script is given.
    Granted(session::Fresh),
    /// What VALIDATE's script answers, as of the moment when it ran.
    Validated(session::Use),
}

const GRANTED: &[&str] = &["token", "id", "expires_in_ms"];

impl Reply {
    /// Whether a client of RESP2 gets what the script said to a link of RESP2, byte for byte.
    pub fn is_as_said(&self, resp3: bool) -> bool {
        !resp3 && !matches!(self, Reply::Granted(_) | Reply::Validated(_))
    }

    /// Appends what the client gets for `frame`, one whole reply of RESP2 or RESP3 to the script.
    pub fn convert(&self, frame: &[u8], resp3: bool, out: &mut Vec<u8>) {
        match self {
            Reply::Granted(token) => return granted(token, frame, resp3, out),
            Reply::Validated(counts) => {
                if let Ok(Some(session)) = session::Validated::parse(frame) {
                    session.answer(0, *counts, resp3, out);
                    return;
                }
            }
            _ => {}
        }
        if resp3 {
            return self.named(frame, out);
        }
        if resp3_to_resp2(frame, Shape::Plain, out).is_err() {
            out.extend_from_slice(frame);
        }
    }

    fn named(&self, frame: &[u8], out: &mut Vec<u8>) {
        if matches!(frame, b"$-1\r\n" | b"*-1\r\n") {
            return out.extend_from_slice(b"_\r\n");
        }
        let elements = if frame.starts_with(b"*") { array_elements(frame) } else { None };
        let Some(elements) = elements else { return out.extend_from_slice(frame) };
        match *self {
            Reply::Fields(names) if names.len() == elements.len() => {
                map_header(out, names.len(), true);
                pairs(names, &elements, out);
            }
            Reply::Nested(fields) if fields.len() == elements.len() => {
                map_header(out, fields.len(), true);
                for ((name, inner), element) in fields.iter().zip(elements) {
                    bulk(out, name.as_bytes());
                    inner.named(element, out);
                }
            }
            Reply::Rows(names) => rows(names, &elements, out),
            Reply::Headed { head, rest, row } if head.len() <= elements.len() => {
                let (first, others) = elements.split_at(head.len());
                map_header(out, head.len() + 1, true);
                pairs(head, first, out);
                bulk(out, rest.as_bytes());
                rows(row, others, out);
            }
            Reply::Pairs if elements.len().is_multiple_of(2) => {
                map_header(out, elements.len() / 2, true);
                plain(&elements, out);
            }
            _ => {
                array_header(out, elements.len());
                plain(&elements, out);
            }
        }
    }
}

/// Puts the token before what the script says of it.
fn granted(token: &session::Fresh, frame: &[u8], resp3: bool, out: &mut Vec<u8>) {
    let Some([id, expires]) = array_fixed(frame) else { return Reply::AsIs.convert(frame, resp3, out) };
    let mut whole = Vec::with_capacity(frame.len() + 64);
    array_header(&mut whole, GRANTED.len());
    bulk(&mut whole, token.as_bytes());
    whole.extend_from_slice(id);
    whole.extend_from_slice(expires);
    Reply::Fields(GRANTED).convert(&whole, resp3, out);
}

fn pairs(names: &[&str], elements: &[&[u8]], out: &mut Vec<u8>) {
    for (name, element) in names.iter().zip(elements) {
        bulk(out, name.as_bytes());
        Reply::AsIs.named(element, out);
    }
}

fn rows(names: &'static [&'static str], elements: &[&[u8]], out: &mut Vec<u8>) {
    array_header(out, elements.len());
    for element in elements {
        Reply::Fields(names).named(element, out);
    }
}

fn plain(elements: &[&[u8]], out: &mut Vec<u8>) {
    for element in elements {
        Reply::AsIs.named(element, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &[&str] = &["a", "b"];

    fn converted(reply: Reply, frame: &str, resp3: bool) -> String {
        let mut out = Vec::new();
        reply.convert(frame.as_bytes(), resp3, &mut out);
        String::from_utf8(out).expect("these replies are text")
    }

    #[test]
    fn in_resp2_every_reply_stays_the_array_that_it_is() {
        let frame = "*2\r\n:1\r\n*2\r\n_\r\n$1\r\nx\r\n";
        for reply in [Reply::AsIs, Reply::Fields(ROW), Reply::Rows(ROW), Reply::Pairs] {
            assert_eq!(converted(reply, frame, false), "*2\r\n:1\r\n*2\r\n$-1\r\n$1\r\nx\r\n");
            assert_eq!(converted(reply, "_\r\n", false), "$-1\r\n");
        }
    }

    #[test]
    fn in_resp3_elements_have_names() {
        let named = "%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n_\r\n";
        let pair = "*2\r\n:1\r\n$-1\r\n";
        assert_eq!(converted(Reply::Fields(ROW), pair, true), named);
        let two = format!("*2\r\n{pair}{pair}");
        assert_eq!(converted(Reply::Rows(ROW), &two, true), format!("*2\r\n{named}{named}"));
        const NESTED: Reply = Reply::Nested(&[("n", Reply::AsIs), ("rows", Reply::Rows(ROW))]);
        let nested = converted(NESTED, &format!("*2\r\n:7\r\n{two}"), true);
        assert_eq!(nested, format!("%2\r\n$1\r\nn\r\n:7\r\n$4\r\nrows\r\n*2\r\n{named}{named}"));
        const HEADED: Reply = Reply::Headed { head: &["n"], rest: "rows", row: ROW };
        let headed = converted(HEADED, &format!("*3\r\n:7\r\n{pair}{pair}"), true);
        assert_eq!(headed, nested);
        assert_eq!(converted(HEADED, "*1\r\n:7\r\n", true), "%2\r\n$1\r\nn\r\n:7\r\n$4\r\nrows\r\n*0\r\n");
        assert_eq!(converted(Reply::Pairs, "*2\r\n+k\r\n:2\r\n", true), "%1\r\n+k\r\n:2\r\n");
    }

    #[test]
    fn errors_nulls_and_unexpected_lengths_pass() {
        for reply in [Reply::Fields(ROW), Reply::Rows(ROW), Reply::Pairs] {
            assert_eq!(converted(reply, "-LOCKLOST gone\r\n", true), "-LOCKLOST gone\r\n");
            assert_eq!(converted(reply, "$-1\r\n", true), "_\r\n");
            assert_eq!(converted(reply, "_\r\n", true), "_\r\n");
            assert_eq!(converted(reply, ":3\r\n", true), ":3\r\n");
        }
        assert_eq!(converted(Reply::Fields(ROW), "*1\r\n:1\r\n", true), "*1\r\n:1\r\n");
    }
}
