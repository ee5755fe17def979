//! Holds the command table against what a real redis-server says of its commands.
use std::collections::{HashMap, HashSet};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use madcache::command::{Effect, Group, KeySet, Keys, Route, Row, lookup, lookup_name};
use madcache::resp::Args;
use redis::{Connection, Value};

/// A redis-server on a free port in a directory of its own; both go when this is dropped.
struct Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string(), "--dir"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        Server { child, port, _dir: dir }
    }

    fn connect(&self) -> Connection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match client.get_connection() {
                Ok(connection) => return connection,
                Err(error) => assert!(Instant::now() < deadline, "redis-server does not answer: {error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What COMMAND says of one command or subcommand.
#[derive(Debug)]
struct Told {
    name: String,
    arity: i64,
    flags: HashSet<String>,
}

impl Told {
    fn has(&self, flag: &str) -> bool {
        self.flags.contains(flag)
    }

    fn row(&self) -> &'static Row {
        lookup_name(&self.name).unwrap_or_else(|| panic!("{} has no row", self.name))
    }
}

fn all_told(connection: &mut Connection) -> Vec<Told> {
    let mut told = Vec::new();
    collect(redis::cmd("COMMAND").query(connection).unwrap(), &mut told);
    assert!(told.len() > 360, "COMMAND lists subcommands too: {}", told.len());
    told
}

fn collect(commands: Value, told: &mut Vec<Told>) {
    for command in array(commands) {
        let mut fields = array(command);
        let subcommands = fields.swap_remove(9);
        let Value::Int(arity) = fields[1] else { panic!("no arity: {fields:?}") };
        let flags = array(fields[2].clone()).into_iter().map(text).collect();
        told.push(Told { name: text(fields.swap_remove(0)).to_uppercase(), arity, flags });
        collect(subcommands, told);
    }
}

fn array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) | Value::Set(values) => values,
        other => panic!("no array: {other:?}"),
    }
}

fn text(value: Value) -> String {
    match value {
        Value::SimpleString(text) => text,
        Value::BulkString(bytes) => String::from_utf8(bytes).unwrap(),
        other => panic!("no text: {other:?}"),
    }
}

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

/// The keys that Redis finds in a request, sorted; none if it finds no keys or no sense in it.
fn keys_told(connection: &mut Connection, words: &[String]) -> Vec<String> {
    let mut ask = redis::cmd("COMMAND");
    ask.arg("GETKEYS").arg(words);
    let mut keys: Vec<String> = match ask.query(connection) {
        Ok(reply) => array(reply).into_iter().map(text).collect(),
        Err(_) => Vec::new(),
    };
    keys.sort();
    keys
}

#[test]
fn every_command_of_redis_has_a_row_with_its_arity() {
    let server = Server::start();
    // WITHSCORE came with Redis 7.2, REPLICATE NO ONE with Valkey 9.
    let later = HashMap::from([("ZRANK", -3), ("ZREVRANK", -3), ("CLUSTER|REPLICATE", -3)]);
    for told in all_told(&mut server.connect()) {
        let row = told.row();
        assert_eq!(told.name, row.name);
        let arity = later.get(row.name).copied().unwrap_or(told.arity);
        assert_eq!(i64::from(row.arity), arity, "{}", row.name);
    }
}

#[test]
fn command_list_names_nothing_without_a_row() {
    let server = Server::start();
    let names: Vec<String> = redis::cmd("COMMAND").arg("LIST").query(&mut server.connect()).unwrap();
    assert!(names.len() >= 240);
    for name in names {
        assert!(lookup_name(&name).is_some(), "{name}");
    }
}

