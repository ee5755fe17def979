//! Scans client requests: arrays of bulk strings and inline commands. Resumable: every byte is looked at once.
//! Its limits and texts are those of Redis 7's own reader; what it accepts is checked against a real one.
use super::encode::append_request;
use super::inline::split_inline;
use super::number::{short_count, strict_integer};
use memchr::memchr2;

/// What Redis takes at most, whatever was configured lower for clients that have not authenticated.
const REDIS_ARGS_MAX: i64 = i32::MAX as i64;
const REDIS_BULK_BYTES_MAX: i64 = 512 * 1024 * 1024;

/// Room for this many arguments is kept from one request to the next.
const RANGES_KEPT: usize = 256;

/// Bounds on one request; each has a row in the `[limits]` section.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    pub args_max: i64,
    pub bulk_bytes_max: i64,
    pub inline_bytes_max: usize,
    /// Texts differ for clients that have not authenticated ("unauthenticated multibulk length").
    pub authenticated: bool,
}

impl RequestLimits {
    /// For what the daemon itself has encoded, or has scanned before.
    pub const NONE: RequestLimits = RequestLimits {
        args_max: i64::MAX,
        bulk_bytes_max: i64::MAX,
        inline_bytes_max: usize::MAX,
        authenticated: true,
    };
}

/// The arguments of one request: ranges of the buffer that it was scanned in. `args.get(0)` is the name.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    buf: &'a [u8],
    ranges: &'a [(u32, u32)],
}

impl<'a> Args<'a> {
    pub fn new(buf: &'a [u8], ranges: &'a [(u32, u32)]) -> Self {
        Args { buf, ranges }
    }
    #[inline]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
    #[inline]
    pub fn get(&self, i: usize) -> Option<&'a [u8]> {
        self.ranges.get(i).map(|&(start, end)| &self.buf[start as usize..end as usize])
    }
    pub fn ranges(&self) -> &'a [(u32, u32)] {
        self.ranges
    }
    /// Where the arguments after the name begin in an array request.
    #[inline]
    pub fn tail_at(&self) -> usize {
        self.ranges.first().map_or(0, |&(_, end)| end as usize + 2)
    }
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + 'a {
        let buf = self.buf;
        self.ranges.iter().map(move |&(start, end)| &buf[start as usize..end as usize])
    }
}

/// What a scan found at the start of the buffer.
pub enum RequestScan {
    /// One whole array request in `buf[..len]`; `scanner.ranges()` gives its arguments (at least one).
    Complete { len: usize },
    /// One inline command in `buf[..len]`, as the array request that means the same.
    Inline { len: usize, wire: Vec<u8> },
    /// `buf[..len]` asks for nothing (an empty line, `*0`, `*-1`): skip it.
    Empty { len: usize },
    /// More bytes are needed; call again with the same bytes and more.
    Incomplete,
    /// The RESP error line to answer (`-ERR Protocol error: ...\r\n`) before the connection closes.
    Malformed(Vec<u8>),
}

/// Scans one request after the other. Holds no bytes, only how far it has come.
#[derive(Default)]
pub struct RequestScanner {
    pub(super) ranges: Vec<(u32, u32)>,
    /// Where the part begins that is not understood yet.
    pos: usize,
    /// Up to here the end of a line was looked for in vain.
    searched: usize,
    /// Arguments that the current array still lacks; 0 before its header was read.
    args_left: u32,
    /// Length of the bulk string that begins at `pos`, once its header was read.
    bulk: Option<u32>,
    under_way: bool,
}

/// A line with a count on it, as far as it has arrived.
enum CountLine {
    /// `value` is `None` for what is no integer. The next part begins at `next`.
    Whole {
        value: Option<i64>,
        next: usize,
    },
    Unfinished,
    TooLong,
}

