//! Random requests from templates. `{l}` is a key that should hold a list, `{v}` a value, `a|b` a choice, `?word` or
//! `?(several words)` something that may be left out, `+{v}` one to four of them, `#300{m}` three hundred.

/// Small, fast, and the same on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 11) as usize % bound
    }

    pub fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    /// A floating point number in one of many ways to write it.
    pub fn number(&mut self) -> Vec<u8> {
        let integer = self.next() as i64 >> self.below(64);
        let fraction = self.next() >> (11 + self.below(50));
        match self.below(9) {
            0 => format!("{integer}"),
            1 => format!("{}.{fraction}", integer >> 40),
            2 => format!("{}e{}", integer >> 30, self.below(60) as i64 - 30),
            3 => format!("0.{:0width$}{fraction}", 0, width = 1 + self.below(17)),
            4 => format!("{integer}.5"),
            5 => format!("0x{:x}p-{}", fraction, self.below(80)),
            6 => format!("{}e{}", self.below(10), self.below(9000) as i64 - 4500),
            7 => format!("-.{fraction}"),
            _ => format!("{}", f64::from_bits(self.next() & !(1 << 62))),
        }
        .into_bytes()
    }
}

const LISTS: &[&str] = &["l1", "l2", "l3"];
const INTEGERS: &[&str] = &["li1", "li2"];
const HASHES: &[&str] = &["h1", "h2", "h3"];
const SETS: &[&str] = &["s1", "s2", "s3", "s4"];
const SORTED: &[&str] = &["z1", "z2", "z3"];
const LEXICAL: &[&str] = &["zl1", "zl2"];
/// SORT makes Redis store a sorted set in another way, so these are for SORT alone.
const SORT_SORTED: &[&str] = &["zs1"];
const TARGETS: &[&str] = &["t1", "t2"];
const JUNK: &[&str] = &[
    "",
    "x",
    "-1",
    "0",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "nan",
    "inf",
    "1e400",
    "0x10",
    "-0",
    "+5",
    " 1",
    "1 ",
    "(1",
    "[a",
    "-",
    "+",
    "#",
    "COUNT",
    "LIMIT",
    "WITHSCORES",
    "1.5",
];