#[test]
fn the_effect_of_a_row_agrees_with_the_flags_of_redis() {
    let exceptions = HashMap::from([
        // Libraries are no keys.
        ("FUNCTION|DELETE", Effect::None),
        ("FUNCTION|FLUSH", Effect::None),
        ("FUNCTION|LOAD", Effect::None),
        ("FUNCTION|RESTORE", Effect::None),
        // It keeps its result in the value, where GET reads it.
        ("PFCOUNT", Effect::Write),
        // A drawing.
        ("LOLWUT", Effect::None),
        // What they do depends on the script, or on the subcommand.
        ("EVAL", Effect::Unknown),
        ("EVALSHA", Effect::Unknown),
        ("FCALL", Effect::Unknown),
        ("DEBUG", Effect::Unknown),
        ("XGROUP", Effect::Unknown),
        // Containers whose subcommands read keys.
        ("MEMORY", Effect::Read),
        ("OBJECT", Effect::Read),
        ("XINFO", Effect::Read),
        // It must not overtake a write of its key.
        ("WATCH", Effect::Read),
        // They look at the keyspace without the flag.
        ("CLUSTER|COUNTKEYSINSLOT", Effect::Read),
        ("CLUSTER|GETKEYSINSLOT", Effect::Read),
    ]);
    let server = Server::start();
    for told in all_told(&mut server.connect()) {
        let row = told.row();
        let flagged = match (told.has("write"), told.has("readonly")) {
            (true, _) => Effect::Write,
            (_, true) => Effect::Read,
            _ => Effect::None,
        };
        match exceptions.get(row.name) {
            Some(&effect) => {
                assert_eq!(row.effect, effect, "{}", row.name);
                assert_ne!(effect, flagged, "{} is no exception", row.name);
            }
            None => assert_eq!(row.effect, flagged, "{}", row.name),
        }
    }
}

#[test]
fn the_rows_that_may_wait_are_those_that_redis_calls_blocking() {
    let server = Server::start();
    for told in all_told(&mut server.connect()) {
        let waits = matches!(told.row().route, Route::Blocking | Route::BlockingIfAsked);
        assert_eq!(waits, told.has("blocking"), "{}", told.name);
    }
}

#[test]
fn the_rows_of_messages_are_those_that_redis_calls_pubsub() {
    let server = Server::start();
    for told in all_told(&mut server.connect()) {
        let messages = told.row().group() == Group::Pubsub;
        let container_or_help = told.name == "PUBSUB" || told.name == "PUBSUB|HELP";
        assert_eq!(messages, told.has("pubsub") || container_or_help, "{}", told.name);
    }
}

#[test]
fn only_reads_of_redis_are_cached() {
    let server = Server::start();
    let mut cached = Vec::new();
    for told in all_told(&mut server.connect()) {
        if matches!(told.row().route, Route::Cached | Route::CachedEach) {
            assert!(told.has("readonly"), "{}", told.name);
            cached.push(told.name);
        }
    }
    cached.sort();
    // The list of coherence.md, "What may be cached".
    let mut allowed: Vec<&str> = "GET STRLEN GETRANGE SUBSTR GETBIT BITCOUNT BITPOS BITFIELD_RO \
        HGET HMGET HGETALL HKEYS HVALS HLEN HEXISTS HSTRLEN LRANGE LINDEX LLEN LPOS \
        SMEMBERS SISMEMBER SMISMEMBER SCARD ZSCORE ZMSCORE ZRANK ZREVRANK ZCARD ZCOUNT ZLEXCOUNT \
        ZRANGE ZRANGEBYSCORE ZRANGEBYLEX ZREVRANGE ZREVRANGEBYSCORE ZREVRANGEBYLEX \
        GEOPOS GEODIST GEOHASH GEOSEARCH TYPE XLEN XRANGE XREVRANGE MGET EXISTS"
        .split_whitespace()
        .collect();
    allowed.sort();
    assert_eq!(cached, allowed);
}

