//! The scanners against two others: redis-protocol, and the reader of a real Redis.
mod support;

use madcache::resp::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::net::Shutdown;
use support::Redis;

const LIMITS: RequestLimits = RequestLimits {
    args_max: i64::MAX,
    bulk_bytes_max: 1 << 29,
    inline_bytes_max: 65536,
    authenticated: true,
};

fn bytes(len_max: usize) -> impl Strategy<Value = Vec<u8>> {
    // Bytes that mean something to a parser come more often.
    let byte = prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'$'), Just(b'*'), b'0'..=b'9', any::<u8>()];
    prop::collection::vec(byte, 0..len_max)
}

/// Ends of the pieces in which `len` bytes arrive.
fn piece_ends(cuts: &[prop::sample::Index], len: usize) -> Vec<usize> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(len + 1)).collect();
    ends.sort_unstable();
    ends.push(len);
    ends
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..20)
}

/// One request after the other out of `wire`, which arrives in pieces; each scan sees its bytes at a new address.
fn scan_requests(wire: &[u8], ends: &[usize]) -> Vec<Vec<Vec<u8>>> {
    let mut scanner = RequestScanner::default();
    let mut requests = Vec::new();
    let mut start = 0;
    for &end in ends {
        loop {
            let buf = wire[start..end].to_vec();
            match scanner.scan(&buf, &LIMITS) {
                RequestScan::Complete { len } => {
                    requests.push(Args::new(&buf, scanner.ranges()).iter().map(<[u8]>::to_vec).collect());
                    start += len;
                }
                RequestScan::Incomplete => break,
                _ => panic!("a valid request was refused"),
            }
        }
    }
    assert_eq!(start, wire.len());
    requests
}

/// The same by redis-protocol.
fn decode_requests(mut wire: &[u8]) -> Vec<Vec<Vec<u8>>> {
    use redis_protocol::resp2::types::OwnedFrame;
    let mut requests = Vec::new();
    while let Some((frame, len)) = redis_protocol::resp2::decode::decode(wire).unwrap() {
        let OwnedFrame::Array(args) = frame else { panic!("a request is an array") };
        let text =
            |arg| if let OwnedFrame::BulkString(text) = arg { text } else { panic!("of bulk strings") };
        requests.push(args.into_iter().map(text).collect());
        wire = &wire[len..];
        if wire.is_empty() {
            break;
        }
    }
    requests
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_are_what_another_parser_reads_whole_and_in_pieces(
        requests in prop::collection::vec(prop::collection::vec(bytes(40), 1..8), 1..6),
        cuts in cuts(),
    ) {
        let wire: Vec<u8> = requests.iter()
            .flat_map(|args| encode_request(&args.iter().map(Vec::as_slice).collect::<Vec<_>>()))
            .collect();
        prop_assert_eq!(decode_requests(&wire), requests.clone());
        prop_assert_eq!(scan_requests(&wire, &[wire.len()]), requests.clone());
        prop_assert_eq!(scan_requests(&wire, &piece_ends(&cuts, wire.len())), requests);
    }

    #[test]
    fn resp2_replies_end_where_another_parser_sees_their_end(frames in prop::collection::vec(resp2_frame(), 1..5), cuts in cuts()) {
        let decode = |wire: &[u8]| redis_protocol::resp2::decode::decode(wire).unwrap().unwrap().1;
        check_replies(&frames, &cuts, decode)?;
    }

    #[test]
    fn resp3_replies_end_where_another_parser_sees_their_end(frames in prop::collection::vec(resp3_frame(), 1..5), cuts in cuts()) {
        let decode = |wire: &[u8]| redis_protocol::resp3::decode::complete::decode(wire).unwrap().unwrap().1;
        check_replies(&frames, &cuts, decode)?;
    }

    #[test]
    fn no_bytes_make_a_scanner_panic_or_disagree_with_itself(wire in bytes(60), cuts in cuts()) {
        let ends = piece_ends(&cuts, wire.len());
        let mut scanner = ReplyScanner::default();
        let pieces = ends.iter().map(|&end| scanner.scan(&wire[..end])).find(|found| *found != ReplyScan::Incomplete);
        let whole = ReplyScanner::default().scan(&wire);
        prop_assert_eq!(pieces.unwrap_or(ReplyScan::Incomplete), whole);
        let _ = (parse(&wire), array_elements(&wire), bulk_text(&wire), parse_integer(&wire));
    }
}

/// Scans the frames one after the other, whole and in pieces, and compares their ends.
fn check_replies(
    frames: &[Vec<u8>],
    cuts: &[prop::sample::Index],
    decode: impl Fn(&[u8]) -> usize,
) -> Result<(), TestCaseError> {
    let wire = frames.concat();
    let mut start = 0;
    for frame in frames {
        let rest = &wire[start..];
        prop_assert_eq!(decode(rest), frame.len());
        let expected = ReplyScan::Complete(ReplyFrame { len: frame.len(), kind: own_kind(frame) });
        prop_assert_eq!(ReplyScanner::default().scan(rest), expected);
        let mut scanner = ReplyScanner::default();
        let found = piece_ends(cuts, rest.len())
            .into_iter()
            .map(|end| scanner.scan(&rest[..end]))
            .find(|found| *found != ReplyScan::Incomplete);
        prop_assert_eq!(found, Some(expected));
        prop_assert!(parse(frame).is_some());
        start += frame.len();
    }
    Ok(())
}

