//! A byte string that never changes: short ones stand in place, longer ones on the heap. For keys, members, fields.

use std::ops::Deref;

/// The longest text that stands in place.
pub const INLINE_LEN_MAX: usize = 22;

/// 24 bytes.
#[derive(Clone)]
pub enum Compact {
    Inline(u8, [u8; INLINE_LEN_MAX]),
    Heap(Box<[u8]>),
}

impl Compact {
    /// Bytes that it owns besides its own.
    #[inline]
    pub fn heap_bytes(&self) -> usize {
        match self {
            Compact::Inline(..) => 0,
            Compact::Heap(text) => text.len(),
        }
    }
}

impl From<&[u8]> for Compact {
    #[inline]
    fn from(text: &[u8]) -> Compact {
        if text.len() > INLINE_LEN_MAX {
            return Compact::Heap(text.into());
        }
        let mut inline = [0; INLINE_LEN_MAX];
        inline[..text.len()].copy_from_slice(text);
        Compact::Inline(text.len() as u8, inline)
    }
}

impl Deref for Compact {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Compact::Inline(len, text) => &text[..usize::from(*len).min(INLINE_LEN_MAX)],
            Compact::Heap(text) => text,
        }
    }
}

impl AsRef<[u8]> for Compact {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Compact {
    fn eq(&self, other: &Compact) -> bool {
        **self == **other
    }
}

impl Eq for Compact {}

impl PartialOrd for Compact {
    fn partial_cmp(&self, other: &Compact) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Compact {
    fn cmp(&self, other: &Compact) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl std::fmt::Debug for Compact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back_whatever_its_length() {
        for len in 0..64 {
            let text: Vec<u8> = (0..len).collect();
            let compact = Compact::from(&text[..]);
            assert_eq!(*compact, *text);
            assert_eq!(compact.heap_bytes() == 0, text.len() <= INLINE_LEN_MAX);
        }
        assert_eq!(size_of::<Compact>(), 24);
    }
}