impl RequestScanner {
    /// Looks at the request at the start of `buf`. After `Incomplete` it expects the same bytes and more, perhaps at another
    /// address, and goes on where it stopped; after anything else it is ready for the next request.
    pub fn scan(&mut self, buf: &[u8], limits: &RequestLimits) -> RequestScan {
        let Some(&first) = buf.first() else { return RequestScan::Incomplete };
        if !self.under_way {
            self.begin();
        }
        let found = if first == b'*' { self.scan_array(buf, limits) } else { self.scan_inline(buf, limits) };
        self.under_way = matches!(found, RequestScan::Incomplete);
        found
    }

    /// The arguments of the last `Complete` as ranges of its buffer, of the last `Inline` as ranges of its `wire`.
    /// They stay until the next scan.
    #[inline]
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.ranges
    }

    /// After `Incomplete` inside a bulk string: how long the buffer must be at least; otherwise 0.
    pub fn bytes_wanted(&self) -> usize {
        match self.bulk {
            Some(len) if self.under_way => self.pos + len as usize + 2,
            _ => 0,
        }
    }

    /// Whether no request has been begun.
    pub fn is_idle(&self) -> bool {
        !self.under_way
    }

    #[inline]
    fn begin(&mut self) {
        self.ranges.clear();
        if self.ranges.capacity() > RANGES_KEPT {
            self.ranges.shrink_to(RANGES_KEPT);
        }
        self.pos = 0;
        self.searched = 0;
        self.args_left = 0;
        self.bulk = None;
    }

    #[inline]
    fn scan_array(&mut self, buf: &[u8], limits: &RequestLimits) -> RequestScan {
        if self.args_left == 0 {
            match self.count_line(buf, limits) {
                CountLine::Whole { value, next } => match args_count(value, limits) {
                    Ok(0) => return RequestScan::Empty { len: next },
                    Ok(count) => (self.args_left, self.pos) = (count, next),
                    Err(text) => return protocol_error(text),
                },
                CountLine::Unfinished => return RequestScan::Incomplete,
                CountLine::TooLong => return protocol_error(b"too big mbulk count string"),
            }
        }
        loop {
            let len = match self.bulk {
                Some(len) => len,
                None => match self.count_line(buf, limits) {
                    CountLine::Whole { value, next } => match bulk_len(buf[self.pos], value, next, limits) {
                        Ok(len) => {
                            self.pos = next;
                            len
                        }
                        Err(refusal) => return refusal,
                    },
                    CountLine::Unfinished => return RequestScan::Incomplete,
                    CountLine::TooLong => return protocol_error(b"too big bulk count string"),
                },
            };
            let end = self.pos + len as usize;
            // Redis takes any two bytes after a bulk string for its CRLF, and so must whoever stands before it.
            if buf.len() < end + 2 {
                self.bulk = Some(len);
                return RequestScan::Incomplete;
            }
            self.ranges.push((self.pos as u32, end as u32));
            self.bulk = None;
            self.pos = end + 2;
            self.args_left -= 1;
            if self.args_left == 0 {
                return RequestScan::Complete { len: self.pos };
            }
        }
    }

    /// Reads the count in the line at `pos`, behind its type byte.
    #[inline(always)]
    fn count_line(&mut self, buf: &[u8], limits: &RequestLimits) -> CountLine {
        match short_count(buf, self.pos + 1) {
            Some((value, cr)) if cr + 1 < buf.len() && buf[self.pos] != 0 => {
                CountLine::Whole { value: Some(i64::from(value)), next: cr + 2 }
            }
            _ => self.odd_count_line(buf, limits),
        }
    }

    /// The same for whatever is not a short count: Redis looks for CR first, takes the byte behind it for LF unseen, and gives
    /// up on a line when more than `inline_bytes_max` bytes have come without a CR. A zero byte ends its search.
    #[cold]
    fn odd_count_line(&mut self, buf: &[u8], limits: &RequestLimits) -> CountLine {
        let Some(cr) = self.find(b'\r', buf) else {
            let too_long = buf.len() - self.pos > limits.inline_bytes_max;
            return if too_long { CountLine::TooLong } else { CountLine::Unfinished };
        };
        if cr + 1 == buf.len() {
            return CountLine::Unfinished;
        }
        // A CR in the place of the type byte leaves no text; its range would run backwards.
        let text = buf.get(self.pos + 1..cr).unwrap_or_default();
        CountLine::Whole { value: strict_integer(text), next: cr + 2 }
    }

    fn scan_inline(&mut self, buf: &[u8], limits: &RequestLimits) -> RequestScan {
        let Some(lf) = self.find(b'\n', buf) else {
            let too_long = buf.len() > limits.inline_bytes_max;
            return if too_long {
                protocol_error(b"too big inline request")
            } else {
                RequestScan::Incomplete
            };
        };
        let line = buf[..lf].strip_suffix(b"\r").unwrap_or(&buf[..lf]);
        let Some(args) = split_inline(line) else {
            return protocol_error(b"unbalanced quotes in request");
        };
        if args.is_empty() {
            return RequestScan::Empty { len: lf + 1 };
        }
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let mut wire = Vec::new();
        append_request(&mut wire, &args);
        let mut end = wire.len() - args.iter().map(|arg| bulk_wire_len(arg)).sum::<usize>();
        for arg in &args {
            end += bulk_wire_len(arg);
            self.ranges.push(((end - 2 - arg.len()) as u32, (end - 2) as u32));
        }
        RequestScan::Inline { len: lf + 1, wire }
    }

    /// Finds `byte` behind what was searched already, unless a zero byte stands before it.
    fn find(&mut self, byte: u8, buf: &[u8]) -> Option<usize> {
        let from = self.searched.max(self.pos);
        let found = memchr2(byte, 0, &buf[from..]).map(|i| from + i);
        self.searched = found.unwrap_or(buf.len());
        found.filter(|&at| buf[at] == byte)
    }
}