#[test]
fn the_keys_of_a_row_are_those_that_redis_finds() {
    let server = Server::start();
    let mut connection = server.connect();
    let mut compared = HashSet::new();
    for told in all_told(&mut connection) {
        let row = told.row();
        // Shard channels are no keys for Redis; the rows report them because they have slots.
        let is_channel = matches!(row.name, "SPUBLISH" | "SSUBSCRIBE" | "SUNSUBSCRIBE");
        if told.has("movablekeys") || matches!(row.keys, Keys::Whole | Keys::Unknown) || is_channel {
            continue;
        }
        let least = told.arity.unsigned_abs() as usize;
        let most = if told.arity < 0 { least + 5 } else { least };
        for argc in least..=most {
            let mut words: Vec<String> = row.name.split('|').map(str::to_owned).collect();
            words.extend((words.len()..argc).map(|i| format!("argument:{i}")));
            let (set, keys) = keys_of(&Request::new(&words));
            assert_eq!(set, KeySet::Known, "{words:?}");
            if row.name == "PFMERGE" && argc == 2 {
                // GETKEYS wants a source; PFMERGE itself makes do with a destination.
                assert_eq!(keys, ["argument:1"]);
                continue;
            }
            assert_eq!(keys, keys_told(&mut connection, &words), "{words:?}");
            if !keys.is_empty() {
                compared.insert(row.name);
            }
        }
    }
    assert!(compared.len() > 140, "{} commands with keys were compared", compared.len());
}

/// Valid requests of the commands whose keys move.
const MOVING: &[&str] = &[
    "BLMPOP 0 1 a LEFT",
    "BLMPOP 1.5 2 a b RIGHT COUNT 3",
    "BZMPOP 0 3 a b c MIN",
    "GEORADIUS k 1 2 3 km",
    "GEORADIUS k 1 2 3 km STORE d",
    "GEORADIUS k 1 2 3 km COUNT 5 ANY storedist d ASC",
    "GEORADIUS k 1 2 3 km STORE d STOREDIST e",
    "GEORADIUSBYMEMBER k m 3 km",
    "GEORADIUSBYMEMBER k store 3 km WITHDIST",
    "GEORADIUSBYMEMBER k m 3 km ASC STORE d",
    "LMPOP 1 a LEFT",
    "LMPOP 3 a b c LEFT COUNT 2",
    "MIGRATE host 1 k 0 100",
    "MIGRATE host 1 k 0 100 COPY REPLACE AUTH KEYS",
    "MIGRATE host 1  0 100 KEYS a b c",
    "MIGRATE host 1  0 100 COPY AUTH2 user pass KEYS a b",
    "SINTERCARD 2 a b",
    "SINTERCARD 2 a b LIMIT 3",
    "SORT k",
    "SORT k ALPHA DESC STORE d",
    "SORT k LIMIT 0 5 STORE d STORE e",
    "SORT k BY nosort STORE d",
    "SORT k BY STORE GET # STORE d",
    "SORT_RO k ALPHA",
    "XREAD STREAMS a 0",
    "XREAD COUNT 2 BLOCK 5 STREAMS a b 0 0",
    "XREAD streams streams $",
    "XREADGROUP GROUP g c STREAMS a >",
    "XREADGROUP GROUP g c COUNT 1 NOACK BLOCK 0 STREAMS a b > >",
    "XREADGROUP GROUP STREAMS STREAMS STREAMS a b > >",
    "ZDIFF 2 a b WITHSCORES",
    "ZDIFFSTORE d 2 a b",
    "ZINTER 1 a",
    "ZINTERCARD 2 a b LIMIT 5",
    "ZINTERSTORE d 2 a b WEIGHTS 1 2 AGGREGATE MAX",
    "ZMPOP 2 a b MAX COUNT 2",
    "ZUNION 3 a b c",
    "ZUNIONSTORE d 1 a AGGREGATE SUM",
];

#[test]
fn keys_that_move_are_found_where_redis_finds_them() {
    let server = Server::start();
    let mut connection = server.connect();
    for line in MOVING {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (set, keys) = keys_of(&Request::line(line));
        assert_eq!(set, KeySet::Known, "{line}");
        assert_eq!(keys, keys_told(&mut connection, &words), "{line}");
        assert!(!keys.is_empty(), "{line}");
    }
    let sampled: HashSet<&str> = MOVING.iter().filter_map(|line| line.split(' ').next()).collect();
    for told in all_told(&mut connection).iter().filter(|told| told.has("movablekeys")) {
        let unknown = matches!(told.row().keys, Keys::Unknown);
        assert!(sampled.contains(&*told.name) || unknown, "{} has no sample", told.name);
    }
}
