//! Random requests from templates. A word `$x` becomes a random value of its class, `?a|b` one of the alternatives or
//! nothing, `a|b` one of them; `_` stands for a blank within an alternative. A few requests are broken on purpose.

const LONG: &str = "a:key:of:more:than:twenty:two:bytes";

/// All keys that there can be.
pub const KEYS: &[&str] =
    &["p0", "p1", "p2", "s0", "s1", "s2", "s3", "s4", LONG, "n0", "l0", "h0", "t0", "z0"];

const HYPERLOGLOGS: &[&str] = &["p0", "p1", "p2"];

const TEMPLATES: &[&str] = &[
    "GET $k",
    "GET $k",
    "SET $k $v",
    "SET $k $v",
    "SET $k $v ?NX|XX ?GET ?KEEPTTL|EX_$due|PX_$due|EXAT_$at|PXAT_$at",
    "SET $k $v ?EX_$due|GET ?NX|PX_$due",
    "SETNX $k $v",
    "SETEX $k $due $v",
    "PSETEX $k $due $v",
    "GETSET $k $v",
    "GETDEL $k",
    "GETEX $k ?PERSIST|EX_$due|PX_$due|EXAT_$at|PXAT_$at",
    "MGET $k $k $k",
    "MSET $k $v $k $v",
    "MSETNX $k $v $k $v",
    "APPEND $k $v",
    "STRLEN $k",
    "GETRANGE $k $i $i",
    "SUBSTR $k $i $i",
    "SETRANGE $k $o $v",
    "INCR $k",
    "DECR $k",
    "INCRBY $k $n",
    "DECRBY $k $n",
    "INCRBYFLOAT $k $f",
    "LCS $k $k ?LEN|IDX ?MINMATCHLEN_$i ?WITHMATCHLEN|IDX",
    "SETBIT $k $bit 0|1",
    "SETBIT $k $bit $n",
    "GETBIT $k $bit",
    "BITCOUNT $k",
    "BITCOUNT $k $i $i ?BIT|BYTE",
    "BITPOS $k 0|1 ?$i ?$i ?BIT|BYTE",
    "BITOP AND|OR|XOR|NOT $k $k ?$k ?$k",
    "BITOP NOT $k $k",
    "BITFIELD $k ?GET_$field_$place ?OVERFLOW_WRAP|OVERFLOW_SAT|OVERFLOW_FAIL ?INCRBY_$field_$place_$n ?SET_$field_$place_$n ?GET_$field_$place",
    "BITFIELD $k ?SET_$field_$place_$n ?OVERFLOW_FAIL|OVERFLOW_SAT|OVERFLOW_x ?INCRBY_$field_$place_$n|GET_$field_$place",
    "BITFIELD_RO $k ?GET_$field_$place ?GET_$field_$place ?SET_$field_$place_1",
    "PFADD $p $e",
    "PFADD $p $e",
    "PFADD $p",
    "PFCOUNT $p",
    "PFCOUNT $p $p",
    "PFMERGE $p $p $p",
    "PFDEBUG ENCODING|TODENSE|DECODE|NOTHING $p",
    "SET $p $v",
    "SET n0 $v",
    "GET $p",
    "STRLEN $p",
    "BITCOUNT $p $i $i ?BIT|BYTE",
    "BITPOS $p 0|1 $i $i ?BIT|BYTE",
    "GETRANGE $p $i $i",
    "RENAME|RENAMENX $p $p",
    "COPY $p $p ?REPLACE",
    "DEL $p",
    "OBJECT ENCODING $p",
    "DEL $k ?$k",
    "UNLINK $k ?$k",
    "EXISTS $k $k ?$k",
    "TOUCH $k $k",
    "TYPE $k",
    "EXPIRE|PEXPIRE $k $due ?NX|XX|GT|LT ?XX|GT|LT|NX|x",
    "EXPIREAT|PEXPIREAT $k $at ?NX|XX|GT|LT",
    "PERSIST $k",
    "TTL|PTTL|EXPIRETIME|PEXPIRETIME $k",
    "RENAME $k $k",
    "RENAMENX $k $k",
    "COPY $k $k ?DB_$db ?REPLACE",
    "MOVE $k $db",
    "KEYS $pattern",
    "SCAN 0 COUNT 100000 ?MATCH_$pattern ?TYPE_string|TYPE_hash|TYPE_x|type_LIST",
    "RANDOMKEY",
    "OBJECT ENCODING|REFCOUNT|IDLETIME|FREQ $k",
    "MEMORY USAGE $k ?SAMPLES_$i",
    "LPUSH l0 a",
    "HSET h0 f v",
    "SADD t0 a",
    "ZADD z0 1 a",
];