/// How many arguments an array announces: none for zero and less.
#[inline]
fn args_count(value: Option<i64>, limits: &RequestLimits) -> Result<u32, &'static [u8]> {
    match value {
        Some(count) if count <= limits.args_max.min(REDIS_ARGS_MAX) => Ok(count.max(0) as u32),
        Some(count) if count <= REDIS_ARGS_MAX && !limits.authenticated => {
            Err(b"unauthenticated multibulk length")
        }
        _ => Err(b"invalid multibulk length"),
    }
}

/// The length of a bulk string whose content begins at `next`.
#[inline]
fn bulk_len(kind: u8, value: Option<i64>, next: usize, limits: &RequestLimits) -> Result<u32, RequestScan> {
    // Ranges are of 32 bits: a request that would not fit is refused like a bulk string that is too long.
    let room = i64::from(u32::MAX) - 2 - next as i64;
    match value {
        _ if kind != b'$' => {
            let shown = if matches!(kind, b'\r' | b'\n') { b' ' } else { kind };
            Err(protocol_error(&[b"expected '$', got '", &[shown][..], b"'"].concat()))
        }
        Some(len) if (0..=limits.bulk_bytes_max.min(room)).contains(&len) => Ok(len as u32),
        Some(len) if (0..=REDIS_BULK_BYTES_MAX).contains(&len) && !limits.authenticated => {
            Err(protocol_error(b"unauthenticated bulk length"))
        }
        _ => Err(protocol_error(b"invalid bulk length")),
    }
}

#[cold]
fn protocol_error(text: &[u8]) -> RequestScan {
    RequestScan::Malformed([b"-ERR Protocol error: ", text, b"\r\n"].concat())
}

