//! Slow neighbours: scripts, blocked pops, readers of large values; clients that half close; links that idle.

use std::collections::HashMap;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::busy_script;
use crate::support::{Client, Daemon, Redis, encode, eventually};

/// A second is far above what any neighbour may cost others, and far below a hang.
const P99_MAX: Duration = Duration::from_secs(1);

/// The 99th percentile of SET and GET over one connection, each waiting for its reply.
fn p99(daemon: &Daemon) -> Duration {
    let mut client = daemon.client();
    let mut times: Vec<Duration> = (0..500)
        .map(|n: u32| {
            let (begin, value) = (Instant::now(), n.to_string());
            assert_eq!(client.text(&["SET", "probe", &value]), "+OK");
            assert_eq!(client.text(&["GET", "probe"]), value);
            begin.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() * 99 / 100]
}

fn expect_undisturbed(daemon: &Daemon, quiet: Duration, what: &str) {
    let disturbed = p99(daemon);
    println!("faults: p99 of SET and GET beside {what}: {disturbed:?}, undisturbed {quiet:?}");
    assert!(disturbed < P99_MAX, "p99 beside {what}: {disturbed:?}, undisturbed {quiet:?}");
}

#[test]
fn hits_go_on_while_a_script_keeps_redis_busy() {
    let redis = Redis::start();
    let daemon = Daemon::start_with(&redis.url(), &[("MADCACHE_CACHE_MAX_STALENESS_MS", "10000")]);
    let mut reader = daemon.client();
    assert_eq!(reader.text(&["SET", "hot", "warm"]), "+OK");
    let before = daemon.stat("l1_hits");
    eventually("the key is served from L1", || {
        reader.text(&["GET", "hot"]);
        daemon.stat("l1_hits") > before
    });
    let mut busy = daemon.client();
    busy.send(&["EVAL", &busy_script(Duration::from_millis(1500)), "0"]);
    std::thread::scope(|scope| {
        let script = scope.spawn(move || {
            let reply = busy.read_frame();
            (reply, Instant::now())
        });
        // Redis is surely at the script once this has been awaited; from here hits alone can be answered.
        std::thread::sleep(Duration::from_millis(200));
        let begin = Instant::now();
        for _ in 0..100 {
            assert_eq!(reader.text(&["GET", "hot"]), "warm");
        }
        let hits_were_done = Instant::now();
        let (reply, script_was_done) = script.join().unwrap();
        assert_eq!(reply, b"$4\r\ndone\r\n");
        println!("faults: 100 hits beside a busy script took {:?}", hits_were_done - begin);
        assert!(hits_were_done < script_was_done, "hits waited for the script");
    });
}

#[test]
fn a_thousand_blocked_pops_slow_nobody_and_leave_nothing_behind() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut l2 = redis.client();
    let quiet = p99(&daemon);
    let mut waiting: Vec<Client> = (0..1000).map(|_| daemon.client()).collect();
    for client in &mut waiting {
        client.send(&["BLPOP", "queue", "0"]);
    }
    // By the flag: a link whose pop has been answered may be named after it until it carries something else.
    let blocked = |l2: &mut Client| l2.text(&["CLIENT", "LIST"]).matches(" flags=b ").count();
    eventually("a thousand clients wait at Redis", || blocked(&mut l2) == 1000);
    expect_undisturbed(&daemon, quiet, "a thousand blocked pops");

    // Each element reaches one of them, once.
    let mut seen: HashMap<Vec<u8>, usize> = HashMap::new();
    for n in 0..100 {
        l2.call(&["RPUSH", "queue", &format!("element {n}")]);
    }
    eventually("a hundred were served", || blocked(&mut l2) == 900);
    // Redis has served them before the daemon has handed on the last replies.
    for client in &waiting {
        client.stream().set_nonblocking(true).unwrap();
    }
    eventually("a hundred clients have an element", || {
        for client in &mut waiting {
            if let Ok(reply) = client.try_read_frame() {
                *seen.entry(reply).or_default() += 1;
            }
        }
        seen.values().sum::<usize>() >= 100
    });
    assert!(seen.len() == 100 && seen.values().all(|times| *times == 1), "{} different elements", seen.len());

    drop(waiting);
    eventually("no blocked link is left at Redis", || blocked(&mut l2) == 0);
    l2.call(&["RPUSH", "queue", "for somebody"]);
    assert_eq!(daemon.client().text(&["LLEN", "queue"]), ":1");
    eventually("the daemon knows that they left", || daemon.stat("clients") == 1);
}

