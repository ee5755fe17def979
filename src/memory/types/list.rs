//! A list: a ring of strings, so that both ends and every index are at hand.

use std::collections::VecDeque;
use std::ops::Range;

use super::heap_bytes;
use crate::memory::compact::Compact;

/// A side of the list; the left one is its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Left,
    Right,
}

#[derive(Clone, Debug, Default)]
pub struct List {
    elements: VecDeque<Compact>,
    bytes: usize,
}

impl List {
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// Approximate bytes of the heap.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn encoding(&self) -> &'static str {
        "quicklist"
    }

    pub fn push(&mut self, end: End, element: &[u8]) {
        self.bytes += cost(element);
        match end {
            End::Left => self.elements.push_front(element.into()),
            End::Right => self.elements.push_back(element.into()),
        }
    }

    pub fn pop(&mut self, end: End) -> Option<Compact> {
        let element = match end {
            End::Left => self.elements.pop_front(),
            End::Right => self.elements.pop_back(),
        }?;
        self.took(&element);
        Some(element)
    }

    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.elements.get(index).map(|element| &**element)
    }

    /// Replaces the element at an index that is there.
    pub fn set(&mut self, index: usize, element: &[u8]) {
        self.bytes += cost(element);
        self.bytes -= cost(&self.elements[index]);
        self.elements[index] = element.into();
    }

    /// Puts an element before the one at `index`.
    pub fn insert(&mut self, index: usize, element: &[u8]) {
        self.bytes += cost(element);
        self.elements.insert(index, element.into());
    }

    /// Leaves only the elements of these indexes.
    pub fn trim(&mut self, kept: Range<usize>) {
        let start = kept.start.min(self.len());
        let cut = self.range(0..start).chain(self.range(kept.end.max(start)..self.len()));
        self.bytes -= cut.map(cost).sum::<usize>();
        self.elements.truncate(kept.end.max(start));
        self.elements.drain(..start);
        self.shrink();
    }

    /// Removes the first `max` elements that equal this one, seen from `end`. Gives how many there were.
    pub fn remove(&mut self, end: End, element: &[u8], max: usize) -> usize {
        let is_equal = |(_, other): &(usize, &[u8])| *other == element;
        let mut found: Vec<usize> = match end {
            End::Left => self.iter().enumerate().filter(is_equal).take(max).map(|(at, _)| at).collect(),
            End::Right => {
                self.iter().enumerate().rev().filter(is_equal).take(max).map(|(at, _)| at).collect()
            }
        };
        found.sort_unstable();
        if let [only] = found[..] {
            // The usual case: only the shorter side of the ring moves.
            self.elements.remove(only);
        } else if !found.is_empty() {
            let (mut at, mut next) = (0, found.iter().peekable());
            self.elements.retain(|_| {
                at += 1;
                next.next_if_eq(&&(at - 1)).is_none()
            });
        }
        self.bytes -= found.len() * cost(element);
        self.shrink();
        found.len()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator + Clone {
        self.range(0..self.len())
    }

    /// The elements of these indexes, which are there.
    pub fn range(
        &self,
        indexes: Range<usize>,
    ) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator + Clone {
        self.elements.range(indexes).map(|element| &**element)
    }

    fn took(&mut self, element: &[u8]) {
        self.bytes -= cost(element);
        self.shrink();
    }

    /// Gives back the ring of a queue that has been drained.
    fn shrink(&mut self) {
        let len = self.elements.len();
        if self.elements.capacity() > 64 && len < self.elements.capacity() / 4 {
            self.elements.shrink_to(2 * len);
        }
    }
}

/// What an element takes: its place in the ring and what it has on the heap.
fn cost(element: &[u8]) -> usize {
    size_of::<Compact>() + heap_bytes(element)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(elements: &[&str]) -> List {
        let mut list = List::default();
        elements.iter().for_each(|element| list.push(End::Right, element.as_bytes()));
        list
    }

    fn texts(list: &List) -> Vec<&str> {
        list.iter().map(|element| std::str::from_utf8(element).unwrap()).collect()
    }

    #[test]
    fn elements_are_removed_from_the_end_that_was_named() {
        for (end, max, expected) in [
            (End::Left, 1, vec!["b", "a", "c", "a"]),
            (End::Right, 2, vec!["a", "b", "c"]),
            (End::Left, usize::MAX, vec!["b", "c"]),
        ] {
            let mut list = list(&["a", "b", "a", "c", "a"]);
            assert_eq!(list.remove(end, b"a", max), 5 - expected.len());
            assert_eq!(texts(&list), expected);
        }
    }

    #[test]
    fn bytes_are_back_at_nothing_when_it_is_empty() {
        let mut list = list(&["one", "two", "three", "four", "five"]);
        list.set(0, b"longer");
        list.insert(1, b"between");
        list.trim(1..5);
        assert_eq!(texts(&list), ["between", "two", "three", "four"]);
        list.remove(End::Left, b"two", 1);
        while list.pop(End::Left).is_some() {}
        assert_eq!((list.bytes(), list.len()), (0, 0));
    }
}
