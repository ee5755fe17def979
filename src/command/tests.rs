//! What the table answers by itself; `tests/commands.rs` holds it against a real redis-server.
use super::*;
use proptest::prelude::*;

/// A request as the session would hold it.
struct Request {
    buf: Vec<u8>,
    ranges: Vec<(u32, u32)>,
}

impl Request {
    fn new<A: AsRef<[u8]>>(args: impl IntoIterator<Item = A>) -> Request {
        let mut request = Request { buf: Vec::new(), ranges: Vec::new() };
        for arg in args {
            let start = request.buf.len() as u32;
            request.buf.extend_from_slice(arg.as_ref());
            request.ranges.push((start, request.buf.len() as u32));
        }
        request
    }

    fn line(line: &str) -> Request {
        Request::new(line.split(' '))
    }

    fn args(&self) -> Args<'_> {
        Args::new(&self.buf, &self.ranges)
    }
}

/// The keys that the table finds in a request, sorted.
fn keys_of(request: &Request) -> (KeySet, Vec<String>) {
    let row = lookup(&request.args()).expect("the command has a row");
    let mut keys = Vec::new();
    let set =
        row.for_each_key(&request.args(), &mut |key| keys.push(String::from_utf8_lossy(key).into_owned()));
    keys.sort();
    (set, keys)
}

#[test]
fn keys_that_redis_7_does_not_know_are_found_too() {
    let known = |line: &str| {
        let (set, keys) = keys_of(&Request::line(line));
        assert_eq!(set, KeySet::Known, "{line}");
        keys
    };
    assert_eq!(known("MSETEX 2 a 1 b 2 EX 10"), ["a", "b"]);
    assert_eq!(known("XREADGROUP GROUP STREAMS c CLAIM 10 STREAMS a >"), ["a"]);
    assert_eq!(known("HGETEX h PERSIST FIELDS 1 f"), ["h"]);
    assert_eq!(known("XACKDEL s g KEEPREF IDS 1 1-1"), ["s"]);
    // An empty key is a key.
    assert_eq!(known("MIGRATE host 1  0 100"), [""]);
}

#[test]
fn keys_that_patterns_lead_to_are_unknown() {
    for line in ["SORT k BY w_*", "SORT k GET # GET v_*", "SORT_RO k BY w_*->f", "SORT k BY w_* STORE d"] {
        assert_eq!(keys_of(&Request::line(line)).0, KeySet::Unknown, "{line}");
    }
    for line in ["EVAL x 1 k", "EVALSHA_RO x 1 k", "FCALL f 0", "XINFO SOMETHING k"] {
        assert_eq!(keys_of(&Request::line(line)).0, KeySet::Unknown, "{line}");
    }
    for line in ["FLUSHALL", "KEYS *", "SCAN 0", "SWAPDB 0 1"] {
        assert_eq!(keys_of(&Request::line(line)).0, KeySet::Whole, "{line}");
    }
}

#[test]
fn options_that_the_table_does_not_know_make_keys_unknown_and_reads_waiting() {
    let later = Request::line("XREAD LATEROPTION 5 STREAMS a 0");
    assert_eq!(keys_of(&later).0, KeySet::Unknown);
    assert!(lookup(&later.args()).unwrap().is_blocking(&later.args()));
    assert_eq!(keys_of(&Request::line("SORT k LATEROPTION x")).0, KeySet::Unknown);
    assert_eq!(keys_of(&Request::line("ZUNION many a b")).0, KeySet::Unknown);
}

#[test]
fn a_stream_read_waits_only_with_block() {
    let waits = |line: &str| {
        let request = Request::line(line);
        lookup(&request.args()).unwrap().is_blocking(&request.args())
    };
    assert!(waits("XREAD BLOCK 0 STREAMS a $"));
    assert!(waits("XREADGROUP GROUP g c COUNT 5 block 10 STREAMS a >"));
    assert!(!waits("XREAD COUNT 5 STREAMS BLOCK 0"));
    assert!(!waits("XREADGROUP GROUP BLOCK c STREAMS a >"));
    assert!(waits("BLPOP a 0"));
    assert!(!waits("LPOP a"));
}

#[test]
fn a_sort_without_store_is_a_read() {
    let effect = |line: &str| {
        let request = Request::line(line);
        lookup(&request.args()).unwrap().effect_of(&request.args())
    };
    assert_eq!(effect("SORT k BY w_*"), Effect::Read);
    assert_eq!(effect("sort k store d"), Effect::Write);
    assert_eq!(effect("GEORADIUS k 1 2 3 km"), Effect::Read);
    assert_eq!(effect("GEORADIUSBYMEMBER k m 3 km STOREDIST d"), Effect::Write);
    assert_eq!(effect("MIGRATE host 1 k 0 100"), Effect::Write);
    assert_eq!(effect("XREADGROUP GROUP g c STREAMS a >"), Effect::Write);
    assert_eq!(effect("GET k"), Effect::Read);
}

#[test]
fn a_rank_with_its_score_reads_in_resp2_as_an_array_or_its_null() {
    let shape = |line: &str| {
        let request = Request::line(line);
        lookup(&request.args()).unwrap().shape_of(&request.args())
    };
    assert_eq!(shape("ZRANK z m"), Shape::Plain);
    assert_eq!(shape("ZRANK z m WITHSCORE"), Shape::NullArrays);
    assert_eq!(shape("ZRANGE z 0 -1"), Shape::Scores);
    assert_eq!(shape("GEOPOS g m"), Shape::NullArrays);
}

