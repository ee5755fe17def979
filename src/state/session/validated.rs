//! Understands the reply of VALIDATE's script and says what a client gets of it, then or from L1 at a later moment.
//! Allocates nothing and asks no clock: the caller says how much later it is.
use super::{Fault, UNEXPECTED};
use crate::resp::{array_fixed, array_header, bulk, bulk_text, integer, map_header, null, parse_integer};

const NAMES: [&str; 6] = ["id", "user", "version", "idle_left_ms", "absolute_left_ms", "data"];

/// A session at the moment when the script ran. Times are L2's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validated<'a> {
    pub id: &'a [u8],
    pub user: &'a [u8],
    pub version: i64,
    /// When the script ran.
    pub now_ms: i64,
    /// The last use that was written down.
    pub used_ms: i64,
    pub idle_ms: i64,
    /// The end, if it is not used any more.
    pub expires_ms: i64,
    /// The end in any case; of an old token the end of its grace.
    pub ends_ms: i64,
    pub data: Option<&'a [u8]>,
}

/// Whether this VALIDATE is a use of the session (it is not with NOTOUCH).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Counts,
    Not,
}

/// What one VALIDATE comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Answered. `touch`: a use is to be written down: run `Touch`, and do not wait for it.
    Answered { touch: bool },
    /// The reply is too old to say: the session may have been used elsewhere since. Ask L2.
    Unknown,
}

impl<'a> Validated<'a> {
    /// `None`: there is no such session.
    pub fn parse(frame: &'a [u8]) -> Result<Option<Validated<'a>>, Fault> {
        if matches!(frame, b"$-1\r\n" | b"*-1\r\n" | b"_\r\n") {
            return Ok(None);
        }
        if let Some(text) = frame.strip_prefix(b"-") {
            return Err(String::from_utf8_lossy(text.trim_ascii_end()).into_owned().into());
        }
        array_fixed(frame).and_then(Self::of_elements).map(Some).ok_or(UNEXPECTED.into())
    }

    /// The session in a form that costs nothing to read, for L1: numbers, lengths, texts.
    pub fn keep(&self) -> Vec<u8> {
        let numbers = [self.version, self.now_ms, self.used_ms, self.idle_ms, self.expires_ms, self.ends_ms];
        let len = |text: &[u8]| text.len() as i64;
        let lens = [len(self.id), len(self.user), self.data.map_or(-1, len)];
        let mut out: Vec<u8> = numbers.iter().chain(&lens).flat_map(|number| number.to_le_bytes()).collect();
        for text in [self.id, self.user, self.data.unwrap_or_default()] {
            out.extend_from_slice(text);
        }
        out
    }

    /// What `keep` wrote.
    pub fn kept(bytes: &'a [u8]) -> Option<Validated<'a>> {
        const NUMBERS: usize = 9;
        let (numbers, texts) = bytes.split_at_checked(8 * NUMBERS)?;
        let (numbers, _) = numbers.as_chunks::<8>();
        let number = |at: usize| i64::from_le_bytes(numbers[at]);
        let (id, texts) = texts.split_at_checked(number(6) as usize)?;
        let (user, data) = texts.split_at_checked(number(7) as usize)?;
        Some(Validated {
            id,
            user,
            version: number(0),
            now_ms: number(1),
            used_ms: number(2),
            idle_ms: number(3),
            expires_ms: number(4),
            ends_ms: number(5),
            data: (number(8) >= 0).then_some(data),
        })
    }

    fn of_elements([id, user, version, now, used, idle, expires, ends, data]: [&'a [u8]; 9]) -> Option<Self> {
        Some(Validated {
            id: bulk_text(id)?,
            user: bulk_text(user)?,
            version: parse_integer(version)?,
            now_ms: parse_integer(now)?,
            used_ms: parse_integer(used)?,
            idle_ms: parse_integer(idle)?,
            expires_ms: parse_integer(expires)?,
            ends_ms: parse_integer(ends)?,
            data: bulk_text(data),
        })
    }

    /// Whether a use at this moment is to be written down: one per idle/20 is, and deadlines lie that much later. So is one
    /// behind a use that a clock far ahead has written: until then the idle time would not begin.
    pub fn wants_touch(&self, later_ms: u64) -> bool {
        let unused_ms = self.at(later_ms) - self.used_ms;
        unused_ms < 0 || unused_ms >= self.idle_ms / 20
    }

    /// Appends what the client gets `later_ms` after the script was sent (counted from the sending, so that nothing is
    /// shown that has ended; 0 for a reply that just came).
    pub fn answer(&self, later_ms: u64, use_: Use, resp3: bool, out: &mut Vec<u8>) -> Verdict {
        let now = self.at(later_ms);
        if now >= self.expires_ms {
            return Verdict::Unknown;
        }
        let left = match use_ {
            Use::Counts => self.ends_ms,
            Use::Not => self.expires_ms.min(self.ends_ms),
        } - now;
        let Validated { id, user, version, ends_ms, idle_ms, data, .. } = *self;
        if resp3 {
            map_header(out, NAMES.len(), true)
        } else {
            array_header(out, NAMES.len())
        }
        let name = |field: usize, out: &mut Vec<u8>| {
            if resp3 {
                bulk(out, NAMES[field].as_bytes());
            }
        };
        name(0, out);
        bulk(out, id);
        name(1, out);
        bulk(out, user);
        name(2, out);
        integer(out, version);
        name(3, out);
        integer(out, left.min(idle_ms));
        name(4, out);
        integer(out, ends_ms - now);
        name(5, out);
        match data {
            Some(data) => bulk(out, data),
            None => null(out, resp3),
        }
        Verdict::Answered { touch: use_ == Use::Counts && self.wants_touch(later_ms) }
    }

    fn at(&self, later_ms: u64) -> i64 {
        self.now_ms.saturating_add(i64::try_from(later_ms).unwrap_or(i64::MAX))
    }
}
