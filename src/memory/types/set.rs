//! A set: sorted integers while it has few members and all are such, a table from then on.

use std::borrow::Cow;

use super::heap_bytes;
use crate::memory::dict::Dict;
use crate::memory::number;
use crate::memory::number::Digits;

/// More members than these are no longer kept as integers (set-max-intset-entries).
const INTEGERS_MAX: usize = 512;

#[derive(Clone)]
pub struct Set {
    shape: Shape,
    /// Of the table's members.
    bytes: usize,
}

#[derive(Clone)]
enum Shape {
    Integers(Vec<i64>),
    Table(Dict<()>),
}

impl Default for Set {
    fn default() -> Set {
        Set { shape: Shape::Integers(Vec::new()), bytes: 0 }
    }
}

impl Set {
    pub fn len(&self) -> usize {
        match &self.shape {
            Shape::Integers(integers) => integers.len(),
            Shape::Table(table) => table.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Approximate bytes of the heap.
    pub fn bytes(&self) -> usize {
        match &self.shape {
            Shape::Integers(integers) => integers.capacity() * size_of::<i64>(),
            Shape::Table(_) => self.bytes,
        }
    }

    pub fn encoding(&self) -> &'static str {
        match self.shape {
            Shape::Integers(_) => "intset",
            Shape::Table(_) => "hashtable",
        }
    }

    pub fn contains(&self, member: &[u8]) -> bool {
        match &self.shape {
            Shape::Integers(integers) => {
                number::integer(member).is_some_and(|member| integers.binary_search(&member).is_ok())
            }
            Shape::Table(table) => table.get(member).is_some(),
        }
    }

    /// Gives whether the member is new.
    pub fn add(&mut self, member: &[u8]) -> bool {
        match &mut self.shape {
            Shape::Integers(integers) => match number::integer(member) {
                Some(member) => {
                    let Err(at) = integers.binary_search(&member) else { return false };
                    integers.insert(at, member);
                    if integers.len() > INTEGERS_MAX {
                        self.become_table();
                    }
                    true
                }
                None => {
                    self.become_table();
                    self.add(member)
                }
            },
            Shape::Table(table) => {
                let is_new = table.insert(member, ()).is_none();
                if is_new {
                    self.bytes += cost(member);
                }
                is_new
            }
        }
    }

    /// Gives whether the member was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.shape {
            Shape::Integers(integers) => {
                let found = number::integer(member).and_then(|member| integers.binary_search(&member).ok());
                found.map(|at| integers.remove(at)).is_some()
            }
            Shape::Table(table) => {
                let was_there = table.remove(member).is_some();
                if was_there {
                    self.bytes -= cost(member);
                }
                was_there
            }
        }
    }

    /// The members, integers in their order.
    pub fn iter(&self) -> impl Iterator<Item = Cow<'_, [u8]>> {
        let (integers, table) = match &self.shape {
            Shape::Integers(integers) => (&integers[..], None),
            Shape::Table(table) => (&[][..], Some(table)),
        };
        let table = table.into_iter().flat_map(Dict::iter).map(|(member, ())| Cow::Borrowed(member));
        integers.iter().map(|&integer| text(integer)).chain(table)
    }

    /// The member at a position in 0..len. Positions hold until a member is removed.
    pub fn at(&self, position: usize) -> Cow<'_, [u8]> {
        match &self.shape {
            Shape::Integers(integers) => text(integers[position]),
            Shape::Table(table) => Cow::Borrowed(table.key(position)),
        }
    }

    /// One step of a scan: gives the next cursor, 0 at the end. Integers are shown at once.
    pub fn scan(&self, cursor: u64, found: &mut dyn FnMut(&[u8])) -> u64 {
        match &self.shape {
            Shape::Integers(integers) => {
                integers.iter().for_each(|&integer| found(&text(integer)));
                0
            }
            Shape::Table(table) => table.scan(cursor, &mut |member, ()| found(member)),
        }
    }

    fn become_table(&mut self) {
        let Shape::Integers(integers) = &self.shape else { return };
        let mut table = Dict::new();
        self.bytes = 0;
        for &integer in integers {
            let member = text(integer);
            self.bytes += cost(&member);
            table.insert(&member, ());
        }
        self.shape = Shape::Table(table);
    }
}

fn text(integer: i64) -> Cow<'static, [u8]> {
    Cow::Owned(Digits::of(integer).to_vec())
}

/// What a member takes in the table.
fn cost(member: &[u8]) -> usize {
    Dict::<()>::ENTRY_BYTES + heap_bytes(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_becomes_a_table_by_the_513th_integer_or_by_another_member_and_stays_so() {
        let mut set = Set::default();
        for n in (0..512).rev() {
            assert!(set.add(n.to_string().as_bytes()));
        }
        assert!(!set.add(b"7"));
        assert_eq!((set.encoding(), &*set.iter().next().unwrap()), ("intset", &b"0"[..]));
        set.add(b"512");
        assert_eq!((set.encoding(), set.len()), ("hashtable", 513));
        for n in 0..513 {
            assert!(set.remove(n.to_string().as_bytes()));
        }
        assert_eq!((set.encoding(), set.bytes(), set.is_empty()), ("hashtable", 0, true));
    }

    #[test]
    fn what_only_looks_like_an_integer_is_a_text() {
        let mut set = Set::default();
        set.add(b"1");
        for member in [&b"01"[..], b"+1", b"-0", b" 1", b"9223372036854775808"] {
            assert!(!set.contains(member));
            assert!(!set.remove(member));
        }
        assert_eq!(set.encoding(), "intset");
        set.add(b"01");
        assert!(set.contains(b"1") && set.contains(b"01") && set.encoding() == "hashtable");
    }
}
