//! Makes the RESP2 reply out of the RESP3 reply of the same command, byte for byte as Redis would have written it,
//! and takes array replies apart.
use super::element::{Content, Cursor, DEPTH_MAX, Element};
use super::encode::{array_header, bulk, error_bytes, header};
use super::reply::{ReplyScan, ReplyScanner};
use crate::command::Shape;

/// The frame is no reply that RESP2 can say, or nests deeper than 128.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reply cannot be written in RESP2")]
pub struct Unconvertible;

/// Appends to `out` what a RESP2 connection would have got instead of `frame`, which is one whole RESP3 reply.
/// On an error nothing is appended.
pub fn resp3_to_resp2(frame: &[u8], shape: Shape, out: &mut Vec<u8>) -> Result<(), Unconvertible> {
    let start = out.len();
    let mut conversion = Conversion { cursor: Cursor::new(frame), shape, out };
    if conversion.frame().is_some() && conversion.cursor.is_at_end() {
        return Ok(());
    }
    out.truncate(start);
    Err(Unconvertible)
}

/// The frames of the elements of an array, set or push, each with the attributes before it; `None` for anything else.
/// Pushes between the elements are left out.
pub fn array_elements(frame: &[u8]) -> Option<Vec<&[u8]>> {
    let mut cursor = Cursor::new(frame);
    let (kind, count) = match cursor.frame()? {
        Element { kind, content: Content::Aggregate(count) } => (kind, count),
        _ => return None,
    };
    if kind == b'%' {
        return None;
    }
    let mut rest = cursor.rest();
    let mut elements = Vec::new();
    let mut scanner = ReplyScanner::default();
    while (elements.len() as u64) < count {
        let ReplyScan::Complete(found) = scanner.scan(rest) else { return None };
        let (element, after) = rest.split_at(found.len);
        if found.kind != b'>' {
            elements.push(element);
        }
        rest = after;
    }
    Some(elements)
}

/// The same for an array of exactly `N` elements that hold no attributes; allocates nothing.
pub fn array_fixed<const N: usize>(frame: &[u8]) -> Option<[&[u8]; N]> {
    let mut cursor = Cursor::new(frame);
    let Element { kind: b'*', content: Content::Aggregate(count) } = cursor.frame()? else { return None };
    let mut rest = cursor.rest();
    let mut elements = [&b""[..]; N];
    for element in &mut elements {
        let ReplyScan::Complete(found) = ReplyScanner::default().scan(rest) else { return None };
        (*element, rest) = rest.split_at(found.len);
    }
    (count == N as u64 && rest.is_empty()).then_some(elements)
}

struct Conversion<'a, 'o> {
    cursor: Cursor<'a>,
    shape: Shape,
    out: &'o mut Vec<u8>,
}

impl Conversion<'_, '_> {
    fn frame(&mut self) -> Option<()> {
        let first = self.cursor.frame()?;
        match first {
            // A push is no reply.
            Element { kind: b'>', .. } => None,
            Element { kind: b'*', content: Content::Aggregate(count) } if self.holds_score_pairs(count) => {
                self.flat_pairs(count)
            }
            other => self.element(other, DEPTH_MAX),
        }
    }

    /// Whether the elements that follow are `[member, score]`.
    fn holds_score_pairs(&self, count: u64) -> bool {
        let mut ahead = self.cursor;
        self.shape == Shape::Scores && count > 0 && ahead.element().is_some_and(|element| is_pair(&element))
    }

    fn flat_pairs(&mut self, count: u64) -> Option<()> {
        array_header(self.out, usize::try_from(count.checked_mul(2)?).ok()?);
        for _ in 0..count {
            let pair = self.cursor.element()?;
            if !is_pair(&pair) {
                return None;
            }
            self.elements(2, DEPTH_MAX - 2)?;
        }
        Some(())
    }

    fn elements(&mut self, count: u64, depth_left: usize) -> Option<()> {
        for _ in 0..count {
            let element = self.cursor.element()?;
            self.element(element, depth_left)?;
        }
        Some(())
    }

    fn element(&mut self, element: Element, depth_left: usize) -> Option<()> {
        let Element { kind, content } = element;
        match content {
            Content::Null => self.out.extend_from_slice(self.null(kind)),
            Content::Blob(text) => match kind {
                b'!' => error_bytes(self.out, text),
                b'=' => bulk(self.out, text.get(4..)?),
                _ => bulk(self.out, text),
            },
            Content::Line(text) => match kind {
                b',' | b'(' => bulk(self.out, text),
                b'#' => header(self.out, b':', i64::from(text == b"t")),
                _ => {
                    self.out.push(kind);
                    self.out.extend_from_slice(text);
                    self.out.extend_from_slice(b"\r\n");
                }
            },
            Content::Aggregate(count) => {
                let depth_left = depth_left.checked_sub(1)?;
                array_header(self.out, usize::try_from(count).ok()?);
                self.elements(count, depth_left)?;
            }
        }
        Some(())
    }

    fn null(&self, kind: u8) -> &'static [u8] {
        match (kind, self.shape) {
            (b'*', _) | (b'_', Shape::NullArrays) => b"*-1\r\n",
            _ => b"$-1\r\n",
        }
    }
}

