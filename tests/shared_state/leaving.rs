//! A client that goes away while it waits for a lock: its place is free at once, and what it sent before is not lost.

use std::net::Shutdown;

use crate::stands::embedded_with_file;
use crate::support::fake_l2::{FakeL2, Side};
use crate::support::{Client, Daemon, Redis, encode, eventually};
use crate::{fields, send, shown};

/// What Redis executes, as MONITOR tells it.
struct Monitor {
    client: Client,
}

impl Monitor {
    fn of(redis: &Redis) -> Monitor {
        let mut client = redis.client();
        assert_eq!(client.text(&["MONITOR"]), "+OK");
        Monitor { client }
    }

    /// The lines up to the first that `is_last`, with it.
    fn until(&mut self, is_last: impl Fn(&str) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = String::from_utf8_lossy(&self.client.read_frame()).into_owned();
            let ends = is_last(&line);
            lines.push(line);
            if ends {
                return lines;
            }
        }
    }
}

fn waiters(client: &mut Client) -> String {
    fields(client, "LOCK.INFO a").pop().unwrap()
}

/// Ends the connection by a reset, as of a process that has crashed with something left to read.
fn crash(client: Client) {
    socket2::SockRef::from(client.stream()).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(client);
}

fn cancels(line: &str) -> bool {
    let script = madcache::state::scripts().find(|script| script.name == "lock_cancel").expect("a script");
    line.contains(script.sha()) || line.contains("Ends what one ACQUIRE began")
}

#[test]
fn a_waiter_that_goes_away_is_taken_out_before_it_would_have_looked_again() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut monitor = Monitor::of(&redis);
    let (mut holder, mut probe) = (daemon.client(), redis.client());
    fields(&mut holder, "LOCK.ACQUIRE a 60000 TOKEN mine");
    let mut at_once = 0;
    for round in 0..5 {
        let mut leaver = daemon.client();
        send(&mut leaver, "LOCK.ACQUIRE a 60000 TOKEN leaver WAIT 30000 FAIR");
        eventually("it stands in line", || waiters(&mut holder) == "1");
        let mark = format!("mark {round}");
        probe.text(&["ECHO", &mark]);
        monitor.until(|line| line.contains(&mark));
        drop(leaver);
        let lines = monitor.until(cancels);
        // It looks again each second: by chance just now, but not each time.
        at_once += usize::from(!lines.iter().any(|line| line.contains("\"leaver\"")));
        eventually("it left the line", || waiters(&mut holder) == "0");
    }
    assert!(at_once > 0, "each time the waiter was found gone when it looked again");
}

#[test]
fn the_next_in_line_gets_what_the_one_before_it_left() {
    let redis = Redis::start();
    for daemon in [Daemon::start(&redis), embedded_with_file("")] {
        let mut holder = daemon.client();
        fields(&mut holder, "LOCK.ACQUIRE a 60000 TOKEN mine");
        let (mut leaver, mut next) = (daemon.client(), daemon.client());
        send(&mut leaver, "LOCK.ACQUIRE a 60000 WAIT 30000 FAIR");
        eventually("the first stands in line", || waiters(&mut holder) == "1");
        send(&mut next, "LOCK.ACQUIRE a 60000 TOKEN next WAIT 30000 FAIR");
        eventually("both stand in line", || waiters(&mut holder) == "2");
        drop(leaver);
        eventually("one is left", || waiters(&mut holder) == "1");
        assert_eq!(shown(&mut holder, "LOCK.RELEASE a mine"), "0");
        assert!(next.read_frame().starts_with(b"*4\r\n:1\r\n$4\r\nnext\r\n"));
    }
}

#[test]
fn what_was_sent_behind_the_acquire_is_executed_still() {
    let redis = Redis::start();
    for daemon in [Daemon::start(&redis), embedded_with_file("")] {
        let mut holder = daemon.client();
        fields(&mut holder, "LOCK.ACQUIRE a 60000 TOKEN mine");
        let mut client = daemon.client();
        let requests = [
            encode(&["SET", "before", "1"]),
            encode(&["LOCK.ACQUIRE", "a", "60000", "WAIT", "30000"]),
            encode(&["INCR", "before"]),
            encode(&["GET", "before"]),
        ];
        client.send_raw(&requests.concat()).unwrap();
        eventually("it stands in line", || waiters(&mut holder) == "1");
        client.stream().shutdown(Shutdown::Write).unwrap();
        let replies = String::from_utf8(client.read_to_end()).unwrap();
        assert!(replies.starts_with("+OK\r\n*4\r\n:0\r\n$-1\r\n"), "{replies}");
        assert!(replies.ends_with("\r\n:2\r\n$1\r\n2\r\n"), "{replies}");
        assert_eq!(waiters(&mut holder), "0");
    }
}

#[test]
fn an_entry_that_is_bound_to_a_client_which_left_meanwhile_leaves_too() {
    let redis = Redis::start();
    let fake = FakeL2::start(&redis);
    let daemon = Daemon::start_with(&fake.url(), &[]);
    let mut probe = redis.client();
    let join = madcache::state::scripts().find(|script| script.name == "presence_join").expect("a script");
    for round in 0..5 {
        let joins = fake.hold(Side::Reply, |frame| frame.carries(join.sha()) || frame.carries(join.text));
        let mut client = daemon.client();
        send(&mut client, &format!("PRESENCE.JOIN room ann c{round} BIND"));
        let joined = joins.next();
        assert_eq!(probe.text(&["SCARD", "presence:channel:room:users"]), ":1");
        let clients = daemon.stat("clients");
        crash(client);
        eventually("its client has left", || daemon.stat("clients") < clients);
        joined.pass();
        eventually("nobody is there", || probe.text(&["SCARD", "presence:channel:room:users"]) == ":0");
    }
}

#[test]
fn what_a_transaction_bound_to_a_client_that_left_meanwhile_ends_too() {
    let redis = Redis::start();
    let fake = FakeL2::start(&redis);
    let daemon = Daemon::start_with(&fake.url(), &[]);
    let (mut probe, mut other) = (redis.client(), daemon.client());
    let replies = fake.hold(Side::Reply, |frame| frame.named("EXEC"));
    let mut client = daemon.client();
    for line in ["MULTI", "LOCK.ACQUIRE z 600000 BIND", "PRESENCE.JOIN z u c TTL 600000 BIND"] {
        send(&mut client, line);
        client.read_frame();
    }
    send(&mut client, "EXEC");
    let executed = replies.next();
    assert_eq!(probe.text(&["EXISTS", "lock:z", "presence:channel:z:users"]), ":2");
    let clients = daemon.stat("clients");
    crash(client);
    eventually("its client has left", || daemon.stat("clients") < clients);
    executed.pass();
    eventually("the lock is free", || shown(&mut other, "LOCK.INFO z") == "nil");
    eventually("nobody is there", || probe.text(&["EXISTS", "presence:channel:z:users"]) == ":0");
}
