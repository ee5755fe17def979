//! Scans replies and pushes, RESP2 and RESP3, to find where a frame ends. Resumable: every byte is looked at once.
//! Builds no values; nesting has no limit, because open aggregates stand on a stack of counts instead of the call stack.
use super::number::{COUNT_LINE_BYTES_MAX, short_count, strict_integer};
use memchr::memchr;

/// More elements than any reply has; twice as many still fit into a level of the stack.
pub(super) const ELEMENTS_MAX: i64 = 1 << 60;

/// Longer than any bulk string (a terabyte), and short enough to be added to any place in a buffer.
const BULK_BYTES_MAX: i64 = 1 << 40;

/// Room for this many open aggregates is kept from one frame to the next.
const LEVELS_KEPT: usize = 256;

/// What a scan found at the start of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyScan {
    /// One whole frame, with the attributes before it.
    Complete(ReplyFrame),
    /// More bytes are needed; call again with the same bytes and more.
    Incomplete,
    /// Not the Redis protocol, or one of its streamed types: the link is lost.
    Malformed,
}

/// One frame at the start of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyFrame {
    /// Bytes of the frame and the attributes before it.
    pub len: usize,
    /// The type byte of the frame itself: `b'>'` is a push, which answers no request.
    pub kind: u8,
}

/// Scans one frame after the other. Holds no bytes, only how far it has come.
#[derive(Default)]
pub struct ReplyScanner {
    /// Where the next element begins, or the content of the bulk string under way.
    pos: usize,
    /// Up to here the end of a line was looked for in vain.
    searched: usize,
    /// Bytes of the bulk string that begins at `pos`, with its CRLF; 0 outside of one.
    body: usize,
    /// Open aggregates, outermost first.
    open: Vec<Level>,
    kind: u8,
}

/// An aggregate that still lacks elements.
#[derive(Clone, Copy)]
struct Level {
    left: u64,
    /// Whether it is itself an element of what is around it. Attributes, and pushes inside an aggregate, are not.
    counts: bool,
}

/// The count of a line, as far as it has arrived.
pub(super) enum Count {
    Whole { value: i64, next: usize },
    Unfinished,
    Bad,
}

/// What one step along the frame found.
enum Step {
    /// An element ended at `pos`.
    Element,
    /// An aggregate was opened, a body begins, or something ended that is not an element.
    Other,
    Unfinished,
    Bad,
}

impl ReplyScanner {
    /// Looks at the frame at the start of `buf`. After `Incomplete` it expects the same bytes and more, perhaps at another
    /// address, and goes on where it stopped; after anything else it is ready for the next frame.
    pub fn scan(&mut self, buf: &[u8]) -> ReplyScan {
        loop {
            match self.step(buf) {
                Step::Element if self.end_element() => {
                    let frame = ReplyFrame { len: self.pos, kind: self.kind };
                    self.begin();
                    return ReplyScan::Complete(frame);
                }
                Step::Element | Step::Other => {}
                Step::Unfinished => return ReplyScan::Incomplete,
                Step::Bad => {
                    self.begin();
                    return ReplyScan::Malformed;
                }
            }
        }
    }

    /// After `Incomplete` inside a bulk string: how long the buffer must be at least; otherwise 0.
    pub fn bytes_wanted(&self) -> usize {
        if self.body == 0 { 0 } else { self.pos + self.body }
    }

    /// Whether nothing of a frame was understood yet (its first line may stand in the buffer, unfinished).
    pub fn is_idle(&self) -> bool {
        self.pos == 0 && self.searched == 0
    }

    #[inline]
    fn begin(&mut self) {
        self.pos = 0;
        self.searched = 0;
        self.body = 0;
        self.open.clear();
        if self.open.capacity() > LEVELS_KEPT {
            self.open.shrink_to(LEVELS_KEPT);
        }
    }

    #[inline]
    fn step(&mut self, buf: &[u8]) -> Step {
        if self.body > 0 {
            return self.step_body(buf);
        }
        let Some(&kind) = buf.get(self.pos) else { return Step::Unfinished };
        if self.open.is_empty() {
            self.kind = kind;
        }
        match kind {
            b'$' | b'=' | b'!' => match count_line(buf, self.pos) {
                Count::Whole { value: -1, next } if kind == b'$' => {
                    self.pos = next;
                    Step::Element
                }
                Count::Whole { value, next } => match body_len(value) {
                    Some(body) => {
                        (self.pos, self.body) = (next, body);
                        self.step_body(buf)
                    }
                    None => Step::Bad,
                },
                Count::Unfinished => Step::Unfinished,
                Count::Bad => Step::Bad,
            },
            b'*' | b'%' | b'~' | b'>' | b'|' => self.step_aggregate(kind, buf),
            b'+' | b'-' | b':' | b',' | b'(' | b'#' | b'_' => self.step_line(kind, buf),
            _ => Step::Bad,
        }
    }

