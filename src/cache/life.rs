//! How long a reply may live in L1: never longer than its key in L2, and only if it is what the key's owner said.

use std::time::Duration;

/// The bounds that configuration and rules set for one key.
#[derive(Clone, Copy, Debug)]
pub struct LifeLimits {
    pub ttl: Duration,
    /// For replies that say that there is no such key.
    pub negative_ttl: Duration,
    pub stale_ms_max: u32,
    /// 0 to 100: lives are shortened by up to so much, so that entries do not end together.
    pub jitter_percent: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    pub time: Duration,
    pub stale_ms_max: u32,
}

/// What L2 answers to `command` where the key is missing, if that can be told from the reply's first bytes.
fn says_missing(command: &str, reply: &[u8]) -> bool {
    match command {
        "GET" | "MGET" | "HGET" | "LINDEX" | "LPOS" | "ZSCORE" | "ZRANK" | "ZREVRANK" => {
            matches!(reply, b"$-1\r\n" | b"_\r\n" | b"*-1\r\n")
        }
        "STRLEN" | "GETBIT" | "BITCOUNT" | "HLEN" | "HEXISTS" | "HSTRLEN" | "LLEN" | "SISMEMBER"
        | "SCARD" | "ZCARD" | "ZCOUNT" | "ZLEXCOUNT" | "XLEN" | "EXISTS" => reply == b":0\r\n",
        "GETRANGE" | "SUBSTR" => reply == b"$0\r\n\r\n",
        "TYPE" => reply == b"+none\r\n",
        "HGETALL" | "HKEYS" | "HVALS" | "LRANGE" | "SMEMBERS" | "ZRANGE" | "ZRANGEBYSCORE"
        | "ZRANGEBYLEX" | "ZREVRANGE" | "ZREVRANGEBYSCORE" | "ZREVRANGEBYLEX" | "XRANGE" | "XREVRANGE" => {
            matches!(reply, b"*0\r\n" | b"~0\r\n" | b"%0\r\n")
        }
        "SESSION.VALIDATE" => reply == b"_\r\n",
        _ => false,
    }
}

/// `pttl_ms` is L2's PTTL of the key, read right behind the reply; `random` is any number.
/// `None`: not to be stored.
pub fn life(command: &str, reply: &[u8], pttl_ms: i64, limits: &LifeLimits, random: u64) -> Option<Life> {
    let cap = match pttl_ms {
        // The key was gone when its PTTL was read: only a reply that says the same may stay.
        -2 if says_missing(command, reply) => limits.negative_ttl,
        -2 => return None,
        _ => limits.ttl,
    };
    let cut = cap * (random % (limits.jitter_percent + 1)) as u32 / 100;
    let jittered = cap - cut;
    let time = if pttl_ms >= 0 { jittered.min(Duration::from_millis(pttl_ms as u64)) } else { jittered };
    (!time.is_zero()).then_some(Life { time, stale_ms_max: limits.stale_ms_max })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: LifeLimits = LifeLimits {
        ttl: Duration::from_secs(100),
        negative_ttl: Duration::from_secs(5),
        stale_ms_max: 0,
        jitter_percent: 10,
    };

    fn seconds(command: &str, reply: &[u8], pttl_ms: i64, random: u64) -> Option<f64> {
        life(command, reply, pttl_ms, &LIMITS, random).map(|life| life.time.as_secs_f64())
    }

    #[test]
    fn an_entry_never_outlives_its_key() {
        assert_eq!(seconds("GET", b"$1\r\nx\r\n", 1500, 0), Some(1.5));
        assert_eq!(seconds("GET", b"$1\r\nx\r\n", 0, 0), None);
    }

    #[test]
    fn a_value_whose_key_is_gone_is_not_stored() {
        assert_eq!(seconds("GET", b"$1\r\nx\r\n", -2, 0), None);
        assert_eq!(seconds("ZRANK", b":0\r\n", -2, 0), None, "rank 0 is no missing key");
        assert_eq!(seconds("BITPOS", b":0\r\n", -2, 0), None);
    }

    #[test]
    fn a_missing_key_is_remembered_for_a_short_time() {
        assert_eq!(seconds("GET", b"$-1\r\n", -2, 0), Some(5.0));
        assert_eq!(seconds("SCARD", b":0\r\n", -2, 0), Some(5.0));
    }

    #[test]
    fn the_cache_ttl_is_shortened_by_at_most_the_jitter() {
        assert_eq!(seconds("GET", b"$1\r\nx\r\n", -1, 10), Some(90.0));
        assert_eq!(seconds("GET", b"$1\r\nx\r\n", -1, 11), Some(100.0));
    }
}
