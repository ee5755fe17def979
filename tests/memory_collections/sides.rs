//! The two sides, one request to both, and what counts as the same reply.

use crate::support::{Client, Redis};
use madcache::memory::{Caller, Keys, Keyspace, Settings, call};
use madcache::resp;
use madcache::resp::Value;
use std::collections::BTreeSet;

const NOW_MS: u64 = 1_700_000_000_000;

pub struct Sides {
    redis: Client,
    keyspace: Keyspace,
    caller: Caller,
    /// The commands that Redis answered with something else than an error.
    pub answered: BTreeSet<String>,
}

pub enum Judgement {
    Same,
    Differ(String),
}

/// How far two replies must agree.
#[derive(PartialEq)]
enum Rule {
    Exactly,
    /// The same elements in any order; in pairs for fields with their values.
    Unordered,
    UnorderedPairs,
    /// The same kind and length: what is in it is left to chance.
    Shape,
    /// The same error, or two arrays.
    Kind,
}

impl Sides {
    // Not by a literal: a caller has more fields, some of them private.
    #[allow(clippy::field_reassign_with_default)]
    pub fn new(redis: &Redis, resp3: bool) -> Sides {
        let mut client = redis.client();
        client.call(&["FLUSHALL"]);
        if resp3 {
            client.call(&["HELLO", "3"]);
        }
        let mut caller = Caller::default();
        caller.resp3 = resp3;
        Sides {
            redis: client,
            keyspace: Keyspace::new(Settings::default()),
            caller,
            answered: BTreeSet::new(),
        }
    }

    pub fn compare(&mut self, request: &[Vec<u8>]) -> Judgement {
        let name = String::from_utf8_lossy(&request[0]).to_uppercase();
        if name.ends_with("SCAN") && request.len() > 2 && request[2] == b"0" {
            self.answered.insert(name);
            return self.compare_scans(request);
        }
        let (theirs, ours) = (self.ask_redis(request, &name), self.ask_engine(request));
        let rule = rule(&name, request);
        if theirs.first() != Some(&b'-') {
            self.answered.insert(name.clone());
        }
        let by_chance = name == "SPOP" && theirs != ours && same(&theirs, &ours, &rule);
        // SORT leaves a sorted set in another encoding in Redis.
        let sorted = name.starts_with("SORT") && request.len() > 1 && !request[1].starts_with(b"zs");
        if by_chance || sorted && self.redis.text(&[&b"TYPE"[..], &request[1]]).contains("zset") {
            // Both begin anew.
            let delete = [b"DEL".to_vec(), request[1].clone()];
            self.ask_redis(&delete, "DEL");
            self.ask_engine(&delete);
        }
        judge(&theirs, &ours, &rule)
    }

    /// Whole scans: steps of large collections are not the same, what they show together is.
    fn compare_scans(&mut self, request: &[Vec<u8>]) -> Judgement {
        let mut shown = [Vec::new(), Vec::new()];
        for (side, shown) in shown.iter_mut().enumerate() {
            let mut request = request.to_vec();
            loop {
                let reply =
                    if side == 0 { self.ask_redis(&request, "SCAN") } else { self.ask_engine(&request) };
                let value = resp::parse(&reply).expect("a frame");
                let Some([cursor, page]) = value.elements() else {
                    shown.push(format!("{value:?}"));
                    break;
                };
                let page = page.elements().expect("a page is an array");
                if request[0].eq_ignore_ascii_case(b"SSCAN") {
                    shown.extend(page.iter().map(|member| format!("{member:?}")));
                } else {
                    shown.extend(page.chunks(2).map(|pair| format!("{pair:?}")));
                }
                request[2] = cursor.text().expect("a cursor is a text").to_vec();
                if request[2] == b"0" {
                    break;
                }
            }
            shown.sort();
            shown.dedup();
        }
        let [theirs, ours] = shown;
        if theirs == ours { Judgement::Same } else { Judgement::Differ(format!("{theirs:?}\n{ours:?}")) }
    }

    /// Blocking commands run in a transaction, where they do not wait.
    fn ask_redis(&mut self, request: &[Vec<u8>], name: &str) -> Vec<u8> {
        if name.starts_with("SORT") {
            // Redis 7.0 takes a number out of range that an earlier command met for one of SORT's own. This resets it.
            self.redis.call(&["ZADD", "missing", "XX", "1", "member"]);
        }
        if !name.starts_with('B') {
            return self.redis.call(request);
        }
        self.redis.call(&["MULTI"]);
        let queued = self.redis.call(request);
        if queued != b"+QUEUED\r\n" {
            self.redis.call(&["DISCARD"]);
            return queued;
        }
        let replies = self.redis.call(&["EXEC"]);
        replies.strip_prefix(b"*1\r\n").expect("one reply").to_vec()
    }

    fn ask_engine(&mut self, request: &[Vec<u8>]) -> Vec<u8> {
        let argv: Vec<&[u8]> = request.iter().map(Vec::as_slice).collect();
        let mut out = Vec::new();
        call(&mut self.keyspace, &mut self.caller, NOW_MS, &argv, &mut out);
        out
    }

