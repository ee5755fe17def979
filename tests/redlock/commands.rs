//! LOCK commands over five masters read as on one Redis, but for what cannot be the same.

use crate::support::{Client, Daemon};
use crate::transcript::{Manner, Run};
use crate::transcripts::ALL;
use crate::{Masters, fields, resp3, shown};

/// The transcript of one Redis. A lock is valid for less than its ttl, and nobody has a place in line.
fn transcript() -> String {
    let (_, locks) = ALL.iter().find(|(name, _)| *name == "locks").unwrap();
    let of_locks = |line: &&str| line.to_ascii_uppercase().starts_with("LOCK.");
    let lines: Vec<&str> = locks.lines().filter(of_locks).collect();
    lines.join("\n").replace(" FAIR", "").replace(" ms=30000", " ms=~30000").replace("=> 60000", "=> ~60000")
}

#[test]
fn commands_by_a_majority_read_as_those_of_one_redis_but_for_fair_and_times() {
    let masters = Masters::start(5);
    let daemons = [masters.daemon(""), masters.daemon("")];
    for (count, resp3_spoken, manner) in [
        (1, false, Manner::InTurn),
        (2, true, Manner::InTurn),
        (2, false, Manner::InTurn),
        (1, true, Manner::Pipelined),
    ] {
        for master in &masters.0 {
            let mut client = master.client();
            shown(&mut client, "DEL lock:list");
            shown(&mut client, "SET lock:b other");
            shown(&mut client, "RPUSH lock:list x");
        }
        let client = |daemon: &Daemon| if resp3_spoken { resp3(daemon) } else { daemon.client() };
        let mut clients: Vec<Client> = daemons[..count].iter().map(client).collect();
        let title = format!("{count} daemons, {manner:?}, RESP{}", if resp3_spoken { 3 } else { 2 });
        Run { clients: &mut clients, resp3: resp3_spoken, manner, title }.play(&transcript());
    }
}

#[test]
fn what_a_majority_cannot_keep_is_refused_with_what_to_do() {
    let masters = Masters::start(3);
    let daemon = masters.daemon("redlock_ttl_max_ms = 5000");
    let mut client = daemon.client();
    let refused = |client: &mut Client, line: &str, part: &str| {
        let reply = shown(client, line);
        assert!(reply.starts_with("-ERR") && reply.contains(part), "{line}: {reply}");
    };
    refused(&mut client, "LOCK.ACQUIRE a 1000 WAIT 100 FAIR", "leave it out");
    refused(&mut client, "LOCK.ACQUIRE a 5001", "lock.redlock_ttl_max_ms, which is 5000");
    assert_eq!(fields(&mut client, "LOCK.ACQUIRE a 5000 TOKEN t")[0], "1");
    refused(&mut client, "LOCK.EXTEND a t 5001", "raise it");
    assert_eq!(shown(&mut client, "MULTI"), "+OK");
    refused(&mut client, "LOCK.RELEASE a t", "not allowed inside MULTI");
    assert!(shown(&mut client, "EXEC").starts_with("-EXECABORT"));
    assert_eq!(shown(&mut client, "LOCK.RELEASE a t"), "0");
}

#[test]
fn a_lock_is_valid_for_its_ttl_less_the_time_that_it_took_and_the_drift() {
    let mut masters = Masters::start(5);
    let daemon = masters.daemon("redlock_timeout_ms = 5000");
    let mut client = daemon.client();
    let valid = fields(&mut client, "LOCK.ACQUIRE a 20000")[3].parse::<u64>().unwrap();
    assert!(valid <= 20_000 - 202, "{valid}");
    // Of three that are left one answers late.
    masters.kill(&[3, 4]);
    masters.pause(&[2]);
    crate::send(&mut client, "LOCK.ACQUIRE b 20000");
    std::thread::sleep(std::time::Duration::from_millis(700));
    masters.wake(&[2]);
    let reply = crate::transcript::shown(&client.read_frame());
    let valid: u64 = reply.trim_end_matches(']').rsplit(' ').next().unwrap().parse().unwrap();
    assert!(reply.starts_with("[1 ") && valid <= 20_000 - 202 - 700, "{reply}");
}

#[test]
fn masters_publish_a_grant_with_the_fence_that_they_agreed_on_and_nothing_of_attempts() {
    let masters = Masters::start(3);
    let daemon = masters.daemon("");
    let mut listeners: Vec<Client> = masters.0.iter().map(|master| master.client()).collect();
    for listener in &mut listeners {
        assert!(listener.call(&["SUBSCRIBE", "events:lock:a"]).starts_with(b"*3"));
    }
    let mut client = daemon.client();
    let fence = crate::granted(&mut client, "LOCK.ACQUIRE a 20000 TOKEN t OWNER me");
    // One that was late has none of it.
    let holds = |at: &usize| masters.0[*at].client().text(&["GET", "lock:a"]) == "t";
    let holding: Vec<usize> = (0..3).filter(holds).collect();
    assert!(holding.len() >= 2);
    assert_eq!(fields(&mut client, "LOCK.ACQUIRE a 20000")[0], "0");
    assert_eq!(shown(&mut client, "LOCK.RELEASE a t"), "0");
    for at in holding {
        let listener = &mut listeners[at];
        for expected in [
            format!(r#"{{"type":"acquire","fence":{fence},"owner":"me"}}"#),
            format!(r#"{{"type":"release","fence":{fence}}}"#),
        ] {
            let message = String::from_utf8(listener.read_frame()).unwrap();
            assert!(message.contains(&expected), "{message}: no {expected}");
        }
    }
}
