//! How keys and channels are named. Knows no kind's own names.

/// What the configuration and L2 say of the names of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Naming {
    /// Put before the whole key, and before the names of channels.
    pub prefix: Vec<u8>,
    /// L2 is a cluster: primary keys that must share a slot carry a hash tag.
    pub tagged: bool,
}

impl Naming {
    /// The prefix and the parts.
    pub fn key<const N: usize>(&self, parts: [&[u8]; N]) -> Vec<u8> {
        let len = self.prefix.len() + parts.iter().map(|part| part.len()).sum::<usize>();
        let mut key = Vec::with_capacity(len);
        key.extend_from_slice(&self.prefix);
        parts.iter().for_each(|part| key.extend_from_slice(part));
        key
    }

    /// `x:{<primary>}:<what>`: a key beside `primary` (which is a key of this naming), and in its slot. `primary` has no
    /// braces but those of a prefix that is, or holds, a hash tag: that tag then decides for both.
    pub fn companion(&self, primary: &[u8], what: &[u8]) -> Vec<u8> {
        self.key([b"x:{", primary, b"}:", what])
    }

    /// The channel of a kind's events about `name`.
    pub fn events(&self, kind: &str, name: &[u8]) -> Vec<u8> {
        self.key([b"events:", kind.as_bytes(), b":", name])
    }
}

/// `id` with `: % { }` percent-encoded, for ids that stand inside of keys.
pub fn escaped(id: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(id.len());
    for &byte in id {
        match byte {
            b':' => text.extend_from_slice(b"%3A"),
            b'%' => text.extend_from_slice(b"%25"),
            b'{' => text.extend_from_slice(b"%7B"),
            b'}' => text.extend_from_slice(b"%7D"),
            _ => text.push(byte),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::slot;

    #[test]
    fn a_companion_is_in_the_slot_of_its_primary_key_whatever_the_prefix() {
        for prefix in [&b""[..], b"app:", b"{app}:", b"a{b}c:"] {
            let naming = Naming { prefix: prefix.to_vec(), tagged: true };
            let primary = naming.key([b"lock:", b"a b:c"]);
            let companion = naming.companion(&primary, b"queue");
            assert_eq!(slot(&companion), slot(&primary));
            assert!(companion.starts_with(prefix));
        }
        assert_eq!(Naming::default().companion(b"lock:a", b"queue"), b"x:{lock:a}:queue");
    }

    #[test]
    fn ids_in_keys_have_no_separators() {
        assert_eq!(escaped(b"a:b%{c}d"), b"a%3Ab%25%7Bc%7Dd");
    }
}
