//! SIGTERM: what was sent to Redis is answered, and the daemon ends with code 0 in time.

use std::time::{Duration, Instant};

use crate::busy_script;
use crate::support::{Client, Daemon, PATIENCE, Redis, encode, eventually};

/// Increments in pipelines until the connection ends; how many replies came.
fn increment_until_closed(port: u16, key: &str) -> u64 {
    const PIPELINE: usize = 16;
    let mut client = Client::connect(port);
    let wire = encode(&["INCR", key]).repeat(PIPELINE);
    let mut replies = 0;
    loop {
        let sent = client.send_raw(&wire).is_ok();
        for _ in 0..PIPELINE {
            match client.try_read_frame() {
                Ok(reply) => {
                    replies += 1;
                    assert_eq!(reply, format!(":{replies}\r\n").as_bytes());
                }
                Err(e) => {
                    assert_ne!(e.kind(), std::io::ErrorKind::WouldBlock, "neither a reply nor the end");
                    return replies;
                }
            }
        }
        assert!(sent, "a connection that takes no requests gave replies to them");
    }
}

#[test]
fn sigterm_under_load_leaves_nothing_unanswered_that_was_sent() {
    let redis = Redis::start();
    let mut l2 = redis.client();
    for round in 0..5 {
        let mut daemon = Daemon::start(&redis);
        let port = daemon.port;
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..8)
                .map(|n| {
                    scope.spawn(move || {
                        let key = format!("count:{round}:{n}");
                        (increment_until_closed(port, &key), key)
                    })
                })
                .collect();
            let busy = format!("count:{round}:0");
            eventually("the load is under way", || {
                l2.text(&["GET", &busy]).parse::<u64>().is_ok_and(|n| n > 500)
            });
            daemon.process.signal("TERM");
            let begin = Instant::now();
            let status = daemon.process.wait();
            assert_eq!(status.code(), Some(0), "{status}: {}", daemon.stderr());
            println!("faults: drained under load in {} ms", begin.elapsed().as_millis());
            for client in clients {
                let (replies, key) = client.join().unwrap();
                assert_eq!(
                    l2.text(&["GET", &key]),
                    replies.to_string(),
                    "{key}: executed, and replies received"
                );
            }
        });
    }
}

#[test]
fn waiting_idle_and_half_written_clients_do_not_keep_the_daemon_from_ending() {
    let redis = Redis::start();
    let mut daemon = Daemon::start_with(&redis.url(), &[("MADCACHE_SERVER_DRAIN_SECONDS", "1")]);
    let (mut waiting, mut listening, mut idle, mut half, mut watching) =
        (daemon.client(), daemon.client(), daemon.client(), daemon.client(), daemon.client());
    waiting.send(&["BLPOP", "queue", "0"]);
    listening.call(&["SUBSCRIBE", "news"]);
    assert_eq!(idle.text(&["PING"]), "+PONG");
    assert_eq!(watching.text(&["WATCH", "a"]), "+OK");
    half.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100\r\nabc").unwrap();
    let mut l2 = redis.client();
    eventually("the pop waits at Redis", || l2.text(&["CLIENT", "LIST"]).contains("cmd=blpop"));
    daemon.process.signal("TERM");
    assert_eq!(daemon.process.wait().code(), Some(0), "{}", daemon.stderr());
    for client in [&mut waiting, &mut listening, &mut idle, &mut half, &mut watching] {
        client.stream().set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(client.read_to_end(), b"");
    }
    eventually("its links are gone", || l2.text(&["CLIENT", "LIST"]).lines().count() == 1);
    l2.call(&["RPUSH", "queue", "x"]);
    assert_eq!(l2.text(&["LLEN", "queue"]), ":1");
}

#[test]
fn a_slow_reply_under_way_is_awaited_by_the_drain() {
    let redis = Redis::start();
    let mut daemon = Daemon::start(&redis);
    let mut client = daemon.client();
    client.send(&["EVAL", &busy_script(Duration::from_millis(500)), "0"]);
    client.send(&["INCR", "n"]);
    // Nothing shows from outside that the daemon has read both: a tenth of a second is enough for that, and if it is
    // not, what was not read need not be answered, so the end of this test says which it was.
    std::thread::sleep(Duration::from_millis(100));
    daemon.process.signal("TERM");
    let all = String::from_utf8_lossy(&client.read_to_end()).into_owned();
    assert_eq!(daemon.process.wait().code(), Some(0), "{}", daemon.stderr());
    let ran = redis.client().text(&["EXISTS", "n"]) == ":1";
    assert_eq!(all, if ran { "$4\r\ndone\r\n:1\r\n" } else { "$4\r\ndone\r\n" });
}