/// With how often each is taken.
const TEMPLATES: &[(usize, &str)] = &[
    (6, "LPUSH|RPUSH {l} +{v}"),
    (1, "RPUSH {l} #300{v}"),
    (3, "LPUSHX|RPUSHX {l} +{v}"),
    (4, "LPOP|RPOP {l} ?{c}"),
    (2, "LLEN {l}"),
    (3, "LINDEX {l} {i}"),
    (3, "LSET {l} {i} {v}"),
    (3, "LINSERT {l} BEFORE|AFTER|before|at {v} {v}"),
    (4, "LRANGE {l} {i} {i}"),
    (1, "LTRIM {l} {i} {i}"),
    (3, "LREM {l} {i} {v}"),
    (4, "LPOS {l} {v} ?(RANK {i}) ?(COUNT {c}) ?(MAXLEN {c})"),
    (3, "LMOVE {l} {l} LEFT|RIGHT|left LEFT|RIGHT|up"),
    (2, "RPOPLPUSH {l} {l}"),
    (2, "LMPOP 2 {l} {l} LEFT|RIGHT ?(COUNT {c})"),
    (1, "BLPOP|BRPOP {l} {l} {t}"),
    (1, "BLMOVE {l} {l} LEFT|RIGHT LEFT|RIGHT {t}"),
    (1, "BRPOPLPUSH {l} {l} {t}"),
    (1, "BLMPOP {t} 2 {l} {l} LEFT|RIGHT ?(COUNT {c})"),
    (6, "HSET|HMSET {h} +({f} {v})"),
    (1, "HSET {h} #300({F} {v})"),
    (3, "HSETNX {h} {f} {v}"),
    (3, "HGET|HEXISTS|HSTRLEN {h} {f}"),
    (2, "HMGET {h} +{f}"),
    (3, "HDEL {h} +{f}"),
    (3, "HLEN|HGETALL|HKEYS|HVALS {h}"),
    (4, "HINCRBY {h} {f} {i}"),
    (4, "HINCRBYFLOAT {h} {f} {d}"),
    (2, "HRANDFIELD {h} ?({c} ?WITHVALUES)"),
    (1, "HRANDFIELD {h} {i} ?WITHVALUES"),
    (2, "HSCAN {h} 0 ?(MATCH {p}) ?(COUNT {c})"),
    (6, "SADD {s} +{m}"),
    (1, "SADD {s} #300{M}"),
    (1, "SADD {s} #300{n}"),
    (3, "SREM {s} +{m}"),
    (3, "SMOVE {s} {s} {m}"),
    (3, "SISMEMBER {s} {m}"),
    (2, "SMISMEMBER {s} +{m}"),
    (3, "SCARD|SMEMBERS {s}"),
    (1, "SPOP {s} ?{c}"),
    (1, "SPOP {s} {c}"),
    (2, "SRANDMEMBER {s} ?{i}"),
    (2, "SSCAN {s} 0 ?(MATCH {p}) ?(COUNT {c})"),
    (4, "SINTER|SUNION|SDIFF {s} ?{s} ?{s}"),
    (3, "SINTERSTORE|SUNIONSTORE|SDIFFSTORE {S} {s} ?{s} ?{s}"),
    (3, "SINTERCARD 2 {s} {s} ?(LIMIT {c})"),
    (8, "ZADD {z} ?NX|XX|GT|LT ?CH ?INCR|GT +({d} {m})"),
    (1, "ZADD {z} #100({i} {M})"),
    (3, "ZINCRBY {z} {d} {m}"),
    (3, "ZREM {z} +{m}"),
    (4, "ZSCORE|ZRANK|ZREVRANK {z} {m}"),
    (2, "ZMSCORE {z} +{m}"),
    (1, "ZCARD {z}"),
    (3, "ZCOUNT {z} {r} {r}"),
    (5, "ZRANGE {z} {i} {i} ?REV ?WITHSCORES"),
    (5, "ZRANGE {z} {r} {r} BYSCORE ?REV ?(LIMIT {i} {i}) ?WITHSCORES"),
    (2, "ZREVRANGE {z} {i} {i} ?WITHSCORES"),
    (3, "ZRANGEBYSCORE|ZREVRANGEBYSCORE {z} {r} {r} ?WITHSCORES ?(LIMIT {i} {i})"),
    (3, "ZRANGESTORE {t1} {z} {r} {r} ?BYSCORE ?REV ?(LIMIT {i} {i})"),
    (1, "ZREMRANGEBYRANK {z} {i} {i}"),
    (1, "ZREMRANGEBYSCORE {z} {r} {r}"),
    (3, "ZADD {y} 0 {m} 0 {m} 0 {m}"),
    (1, "ZADD {y} #50(0 {M})"),
    (3, "ZLEXCOUNT {y} {x} {x}"),
    (3, "ZRANGEBYLEX|ZREVRANGEBYLEX {y} {x} {x} ?(LIMIT {i} {i})"),
    (3, "ZRANGE {y} {x} {x} BYLEX ?REV ?(LIMIT {i} {i})"),
    (1, "ZREMRANGEBYLEX {y} {x} {x}"),
    (2, "ZPOPMIN|ZPOPMAX {z} ?{c}"),
    (2, "ZMPOP 2 {z} {z} MIN|MAX ?(COUNT {c})"),
    (1, "BZPOPMIN|BZPOPMAX {z} {z} {t}"),
    (1, "BZMPOP {t} 2 {z} {z} MIN|MAX ?(COUNT {c})"),
    (2, "ZRANDMEMBER {z} ?({i} ?WITHSCORES)"),
    (2, "ZSCAN {z} 0 ?(MATCH {p}) ?(COUNT {c})"),
    (3, "ZUNION|ZINTER 2 {q} {q} ?(WEIGHTS {d} {d}) ?(AGGREGATE SUM|MIN|MAX|AVG) ?WITHSCORES"),
    (1, "ZUNION|ZINTER 3 {q} {q} {q} ?WITHSCORES"),
    (2, "ZDIFF 2 {q} {q} ?WITHSCORES"),
    (3, "ZUNIONSTORE|ZINTERSTORE {Z} 2 {q} {q} ?(WEIGHTS {d} {d}) ?(AGGREGATE SUM|MIN|MAX)"),
    (2, "ZDIFFSTORE {Z} 2 {q} {q}"),
    (2, "ZINTERCARD 2 {q} {q} ?(LIMIT {c})"),
    (3, "RPUSH {I} +{n}"),
    (2, "SET w_{n} {n}"),
    (1, "SET w_{n} {v}"),
    (2, "HSET hw_{n} a {n} b {v}"),
    (2, "ZADD {Y} {i} {n}"),
    (3, "SORT|SORT_RO {I} ?DESC|ASC ?ALPHA ?(LIMIT {i} {c}) ?(GET w_*) ?(GET #) ?(GET hw_*->b)"),
    (3, "SORT {I} BY w_*|hw_*->a ?DESC ?(LIMIT {i} {c}) ?(GET w_*) ?(STORE {t2})"),
    (1, "SORT {I} BY nosort ?DESC ?(LIMIT {i} {c}) ?(STORE {t2})"),
    (2, "SORT {s} ?ALPHA ?DESC ?(LIMIT {i} {c}) ?(STORE {t2})"),
    (2, "SORT {Y} ?(BY nosort) ?DESC ?(LIMIT {i} {c}) ?(GET #)"),
    (1, "SORT {l} ?ALPHA ?DESC"),
    (3, "DEL {k}"),
    (1, "SET {k} {v}"),
];

