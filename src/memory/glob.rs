//! Redis's glob: `*`, `?`, `[a-z]`, `[^a]`, `\x`, on bytes. KEYS, SCAN, CONFIG GET, PSUBSCRIBE.

/// Whether the whole text fits the pattern.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // After a star the shortest text is tried for it; when the rest does not fit, one byte more. Only the last
    // star ever needs another try, which keeps the worst case at pattern times text.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let step = match (pattern, text) {
            ([], []) => return true,
            ([b'*', rest @ ..], _) => {
                if rest.is_empty() {
                    return true;
                }
                retry = Some((rest, text));
                pattern = rest;
                continue;
            }
            ([_, ..], [byte, ..]) => one(pattern, *byte),
            _ => None,
        };
        match (step, retry) {
            (Some(rest), _) => (pattern, text) = (rest, &text[1..]),
            (None, Some((rest, [_, shorter @ ..]))) => {
                retry = Some((rest, shorter));
                (pattern, text) = (rest, shorter);
            }
            (None, _) => return false,
        }
    }
}

/// Whether one byte fits what the pattern begins with, which is no star. Gives the rest of the pattern.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (fits, rest) = match pattern {
        [b'?', rest @ ..] => (true, rest),
        [b'[', rest @ ..] => class(rest, byte),
        [b'\\', escaped, rest @ ..] => (*escaped == byte, rest),
        [plain, rest @ ..] => (*plain == byte, rest),
        [] => return None,
    };
    fits.then_some(rest)
}

/// A class behind its `[`. One that is not closed ends with the pattern.
fn class(pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    let (negated, mut pattern) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut fits = false;
    loop {
        match pattern {
            [] => return (fits != negated, pattern),
            [b'\\', escaped, rest @ ..] => {
                fits |= *escaped == byte;
                pattern = rest;
            }
            [b']', rest @ ..] => return (fits != negated, rest),
            [from, b'-', to, rest @ ..] => {
                fits |= (*from.min(to)..=*from.max(to)).contains(&byte);
                pattern = rest;
            }
            [plain, rest @ ..] => {
                fits |= *plain == byte;
                pattern = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, fits) in [
            ("", "", true),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("*a*b*", "xxayyb", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[b-a]llo", "hallo", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hello", false),
            ("[\\]]", "]", true),
            ("[abc", "a", true),
            ("a\\", "a\\", true),
            ("[]", "a", false),
            ("[^]x", "ax", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), fits, "{pattern} {text}");
        }
    }
}