/// The generator gives a frame at most one attribute, of one pair of short lines.
fn own_kind(frame: &[u8]) -> u8 {
    if frame[0] != b'|' {
        return frame[0];
    }
    let lines = frame.split_inclusive(|&byte| byte == b'\n');
    frame[lines.take(3).map(<[u8]>::len).sum::<usize>()]
}

fn line(kind: char, text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    proptest::string::string_regex(text)
        .unwrap()
        .prop_map(move |text| format!("{kind}{text}\r\n").into_bytes())
}

fn blob(kind: char) -> impl Strategy<Value = Vec<u8>> {
    bytes(40).prop_map(move |text| {
        let mut out = format!("{kind}{}\r\n", text.len()).into_bytes();
        out.extend_from_slice(&text);
        out.extend_from_slice(b"\r\n");
        out
    })
}

fn aggregate(kind: char, elements: &[Vec<u8>], count: usize) -> Vec<u8> {
    [format!("{kind}{count}\r\n").into_bytes(), elements.concat()].concat()
}

fn resp2_frame() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        line('+', "[a-zA-Z ]{0,20}"),
        line('-', "ERR [a-z ]{1,20}"),
        line(':', "-?[1-9][0-9]{0,17}"),
        blob('$'),
        Just(b"$-1\r\n".to_vec()),
        Just(b"*-1\r\n".to_vec()),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop::collection::vec(inner, 0..6).prop_map(|elements| aggregate('*', &elements, elements.len()))
    })
}

fn resp3_frame() -> impl Strategy<Value = Vec<u8>> {
    let text = proptest::string::string_regex("[a-z\r\n]{0,20}").unwrap();
    let verbatim = text.prop_map(|text| {
        let mut out = Vec::new();
        verbatim(&mut out, text.as_bytes(), true);
        out
    });
    let leaf = prop_oneof![
        line('+', "[a-zA-Z ]{0,20}"),
        line('-', "ERR [a-z ]{1,20}"),
        line(':', "-?[1-9][0-9]{0,17}"),
        line(',', "-?[1-9][0-9]{0,9}(\\.[0-9]{1,5})?|inf|-inf"),
        line('(', "[1-9][0-9]{20,40}"),
        line('#', "[tf]"),
        blob('$'),
        line('_', ""),
        proptest::string::string_regex("ERR [a-z\r\n]{0,20}").unwrap().prop_map(|text| format!(
            "!{}\r\n{text}\r\n",
            text.len()
        )
        .into_bytes()),
        verbatim,
    ];
    let tree = leaf.prop_recursive(5, 60, 6, |inner| {
        let elements = prop::collection::vec(inner, 0..6);
        (elements, 0..3).prop_map(|(elements, kind)| match kind {
            0 => aggregate('*', &elements, elements.len()),
            // Set elements and map keys must differ for the other parser: it builds hash tables, and keeps floats out of keys.
            1 => aggregate('~', &distinct(&elements, false), elements.len()),
            _ => aggregate('%', &distinct(&elements, true), elements.len()),
        })
    });
    (tree, 0..8).prop_map(|(frame, attribute)| match attribute {
        // The other parser knows no attributes of nulls.
        0 if frame != b"_\r\n" => [b"|1\r\n+ttl\r\n:12\r\n".to_vec(), frame].concat(),
        1 => aggregate('>', &[b"+kind\r\n".to_vec(), frame], 2),
        _ => frame,
    })
}

/// Puts a number of its own before (for maps) or in the place of each element.
fn distinct(elements: &[Vec<u8>], keep_as_value: bool) -> Vec<Vec<u8>> {
    let name = |i: usize| format!(":{i}\r\n").into_bytes();
    elements
        .iter()
        .enumerate()
        .map(|(i, element)| if keep_as_value { [name(i), element.clone()].concat() } else { name(i) })
        .collect()
}

/// What a connection gets that sends these bytes and then closes its side, as the scanner predicts it. `None` stands for some
/// error of a command.
fn predicted(mut wire: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut replies = Vec::new();
    let mut scanner = RequestScanner::default();
    loop {
        let len = match scanner.scan(wire, &LIMITS) {
            RequestScan::Complete { len } => {
                replies.push(answer(Args::new(wire, scanner.ranges())));
                len
            }
            RequestScan::Inline { len, wire } => {
                replies.push(answer(Args::new(&wire, scanner.ranges())));
                len
            }
            RequestScan::Empty { len } => len,
            RequestScan::Incomplete => return replies,
            RequestScan::Malformed(line) => {
                replies.push(Some(line));
                return replies;
            }
        };
        wire = &wire[len..];
    }
}

/// What Redis answers to PING and ECHO.
fn answer(args: Args) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match (args.get(0).unwrap().to_ascii_lowercase().as_slice(), args.len()) {
        (b"ping", 1) => simple(&mut out, "PONG"),
        (b"ping" | b"echo", 2) => bulk(&mut out, args.get(1).unwrap()),
        _ => return None,
    }
    Some(out)
}

