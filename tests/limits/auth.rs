//! What a client may do before it has authenticated, and what is refused to everyone.

use std::time::Duration;

use crate::support::{Client, Daemon, Redis, encode};
use crate::{MIB, assert_memory_below, closes, write_unread};

const PASSWORD: (&str, &str) = ("MADCACHE_SERVER_REQUIREPASS", "open sesame");

/// A client of the daemon and one of a Redis with the same password.
fn both(daemon: &Daemon, redis: &Redis) -> [Client; 2] {
    [daemon.client(), redis.client()]
}

#[test]
fn without_the_password_the_answers_are_those_of_redis() {
    let guarded = Redis::start_with(&["--requirepass", "open sesame"]);
    let redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url(), &[PASSWORD]);
    let before: [&[&str]; 10] = [
        &["GET", "a"],
        &["PING"],
        &["HELLO", "3"],
        &["HELLO"],
        &["SUBSCRIBE", "a"],
        &["MULTI"],
        &["NOSUCH"],
        &["AUTH", "wrong"],
        &["AUTH"],
        &["CLIENT", "ID"],
    ];
    let [mut ours, mut theirs] = both(&daemon, &guarded);
    for request in before {
        let (got, wanted) = (ours.text(request), theirs.text(request));
        assert_eq!(got, wanted, "{request:?}");
        assert!(got.starts_with('-'), "{request:?} before AUTH got {got}");
    }
    assert_eq!(ours.text(&["AUTH", "open sesame"]), "+OK");
    assert_eq!(ours.text(&["SET", "a", "1"]), "+OK");
    assert_eq!(ours.text(&["GET", "a"]), "1");
    // Another connection is not authenticated by this one, nor by what L1 holds.
    let other = daemon.client().text(&["GET", "a"]);
    assert_eq!(other, "-NOAUTH Authentication required.");
    assert!(!daemon.stderr().contains("sesame"), "the log shows a password");
}

#[test]
fn auth_where_no_password_is_set_is_refused_as_redis_does() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let [mut ours, mut theirs] = both(&daemon, &redis);
    for request in [&["AUTH", "any"][..], &["AUTH"], &["AUTH", "nobody", "any"]] {
        assert_eq!(ours.text(request), theirs.text(request), "{request:?}");
    }
}

#[test]
fn before_authentication_requests_are_small() {
    let guarded = Redis::start_with(&["--requirepass", "open sesame"]);
    let redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url(), &[PASSWORD]);
    for bomb in [&b"*11\r\n"[..], b"*1\r\n$16385\r\n"] {
        let [mut ours, mut theirs] = both(&daemon, &guarded);
        ours.send_raw(bomb).unwrap();
        theirs.send_raw(bomb).unwrap();
        let wanted = theirs.read_to_end();
        assert!(wanted.starts_with(b"-ERR Protocol error: unauthenticated"), "{wanted:?}");
        assert_eq!(ours.read_to_end(), wanted);
    }
    // The very size is allowed, and afterwards there are no such limits.
    let mut client = daemon.client();
    let ten: Vec<&str> = ["MGET"].into_iter().chain(["a"; 9]).collect();
    assert!(client.text(&ten).starts_with("-NOAUTH"));
    assert!(client.text(&["AUTH", &"x".repeat(16384)]).starts_with("-WRONGPASS"));
    assert_eq!(client.text(&["AUTH", "open sesame"]), "+OK");
    assert_eq!(client.text(&["ECHO", &"x".repeat(20_000)]).len(), 20_000);
    let eleven: Vec<&str> = ["EXISTS"].into_iter().chain(["a"; 10]).collect();
    assert_eq!(client.text(&eleven), ":0");
}

#[test]
fn what_was_allowed_before_reset_is_refused_behind_it_in_one_pipeline_too() {
    let guarded = Redis::start_with(&["--requirepass", "open sesame"]);
    let redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url(), &[PASSWORD]);
    let mset = encode(&["MSET", "a", "1", "b", "2", "c", "3", "d", "4", "e", "5", "f", "6"]);
    let long = encode(&["SET", "a", &"v".repeat(20_000)]);
    // The last one is answered at once.
    for request in [mset, long, encode(&["AUTH", &"x".repeat(20_000)])] {
        for reset in [&b"RESET\r\n"[..], b"*1\r\n$5\r\nRESET\r\n"] {
            let login = encode(&["AUTH", "open sesame"]);
            let wire = [&login, &request, &request, reset, &request].concat();
            let [ours, theirs] = both(&daemon, &guarded).map(|mut client| {
                client.send_raw(&wire).unwrap();
                let replies: Vec<_> = (0..5).map(|_| client.read_frame()).collect();
                assert!(closes(&client));
                replies
            });
            assert_eq!(ours, theirs);
            assert!(ours[4].starts_with(b"-ERR Protocol error: unauthenticated"), "{:?}", ours[4]);
        }
    }
}

