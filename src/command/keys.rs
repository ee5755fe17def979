//! Finds the keys of a request, given what its row says about them. Trusts nothing: counts may lie, arguments may be missing.
use super::KeySet;
use crate::resp::Args;

/// Keys from `first` to `last` (negative: from the end) in steps.
pub(super) fn range(args: &Args, first: u8, last: i8, step: u8, f: &mut dyn FnMut(&[u8])) -> KeySet {
    let last = if last < 0 {
        let Some(last) = args.len().checked_sub(usize::from(last.unsigned_abs())) else {
            return KeySet::Known;
        };
        last
    } else {
        usize::from(last.unsigned_abs())
    };
    let mut at = usize::from(first);
    while at <= last {
        let Some(key) = args.get(at) else { break };
        f(key);
        at += usize::from(step.max(1));
    }
    KeySet::Known
}

/// A count at `at` and as many keys behind it; with `plus_first` argument 1 is a key too.
pub(super) fn counted(args: &Args, at: u8, plus_first: bool, f: &mut dyn FnMut(&[u8])) -> KeySet {
    if plus_first && let Some(key) = args.get(1) {
        f(key);
    }
    report_counted(args, usize::from(at), 1, f)
}

/// MSETEX: a count, then as many pairs of key and value.
pub(super) fn counted_pairs(args: &Args, f: &mut dyn FnMut(&[u8])) -> KeySet {
    report_counted(args, 1, 2, f)
}

/// SORT and SORT_RO: the key, the last STORE's destination, and whatever BY and GET patterns lead to.
pub(super) fn sort(args: &Args, f: &mut dyn FnMut(&[u8])) -> KeySet {
    let mut found = KeySet::Known;
    let mut stored = None;
    if let Some(key) = args.get(1) {
        f(key);
    }
    let mut at = 2;
    while let Some(option) = args.get(at) {
        let operands = if is(option, "LIMIT") {
            2
        } else if is(option, "STORE") {
            stored = args.get(at + 1).or(stored);
            1
        } else if is(option, "BY") || is(option, "GET") {
            if args.get(at + 1).is_some_and(|pattern| pattern.contains(&b'*')) {
                found = KeySet::Unknown;
            }
            1
        } else if is(option, "ASC") || is(option, "DESC") || is(option, "ALPHA") {
            0
        } else {
            return KeySet::Unknown;
        };
        at += 1 + operands;
    }
    if let Some(key) = stored {
        f(key);
    }
    found
}

/// GEORADIUS: options follow five arguments.
pub(super) fn georadius(args: &Args, f: &mut dyn FnMut(&[u8])) -> KeySet {
    geo_store(args, 6, f)
}

/// GEORADIUSBYMEMBER: options follow four arguments.
pub(super) fn georadiusbymember(args: &Args, f: &mut dyn FnMut(&[u8])) -> KeySet {
    geo_store(args, 5, f)
}

/// MIGRATE: one key at 3, or many behind KEYS.
pub(super) fn migrate(args: &Args, f: &mut dyn FnMut(&[u8])) -> KeySet {
    if let Some(key) = args.get(3)
        && !key.is_empty()
    {
        f(key);
    }
    let mut at = 6;
    while let Some(option) = args.get(at) {
        at += if is(option, "KEYS") {
            args.iter().skip(at + 1).for_each(f);
            return KeySet::Known;
        } else if is(option, "COPY") || is(option, "REPLACE") {
            1
        } else if is(option, "AUTH") {
            2
        } else if is(option, "AUTH2") {
            3
        } else {
            return KeySet::Unknown;
        };
    }
    // Without KEYS an empty argument 3 is a key like any other.
    if let Some(b"") = args.get(3) {
        f(b"");
    }
    KeySet::Known
}

/// XREAD and XREADGROUP: the first half of what follows STREAMS.
pub(super) fn streams(args: &Args, f: &mut dyn FnMut(&[u8])) -> KeySet {
    let StreamRead::Parsed { streams, .. } = parse_stream_read(args) else { return KeySet::Unknown };
    let count = args.len().saturating_sub(streams) / 2;
    for key in args.iter().skip(streams).take(count) {
        f(key);
    }
    KeySet::Known
}

/// Whether an XREAD or XREADGROUP has a BLOCK option, or options that are not known here.
pub(super) fn stream_read_may_block(args: &Args) -> bool {
    match parse_stream_read(args) {
        StreamRead::Parsed { blocks, .. } => blocks,
        StreamRead::Unparsed => true,
    }
}

/// Whether a SORT, GEORADIUS or GEORADIUSBYMEMBER may store: some argument reads so, whatever it is meant as.
pub(super) fn may_store(args: &Args) -> bool {
    args.iter().skip(2).any(|arg| is(arg, "STORE") || is(arg, "STOREDIST"))
}

enum StreamRead {
    /// `streams` is the argument behind STREAMS.
    Parsed {
        streams: usize,
        blocks: bool,
    },
    Unparsed,
}

/// Walks the options as Redis does, so that a group called STREAMS is not taken for the keyword.
fn parse_stream_read(args: &Args) -> StreamRead {
    let mut blocks = false;
    let mut at = 1;
    while let Some(option) = args.get(at) {
        at += if is(option, "STREAMS") {
            return StreamRead::Parsed { streams: at + 1, blocks };
        } else if is(option, "BLOCK") {
            blocks = true;
            2
        } else if is(option, "COUNT") || is(option, "CLAIM") {
            2
        } else if is(option, "GROUP") {
            3
        } else if is(option, "NOACK") {
            1
        } else {
            return StreamRead::Unparsed;
        };
    }
    StreamRead::Unparsed
}

/// Of several destinations Redis fills the last; that the others are reported too does no harm.
fn geo_store(args: &Args, options: usize, f: &mut dyn FnMut(&[u8])) -> KeySet {
    if let Some(key) = args.get(1) {
        f(key);
    }
    let mut at = options;
    while let Some(option) = args.get(at) {
        at += if is(option, "STORE") || is(option, "STOREDIST") {
            if let Some(key) = args.get(at + 1) {
                f(key);
            }
            2
        } else {
            1 + usize::from(is(option, "COUNT"))
        };
    }
    KeySet::Known
}

fn report_counted(args: &Args, at: usize, step: usize, f: &mut dyn FnMut(&[u8])) -> KeySet {
    let Some(count) = args.get(at).and_then(number) else { return KeySet::Unknown };
    for key in args.iter().skip(at + 1).step_by(step).take(count) {
        f(key);
    }
    KeySet::Known
}

/// Every count that Redis takes is one here too (`05` and `+5`, which it refuses, do no harm).
fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}