    #[inline]
    fn step_body(&mut self, buf: &[u8]) -> Step {
        let end = self.pos + self.body;
        match buf.get(end - 2..end) {
            Some(b"\r\n") => {
                (self.pos, self.body) = (end, 0);
                Step::Element
            }
            Some(_) => Step::Bad,
            None => Step::Unfinished,
        }
    }

    fn step_aggregate(&mut self, kind: u8, buf: &[u8]) -> Step {
        let (count, next) = match count_line(buf, self.pos) {
            Count::Whole { value, next } => (value, next),
            Count::Unfinished => return Step::Unfinished,
            Count::Bad => return Step::Bad,
        };
        self.pos = next;
        if count == -1 && kind == b'*' {
            return Step::Element;
        }
        if !(0..=ELEMENTS_MAX).contains(&count) {
            return Step::Bad;
        }
        let left = if matches!(kind, b'%' | b'|') { 2 * count as u64 } else { count as u64 };
        let counts = match kind {
            b'|' => false,
            b'>' => self.open.is_empty(),
            _ => true,
        };
        if left > 0 {
            self.open.push(Level { left, counts });
            return Step::Other;
        }
        if counts { Step::Element } else { Step::Other }
    }

    fn step_line(&mut self, kind: u8, buf: &[u8]) -> Step {
        let mut from = self.searched.max(self.pos + 1);
        let cr = loop {
            let Some(at) = buf.get(from..).and_then(|rest| memchr(b'\r', rest)) else {
                self.searched = buf.len();
                return Step::Unfinished;
            };
            match buf.get(from + at + 1) {
                Some(b'\n') => break from + at,
                // A CR alone is part of the text, as hiredis has it.
                Some(_) => from += at + 1,
                None => {
                    self.searched = from + at;
                    return Step::Unfinished;
                }
            }
        };
        let text = &buf[self.pos + 1..cr];
        let sound = match kind {
            b'_' => text.is_empty(),
            b'#' => matches!(text, b"t" | b"f"),
            b':' => strict_integer(text).is_some(),
            _ => true,
        };
        self.pos = cr + 2;
        if sound { Step::Element } else { Step::Bad }
    }

    /// Counts an element off the aggregates around it; true when with it the frame has ended.
    #[inline]
    fn end_element(&mut self) -> bool {
        while let Some(level) = self.open.last_mut() {
            level.left -= 1;
            if level.left > 0 {
                return false;
            }
            let counts = level.counts;
            self.open.pop();
            if !counts {
                return false;
            }
        }
        true
    }
}

/// Reads the count in the line at `at`, behind its type byte.
#[inline]
pub(super) fn count_line(buf: &[u8], at: usize) -> Count {
    match short_count(buf, at + 1) {
        Some((value, cr)) if buf.get(cr + 1) == Some(&b'\n') => {
            Count::Whole { value: i64::from(value), next: cr + 2 }
        }
        _ => odd_count_line(buf, at),
    }
}

/// The same for what is negative, long, unfinished or wrong.
#[cold]
fn odd_count_line(buf: &[u8], at: usize) -> Count {
    let line = &buf[(at + 1).min(buf.len())..];
    let line = &line[..line.len().min(COUNT_LINE_BYTES_MAX)];
    match memchr(b'\r', line) {
        Some(cr) => match (strict_integer(&line[..cr]), buf.get(at + 1 + cr + 1)) {
            (Some(value), Some(b'\n')) => Count::Whole { value, next: at + 1 + cr + 2 },
            (Some(_), None) => Count::Unfinished,
            _ => Count::Bad,
        },
        None if line.len() == COUNT_LINE_BYTES_MAX => Count::Bad,
        None => Count::Unfinished,
    }
}

