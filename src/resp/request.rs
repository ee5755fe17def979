//! Scans client requests: arrays of bulk strings and inline commands. Resumable: every byte is looked at once.

/// Bounds on one request; each has a row in the `[limits]` section.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    pub args_max: i64,
    pub bulk_bytes_max: i64,
    pub inline_bytes_max: usize,
    /// Texts differ for clients that have not authenticated ("unauthenticated multibulk length").
    pub authenticated: bool,
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
