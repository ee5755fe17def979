//! RESP3 replies of a real Redis, converted, are the RESP2 replies of the same Redis, byte for byte.
mod support;

use madcache::command::Shape;
use madcache::resp::resp3_to_resp2;
use support::{Client, Redis};

/// What the keys `string`, `hash`, `list`, `set`, `zset`, `geo`, `stream` hold; `none` is missing.
const KEYS: [&str; 10] = [
    "SET string 0123456789",
    "SET number 42",
    "HSET hash a 1 b 2 empty ''",
    "RPUSH list a b c a",
    "SADD set a",
    "SADD ints 1 2 3",
    "ZADD zset 1 a 2.5 b inf c -inf d 1e-7 e 123456789012345678 f 0.1 g",
    "GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
    "XADD stream 1-1 a 1 b 2",
    "XADD stream 2-1 c 3",
];

/// Every cacheable read, with `K` for the key. Each is asked of every key above and of a missing one.
const READS: &[(Shape, &[&str])] = &[
    (
        Shape::Plain,
        &[
            "GET K",
            "STRLEN K",
            "GETRANGE K 1 3",
            "SUBSTR K 0 -1",
            "GETBIT K 7",
            "BITCOUNT K",
            "BITCOUNT K 0 1 BIT",
            "BITPOS K 1",
            "BITFIELD_RO K",
            "BITFIELD_RO K GET u8 0 GET i16 100",
            "HGET K a",
            "HGET K x",
            "HMGET K a x empty",
            "HGETALL K",
            "HKEYS K",
            "HVALS K",
            "HLEN K",
            "HEXISTS K a",
            "HEXISTS K x",
            "HSTRLEN K a",
            "LRANGE K 0 -1",
            "LRANGE K 5 9",
            "LINDEX K 0",
            "LINDEX K 9",
            "LLEN K",
            "LPOS K a",
            "LPOS K x",
            "LPOS K a COUNT 0",
            "LPOS K x COUNT 0",
            "SMEMBERS K",
            "SISMEMBER K a",
            "SISMEMBER K x",
            "SMISMEMBER K a x",
            "SCARD K",
            "ZSCORE K a",
            "ZSCORE K x",
            "ZSCORE K c",
            "ZSCORE K d",
            "ZSCORE K f",
            "ZMSCORE K a x e g",
            "ZRANK K a",
            "ZRANK K x",
            "ZREVRANK K a",
            "ZREVRANK K x",
            "ZCARD K",
            "ZCOUNT K -inf +inf",
            "ZLEXCOUNT K - +",
            "ZRANGEBYLEX K - +",
            "ZREVRANGEBYLEX K + -",
            "GEODIST K Palermo Catania",
            "GEODIST K Palermo x",
            "GEODIST K Palermo Catania km",
            "GEOHASH K Palermo x",
            "GEOSEARCH K FROMLONLAT 15 37 BYRADIUS 200 km ASC",
            "GEOSEARCH K FROMLONLAT 15 37 BYBOX 400 400 km ASC COUNT 1 WITHCOORD WITHDIST WITHHASH",
            "GEOSEARCH K FROMLONLAT 15 37 BYRADIUS 1 m WITHCOORD",
            "TYPE K",
            "XLEN K",
            "XRANGE K - +",
            "XRANGE K - + COUNT 1",
            "XRANGE K 9 +",
            "XREVRANGE K + -",
            "MGET K none K",
            "EXISTS K none",
        ],
    ),
    (
        Shape::Scores,
        &[
            "ZRANGE K 0 -1",
            "ZRANGE K 0 -1 WITHSCORES",
            "ZRANGE K 5 1 WITHSCORES",
            "ZRANGE K 0 -1 REV WITHSCORES",
            "ZRANGE K 0 9 BYSCORE",
            "ZRANGE K -inf +inf BYSCORE LIMIT 0 2 WITHSCORES",
            "ZRANGE K - + BYLEX",
            "ZREVRANGE K 0 -1",
            "ZREVRANGE K 0 -1 WITHSCORES",
            "ZRANGEBYSCORE K 0 9",
            "ZRANGEBYSCORE K -inf +inf WITHSCORES LIMIT 1 3",
            "ZREVRANGEBYSCORE K 9 0",
            "ZREVRANGEBYSCORE K +inf -inf WITHSCORES",
        ],
    ),
    (Shape::NullArrays, &["GEOPOS K", "GEOPOS K Palermo", "GEOPOS K x", "GEOPOS K x Palermo y Catania"]),
];

fn words<'a>(line: &'a str, key: &'a str) -> Vec<&'a str> {
    line.split(' ').map(|word| if word == "K" { key } else { word }).collect()
}

fn assert_converts(resp2: &mut Client, resp3: &mut Client, args: &[&str], shape: Shape) {
    let expected = resp2.call(args);
    let frame = resp3.call(args);
    let mut found = Vec::new();
    let result = resp3_to_resp2(&frame, shape, &mut found);
    assert_eq!(result, Ok(()), "{args:?}: {}", frame.escape_ascii());
    assert_eq!(
        found.escape_ascii().to_string(),
        expected.escape_ascii().to_string(),
        "{args:?}: {}",
        frame.escape_ascii()
    );
}

#[test]
fn every_cacheable_read_converts_to_the_very_bytes_of_resp2() {
    let redis = Redis::start();
    let (mut resp2, mut resp3) = (redis.client(), redis.client());
    assert!(resp3.call(&["HELLO", "3"]).starts_with(b"%"));
    let mut keys = vec!["none"];
    for line in KEYS {
        let args: Vec<&str> = line.split(' ').map(|word| if word == "''" { "" } else { word }).collect();
        let reply = resp2.call(&args);
        assert!(!reply.starts_with(b"-"), "{line}: {}", reply.escape_ascii());
        if !keys.contains(&args[1]) {
            keys.push(args[1]);
        }
    }
    for (shape, reads) in READS {
        for read in *reads {
            for key in &keys {
                assert_converts(&mut resp2, &mut resp3, &words(read, key), *shape);
            }
        }
    }
}

/// DEBUG PROTOCOL answers with one reply of each type that RESP3 has.
#[test]
fn every_type_that_redis_can_write_converts() {
    let redis = Redis::start();
    let (mut resp2, mut resp3) = (redis.client(), redis.client());
    assert!(resp3.call(&["HELLO", "3"]).starts_with(b"%"));
    for kind in
        ["string", "integer", "double", "null", "array", "set", "map", "bignum", "verbatim", "true", "false"]
    {
        assert_converts(&mut resp2, &mut resp3, &["DEBUG", "PROTOCOL", kind], Shape::Plain);
    }
}