fn is_pair(element: &Element) -> bool {
    matches!(element, Element { kind: b'*', content: Content::Aggregate(2) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{bulk_text, parse_integer};

    fn converted(frame: &str, shape: Shape) -> Option<String> {
        let mut out = b"before".to_vec();
        let result = resp3_to_resp2(frame.as_bytes(), shape, &mut out);
        let text = String::from_utf8(out).expect("these replies are text");
        let added = text.strip_prefix("before").expect("what was there stays").to_owned();
        match result {
            Ok(()) => Some(added),
            Err(Unconvertible) => {
                assert_eq!(added, "", "a refused reply leaves nothing behind");
                None
            }
        }
    }

    #[test]
    fn each_type_becomes_what_resp2_has_for_it() {
        for (resp3, resp2) in [
            ("+OK\r\n", "+OK\r\n"),
            ("-ERR a\r\n", "-ERR a\r\n"),
            (":7\r\n", ":7\r\n"),
            ("$1\r\na\r\n", "$1\r\na\r\n"),
            ("_\r\n", "$-1\r\n"),
            (",3.14\r\n", "$4\r\n3.14\r\n"),
            (",-inf\r\n", "$4\r\n-inf\r\n"),
            ("(12345678901234567890\r\n", "$20\r\n12345678901234567890\r\n"),
            ("#t\r\n", ":1\r\n"),
            ("#f\r\n", ":0\r\n"),
            ("=15\r\ntxt:Some string\r\n", "$11\r\nSome string\r\n"),
            ("!8\r\nERR a\r\nb\r\n", "-ERR a  b\r\n"),
            ("%1\r\n+a\r\n,1\r\n", "*2\r\n+a\r\n$1\r\n1\r\n"),
            ("~2\r\n+a\r\n_\r\n", "*2\r\n+a\r\n$-1\r\n"),
            ("|1\r\n+a\r\n*1\r\n:1\r\n*1\r\n|0\r\n>1\r\n+p\r\n#t\r\n", "*1\r\n:1\r\n"),
        ] {
            assert_eq!(converted(resp3, Shape::Plain).as_deref(), Some(resp2), "{resp3:?}");
        }
    }

    #[test]
    fn shapes_decide_over_pairs_and_nulls() {
        let pairs = "*2\r\n*2\r\n$1\r\na\r\n,1\r\n*2\r\n$1\r\nb\r\n,2\r\n";
        let flat = "*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n";
        assert_eq!(converted(pairs, Shape::Scores).as_deref(), Some(flat));
        assert_eq!(converted("*1\r\n$1\r\na\r\n", Shape::Scores).as_deref(), Some("*1\r\n$1\r\na\r\n"));
        assert_eq!(converted("*0\r\n", Shape::Scores).as_deref(), Some("*0\r\n"));
        assert_eq!(converted("*2\r\n_\r\n:1\r\n", Shape::NullArrays).as_deref(), Some("*2\r\n*-1\r\n:1\r\n"));
    }

    #[test]
    fn what_resp2_cannot_say_is_refused() {
        let deep = |depth: usize| format!("{}:1\r\n", "*1\r\n".repeat(depth));
        assert!(converted(&deep(128), Shape::Plain).is_some());
        for frame in [
            &deep(129)[..],
            ">1\r\n+a\r\n",
            "*2\r\n:1\r\n",
            ":1\r\n:2\r\n",
            "*2147483647\r\n",
            "$5\r\nab\r\n",
            "",
        ] {
            assert_eq!(converted(frame, Shape::Plain), None, "{frame:?}");
        }
        assert_eq!(converted("*2\r\n*2\r\n:1\r\n:2\r\n:3\r\n", Shape::Scores), None);
    }

    #[test]
    fn an_array_is_taken_apart_into_the_frames_of_its_elements() {
        let frame = b"*4\r\n$1\r\na\r\n*2\r\n:1\r\n:2\r\n>1\r\n+p\r\n|1\r\n+k\r\n+v\r\n_\r\n-ERR x\r\n";
        let expected: Vec<&[u8]> =
            vec![b"$1\r\na\r\n", b"*2\r\n:1\r\n:2\r\n", b"|1\r\n+k\r\n+v\r\n_\r\n", b"-ERR x\r\n"];
        assert_eq!(array_elements(frame), Some(expected));
        assert_eq!(array_elements(b"*0\r\n"), Some(vec![]));
        for frame in [&b"*-1\r\n"[..], b"_\r\n", b"%1\r\n:1\r\n:2\r\n", b":1\r\n", b"*2147483647\r\n:1\r\n"] {
            assert_eq!(array_elements(frame), None);
        }
    }

    #[test]
    fn single_values_are_read_out_of_their_frames() {
        assert_eq!(parse_integer(b":-12\r\n"), Some(-12));
        assert_eq!(parse_integer(b"$2\r\n12\r\n"), None);
        assert_eq!(bulk_text(b"$2\r\n12\r\n"), Some(&b"12"[..]));
        assert_eq!(bulk_text(b"=6\r\ntxt:ab\r\n"), Some(&b"ab"[..]));
        assert_eq!(bulk_text(b"+OK\r\n"), Some(&b"OK"[..]));
        assert_eq!(bulk_text(b"$-1\r\n"), None);
    }
}
