//! MULTI, EXEC, WATCH.

use super::both::in_both_protocols;

#[test]
fn transactions_answer_as_redis_does() {
    in_both_protocols(|both| {
        for request in [
            "MULTI",
            "MULTI",
            "SET a 1",
            "GET a",
            "LPUSH a x",
            "SET a",
            "EXEC",
            "MULTI",
            "SET a 1",
            "GET a",
            "LPUSH a x",
            "EXEC",
            "EXEC",
            "DISCARD",
            "MULTI",
            "DISCARD",
            "EXEC",
            "MULTI",
            "WATCH a",
            "EXEC",
            "MULTI",
            "NOSUCH x",
            "EXEC",
            "MULTI",
            "EXEC x",
            "EXEC",
            "EXEC x",
            "MULTI",
            "PING",
            "SELECT 3",
            "SET b 1",
            "EXEC",
            "GET b",
            "SELECT 0",
            "GET b",
            "MULTI",
            "SUBSCRIBE c",
            "UNSUBSCRIBE",
            "EXEC",
            "MULTI",
            "BLPOP nolist 0",
            "BRPOPLPUSH x y 0",
            "BLMPOP 0 1 k LEFT",
            "BZPOPMIN z 0",
            "EXEC",
            "MULTI",
            "EVAL return{KEYS[1],1} 1 k",
            "MULTI",
            "EXEC",
            "WATCH",
            "UNWATCH x",
            "MULTI x",
            "DISCARD x",
            "WATCH a",
            "SET a 2",
            "MULTI",
            "GET a",
            "EXEC",
            "MULTI",
            "GET a",
            "EXEC",
            "WATCH a",
            "SET a 2",
            "UNWATCH",
            "MULTI",
            "GET a",
            "EXEC",
            "WATCH a",
            "MULTI",
            "DISCARD",
            "SET a 3",
            "MULTI",
            "GET a",
            "EXEC",
        ] {
            both.say(request);
        }
    });
}

#[test]
fn a_watched_key_that_another_changes_ends_the_transaction() {
    in_both_protocols(|both| {
        for (change, watched) in [
            ("SET a 1", "a"),
            ("SET b 1", "a"),
            ("DEL a", "a"),
            ("DEL a", "a"),
            ("FLUSHALL", "a"),
            ("SET a 1", "a b c"),
            ("FLUSHDB", "a"),
            ("GET a", "a"),
            ("EVAL return(redis.call('SET','a','x')) 0", "a"),
            ("EXPIRE a 100", "a"),
        ] {
            both.say(&format!("WATCH {watched}"));
            both.say_as("other", change);
            both.say("MULTI");
            both.say("SET seen 1");
            both.say("EXEC");
        }
    });
}

#[test]
fn full_memory_is_refused_as_in_redis() {
    in_both_protocols(|both| {
        for request in [
            "SET a x",
            "CONFIG SET maxmemory 1",
            "SET a y",
            "GET a",
            "DEL nosuch",
            "MULTI",
            "SET a y",
            "GET a",
            "EXEC",
            "MULTI",
            "GET a",
            "EXEC",
            "DISCARD",
        ] {
            both.say(request);
        }
        both.tell("q", &[b"MULTI"]);
        both.say("CONFIG SET maxmemory 0");
        both.tell("q", &[b"SET", b"a", b"z"]);
        both.say("CONFIG SET maxmemory 1");
        both.tell("q", &[b"EXEC"]);
        for script in [
            "return redis.call('set','a','b')",
            "return redis.pcall('set','a','b')",
            "return redis.call('get','a')",
            "redis.call('del','a') return redis.call('set','a','b')",
            "#!lua\nreturn 1",
            "#!lua flags=allow-oom\nreturn redis.call('set','a','b')",
            "#!lua flags=no-writes\nreturn 1",
        ] {
            both.eval(script);
        }
    });
}
