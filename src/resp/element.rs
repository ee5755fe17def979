//! Walks over the elements of a whole frame, for those who must understand it. Allocates nothing.
use super::number::strict_integer;
use super::reply::{Count, ELEMENTS_MAX, body_len, count_line};
use memchr::memchr_iter;

/// Frames that are understood (not only measured) nest at most this deep.
pub(super) const DEPTH_MAX: usize = 128;

/// One element; the elements inside of an aggregate come after it.
#[derive(Clone, Copy)]
pub(super) struct Element<'a> {
    pub kind: u8,
    pub content: Content<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    /// `_`, `$-1` or `*-1`.
    Null,
    /// The text of a line.
    Line(&'a [u8]),
    /// The bytes of `$`, `!` and `=` (with the prefix of the latter).
    Blob(&'a [u8]),
    /// So many elements follow: for a map two for each pair.
    Aggregate(u64),
}

/// A place in a frame.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    buf: &'a [u8],
    pos: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(frame: &'a [u8]) -> Self {
        Cursor { buf: frame, pos: 0 }
    }

    pub fn is_at_end(&self) -> bool {
        self.pos == self.buf.len()
    }

    pub fn rest(&self) -> &'a [u8] {
        &self.buf[self.pos..]
    }

    /// The frame's own first element, behind its attributes.
    pub fn frame(&mut self) -> Option<Element<'a>> {
        loop {
            let element = self.any()?;
            match element.content {
                Content::Aggregate(count) if element.kind == b'|' => self.skip(count)?,
                _ => return Some(element),
            }
        }
    }

    /// The next element inside an aggregate: attributes and pushes between the elements are passed over.
    pub fn element(&mut self) -> Option<Element<'a>> {
        loop {
            let element = self.frame()?;
            match element.content {
                Content::Aggregate(count) if element.kind == b'>' => self.skip(count)?,
                _ => return Some(element),
            }
        }
    }

    /// Passes over `count` elements with all that is inside of them.
    fn skip(&mut self, count: u64) -> Option<()> {
        let mut left = count;
        while left > 0 {
            let element = self.any()?;
            if !matches!(element.kind, b'|' | b'>') {
                left -= 1;
            }
            if let Content::Aggregate(inner) = element.content {
                left = left.checked_add(inner)?;
            }
        }
        Some(())
    }

    fn any(&mut self) -> Option<Element<'a>> {
        let kind = *self.buf.get(self.pos)?;
        let content = match kind {
            b'$' | b'!' | b'=' => match self.count()? {
                -1 if kind == b'$' => Content::Null,
                len => {
                    let end = self.pos + body_len(len)?;
                    let blob = self.buf.get(self.pos..end)?.strip_suffix(b"\r\n")?;
                    self.pos = end;
                    Content::Blob(blob)
                }
            },
            b'*' | b'%' | b'~' | b'>' | b'|' => match self.count()? {
                -1 if kind == b'*' => Content::Null,
                count @ 0..=ELEMENTS_MAX => {
                    let pairs = matches!(kind, b'%' | b'|');
                    Content::Aggregate(if pairs { 2 * count as u64 } else { count as u64 })
                }
                _ => return None,
            },
            b'_' => {
                self.line()?;
                Content::Null
            }
            b'+' | b'-' | b':' | b',' | b'(' | b'#' => Content::Line(self.line()?),
            _ => return None,
        };
        Some(Element { kind, content })
    }

    fn count(&mut self) -> Option<i64> {
        let Count::Whole { value, next } = count_line(self.buf, self.pos) else { return None };
        self.pos = next;
        Some(value)
    }

    fn line(&mut self) -> Option<&'a [u8]> {
        let text = &self.buf[self.pos + 1..];
        let cr = memchr_iter(b'\r', text).find(|cr| text.get(cr + 1) == Some(&b'\n'))?;
        self.pos += 1 + cr + 2;
        Some(&text[..cr])
    }
}

/// The number of a `:n` frame.
pub fn parse_integer(frame: &[u8]) -> Option<i64> {
    strict_integer(frame.strip_prefix(b":")?.strip_suffix(b"\r\n")?)
}

/// The texts of bulk strings that stand one behind the other.
pub fn bulks(frames: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut cursor = Cursor::new(frames);
    std::iter::from_fn(move || match cursor.frame()? {
        Element { kind: b'$', content: Content::Blob(text) } => Some(text),
        _ => None,
    })
}

/// The text of a `$`, `+` or `=` frame (of the latter without its prefix); `None` for nulls and other types.
pub fn bulk_text(frame: &[u8]) -> Option<&[u8]> {
    match Cursor::new(frame).frame()? {
        Element { kind: b'$', content: Content::Blob(text) } => Some(text),
        Element { kind: b'=', content: Content::Blob(text) } => text.get(4..),
        Element { kind: b'+', content: Content::Line(text) } => Some(text),
        _ => None,
    }
}
