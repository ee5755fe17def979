//! A small hash in one allocation: each text behind a byte that gives its length, fields and values by turns, in the order
//! they came. Looked through from the front; `hash` decides what is small enough.

/// The longest text that it takes.
pub(super) const TEXT_LEN_MAX: usize = 64;

#[derive(Clone, Debug, Default)]
pub(super) struct Packed {
    bytes: Vec<u8>,
    pairs: usize,
}

impl Packed {
    pub(super) fn len(&self) -> usize {
        self.pairs
    }

    /// Bytes of the heap.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn get(&self, field: &[u8]) -> Option<&[u8]> {
        self.find(field).map(|at| self.text(at + 1 + field.len()))
    }

    /// Gives whether the field is new.
    pub(super) fn insert(&mut self, field: &[u8], value: &[u8]) -> bool {
        match self.find(field) {
            Some(at) => {
                let at = at + 1 + field.len();
                let end = at + 1 + self.text(at).len();
                self.bytes.splice(at..end, std::iter::once(value.len() as u8).chain(value.iter().copied()));
                false
            }
            None => {
                for text in [field, value] {
                    debug_assert!(text.len() <= TEXT_LEN_MAX, "longer texts are not packed");
                    self.bytes.push(text.len() as u8);
                    self.bytes.extend_from_slice(text);
                }
                self.pairs += 1;
                true
            }
        }
    }

    pub(super) fn remove(&mut self, field: &[u8]) -> bool {
        let Some(at) = self.find(field) else { return false };
        let value = at + 1 + field.len();
        let end = value + 1 + self.text(value).len();
        self.bytes.drain(at..end);
        self.pairs -= 1;
        true
    }

    pub(super) fn iter(&self) -> Pairs<'_> {
        Pairs { packed: self, at: 0 }
    }

    /// Where the field stands.
    fn find(&self, field: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < self.bytes.len() {
            let found = self.text(at);
            if found == field {
                return Some(at);
            }
            at += 1 + found.len();
            at += 1 + usize::from(self.bytes[at]);
        }
        None
    }

    /// The text whose length stands at `at`.
    fn text(&self, at: usize) -> &[u8] {
        &self.bytes[at + 1..at + 1 + usize::from(self.bytes[at])]
    }
}

/// Fields and values in the order they came.
#[derive(Clone)]
pub(super) struct Pairs<'a> {
    packed: &'a Packed,
    at: usize,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.packed.bytes.len() {
            return None;
        }
        let field = self.packed.text(self.at);
        self.at += 1 + field.len();
        let value = self.packed.text(self.at);
        self.at += 1 + value.len();
        Some((field, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(packed: &Packed) -> Vec<(&[u8], &[u8])> {
        packed.iter().collect()
    }

    #[test]
    fn fields_keep_their_order_when_their_values_change() {
        let mut packed = Packed::default();
        assert!(packed.insert(b"a", b"1"));
        assert!(packed.insert(b"", b"2"));
        assert!(packed.insert(b"c", b""));
        assert!(!packed.insert(b"a", b"longer"));
        assert!(!packed.insert(b"", b""));
        assert_eq!(pairs(&packed), [(&b"a"[..], &b"longer"[..]), (b"", b""), (b"c", b"")]);
        assert_eq!((packed.get(b"a"), packed.get(b"b"), packed.len()), (Some(&b"longer"[..]), None, 3));
    }

    #[test]
    fn a_value_is_never_taken_for_a_field() {
        let mut packed = Packed::default();
        packed.insert(b"a", b"b");
        packed.insert(b"b", b"c");
        assert_eq!(packed.get(b"c"), None);
        assert!(!packed.remove(b"c"));
        assert!(packed.remove(b"b") && packed.remove(b"a"));
        assert_eq!((packed.len(), pairs(&packed)), (0, vec![]));
    }
}