fn assert_redis_agrees(redis: &Redis, wire: &[u8]) {
    let mut client = redis.client();
    client.send_raw(wire).unwrap();
    client.stream().shutdown(Shutdown::Write).unwrap();
    let all = client.read_to_end();
    let mut rest = &all[..];
    let shown = wire.escape_ascii();
    for (i, expected) in predicted(wire).into_iter().enumerate() {
        let found = ReplyScanner::default().scan(rest);
        let ReplyScan::Complete(frame) = found else {
            panic!("{shown}: no reply {i} in {}", all.escape_ascii())
        };
        let (reply, after) = rest.split_at(frame.len);
        match expected {
            Some(expected) => {
                assert_eq!(reply.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{shown}")
            }
            None => assert_eq!(frame.kind, b'-', "{shown}: {}", reply.escape_ascii()),
        }
        rest = after;
    }
    assert!(rest.is_empty(), "{shown}: Redis also says {}", rest.escape_ascii());
}

/// Parts of requests, sound and broken ones.
fn near_valid() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        6 => prop::sample::select(vec![
            "*1\r\n$4\r\nPING\r\n", "*2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\n", "PING\r\n", "ping  'a b'\n", "ECHO \"\\x41\\n\"\r\n", "*0\r\n",
            "*-1\r\n", "\r\n", "\n", "*2\r\n$4\r\nPING\r\n", "*3\r\n$4\r\n", "*2147483647\r\n$4\r\nPING\r\n",
        ]).prop_map(|part| part.as_bytes().to_vec()),
        1 => prop::sample::select(vec![
            "*2147483648\r\n", "*+1\r\n", "*01\r\n", "*-0\r\n", "* 1\r\n", "*1\n", "*1\r", "*", "$-2\r\n", "$+1\r\n", "$01\r\n", "$4\rxPING\r\n",
            "$4\nPING\r\n", "$536870913\r\n", "\0", "'", "\"", "\\x4", "\x0b", "PING \"a\"b\r\n", "PING a\rb\r\n", "PING a\"b c\"\r\n",
        ]).prop_map(|part| part.as_bytes().to_vec()),
        1 => bytes(6),
    ];
    let parts = prop::collection::vec(part, 1..6).prop_map(|parts| parts.concat());
    let byte = prop_oneof![
        Just(b'\r'),
        Just(b'\n'),
        Just(b'$'),
        Just(b'*'),
        Just(0),
        Just(b'\''),
        Just(b'"'),
        Just(b' '),
        any::<u8>()
    ];
    (parts, any::<prop::sample::Index>(), prop::option::of(byte), 0..4).prop_map(
        |(mut wire, at, byte, change)| {
            let at = at.index(wire.len().max(1)).min(wire.len());
            match (change, byte) {
                (0, Some(byte)) => wire.insert(at, byte),
                (1, Some(byte)) if at < wire.len() => wire[at] = byte,
                (2, _) if at < wire.len() => drop(wire.remove(at)),
                _ => {}
            }
            wire
        },
    )
}

#[test]
fn a_real_redis_takes_and_refuses_the_same_bytes() {
    let redis = Redis::start();
    let config = ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() };
    let checked = TestRunner::new(config).run(&near_valid(), |wire| {
        assert_redis_agrees(&redis, &[&wire[..], b"\r\nPING tail\r\n"].concat());
        assert_redis_agrees(&redis, &wire);
        Ok(())
    });
    checked.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn a_real_redis_gives_up_on_endless_lines_with_the_same_words() {
    let redis = Redis::start();
    for start in ["a", "*1", "*1\r\n$1", "*1\r\n$4\r\nPING\r\n*", "a\0\r\n", "*2\r\n$4\r\nECHO\r\n$1\0\r\n"] {
        for over in [0, 1] {
            let line_start = start
                .rfind(['\n'])
                .filter(|_| !start.contains('\0'))
                .or(start.rfind("\n$"))
                .map_or(0, |at| at + 1);
            let mut wire = start.as_bytes().to_vec();
            wire.resize(line_start + 65536 + over, b'1');
            assert_redis_agrees(&redis, &wire);
        }
    }
}

#[test]
fn a_real_redis_limits_who_has_not_authenticated_with_the_same_words() {
    let redis = Redis::start_with(&["--requirepass", "secret"]);
    let limits = RequestLimits { args_max: 10, bulk_bytes_max: 16384, authenticated: false, ..LIMITS };
    for wire in ["*11\r\n", "*2147483648\r\n", "*1\r\n$16385\r\n", "*1\r\n$536870913\r\n", "*1\r\n$-1\r\n"] {
        let RequestScan::Malformed(expected) = RequestScanner::default().scan(wire.as_bytes(), &limits)
        else {
            panic!("{wire:?} was taken");
        };
        let mut client = redis.client();
        client.send_raw(wire.as_bytes()).unwrap();
        assert_eq!(
            client.read_to_end().escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "{wire:?}"
        );
    }
}