/// Now and then one of these.
const RARE: &[&str] = &[
    "FLUSHDB ?ASYNC|SYNC",
    "FLUSHALL ?ASYNC|SYNC|x",
    "SWAPDB $db $db",
    "SELECT 0|1|2",
    "PFDEBUG GETREG $p",
    "DBSIZE",
];

/// The commands that are asked.
pub fn names() -> impl Iterator<Item = &'static str> {
    let first = |template: &'static str| template.split(' ').next().unwrap_or_default().split('|');
    TEMPLATES.iter().chain(RARE).flat_map(move |template| first(template))
}

/// A broken request has one of these for one of its words. None is a time so short that the two clocks disagree.
const ODD: &[&str] = &[
    "",
    "x",
    "-1",
    "0",
    "100000",
    "-",
    "1.5",
    "+1",
    " 1",
    "9223372036854775808",
    "-9223372036854775808",
    "99999999999",
    "NX",
    "\r\n",
    "EX",
    "2147483648",
    "#1",
    "u8",
    "i65",
    "inf",
    "nan",
    "0x10",
];

pub struct Request {
    pub arguments: Vec<Vec<u8>>,
    pub is_broken: bool,
}

impl Request {
    pub fn of(words: &[&str]) -> Request {
        Request { arguments: words.iter().map(|word| word.as_bytes().to_vec()).collect(), is_broken: false }
    }
}

impl Request {
    /// Looks at every key that there may be. Before, the two may have removed different ones of those that expired.
    pub fn of_all_names() -> Request {
        let names = KEYS.iter().chain(ODD).chain(&["none"]);
        Request::of(&["EXISTS"].iter().chain(names).copied().collect::<Vec<_>>())
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.arguments.iter().try_for_each(|argument| write!(f, "\"{}\" ", argument.escape_ascii()))
    }
}

/// The same ones for the same seed.
pub struct Requests {
    state: u64,
    /// What still comes before the next random one.
    planned: Vec<Request>,
}

impl Requests {
    pub fn new(seed: u64) -> Requests {
        Requests { state: seed, planned: Vec::new() }
    }

    pub fn next(&mut self) -> Request {
        if let Some(request) = self.planned.pop() {
            return request;
        }
        let template = if self.one_in(150) { self.pick(RARE) } else { self.pick(TEMPLATES) };
        let mut arguments = Vec::new();
        template.split(' ').for_each(|part| self.expand(part, &mut arguments));
        // SELECT is not the engine's.
        let is_broken = self.one_in(25) && arguments[0] != b"SELECT";
        if is_broken {
            self.break_one(&mut arguments);
        }
        let request = Request { arguments, is_broken };
        if request.arguments[0] == b"DBSIZE" {
            self.planned.push(request);
            return Request::of_all_names();
        }
        request
    }

    fn expand(&mut self, part: &str, arguments: &mut Vec<Vec<u8>>) {
        let part = match part.strip_prefix('?') {
            Some(_) if self.one_in(2) => return,
            Some(part) => part,
            None => part,
        };
        let alternatives: Vec<&str> = part.split('|').collect();
        let chosen = self.pick(&alternatives);
        match chosen {
            "BITFIELD_RO" => arguments.push(chosen.into()),
            _ => chosen.split('_').for_each(|word| self.push_word(word, arguments)),
        }
    }

    fn push_word(&mut self, word: &str, arguments: &mut Vec<Vec<u8>>) {
        let argument = match word {
            "$k" => self.key(),
            "$p" if self.one_in(30) => self.pick(&["l0", "n0", "none"]).into(),
            "$p" => self.pick(HYPERLOGLOGS).into(),
            "$v" => self.value(),
            "$i" => self.index(),
            "$n" => self.number(),
            "$f" => self.float(),
            "$o" => self.small_or(300, &["-1", "536870912", "x"]),
            "$bit" => self.small_or(2000, &["4294967296", "-1", "x", "#3"]),
            "$place" => self.place(),
            "$field" => self.field(),
            "$due" => self.due(),
            "$at" => self
                .pick(&[
                    "1",
                    "-1",
                    "0",
                    "9999999999",
                    "9999999999999",
                    "99999999999",
                    "9223372036854775807",
                    "x",
                ])
                .into(),
            "$db" => self.pick(&["0", "1", "2", "1", "2", "16", "-1", "x"]).into(),
            "$pattern" => {
                self.pick(&["*", "s*", "?0", "[sp]1", "[^s]*", "s[0-2]", "\\s1", "none", "*o*", ""]).into()
            }
            "$e" => {
                let most = if self.one_in(10) { 400 } else { 6 };
                let count = 1 + self.below(most);
                let elements = (0..count).map(|_| format!("e{}", self.below(20_000)).into_bytes());
                return arguments.extend(elements.collect::<Vec<_>>());
            }
            literal => literal.into(),
        };
        arguments.push(argument);
    }