#[test]
fn a_request_finds_its_row_in_any_case() {
    let name = |line: &str| lookup(&Request::line(line).args()).map(|row| row.name);
    assert_eq!(name("get k"), Some("GET"));
    assert_eq!(name("gEtRaNgE k 0 1"), Some("GETRANGE"));
    assert_eq!(name("config set a b"), Some("CONFIG|SET"));
    assert_eq!(name("Client no-evict on"), Some("CLIENT|NO-EVICT"));
    assert_eq!(name("CONFIG"), Some("CONFIG"));
    assert_eq!(name("CLIENT MAINT_NOTIFICATIONS ON"), Some("CLIENT"));
    assert_eq!(name("command"), Some("COMMAND"));
    assert_eq!(name("command docs get"), Some("COMMAND|DOCS"));
    assert_eq!(name("madcache stats"), Some("MADCACHE|STATS"));
    assert_eq!(name("GET SET"), Some("GET"));
}

#[test]
fn what_is_not_a_command_has_no_row() {
    let none = |line: &str| assert!(lookup(&Request::line(line).args()).is_none(), "{line}");
    none("");
    none("NOSUCH k");
    none("CONFIG|SET a b");
    none("GE4 k");
    none("G\u{5}T k");
    none("BITFIELD\u{7f}RO k");
    none(&"GET".repeat(1000));
    assert!(lookup(&Request::new::<&[u8]>([]).args()).is_none());
    for name in ["config|nosuch", "config|", "|set", "", "|", "config|set|more"] {
        assert!(lookup_name(name).is_none(), "{name}");
    }
}

#[test]
fn rows_are_numbered_and_found_by_their_names() {
    for (at, row) in ROWS.iter().enumerate() {
        assert_eq!(usize::from(row.index()), at, "{}", row.name);
        assert_eq!(row.name, row.name.to_uppercase());
        assert!(std::ptr::eq(lookup_name(row.name).unwrap(), row), "{}", row.name);
        assert!(std::ptr::eq(lookup_name(&row.name.to_lowercase()).unwrap(), row), "{}", row.name);
        let request = Request::new(row.name.split('|'));
        assert!(std::ptr::eq(lookup(&request.args()).unwrap(), row), "{}", row.name);
        let prefix = format!("{}|", row.name);
        assert_eq!(
            row.has_subcommands(),
            ROWS.iter().any(|other| other.name.starts_with(&prefix)),
            "{}",
            row.name
        );
    }
}

#[test]
fn what_is_denied_by_default_has_a_row_and_stays_out_of_shared_blocks() {
    for name in DENIED_BY_DEFAULT {
        let row = lookup_name(name).unwrap_or_else(|| panic!("{name} has no row"));
        assert!(row.is_denied_by_default() && !row.fits_shared_block(), "{name}");
    }
    assert_eq!(ROWS.iter().filter(|row| row.is_denied_by_default()).count(), DENIED_BY_DEFAULT.len());
}

#[test]
fn a_shared_block_takes_what_leaves_no_state_and_does_not_wait() {
    let fits = |name: &str| lookup_name(name).unwrap().fits_shared_block();
    for name in ["GET", "MGET", "SET", "EVAL", "PING", "PUBLISH", "INFO", "CONFIG|GET", "FLUSHALL"] {
        assert!(fits(name), "{name}");
    }
    for name in [
        "SELECT",
        "CLIENT|TRACKING",
        "SUBSCRIBE",
        "BLPOP",
        "XREAD",
        "MONITOR",
        "WAIT",
        "WATCH",
        "UNWATCH",
        "MULTI",
        "EXEC",
        "DISCARD",
        "SCRIPT|KILL",
        "CLIENT|PAUSE",
    ] {
        assert!(!fits(name), "{name}");
    }
}

#[test]
fn an_arity_below_zero_is_a_least_number_of_arguments() {
    let fits = |name: &str, argc| lookup_name(name).unwrap().arity_fits(argc);
    assert!(fits("GET", 2) && !fits("GET", 1) && !fits("GET", 3));
    assert!(fits("DEL", 2) && fits("DEL", 100) && !fits("DEL", 1));
    assert!(fits("CONFIG|GET", 3) && !fits("CONFIG|GET", 2));
}

/// Words on which the key finders branch, numbers good and bad, and noise.
fn word() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "STORE",
        "storedist",
        "BY",
        "GET",
        "LIMIT",
        "KEYS",
        "AUTH",
        "AUTH2",
        "COPY",
        "STREAMS",
        "BLOCK",
        "COUNT",
        "GROUP",
        "NOACK",
        "*",
        "#",
        "",
        "0",
        "1",
        "2",
        "-1",
        "+3",
        "007",
        "18446744073709551615",
        "99999999999999999999",
        "help",
    ];
    prop_oneof![
        prop::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..12),
    ]
}

proptest! {
    #[test]
    fn no_arguments_make_a_row_panic_and_every_key_is_an_argument(args in prop::collection::vec(word(), 0..14)) {
        for row in ROWS {
            let names = row.name.split('|').map(|name| name.as_bytes().to_vec());
            let request = Request::new(names.chain(args.iter().cloned()));
            let all = request.args();
            row.for_each_key(&all, &mut |key| assert!(all.iter().any(|arg| arg == key)));
            row.is_blocking(&all);
            row.effect_of(&all);
            row.shape_of(&all);
            prop_assert!(lookup(&all).is_some());
        }
        let bare = Request::new(&args);
        lookup(&bare.args());
        for row in ROWS {
            row.for_each_key(&bare.args(), &mut |_| ());
            row.is_blocking(&bare.args());
        }
    }
}
