//! How two names stand in one text: a user and a connection in a channel's record, a user and a channel in a hint.

/// `<bytes of the user>:<user><other>`, so that neither needs a separator or an escape.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    pub user: Vec<u8>,
    /// A connection, or in hints a channel.
    pub other: Vec<u8>,
}

impl Member {
    pub fn text(user: &[u8], other: &[u8]) -> Vec<u8> {
        let mut text = user.len().to_string().into_bytes();
        text.push(b':');
        text.extend_from_slice(user);
        text.extend_from_slice(other);
        text
    }

    /// `None` for what `text` never gives.
    pub fn parse(text: &[u8]) -> Option<Member> {
        let colon = text.iter().position(|&byte| byte == b':')?;
        let length: usize = std::str::from_utf8(&text[..colon]).ok()?.parse().ok()?;
        let (user, other) = text[colon + 1..].split_at_checked(length)?;
        Some(Member { user: user.to_vec(), other: other.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_bytes_come_back_as_they_were() {
        for (user, other) in [(&b"ann"[..], &b"c1"[..]), (b"3:x", b":"), (b"\xff\0", b""), (b"", b"12:")] {
            let member = Member { user: user.to_vec(), other: other.to_vec() };
            assert_eq!(Member::parse(&Member::text(user, other)), Some(member));
        }
        for text in [&b""[..], b"ann", b"4:ann", b"x:ann", b"99999999999999999999:a"] {
            assert_eq!(Member::parse(text), None);
        }
    }
}
