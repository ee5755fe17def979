//! The first line of a script, `#!lua flags=no-writes,allow-oom`. Pure.

/// What a script says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::memory) struct Flags {
    /// Whether there was such a line: without one a script may do anything, and each command is looked at on its own.
    pub declared: bool,
    pub no_writes: bool,
    pub allow_oom: bool,
}

/// The flags, and where the code starts (at the line's end, so that lines keep their numbers). `Err`: the error's text.
pub(super) fn read(text: &[u8]) -> Result<(Flags, usize), String> {
    if !text.starts_with(b"#!") {
        return Ok((Flags::default(), 0));
    }
    let Some(end) = memchr::memchr(b'\n', text) else {
        return Err("Invalid script shebang".to_owned());
    };
    let line = String::from_utf8_lossy(&text[..end]);
    let mut words = line.split_ascii_whitespace();
    match words.next() {
        Some("#!lua") => {}
        other => return Err(format!("Unexpected engine in script shebang: {}", other.unwrap_or_default())),
    }
    let mut flags = Flags { declared: true, ..Flags::default() };
    for word in words {
        let Some(list) = word.strip_prefix("flags=") else {
            return Err(format!("Unknown lua shebang option: {word}"));
        };
        for flag in list.split(',').filter(|flag| !flag.is_empty()) {
            match flag {
                "no-writes" => flags.no_writes = true,
                "allow-oom" => flags.allow_oom = true,
                "allow-stale" | "no-cluster" | "allow-cross-slot-keys" => {}
                _ => return Err(format!("Unexpected flag in script shebang: {flag}")),
            }
        }
    }
    Ok((flags, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_understood_or_refused() {
        assert_eq!(read(b"return 1"), Ok((Flags::default(), 0)));
        let reads = Flags { declared: true, no_writes: true, allow_oom: true };
        assert_eq!(read(b"#!lua flags=no-writes,allow-oom\nreturn 1"), Ok((reads, 31)));
        for (text, error) in [
            ("#!lua", "Invalid script shebang"),
            ("#!js\n", "Unexpected engine in script shebang: #!js"),
            ("#!lua name=x\n", "Unknown lua shebang option: name=x"),
            ("#!lua flags=x\n", "Unexpected flag in script shebang: x"),
        ] {
            assert_eq!(read(text.as_bytes()), Err(error.to_owned()));
        }
    }
}
