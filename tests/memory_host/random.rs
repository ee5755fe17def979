//! Random requests of several connections: transactions, watched keys, databases, scripts and messages, mixed. The keys'
//! own commands have tests of their own. `MEMORY_HOST_REQUESTS` asks for more, `MEMORY_HOST_SEED` replays.

use super::both::{Both, in_both_protocols};

const REQUESTS: u64 = 12_000;

const ASKERS: [&str; 3] = ["a", "b", "c"];
const LISTENERS: [&str; 2] = ["s", "t"];

/// `$k` is a key, `$v` a value, `$c` a channel, `$n` a database, `$p` a pattern.
const REQUESTS_OF_ASKERS: &[&str] = &[
    "MULTI",
    "MULTI",
    "EXEC",
    "EXEC",
    "EXEC",
    "DISCARD",
    "WATCH $k",
    "WATCH $k $k",
    "UNWATCH",
    "SET $k $v",
    "SET $k $v",
    "SET $k $v KEEPTTL",
    "GET $k",
    "GET $k",
    "INCR $k",
    "APPEND $k $v",
    "DEL $k $k",
    "EXISTS $k $k",
    "TYPE $k",
    "RENAME $k $k",
    "MOVE $k $n",
    "COPY $k $k DB $n",
    "LPUSH $k $v",
    "LRANGE $k 0 -1",
    "HSET $k f $v",
    "HGETALL $k",
    "SADD $k $v",
    "SCARD $k",
    "ZADD $k 1 $v",
    "ZSCORE $k $v",
    "PFADD $k $v",
    "PFCOUNT $k",
    "SETBIT $k 3 1",
    "PERSIST $k",
    "TTL $k",
    "DBSIZE",
    "SELECT $n",
    "SELECT 99",
    "FLUSHDB",
    "SWAPDB 0 1",
    "PUBLISH $c $v",
    "PUBLISH $c $v",
    "SPUBLISH $c $v",
    "PUBSUB NUMSUB $c $c",
    "PUBSUB NUMPAT",
    "PUBSUB SHARDNUMSUB $c",
    "PING",
    "ECHO $v",
    "GET",
    "NOSUCH $k",
    "SET $k",
    "EVALSHA ffffffffffffffffffffffffffffffffffffffff 0",
    "SCRIPT EXISTS ffffffffffffffffffffffffffffffffffffffff",
    "BLPOP $k 0 x",
];

/// With one key and one argument.
const SCRIPTS: &[&str] = &[
    "return redis.call('set', KEYS[1], ARGV[1])",
    "return redis.call('get', KEYS[1])",
    "return {redis.call('type', KEYS[1]), redis.call('exists', KEYS[1])}",
    "redis.call('set', KEYS[1], 1) return redis.call('lpush', KEYS[1], 'x')",
    "return redis.pcall('incr', KEYS[1])",
    "redis.call('select', 1) return redis.call('set', KEYS[1], ARGV[1])",
    "redis.call('publish', 'one', ARGV[1]) return redis.call('publish', 'two', ARGV[1])",
    "return redis.call('nosuch')",
    "return redis.call('get')",
    "return redis.call('multi')",
    "redis.setresp(3) return redis.call('hgetall', KEYS[1])",
    "return cjson.encode({KEYS[1], ARGV[1]})",
    "return redis.error_reply('MINE no')",
    "error('mine')",
    "return {1, {2, {ok = 'x'}}, false, 'end'}",
];

/// Patterns that fit the same channel, and all that a listener leaves at once, Redis takes in the order of a hash table: there
/// are none of these.
const REQUESTS_OF_LISTENERS: &[&str] = &[
    "SUBSCRIBE $c",
    "SUBSCRIBE $c $c",
    "UNSUBSCRIBE $c",
    "PSUBSCRIBE $p",
    "PUNSUBSCRIBE $p",
    "SSUBSCRIBE $c",
    "SUNSUBSCRIBE $c",
    "PING",
    "PING hi",
    "GET",
];

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn pick(&mut self, among: &[&'static str]) -> &'static str {
        among[self.below(among.len() as u64) as usize]
    }

    fn word(&mut self, word: &str) -> Vec<u8> {
        let chosen = match word {
            "$k" => self.pick(&["k0", "k1", "k2", "k3", "k4", "k5"]),
            "$v" => self.pick(&["v", "7", "-3", "w", "99999999999999999999"]),
            "$c" => self.pick(&["one", "two", "three"]),
            "$p" => self.pick(&["o*", "t[wx]o", "thr*"]),
            "$n" => self.pick(&["0", "0", "0", "1"]),
            literal => literal,
        };
        chosen.into()
    }

    fn request(&mut self, templates: &[&'static str]) -> Vec<Vec<u8>> {
        self.pick(templates).split(' ').map(|word| self.word(word)).collect()
    }
}

fn converse(both: &mut Both, seed: u64, requests: u64) {
    let mut random = Random(seed);
    for _ in 0..requests {
        let (name, request) = match random.below(12) {
            0 => (random.pick(&LISTENERS), random.request(REQUESTS_OF_LISTENERS)),
            1 => {
                let script: Vec<u8> = random.pick(SCRIPTS).into();
                let (key, value) = (random.word("$k"), random.word("$v"));
                (random.pick(&ASKERS), vec![b"EVAL".to_vec(), script, b"1".to_vec(), key, value])
            }
            _ => (random.pick(&ASKERS), random.request(REQUESTS_OF_ASKERS)),
        };
        let words: Vec<&[u8]> = request.iter().map(Vec::as_slice).collect();
        both.tell(name, &words);
        both.receive_all();
        both.check(seed);
    }
}

#[test]
fn conversations_of_several_connections_are_those_that_redis_has() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let requests = setting("MEMORY_HOST_REQUESTS").unwrap_or(REQUESTS);
    let seed = setting("MEMORY_HOST_SEED").unwrap_or(3);
    in_both_protocols(|both| converse(both, seed, requests / 2));
}