#[test]
fn readers_of_large_values_that_do_not_read_slow_nobody() {
    const LEN: usize = 10 << 20;
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let value = vec![b'v'; LEN];
    assert_eq!(redis.client().call(&[&b"SET"[..], b"large", &value]), b"+OK\r\n");
    let quiet = p99(&daemon);
    let mut slow: Vec<Client> = (0..4).map(|_| daemon.client()).collect();
    for client in &mut slow {
        for _ in 0..5 {
            client.send(&["GET", "large"]);
        }
    }
    expect_undisturbed(&daemon, quiet, "readers of 10 MiB values that do not read");
    let wanted = [format!("${LEN}\r\n").as_bytes(), &value, b"\r\n"].concat();
    for client in &mut slow {
        for _ in 0..5 {
            assert!(client.read_frame() == wanted);
        }
    }
}

#[test]
fn a_client_that_closed_its_sending_half_still_gets_every_reply() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut client = daemon.client();
    let mut wanted = String::new();
    let mut wire = Vec::new();
    for n in 1..=500 {
        wire.extend(encode(&["INCR", "n"]));
        wire.extend(encode(&["GET", "n"]));
        wire.extend(encode(&["ECHO", "e"]));
        let text = n.to_string();
        wanted += &format!(":{n}\r\n${}\r\n{text}\r\n$1\r\ne\r\n", text.len());
    }
    wire.extend(encode(&["EVAL", &busy_script(Duration::from_millis(200)), "0"]));
    wire.extend(encode(&["MULTI"]));
    wire.extend(encode(&["INCR", "n"]));
    wire.extend(encode(&["EXEC"]));
    wanted += "$4\r\ndone\r\n+OK\r\n+QUEUED\r\n*1\r\n:501\r\n";
    client.send_raw(&wire).unwrap();
    client.stream().shutdown(Shutdown::Write).unwrap();
    let got = client.read_to_end();
    assert!(got == wanted.as_bytes(), "{} of {} bytes", got.len(), wanted.len());
    eventually("the connection is gone", || daemon.stat("clients") == 1);
}

/// Redis's connection ids and how many seconds each has been idle.
fn idle_seconds(l2: &mut Client) -> HashMap<String, u64> {
    let list = l2.text(&["CLIENT", "LIST"]);
    let field = |line: &str, name: &str| {
        line.split(' ').find_map(|field| field.strip_prefix(name).map(str::to_string)).unwrap_or_default()
    };
    list.lines().map(|line| (field(line, "id="), field(line, "idle=").parse().unwrap_or(0))).collect()
}

#[test]
fn an_idle_shared_link_is_probed_before_a_middlebox_would_cut_it() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut l2 = redis.client();
    assert_eq!(daemon.client().text(&["SET", "a", "1"]), "+OK");
    // The link that carried the write idles for a while, then is heard of again without any client.
    let end = Instant::now() + Duration::from_secs(50);
    let mut longest: HashMap<String, u64> = HashMap::new();
    loop {
        for (id, idle) in idle_seconds(&mut l2) {
            let before = longest.entry(id).or_default();
            if *before >= 15 && idle < *before {
                return;
            }
            *before = idle.max(*before);
        }
        assert!(Instant::now() < end, "no idle link was probed: {longest:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