pub struct Grammar {
    templates: Vec<(usize, Vec<Node>)>,
    weight: usize,
    keys: Vec<&'static str>,
}

enum Node {
    Word(&'static str),
    Maybe(Vec<Node>),
    Times(usize, Vec<Node>),
}

impl Grammar {
    pub fn new() -> Grammar {
        let templates: Vec<_> = TEMPLATES.iter().map(|(weight, text)| (*weight, parse(text))).collect();
        let weight = templates.iter().map(|(weight, _)| weight).sum();
        let kinds = [LISTS, INTEGERS, HASHES, SETS, SORTED, LEXICAL, SORT_SORTED, TARGETS];
        Grammar { templates, weight, keys: kinds.concat() }
    }

    pub fn keys(&self) -> &[&'static str] {
        &self.keys
    }

    /// Of all commands in the templates.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        TEMPLATES.iter().flat_map(|(_, text)| text.split(' ').next().unwrap_or_default().split('|'))
    }

    pub fn request(&self, random: &mut Random) -> Vec<Vec<u8>> {
        let mut at = random.below(self.weight);
        let (_, nodes) = self
            .templates
            .iter()
            .find(|(weight, _)| {
                let found = at < *weight;
                at = at.wrapping_sub(*weight);
                found
            })
            .expect("the weights sum up");
        let mut words = Vec::new();
        expand(nodes, random, &mut words);
        spoil(random, &mut words);
        words
    }
}

fn parse(text: &'static str) -> Vec<Node> {
    let (mut nodes, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (kind, body) = match rest.as_bytes()[0] {
            b'?' => (Some(0), &rest[1..]),
            b'+' => (Some(1), &rest[1..]),
            b'#' if rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) => {
                let digits = rest[1..].bytes().take_while(u8::is_ascii_digit).count();
                (Some(rest[1..1 + digits].parse().unwrap()), &rest[1 + digits..])
            }
            _ => (None, rest),
        };
        let (inner, after) = match body.strip_prefix('(') {
            Some(inner) => {
                let end = closing(inner);
                (parse(&inner[..end]), inner[end + 1..].trim_start())
            }
            None => {
                let end = body.find(' ').unwrap_or(body.len());
                (vec![Node::Word(&body[..end])], body[end..].trim_start())
            }
        };
        match kind {
            None => nodes.extend(inner),
            Some(0) => nodes.push(Node::Maybe(inner)),
            Some(times) => nodes.push(Node::Times(times, inner)),
        }
        rest = after;
    }
    nodes
}

fn closing(text: &str) -> usize {
    let mut depth = 1;
    for (at, byte) in text.bytes().enumerate() {
        depth += i32::from(byte == b'(') - i32::from(byte == b')');
        if depth == 0 {
            return at;
        }
    }
    panic!("{text}: not closed");
}

fn expand(nodes: &[Node], random: &mut Random, words: &mut Vec<Vec<u8>>) {
    for node in nodes {
        match node {
            Node::Word(word) => words.push(filled(word, random)),
            Node::Maybe(inner) if random.below(3) == 0 => expand(inner, random, words),
            Node::Maybe(_) => {}
            Node::Times(1, inner) => (0..=random.below(4)).for_each(|_| expand(inner, random, words)),
            Node::Times(times, inner) => {
                (0..random.below(*times) + 1).for_each(|_| expand(inner, random, words));
            }
        }
    }
}

