//! Entries of a `Dict`, densely at 0..len, in pieces of bounded size: growth never copies more than one piece.

use super::Compact;

const PIECE_BITS: u32 = 11;
const PIECE: usize = 1 << PIECE_BITS;

#[derive(Clone)]
pub(super) struct Entry<V> {
    pub(super) hash: u32,
    /// The position of the next entry of the chain, counted from 1.
    pub(super) next: u32,
    pub(super) key: Compact,
    pub(super) value: V,
}

/// All pieces but the last are full.
#[derive(Clone)]
pub(super) struct Entries<V> {
    pieces: Vec<Vec<Entry<V>>>,
    len: usize,
}

impl<V> Entries<V> {
    pub(super) const fn new() -> Entries<V> {
        Entries { pieces: Vec::new(), len: 0 }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> &Entry<V> {
        &self.pieces[at >> PIECE_BITS][at & (PIECE - 1)]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: usize) -> &mut Entry<V> {
        &mut self.pieces[at >> PIECE_BITS][at & (PIECE - 1)]
    }

    pub(super) fn push(&mut self, entry: Entry<V>) {
        let piece = self.len >> PIECE_BITS;
        if piece == self.pieces.len() {
            // The first piece grows as it is filled, since most tables are small.
            self.pieces.push(if piece == 0 { Vec::new() } else { Vec::with_capacity(PIECE) });
        }
        self.pieces[piece].push(entry);
        self.len += 1;
    }

    /// The last entry takes the place of the one removed.
    pub(super) fn swap_remove(&mut self, at: usize) -> Entry<V> {
        let piece = self.pieces.last_mut().expect("there is an entry to remove");
        let last = piece.pop().expect("no piece is empty");
        if piece.is_empty() {
            self.pieces.pop();
        }
        self.len -= 1;
        if at == self.len { last } else { std::mem::replace(self.get_mut(at), last) }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry<V>> {
        self.pieces.iter().flatten()
    }
}
