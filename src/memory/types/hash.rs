//! A hash: packed while it is small, a table from then on.

use super::heap_bytes;
use super::packed::{Packed, TEXT_LEN_MAX};
use crate::memory::compact::Compact;
use crate::memory::dict::Dict;

/// More fields than these are no longer packed (hash-max-listpack-entries of Redis 7.0).
const PACKED_FIELDS_MAX: usize = 512;

#[derive(Clone)]
pub struct Hash {
    shape: Shape,
    /// Of the table's fields; the packed form knows its own.
    bytes: usize,
}

#[derive(Clone)]
enum Shape {
    Packed(Packed),
    Table(Dict<Compact>),
}

impl Default for Hash {
    fn default() -> Hash {
        Hash { shape: Shape::Packed(Packed::default()), bytes: 0 }
    }
}

impl Hash {
    pub fn len(&self) -> usize {
        match &self.shape {
            Shape::Packed(packed) => packed.len(),
            Shape::Table(table) => table.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Approximate bytes of the heap.
    pub fn bytes(&self) -> usize {
        match &self.shape {
            Shape::Packed(packed) => packed.bytes(),
            Shape::Table(_) => self.bytes,
        }
    }

    pub fn is_packed(&self) -> bool {
        matches!(self.shape, Shape::Packed(_))
    }

    pub fn encoding(&self) -> &'static str {
        if self.is_packed() { "listpack" } else { "hashtable" }
    }

    pub fn get(&self, field: &[u8]) -> Option<&[u8]> {
        match &self.shape {
            Shape::Packed(packed) => packed.get(field),
            Shape::Table(table) => table.get(field).map(|value| &**value),
        }
    }

    pub fn contains(&self, field: &[u8]) -> bool {
        self.get(field).is_some()
    }

    /// Gives whether the field is new.
    pub fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        if field.len() > TEXT_LEN_MAX || value.len() > TEXT_LEN_MAX {
            self.unpack();
        }
        match &mut self.shape {
            Shape::Packed(packed) => {
                let is_new = packed.insert(field, value);
                if packed.len() > PACKED_FIELDS_MAX {
                    self.unpack();
                }
                is_new
            }
            Shape::Table(table) => {
                let old = table.insert(field, value.into());
                self.bytes += heap_bytes(value);
                match &old {
                    Some(old) => self.bytes -= heap_bytes(old),
                    None => self.bytes += cost(field),
                }
                old.is_none()
            }
        }
    }

    /// Gives whether the field was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match &mut self.shape {
            Shape::Packed(packed) => packed.remove(field),
            Shape::Table(table) => {
                let removed = table.remove(field);
                if let Some(old) = &removed {
                    self.bytes -= cost(field) + heap_bytes(old);
                }
                removed.is_some()
            }
        }
    }

    /// Fields with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (packed, table) = match &self.shape {
            Shape::Packed(packed) => (Some(packed), None),
            Shape::Table(table) => (None, Some(table)),
        };
        let table = table.into_iter().flat_map(Dict::iter).map(|(field, value)| (field, &**value));
        packed.into_iter().flat_map(Packed::iter).chain(table)
    }

    /// The field at a position in 0..len. Positions hold until a field is removed.
    pub fn at(&self, position: usize) -> (&[u8], &[u8]) {
        match &self.shape {
            Shape::Packed(packed) => packed.iter().nth(position).expect("the position is there"),
            Shape::Table(table) => (table.key(position), table.value(position)),
        }
    }

    /// One step of a scan: gives the next cursor, 0 at the end. What is packed is shown at once.
    pub fn scan(&self, cursor: u64, found: &mut dyn FnMut(&[u8], &[u8])) -> u64 {
        match &self.shape {
            Shape::Packed(packed) => {
                packed.iter().for_each(|(field, value)| found(field, value));
                0
            }
            Shape::Table(table) => table.scan(cursor, &mut |field, value| found(field, value)),
        }
    }

    fn unpack(&mut self) {
        let Shape::Packed(packed) = &self.shape else { return };
        let mut table = Dict::new();
        self.bytes = 0;
        for (field, value) in packed.iter() {
            self.bytes += cost(field) + heap_bytes(value);
            table.insert(field, value.into());
        }
        self.shape = Shape::Table(table);
    }
}

/// What a field takes in the table, without its value's heap.
fn cost(field: &[u8]) -> usize {
    Dict::<Compact>::ENTRY_BYTES + heap_bytes(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_unpacked_by_the_513th_field_or_a_long_text_and_stays_so() {
        let mut hash = Hash::default();
        for n in 0..512 {
            hash.set(n.to_string().as_bytes(), b"v");
        }
        assert_eq!(hash.encoding(), "listpack");
        hash.set(b"512", b"v");
        assert_eq!((hash.encoding(), hash.len()), ("hashtable", 513));
        for n in 1..513 {
            assert!(hash.remove(n.to_string().as_bytes()));
        }
        assert_eq!(hash.encoding(), "hashtable");

        for (field, value) in [(64, 65), (65, 64)] {
            let mut hash = Hash::default();
            hash.set(b"f", b"v");
            hash.set(&[b'x'; 64], &[b'y'; 64]);
            assert_eq!(hash.encoding(), "listpack");
            hash.set(&vec![b'x'; field], &vec![b'y'; value]);
            assert_eq!((hash.encoding(), hash.get(b"f")), ("hashtable", Some(&b"v"[..])));
        }
    }

    #[test]
    fn a_tables_bytes_are_back_at_nothing_when_it_is_empty() {
        let mut hash = Hash::default();
        hash.set(b"a", &[0; 100]);
        hash.set(b"a", &[0; 10]);
        assert_eq!(hash.bytes(), cost(b"a"));
        assert!(hash.remove(b"a") && !hash.remove(b"a"));
        assert_eq!((hash.bytes(), hash.is_empty()), (0, true));
    }
}