/// Bytes of `arg` as a bulk string with its header.
fn bulk_wire_len(arg: &[u8]) -> usize {
    let digits = arg.len().checked_ilog10().unwrap_or(0) as usize + 1;
    arg.len() + digits + 5
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RequestLimits = RequestLimits {
        args_max: 1024 * 1024,
        bulk_bytes_max: 1 << 29,
        inline_bytes_max: 65536,
        authenticated: true,
    };

    /// What a scan found, with the arguments themselves.
    #[derive(Debug, PartialEq)]
    enum Found {
        Request(usize, Vec<Vec<u8>>),
        Empty(usize),
        Incomplete,
        Malformed(String),
    }

    fn found(scanner: &mut RequestScanner, buf: &[u8], limits: &RequestLimits) -> Found {
        let own =
            |buf: &[u8], ranges: &[(u32, u32)]| Args::new(buf, ranges).iter().map(<[u8]>::to_vec).collect();
        match scanner.scan(buf, limits) {
            RequestScan::Complete { len } => Found::Request(len, own(buf, scanner.ranges())),
            RequestScan::Inline { len, wire } => {
                let args = own(&wire, scanner.ranges());
                let slices: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
                assert_eq!(crate::resp::encode_request(&slices), wire);
                Found::Request(len, args)
            }
            RequestScan::Empty { len } => Found::Empty(len),
            RequestScan::Incomplete => Found::Incomplete,
            RequestScan::Malformed(line) => Found::Malformed(String::from_utf8_lossy(&line).into_owned()),
        }
    }

    /// Scans the bytes whole and one by one.
    fn scanned_with(buf: &[u8], limits: &RequestLimits) -> Found {
        let whole = found(&mut RequestScanner::default(), buf, limits);
        let mut scanner = RequestScanner::default();
        let pieces = (0..=buf.len())
            .map(|end| found(&mut scanner, &buf[..end], limits))
            .find(|found| *found != Found::Incomplete)
            .unwrap_or(Found::Incomplete);
        assert_eq!(whole, pieces, "{}", buf.escape_ascii());
        whole
    }

    fn scanned(buf: &[u8]) -> Found {
        scanned_with(buf, &LIMITS)
    }

    fn request(len: usize, args: &[&str]) -> Found {
        Found::Request(len, args.iter().map(|arg| arg.as_bytes().to_vec()).collect())
    }

    fn refused(text: &str) -> Found {
        Found::Malformed(format!("-ERR Protocol error: {text}\r\n"))
    }

    #[test]
    fn arrays_of_bulk_strings_are_requests() {
        assert_eq!(
            scanned(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n"),
            request(20, &["GET", "a"])
        );
        assert_eq!(
            scanned(b"*2\r\n$0\r\n\r\n$12\r\nab\r\ncd\r\nefgh\r\n"),
            request(29, &["", "ab\r\ncd\r\nefgh"])
        );
    }

    #[test]
    fn nothing_is_asked_by_empty_lines_and_empty_arrays() {
        for (wire, len) in [
            ("*0\r\n", 4),
            ("*-1\r\n", 5),
            ("*-9223372036854775808\r\n", 23),
            ("\r\n", 2),
            ("\n", 1),
            (" \t \r\n", 5),
        ] {
            assert_eq!(scanned(wire.as_bytes()), Found::Empty(len), "{wire:?}");
        }
    }

    #[test]
    fn wrong_counts_and_types_are_refused_in_the_words_of_redis() {
        for (wire, text) in [
            ("*2147483648\r\n", "invalid multibulk length"),
            ("*\r\n", "invalid multibulk length"),
            ("*+1\r\n", "invalid multibulk length"),
            ("*-0\r\n", "invalid multibulk length"),
            ("*01\r\n", "invalid multibulk length"),
            ("*1 \r\n", "invalid multibulk length"),
            ("*1\n$4\r\n", "invalid multibulk length"),
            ("*1\r\nPING\r\n", "expected '$', got 'P'"),
            ("*1\r\n\r\n", "expected '$', got ' '"),
            ("*1\r\n\n\r\n", "expected '$', got ' '"),
            ("*1\r\n$-1\r\n", "invalid bulk length"),
            ("*1\r\n$-2\r\n", "invalid bulk length"),
            ("*1\r\n$+1\r\n", "invalid bulk length"),
            ("*1\r\n$1a\r\n", "invalid bulk length"),
            ("*1\r\n$536870913\r\n", "invalid bulk length"),
            ("*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
            ("a \"b\r\n", "unbalanced quotes in request"),
            ("a 'b\r\n", "unbalanced quotes in request"),
            ("a \"b\"c\r\n", "unbalanced quotes in request"),
        ] {
            assert_eq!(scanned(wire.as_bytes()), refused(text), "{wire:?}");
        }
        assert_eq!(
            RequestScanner::default().scan(b"*1\r\n\xff1\r\n", &LIMITS).malformed(),
            Some(b"-ERR Protocol error: expected '$', got '\xff'\r\n".to_vec())
        );
    }

    impl RequestScan {
        fn malformed(self) -> Option<Vec<u8>> {
            if let RequestScan::Malformed(line) = self { Some(line) } else { None }
        }
    }

    #[test]
    fn who_has_not_authenticated_has_limits_and_texts_of_his_own() {
        let limits = RequestLimits { args_max: 10, bulk_bytes_max: 16384, authenticated: false, ..LIMITS };
        for (wire, expected) in [
            ("*11\r\n", refused("unauthenticated multibulk length")),
            ("*2147483648\r\n", refused("invalid multibulk length")),
            ("*10\r\n", Found::Incomplete),
            ("*1\r\n$16385\r\n", refused("unauthenticated bulk length")),
            ("*1\r\n$536870913\r\n", refused("invalid bulk length")),
            ("*1\r\n$16384\r\n", Found::Incomplete),
        ] {
            assert_eq!(scanned_with(wire.as_bytes(), &limits), expected, "{wire:?}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_refused_past_its_limit() {
        for (start, text) in [
            ("a", "too big inline request"),
            ("*1", "too big mbulk count string"),
            ("*1\r\n$1", "too big bulk count string"),
            ("a\0\r\n", "too big inline request"),
        ] {
            let line_start = start.rfind("\r\n$").map_or(0, |at| at + 2);
            let mut wire = start.as_bytes().to_vec();
            wire.resize(line_start + 65536, b'1');
            let mut scanner = RequestScanner::default();
            assert_eq!(found(&mut scanner, &wire, &LIMITS), Found::Incomplete, "{start:?}");
            wire.push(b'1');
            assert_eq!(found(&mut scanner, &wire, &LIMITS), refused(text), "{start:?}");
        }
    }

    #[test]
    fn an_announced_length_allocates_nothing() {
        let mut scanner = RequestScanner::default();
        assert_eq!(found(&mut scanner, b"*1000000\r\n$536870912\r\nab", &LIMITS), Found::Incomplete);
        assert_eq!(scanner.ranges.capacity(), 0);
        assert_eq!(scanner.bytes_wanted(), 10 + 12 + 536_870_912 + 2);
        assert!(!scanner.is_idle());
    }

    #[test]
    fn the_scanner_is_ready_again_after_whatever_it_found() {
        let mut scanner = RequestScanner::default();
        let many = crate::resp::encode_request(&[&b"a"[..]; 10_000]);
        assert!(matches!(scanner.scan(&many, &LIMITS), RequestScan::Complete { .. }));
        assert_eq!(scanner.ranges().len(), 10_000);
        for wire in ["*0\r\n", "*x\r\n", "PING\r\n", "\"\r\n", "\r\n", "*1\r\nx\r\n"] {
            assert_ne!(found(&mut scanner, wire.as_bytes(), &LIMITS), Found::Incomplete);
            assert!(scanner.is_idle());
            assert_eq!(found(&mut scanner, b"*1\r\n$4\r\nPING\r\n", &LIMITS), request(14, &["PING"]));
        }
        assert!(scanner.ranges.capacity() <= RANGES_KEPT, "the room for many arguments was given back");
        assert_eq!(scanner.bytes_wanted(), 0);
    }

    #[test]
    fn a_large_bulk_string_in_small_pieces_costs_its_length_only_once() {
        let wire = crate::resp::encode_request(&[b"SET", b"a", &vec![b'x'; 50 << 20]]);
        let mut scanner = RequestScanner::default();
        let started = std::time::Instant::now();
        let mut end = 0;
        while end < wire.len() {
            assert!(matches!(scanner.scan(&wire[..end], &LIMITS), RequestScan::Incomplete));
            end += 1024;
        }
        assert!(matches!(scanner.scan(&wire, &LIMITS), RequestScan::Complete { .. }));
        // 51,200 scans; looked at anew each time it would be more than 10^12 bytes.
        assert!(started.elapsed().as_secs() < 5);
    }
}
