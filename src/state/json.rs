//! Whether a text is JSON. Keeps it as it was written and looks at nothing in it.
use serde::de::IgnoredAny;

use super::Fault;

/// The text, if it is one JSON value in UTF-8, however deep: other clients will read it.
pub fn checked(text: &[u8]) -> Result<Vec<u8>, Fault> {
    let is_json =
        std::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    if is_json { Ok(text.to_vec()) } else { Err("ERR invalid JSON".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_taken_and_it_is_kept_as_it_was_written() {
        for text in ["{}", "null", " [1, 2.50e3]\n", "\"caf\u{e9}\"", r#"{"a":{"b":[true]}}"#] {
            assert_eq!(checked(text.as_bytes()), Ok(text.as_bytes().to_vec()));
        }
        for text in [&b""[..], b"{", b"{}x", b"{'a':1}", b"\"\xff\"", b"01", b"nil"] {
            assert_eq!(checked(text), Err("ERR invalid JSON".into()));
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let nested = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert!(checked(nested.as_bytes()).is_ok());
        assert!(checked(&nested.as_bytes()[1..]).is_err());
    }
}
