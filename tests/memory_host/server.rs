//! Refusals, and the server's own commands where Redis answers something that does not depend on it.

use super::both::in_both_protocols;

#[test]
fn refusals_read_as_in_redis() {
    in_both_protocols(|both| {
        for request in [
            "NOSUCH",
            "NOSUCH a b",
            "nosuch\u{e9} a",
            "GET",
            "get a b",
            "CONFIG",
            "CONFIG NOSUCH x",
            "config get",
            "CONFIG|GET a",
            "OBJECT NOSUCH a",
            "SCRIPT",
            "SCRIPT NOSUCH",
            "MEMORY NOSUCH",
            "COMMAND NOSUCH",
            "SLOWLOG NOSUCH",
            "LATENCY NOSUCH",
            "ACL NOSUCH",
            "PUBSUB",
        ] {
            both.say(request);
        }
        let long = vec![b'x'; 300];
        both.tell("a", &[&long, b"a"]);
        both.tell("a", &[b"nosuch", &long, b"b"]);
        both.tell("a", &[b"nosuch", b"a\r\nb", b"c\0d"]);
    });
}

#[test]
fn the_servers_commands_answer_as_in_redis() {
    in_both_protocols(|both| {
        for request in [
            "PING",
            "PING hi",
            "PING a b",
            "ECHO x",
            "ECHO",
            "SELECT 1",
            "SELECT 16",
            "SELECT x",
            "SELECT -1",
            "SELECT 0",
            "SELECT 99999999999",
            "TIME x",
            "LASTSAVE x",
            "ROLE",
            "WAIT 0 10",
            "WAIT x 1",
            "WAIT 0 x",
            "WAIT 0 -1",
            "MODULE LIST",
            "SLOWLOG RESET",
            "SLOWLOG LEN",
            "SLOWLOG GET",
            "SLOWLOG GET x",
            "SLOWLOG GET -2",
            "LATENCY LATEST",
            "LATENCY HISTORY x",
            "LATENCY RESET",
            "LATENCY GRAPH x",
            "ACL WHOAMI",
            "ACL USERS",
            "ACL LIST",
            "ACL CAT nosuch",
            "DEBUG SLEEP 0",
            "DEBUG NOSUCH",
            "DEBUG ERROR",
            "DEBUG ERROR LOADING",
            "DEBUG SET-ACTIVE-EXPIRE 1",
            "CONFIG SET maxmemory abc",
            "CONFIG SET maxmemory 1gb",
            "CONFIG GET maxmemory",
            "CONFIG SET foo 1",
            "CONFIG SET databases 3",
            "CONFIG SET maxmemory 1 maxmemory 2",
            "CONFIG SET maxmemory-policy foo",
            "CONFIG SET maxmemory-policy allkeys-lru",
            "CONFIG GET maxmemory-policy",
            "CONFIG SET maxmemory",
            "CONFIG SET maxmemory 0 maxmemory-policy",
            "CONFIG GET nosuch",
            "CONFIG GET databases",
            "CONFIG REWRITE",
            "CONFIG RESETSTAT",
            "CONFIG RESETSTAT x",
            "COMMAND COUNT x",
            "COMMAND INFO nosuch",
            "COMMAND DOCS nosuch",
            "COMMAND GETKEYS SET a b",
            "COMMAND GETKEYS NOSUCH a",
            "COMMAND GETKEYS MSET a b c d",
            "COMMAND GETKEYS PING x",
            "COMMAND GETKEYS GET a b",
            "COMMAND GETKEYS EVAL x 2 a b c",
            "COMMAND GETKEYS ZUNIONSTORE d 2 a b",
            "COMMAND GETKEYS SORT a STORE b",
            "COMMAND GETKEYSANDFLAGS GET a",
            "COMMAND GETKEYSANDFLAGS MSET a b c d",
            "COMMAND GETKEYSANDFLAGS LMOVE a b left right",
            "COMMAND GETKEYSANDFLAGS RENAME a b",
            "COMMAND GETKEYSANDFLAGS BITOP AND d a b",
            "COMMAND GETKEYSANDFLAGS ZUNIONSTORE d 2 a b",
            "COMMAND GETKEYSANDFLAGS SINTERSTORE d a b",
            "COMMAND GETKEYSANDFLAGS BLPOP a b 0",
            "COMMAND GETKEYSANDFLAGS EXISTS a b",
            "COMMAND GETKEYSANDFLAGS DEL a",
            "COMMAND GETKEYSANDFLAGS SET a b GET",
            "COMMAND GETKEYSANDFLAGS HSET a b c",
            "COMMAND GETKEYSANDFLAGS LPUSH a b",
            "COMMAND GETKEYSANDFLAGS PING",
            "COMMAND LIST FILTERBY foo x",
            "COMMAND INFO get",
            "COMMAND INFO lpush",
            "COMMAND INFO incr",
            "COMMAND INFO expire",
            "COMMAND INFO nosuch get nosuch",
            "COMMAND LIST FILTERBY MODULE x",
        ] {
            both.say(request);
        }
    });
}
