//! Splits inline commands into their arguments as Redis does it. Knows no limits and no buffers.

/// Splits an inline command at blanks, with Redis's quotes and escapes; `None` when the quotes do not balance.
pub(super) fn split_inline(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut args = Vec::new();
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|&&byte| is_space(byte)).count();
        rest = &rest[blanks..];
        if rest.is_empty() {
            return Some(args);
        }
        let mut arg = Vec::new();
        rest = take_word(rest, &mut arg)?;
        args.push(arg);
    }
}

/// Takes one word off the front of `rest`. A quote may open in the middle of a word, and its end ends the word.
fn take_word<'a>(mut rest: &'a [u8], arg: &mut Vec<u8>) -> Option<&'a [u8]> {
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => return Some(after),
            b'"' | b'\'' => return take_quoted(byte, after, arg),
            _ => arg.push(byte),
        }
        rest = after;
    }
    Some(rest)
}

/// Takes the rest of a quoted word; behind the closing quote must come a blank or nothing.
fn take_quoted<'a>(quote: u8, mut rest: &'a [u8], arg: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, taken) = match (quote, rest) {
            (b'"', [b'\\', b'x', high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(*high) << 4 | hex(*low), 4)
            }
            (b'"', [b'\\', escaped, ..]) => (unescape(*escaped), 2),
            (b'\'', [b'\\', b'\'', ..]) => (b'\'', 2),
            (_, [byte, after @ ..]) if *byte == quote => {
                return after.first().is_none_or(|&next| is_space(next)).then_some(after);
            }
            (_, [byte, ..]) => (*byte, 1),
            (_, []) => return None,
        };
        arg.push(byte);
        rest = &rest[taken..];
    }
}

fn hex(digit: u8) -> u8 {
    (digit as char).to_digit(16).expect("the caller saw a hexadecimal digit") as u8
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

/// C's isspace, which has two more blanks than the ones that end a word.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_commands_are_split_with_the_quotes_and_escapes_of_redis() {
        for (line, args) in [
            ("PING", &["PING"][..]),
            ("  set\ta  b", &["set", "a", "b"]),
            (r#"a "b c" 'd e'"#, &["a", "b c", "d e"]),
            (r#"a "\x41\n\r\t\b\a\\\"\q\xg1""#, &["a", "A\n\r\t\u{8}\u{7}\\\"qxg1"]),
            (r"a 'it\'s \n'", &["a", r"it's \n"]),
            (r#"a b"c d""#, &["a", "bc d"]),
            (r#"a "" '' b"#, &["a", "", "", "b"]),
            ("a\rb", &["a", "b"]),
            ("a \x0b\x0cb\x0bc", &["a", "b\x0bc"]),
        ] {
            let found = split_inline(line.as_bytes()).expect("the quotes balance");
            assert_eq!(found, args.iter().map(|arg| arg.as_bytes()).collect::<Vec<_>>(), "{line:?}");
        }
    }

    #[test]
    fn quotes_that_do_not_balance_are_refused() {
        for line in ["a \"b", "a 'b", "a \"b\"c", "a 'b'c", r#"a "b\"#, r"a 'b\'"] {
            assert_eq!(split_inline(line.as_bytes()), None, "{line:?}");
        }
    }
}