    /// The texts of the array that the engine alone answers.
    pub fn engine(&mut self, request: &str) -> Vec<String> {
        let words: Vec<Vec<u8>> = request.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let reply = resp::parse(&self.ask_engine(&words)).expect("a frame");
        let text = |value: &Value| String::from_utf8_lossy(value.text().unwrap_or_default()).into_owned();
        reply.elements().unwrap_or_default().iter().map(text).collect()
    }

    /// Kinds, encodings and contents of these keys.
    pub fn inspect(&mut self, keys: &[&str]) -> Result<(), String> {
        for key in keys {
            let mut own = Keys { keyspace: &mut self.keyspace, db: 0, now_ms: NOW_MS };
            let found = own.peek(key.as_bytes());
            let ours = found.map_or(("none", ""), |object| (object.value.kind(), object.value.encoding()));
            let kind = self.redis.text(&["TYPE", key]);
            let encoding = self.redis.call(&["OBJECT", "ENCODING", key]);
            let encoding = resp::parse(&encoding).expect("a frame");
            let encoding = String::from_utf8_lossy(encoding.text().unwrap_or_default()).into_owned();
            if !kind.contains(ours.0) || encoding != ours.1 && !key.starts_with("zs") {
                return Err(format!("{key} is {kind} {encoding} in Redis, {ours:?} here"));
            }
            let show: &[&str] = match ours.0 {
                "list" => &["LRANGE", key, "0", "-1"],
                "hash" => &["HGETALL", key],
                "set" => &["SMEMBERS", key],
                "zset" => &["ZRANGE", key, "0", "-1", "WITHSCORES"],
                _ => continue,
            };
            let show: Vec<Vec<u8>> = show.iter().map(|word| word.as_bytes().to_vec()).collect();
            if let Judgement::Differ(difference) = self.compare(&show) {
                return Err(format!("{key} differs: {difference}"));
            }
        }
        Ok(())
    }

    /// Without its keys the engine counts no bytes.
    pub fn empty(&mut self, keys: &[&str]) {
        let helpers = (0..700).flat_map(|n| [format!("w_{n}"), format!("hw_{n}")]);
        let all: Vec<String> = keys.iter().map(|key| key.to_string()).chain(helpers).collect();
        for key in all {
            self.ask_engine(&[b"DEL".to_vec(), key.into_bytes()]);
        }
        let left = self.keyspace.len(0);
        assert!(left > 0 || self.keyspace.bytes() == 0, "{} bytes of nothing", self.keyspace.bytes());
        assert!(left <= 20, "{left} keys are left that no template names");
    }
}

fn rule(name: &str, request: &[Vec<u8>]) -> Rule {
    let has = |word: &str| request.iter().any(|other| other.eq_ignore_ascii_case(word.as_bytes()));
    match name {
        // A scan that begins in the middle of a table.
        "HSCAN" | "SSCAN" | "ZSCAN" => Rule::Kind,
        "SMEMBERS" | "SINTER" | "SUNION" | "SDIFF" | "HKEYS" | "HVALS" => Rule::Unordered,
        "HGETALL" => Rule::UnorderedPairs,
        "SPOP" | "SRANDMEMBER" | "HRANDFIELD" | "ZRANDMEMBER" => Rule::Shape,
        // Equal weights leave the order to the algorithm.
        "SORT" | "SORT_RO" if has("ALPHA") && has("BY") => Rule::Shape,
        _ => Rule::Exactly,
    }
}

fn judge(theirs: &[u8], ours: &[u8], rule: &Rule) -> Judgement {
    if same(theirs, ours, rule) {
        return Judgement::Same;
    }
    let shown = |reply: &[u8]| String::from_utf8_lossy(reply).replace("\r\n", " ");
    Judgement::Differ(format!("redis:  {}\nengine: {}", shown(theirs), shown(ours)))
}

fn same(theirs: &[u8], ours: &[u8], rule: &Rule) -> bool {
    if *rule == Rule::Kind && theirs.first() == Some(&b'*') {
        return ours.first() == Some(&b'*');
    }
    if theirs == ours || matches!(rule, Rule::Exactly | Rule::Kind) || theirs.first() != ours.first() {
        return theirs == ours;
    }
    let [theirs, ours] = [theirs, ours].map(|reply| resp::parse(reply).expect("a frame"));
    match rule {
        Rule::Shape => shape(&theirs) == shape(&ours),
        Rule::UnorderedPairs => sorted(&theirs, 2) == sorted(&ours, 2),
        _ => sorted(&theirs, 1) == sorted(&ours, 1),
    }
}

fn sorted(value: &Value, group: usize) -> Vec<String> {
    let mut texts: Vec<String> = match value {
        Value::Map(pairs) => pairs.iter().map(|pair| format!("{pair:?}")).collect(),
        other => other.elements().unwrap_or_default().chunks(group).map(|c| format!("{c:?}")).collect(),
    };
    texts.sort();
    texts
}

fn shape(value: &Value) -> String {
    match value {
        Value::Array(elements) | Value::Set(elements) => {
            format!("{:?}", elements.iter().map(shape).collect::<Vec<_>>())
        }
        Value::Error(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Null => "null".into(),
        Value::Double(_) => "double".into(),
        _ => "one".into(),
    }
}

pub fn shown(request: &[Vec<u8>]) -> String {
    let words: Vec<_> = request.iter().map(|word| format!("{:?}", String::from_utf8_lossy(word))).collect();
    words.join(" ")
}