fn filled(word: &'static str, random: &mut Random) -> Vec<u8> {
    let choices: Vec<&str> = word.split('|').collect();
    let word = random.pick(&choices);
    let Some((before, name, after)) = word
        .split_once('{')
        .and_then(|(before, rest)| rest.split_once('}').map(|(name, after)| (before, name, after)))
    else {
        return word.as_bytes().to_vec();
    };
    [before.as_bytes(), &value(name, random), after.as_bytes()].concat()
}

fn value(name: &str, random: &mut Random) -> Vec<u8> {
    let text = match name {
        "l" => key(LISTS, random),
        "h" => key(HASHES, random),
        "s" => key(SETS, random),
        "S" => random.pick(SETS).into(),
        "z" => key(SORTED, random),
        "Z" => random.pick(SORTED).into(),
        "y" => random.pick(LEXICAL).into(),
        "Y" => random.pick(SORT_SORTED).into(),
        "q" => key(if random.below(4) == 0 { SETS } else { SORTED }, random),
        "I" => random.pick(INTEGERS).into(),
        "t1" => TARGETS[0].into(),
        "t2" => TARGETS[1].into(),
        "k" => key(if random.below(2) == 0 { SETS } else { TARGETS }, random),
        "v" | "m" | "f" => text(random),
        "F" | "M" => format!("member:{}", random.below(700)),
        "n" => random.below(700).to_string(),
        "i" => (random.below(14) as i64 - 6).to_string(),
        "c" => random.pick(&["0", "1", "2", "3", "5", "10", "100", "1000"]).to_string(),
        "d" => score(random),
        "r" => format!("{}{}", random.pick(&["", "", "("]), score(random)),
        "x" => lexical(random),
        "p" => random.pick(&["*", "m*", "*1", "?", "[a-c]", "member:1*", "nothing"]).to_string(),
        "t" => random.pick(&["0", "1", "0.5", "-1", "x"]).to_string(),
        other => panic!("{{{other}}} means nothing"),
    };
    text.into_bytes()
}

/// Now and then one of another kind.
fn key(own: &[&'static str], random: &mut Random) -> String {
    let all = [LISTS, HASHES, SETS, SORTED].concat();
    match random.below(40) {
        0 => random.pick(&all).to_string(),
        1 => "missing".to_string(),
        _ => random.pick(own).to_string(),
    }
}

fn text(random: &mut Random) -> String {
    match random.below(60) {
        0 => "long".repeat(17),
        1 => "y".repeat(64),
        2 => String::new(),
        3 => "9223372036854775807".into(),
        4..20 => random.below(12).to_string(),
        20..24 => format!("{}.5", random.below(9)),
        24..30 => format!("member:{}", random.below(700)),
        _ => random.pick(&["a", "b", "c", "d", "e", "f", "g", "hello", "01", "-5"]).to_string(),
    }
}

fn score(random: &mut Random) -> String {
    match random.below(30) {
        0 => random.pick(&["inf", "-inf", "+inf", "nan", "1e308", "-1e308", "0x1p3", "5e-324"]).to_string(),
        1..12 => (random.below(20) as i64 - 5).to_string(),
        12..20 => format!("{}.{}", random.below(9), random.below(1000)),
        20..22 => format!("{}", random.next()),
        22..24 => format!("-{}e{}", random.below(1000), random.below(40) as i64 - 20),
        _ => random.below(3).to_string(),
    }
}

fn lexical(random: &mut Random) -> String {
    match random.below(8) {
        0 => "-".into(),
        1 => "+".into(),
        2..5 => format!("[{}", text(random)),
        _ => format!("({}", text(random)),
    }
}

/// Makes one request of twenty a wrong one, or what may be.
fn spoil(random: &mut Random, words: &mut Vec<Vec<u8>>) {
    // Ranges by member are only defined among equal scores: these stay as they are.
    let is_lexical = words[0] == b"ZADD" && LEXICAL.iter().any(|key| words[1] == key.as_bytes());
    match random.below(100) {
        _ if is_lexical => {}
        0 if words.len() > 1 => {
            words.pop();
        }
        1 | 2 => words.push(random.pick(JUNK).as_bytes().to_vec()),
        3 | 4 if words.len() > 2 => {
            let at = 2 + random.below(words.len() - 2);
            words[at] = random.pick(JUNK).as_bytes().to_vec();
        }
        5 => words[0].make_ascii_lowercase(),
        _ => {}
    }
}