#[test]
fn a_client_that_does_not_authenticate_is_closed_in_time_and_others_are_not() {
    let redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url(), &[PASSWORD, ("MADCACHE_LIMITS_UNAUTH_SECONDS_MAX", "1")]);
    let mut known = daemon.client();
    assert_eq!(known.text(&["AUTH", "open sesame"]), "+OK");
    let (silent, mut half) = (daemon.client(), daemon.client());
    half.send_raw(b"*2\r\n$4\r\nAUTH\r\n$4\r\nx").unwrap();
    assert!(closes(&silent) && closes(&half), "unauthenticated clients stay");
    assert_eq!(known.text(&["PING"]), "+PONG");
}

#[test]
fn a_client_that_does_not_authenticate_cannot_pile_up_output() {
    let redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url(), &[PASSWORD, ("MADCACHE_LIMITS_UNAUTH_SECONDS_MAX", "60")]);
    let before = daemon.process.rss_bytes();
    let client = daemon.client();
    let requests = b"*1\r\n$4\r\nPING\r\n".repeat(2 << 20);
    // Either it is closed, or it is no longer read; what the kernel holds is not the daemon's.
    if let Ok(taken) = write_unread(&client, &requests, Duration::from_millis(500)) {
        assert!(taken < requests.len() || closes(&client), "{taken} bytes of requests were taken");
    }
    assert_memory_below(&daemon, before, 16 * MIB, "output before authentication");
    let mut known = daemon.client();
    assert_eq!(known.text(&["AUTH", "open sesame"]), "+OK");
}

#[test]
fn without_a_password_other_addresses_are_refused_with_the_fix_in_the_message() {
    let redis = Redis::start();
    // An address for documentation, which no machine has: were it not refused, it could not be bound either.
    let mut daemon = Daemon::spawn(&redis.url(), &[("MADCACHE_SERVER_BIND", "192.0.2.1")]);
    let status = daemon.process.wait();
    assert!(!status.success(), "{status}");
    let text = daemon.stderr();
    assert!(text.contains("requirepass") && text.contains("protected_mode"), "{text}");

    let settings = [("MADCACHE_SERVER_BIND", "192.0.2.1"), PASSWORD];
    let mut daemon = Daemon::spawn(&redis.url(), &settings);
    let status = daemon.process.wait();
    assert!(!status.success(), "{status}");
    let text = daemon.stderr();
    assert!(text.contains("192.0.2.1") && !text.contains("sesame"), "{text}");
}

#[test]
fn dangerous_commands_are_refused_by_default_and_the_refusal_names_the_setting() {
    let redis = Redis::start();
    let daemon = Daemon::spawn_as(&redis.url(), &[], |command| {
        command.env_remove("MADCACHE_SERVER_DENY_COMMANDS");
    })
    .ready();
    let mut client = daemon.client();
    let refused: [&[&str]; 11] = [
        &["SHUTDOWN", "NOSAVE"],
        &["shutdown"],
        &["REPLICAOF", "127.0.0.1", "1"],
        &["SLAVEOF", "NO", "ONE"],
        &["FAILOVER"],
        &["SYNC"],
        &["PSYNC", "?", "-1"],
        &["REPLCONF", "ACK", "1"],
        &["DEBUG", "SLEEP", "0"],
        &["MODULE", "LOAD", "/nowhere.so"],
        &["CLUSTER", "RESET"],
    ];
    for request in refused {
        let reply = client.text(request);
        assert!(reply.starts_with("-NOPERM") && reply.contains("deny_commands"), "{request:?}: {reply}");
    }
    assert_eq!(client.call(&["MODULE", "LIST"]), redis.client().call(&["MODULE", "LIST"]));
    // A transaction is no way around it.
    assert_eq!(client.text(&["MULTI"]), "+OK");
    assert!(client.text(&["SHUTDOWN", "NOSAVE"]).starts_with("-NOPERM"));
    assert!(client.text(&["EXEC"]).starts_with("-EXECABORT"));
    assert_eq!(client.text(&["PING"]), "+PONG");

    let open = Daemon::start(&redis);
    assert_eq!(open.client().text(&["DEBUG", "SLEEP", "0"]), "+OK");
}
