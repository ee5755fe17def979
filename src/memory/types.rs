//! The values that are collections. They know nothing of keys, expiry or replies.
mod hash;
mod list;
mod packed;
mod ranking;
mod set;
mod sorted;

pub use hash::Hash;
pub use list::{End, List};
pub use ranking::Entry;
pub use set::Set;
pub use sorted::Sorted;

use super::compact::INLINE_LEN_MAX;

/// What a text takes on the heap when it is kept in a `Compact`: its bytes and about as much as an allocation costs.
fn heap_bytes(text: &[u8]) -> usize {
    if text.len() > INLINE_LEN_MAX { text.len() + 8 } else { 0 }
}