/// The bytes of a bulk string and its CRLF; `None` if there is no such string.
#[inline]
pub(super) fn body_len(len: i64) -> Option<usize> {
    (0..=BULK_BYTES_MAX).contains(&len).then(|| len as usize + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scans `frame` whole and byte by byte, with another frame behind it.
    fn scanned(frame: &[u8]) -> ReplyScan {
        let followed = [frame, b"+NEXT\r\n"].concat();
        let whole = ReplyScanner::default().scan(&followed);
        let mut scanner = ReplyScanner::default();
        let pieces = (0..=followed.len())
            .map(|end| scanner.scan(&followed[..end]))
            .find(|found| *found != ReplyScan::Incomplete)
            .unwrap_or(ReplyScan::Incomplete);
        assert_eq!(whole, pieces, "{}", frame.escape_ascii());
        whole
    }

    fn complete(len: usize, kind: u8) -> ReplyScan {
        ReplyScan::Complete(ReplyFrame { len, kind })
    }

    #[test]
    fn every_type_is_measured() {
        let frames: [&[u8]; 26] = [
            b"+OK\r\n",
            b"+\r\n",
            b"+a\rb\nc\r\n",
            b"-ERR no\r\n",
            b":-42\r\n",
            b"$0\r\n\r\n",
            b"$5\r\na\r\nbc\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"*2\r\n*1\r\n:1\r\n$1\r\na\r\n",
            b"_\r\n",
            b"#t\r\n",
            b",1.5e-7\r\n",
            b"(123456789012345678901234567890\r\n",
            b"!5\r\nERR a\r\n",
            b"=7\r\ntxt:a\r\n\r\n",
            b"%0\r\n",
            b"%1\r\n+a\r\n*2\r\n:1\r\n:2\r\n",
            b"~2\r\n+a\r\n_\r\n",
            b">2\r\n+invalidate\r\n*1\r\n$1\r\na\r\n",
            b">0\r\n",
            b"*1\r\n*0\r\n",
            b"*2\r\n%0\r\n~0\r\n",
            b"*1\r\n*-1\r\n",
            b"*12\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n",
        ];
        for frame in frames {
            assert_eq!(scanned(frame), complete(frame.len(), frame[0]), "{}", frame.escape_ascii());
        }
    }

    #[test]
    fn an_attribute_belongs_to_the_frame_behind_it() {
        for frame in [&b"|1\r\n+a\r\n%1\r\n:1\r\n:2\r\n:7\r\n"[..], b"|0\r\n|1\r\n+a\r\n+b\r\n:7\r\n"] {
            assert_eq!(scanned(frame), complete(frame.len(), b':'));
        }
        let inside = b"*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n|0\r\n:2\r\n";
        assert_eq!(scanned(inside), complete(inside.len(), b'*'));
    }

    #[test]
    fn a_push_inside_an_aggregate_is_none_of_its_elements() {
        let frame = b"*2\r\n:1\r\n>2\r\n+invalidate\r\n*1\r\n+a\r\n>0\r\n:2\r\n";
        assert_eq!(scanned(frame), complete(frame.len(), b'*'));
    }

    #[test]
    fn what_is_not_the_protocol_is_refused() {
        let frames: [&[u8]; 24] = [
            b"$-2\r\n",
            b"*-2\r\n",
            b"%-1\r\n",
            b"~-1\r\n",
            b"=-1\r\n",
            b"$+1\r\na\r\n",
            b"$01\r\na\r\n",
            b"$1\na\r\n",
            b"$1\r\nab\r\n",
            b"$1\rxa\r\n",
            b"$?\r\n",
            b"*?\r\n",
            b"$\r\n",
            b"$9223372036854775807\r\n",
            b"$9223372036854775808\r\n",
            b"*9223372036854775807\r\n",
            b"*123456789012345678901234567890",
            b"#x\r\n",
            b"_x\r\n",
            b":1a\r\n",
            b":\r\n",
            b".\r\n",
            b";4\r\n",
            b"GET a\r\n",
        ];
        for frame in frames {
            assert_eq!(scanned(frame), ReplyScan::Malformed, "{}", frame.escape_ascii());
        }
    }

    #[test]
    fn an_announced_length_allocates_nothing() {
        for frame in [&b"*2147483647\r\n"[..], b"%1152921504606846976\r\n", b"$2147483647\r\n"] {
            let mut scanner = ReplyScanner::default();
            assert_eq!(scanner.scan(frame), ReplyScan::Incomplete);
            assert!(scanner.open.capacity() <= 4, "one level and no room for elements");
        }
    }

    #[test]
    fn a_million_open_arrays_are_scanned_without_recursion_and_given_back() {
        let frame = [b"*1\r\n".repeat(1_000_000), b":1\r\n".to_vec()].concat();
        let mut scanner = ReplyScanner::default();
        assert_eq!(scanner.scan(&frame[..frame.len() / 2]), ReplyScan::Incomplete);
        assert_eq!(scanner.scan(&frame), complete(frame.len(), b'*'));
        assert!(scanner.open.capacity() <= LEVELS_KEPT);
    }

    #[test]
    fn a_bulk_string_under_way_says_how_many_bytes_it_wants() {
        let mut scanner = ReplyScanner::default();
        assert_eq!(scanner.scan(b"*2\r\n$1000\r\nab"), ReplyScan::Incomplete);
        assert_eq!(scanner.bytes_wanted(), 4 + 7 + 1002);
        assert!(!scanner.is_idle());
        let frame = [&b"*2\r\n$1000\r\n"[..], &[b'a'; 1000], b"\r\n:1\r\n"].concat();
        assert_eq!(scanner.scan(&frame), complete(frame.len(), b'*'));
        assert_eq!(scanner.bytes_wanted(), 0);
        assert!(scanner.is_idle());
    }
}
