//! The requests that a node of a cluster may not serve: their bytes, as long as their replies are owed. Where they go then is
//! `redirects`' to say.

use bytes::{Buf, Bytes, BytesMut};

/// What a link keeps of one request.
#[derive(Default)]
pub enum Kept {
    #[default]
    Nothing,
    /// So many bytes of the log.
    Logged(u32),
    /// Too large for the log.
    Whole(Box<Bytes>),
}

/// The small requests of a link, one behind the other: they are answered in that order.
#[derive(Default)]
pub(super) struct Log {
    bytes: BytesMut,
    /// The first bytes are of the request whose reply came last, so long as no other one has come.
    answered: usize,
    /// The most that was in it since it was small.
    peak: usize,
}

/// An empty log holds on to no more than this.
const SPARE_BYTES_MAX: usize = 64 * 1024;

impl Log {
    pub(super) fn keep(&mut self, wire: &[u8]) -> Kept {
        self.bytes.extend_from_slice(wire);
        self.peak = self.peak.max(self.bytes.len());
        Kept::Logged(wire.len() as u32)
    }

    /// The reply to the oldest request is in.
    pub(super) fn answered(&mut self, kept: &Kept) {
        let Kept::Logged(len) = kept else { return };
        self.bytes.advance(self.answered);
        self.answered = *len as usize;
        if self.answered == self.bytes.len() && self.peak > SPARE_BYTES_MAX {
            self.bytes = BytesMut::from(&self.bytes[..]);
            self.peak = 0;
        }
    }

    /// The request whose reply came last.
    pub(super) fn last(&self, kept: Kept) -> Option<Bytes> {
        match kept {
            Kept::Nothing => None,
            Kept::Logged(len) => {
                debug_assert_eq!(len as usize, self.answered, "looked at before the next reply");
                Some(Bytes::copy_from_slice(&self.bytes[..self.answered]))
            }
            Kept::Whole(wire) => Some(*wire),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_there_until_the_reply_behind_it_has_come() {
        let mut log = Log::default();
        let (first, second) = (log.keep(b"first"), log.keep(b"2nd"));
        log.answered(&first);
        assert_eq!(log.last(first).unwrap(), "first");
        log.answered(&Kept::Nothing);
        let third = log.keep(b"third");
        log.answered(&second);
        assert_eq!(log.last(second).unwrap(), "2nd");
        log.answered(&third);
        assert_eq!(log.last(third).unwrap(), "third");
    }

    #[test]
    fn an_empty_log_does_not_stay_large() {
        let mut log = Log::default();
        let kept: Vec<Kept> = (0..1000).map(|_| log.keep(&[b'x'; 1000])).collect();
        kept.iter().for_each(|kept| log.answered(kept));
        // `capacity` counts only what lies behind the last request.
        assert!(!log.bytes.try_reclaim(SPARE_BYTES_MAX));
    }
}
