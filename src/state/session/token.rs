//! Tokens and ids of user sessions: how they are made, and which keys they name. Draws no random numbers.
//!
//! A token is 256 random bits, a dot and a tag; an id is 128 random bits, a dot and the same tag. Both halves are base64url
//! (RFC 4648, section 5) without padding: 43 + 1 + 8 and 22 + 1 + 8 characters. The tag is the first 6 bytes of
//! SHA-256(user): all keys of a user's sessions are in its slot. It is no secret and proves nothing; two users may share it.
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use sha2::{Digest, Sha256};
use std::fmt;

use super::Naming;

const TAG_BYTES: usize = 6;
const TAG_LEN: usize = 8;
const TOKEN_LEN: usize = 43 + 1 + TAG_LEN;

/// What stands in `session:<name>` for a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyMode {
    /// SHA-256 of the whole token in hexadecimal digits: whoever reads keys, logs or a dump learns no token.
    #[default]
    Hashed,
    /// The token itself, for readers that know it and cannot hash.
    Plain,
}

/// The slot of a user's sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(String);

impl Tag {
    pub fn of_user(user: &[u8]) -> Tag {
        Tag(BASE64URL_NOPAD.encode(&Sha256::digest(user)[..TAG_BYTES]))
    }

    /// The tag that a token or an id ends with. What is neither gets a tag all the same, so that it can be looked for in
    /// vain like a token that has ended.
    pub fn of_text(text: &[u8]) -> Tag {
        let dot = text.len().checked_sub(TAG_LEN + 1).filter(|&dot| text[dot] == b'.');
        let end = dot.map(|dot| &text[dot + 1..]).filter(|tag| tag.iter().all(is_base64url));
        match end.and_then(|tag| std::str::from_utf8(tag).ok()) {
            Some(tag) => Tag(tag.to_owned()),
            None => Tag::of_user(text),
        }
    }

    /// What stands before a session's name in its key.
    pub fn base(&self, naming: &Naming) -> Vec<u8> {
        if naming.tagged {
            naming.key([b"session:{", self.0.as_bytes(), b"}:"])
        } else {
            naming.key([b"session:"])
        }
    }

    pub fn companion(&self, naming: &Naming, what: &[u8]) -> Vec<u8> {
        naming.key([b"x:session:{", self.0.as_bytes(), b"}:", what])
    }
}

fn is_base64url(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// A token that was just made. Shown to its client once; never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fresh([u8; TOKEN_LEN]);

impl Fresh {
    /// The token of these random bits for a session with this tag.
    pub fn new(secret: &[u8; 32], tag: &Tag) -> Fresh {
        let mut text = [b'.'; TOKEN_LEN];
        BASE64URL_NOPAD.encode_mut(secret, &mut text[..TOKEN_LEN - TAG_LEN - 1]);
        text[TOKEN_LEN - TAG_LEN..].copy_from_slice(tag.0.as_bytes());
        Fresh(text)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fresh(..)")
    }
}

/// A token as a client presented it: any bytes. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Vec<u8>);

impl Token {
    pub fn new(text: &[u8]) -> Token {
        Token(text.to_vec())
    }

    pub fn tag(&self) -> Tag {
        Tag::of_text(&self.0)
    }

    /// What stands in keys for the token. Texts that are no tokens are hashed in any case.
    pub fn name(&self, mode: KeyMode) -> Vec<u8> {
        let well_formed = self.0.len() == TOKEN_LEN && self.0.iter().all(|b| *b == b'.' || is_base64url(b));
        match mode {
            KeyMode::Plain if well_formed => self.0.clone(),
            _ => HEXLOWER.encode(&Sha256::digest(&self.0)).into_bytes(),
        }
    }
}

impl From<Fresh> for Token {
    fn from(fresh: Fresh) -> Token {
        Token::new(fresh.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The id of a session with this tag.
pub fn id(random: &[u8; 16], tag: &Tag) -> Vec<u8> {
    format!("{}.{}", BASE64URL_NOPAD.encode(random), tag.0).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_ids_of_a_user_end_with_its_tag() {
        let tag = Tag::of_user(b"ann");
        // `printf ann | sha256sum` begins with these six bytes.
        assert_eq!(tag.0, BASE64URL_NOPAD.encode(&[0x49, 0x91, 0x5e, 0x0d, 0x7d, 0x4b]));
        let token = Fresh::new(&[0xff; 32], &tag);
        let text = String::from_utf8(token.as_bytes().to_vec()).expect("base64url");
        assert_eq!(text.len(), 52);
        assert!(text.starts_with("__________________________________________8."), "{text}");
        assert_eq!(Tag::of_text(token.as_bytes()), tag);
        let id = id(&[0; 16], &tag);
        assert!(id.starts_with(b"AAAAAAAAAAAAAAAAAAAAAA.") && id.len() == 31);
        assert_eq!(Tag::of_text(&id), tag);
    }

    #[test]
    fn keys_hold_the_digest_of_the_whole_token_unless_the_mode_is_plain() {
        let fresh = Fresh::new(&[1; 32], &Tag::of_user(b"ann"));
        let token = Token::from(fresh);
        let digest = HEXLOWER.encode(&Sha256::digest(fresh.as_bytes())).into_bytes();
        assert_eq!(token.name(KeyMode::Hashed), digest);
        assert_eq!(token.name(KeyMode::Plain), fresh.as_bytes());
        let naming = Naming { prefix: b"app:".to_vec(), tagged: false };
        assert_eq!(token.tag().base(&naming), b"app:session:");
    }

    #[test]
    fn what_is_no_token_names_a_key_like_any_other() {
        for text in [&b""[..], b".", b"x", b"{}", b"a.{234567}", b"\xff\xfe.ABCDEFGH", &[b'a'; 4096]] {
            let token = Token::new(text);
            assert_eq!(token.tag().0.len(), 8);
            assert!(token.tag().0.bytes().all(|byte| is_base64url(&byte)));
            assert_eq!(token.name(KeyMode::Plain), token.name(KeyMode::Hashed));
            assert_eq!(token.name(KeyMode::Hashed).len(), 64);
        }
    }

    #[test]
    fn tokens_do_not_appear_where_commands_are_printed() {
        let fresh = Fresh::new(&[7; 32], &Tag::of_user(b"ann"));
        assert_eq!(format!("{fresh:?} {:?}", Token::from(fresh)), "Fresh(..) Token(..)");
    }
}