    /// No HyperLogLog: what becomes of one that was written over is nobody's business.
    fn key(&mut self) -> Vec<u8> {
        let range = if self.one_in(4) { &KEYS[3..] } else { &KEYS[3..9] };
        if self.one_in(40) { b"none".to_vec() } else { self.pick(range).into() }
    }

    fn value(&mut self) -> Vec<u8> {
        match self.below(6) {
            0 => self.number(),
            1 => self.float(),
            2 => {
                let len = self.below(80);
                (0..len).map(|_| self.below(256) as u8).collect()
            }
            3 => self.pick(&["", "0", "10", "a", "\0", "\u{ff}", "HYLL"]).into(),
            _ => {
                let len = self.below(30);
                (0..len).map(|_| b'a' + self.below(3) as u8).collect()
            }
        }
    }

    fn number(&mut self) -> Vec<u8> {
        let edges = [
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "-1",
            "0",
            "1",
            "-0",
            "007",
            " 1",
            "x",
            "255",
            "-129",
        ];
        if self.one_in(2) {
            return self.pick(&edges).into();
        }
        let size = self.below(62);
        (self.below(1 << size) as i64 - (1i64 << size >> 1)).to_string().into_bytes()
    }

    fn float(&mut self) -> Vec<u8> {
        let edges = [
            "0.1", "-0.1", "3.0e3", "1e-5", "5", "10.50", "x", "nan", "inf", "-inf", "1e20", "0x1p3",
            "1e400", ".5", " 1", "1 ",
        ];
        if self.one_in(2) {
            return self.pick(&edges).into();
        }
        let digits = self.below(1_000_000_000) as f64;
        let value = digits / 10f64.powi(self.below(9) as i32);
        if self.one_in(2) { value.to_string().into_bytes() } else { (-value).to_string().into_bytes() }
    }

    fn index(&mut self) -> Vec<u8> {
        let edges = ["9223372036854775807", "-9223372036854775808", "x"];
        if self.one_in(12) {
            return self.pick(&edges).into();
        }
        (self.below(120) as i64 - 60).to_string().into_bytes()
    }

    fn due(&mut self) -> Vec<u8> {
        let edges =
            ["0", "-1", "-100000", "x", "9223372036854775807", "9223372036854775", "-9223372036854775808"];
        if self.one_in(3) {
            return self.pick(&edges).into();
        }
        // Far enough apart and away that the two clocks agree on what is later.
        (100_000 * (1 + self.below(1_000_000))).to_string().into_bytes()
    }

    fn small_or(&mut self, bound: u64, edges: &[&str]) -> Vec<u8> {
        if self.one_in(20) { self.pick(edges).into() } else { self.below(bound).to_string().into_bytes() }
    }

    fn place(&mut self) -> Vec<u8> {
        let place = self.small_or(200, &["4294967296", "-1", "x"]);
        if self.one_in(3) { [b"#".as_slice(), &place].concat() } else { place }
    }

    fn field(&mut self) -> Vec<u8> {
        if self.one_in(20) {
            return self.pick(&["u64", "i65", "u0", "i", "x8", "u63", "i64", "I8"]).into();
        }
        let kind = self.pick(&["i", "u"]);
        format!("{kind}{}", 1 + self.below(63)).into_bytes()
    }

    fn break_one(&mut self, arguments: &mut Vec<Vec<u8>>) {
        let at = self.below(arguments.len() as u64) as usize;
        match self.below(3) {
            0 if arguments.len() > 1 => drop(arguments.pop()),
            1 if at > 0 => arguments[at] = self.pick(ODD).into(),
            _ => {
                let odd = self.pick(ODD).into();
                arguments.push(odd);
            }
        }
    }

    fn pick<'a>(&mut self, among: &[&'a str]) -> &'a str {
        among[self.below(among.len() as u64) as usize]
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// SplitMix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}
