//! Shared-state commands as clients see them: through real daemons in front of a real Redis. What the scripts themselves do
//! at which time is tested in `state_*.rs`.
#[path = "shared_state/commands.rs"]
mod commands;
#[path = "shared_state/coverage.rs"]
mod coverage;
#[path = "shared_state/drivers.rs"]
mod drivers;
#[path = "shared_state/explained.rs"]
mod explained;
#[path = "shared_state/leaving.rs"]
mod leaving;
#[path = "shared_state/limits.rs"]
mod limits;
#[path = "shared_state/locks.rs"]
mod locks;
#[path = "shared_state/logouts.rs"]
mod logouts;
#[path = "shared_state/masters.rs"]
mod masters;
#[path = "shared_state/outage.rs"]
mod outage;
#[path = "shared_state/presence.rs"]
mod presence;
#[path = "shared_state/sessions.rs"]
mod sessions;
#[path = "shared_state/stands.rs"]
mod stands;
mod support;
#[path = "shared_state/together.rs"]
mod together;
#[path = "shared_state/transactions.rs"]
mod transactions;
#[path = "shared_state/transcript.rs"]
mod transcript;
#[path = "shared_state/transcripts.rs"]
mod transcripts;

use std::time::Instant;

use madcache::resp::{Value, parse};
use support::{Client, Daemon, PATIENCE, Redis, eventually};

/// A daemon in front of `redis` with a configuration file of these lines.
fn daemon_with_file(redis: &Redis, lines: &str) -> Daemon {
    daemon_at(&redis.url_for_daemon(), redis, lines)
}

/// The same where its URL is another.
fn daemon_at(url: &str, redis: &Redis, lines: &str) -> Daemon {
    let file = redis.dir().join(format!("madcache-{}.toml", support::free_port()));
    std::fs::write(&file, lines).unwrap();
    Daemon::spawn_as(url, &[], |command| {
        command.arg("--config").arg(&file);
    })
    .ready()
}

/// A cluster of one node that has all slots.
fn one_node_cluster() -> Redis {
    let redis = Redis::start_with(&["--cluster-enabled", "yes"]);
    assert_eq!(redis.client().text(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), "+OK");
    eventually("the cluster serves", || {
        redis.client().text(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
    });
    redis
}

/// A client that speaks RESP3.
fn resp3(daemon: &Daemon) -> Client {
    let mut client = daemon.client();
    assert!(client.call(&["HELLO", "3"]).starts_with(b"%"));
    client
}

/// Sends the words of a line.
fn send(client: &mut Client, line: &str) {
    client.send(&words(line));
}

/// The reply to a line, understood.
fn ask(client: &mut Client, line: &str) -> Value {
    parse(&client.call(&words(line))).expect("a sound reply")
}

/// The reply to a line as short text, see `transcript`.
fn shown(client: &mut Client, line: &str) -> String {
    transcript::shown(&client.call(&words(line)))
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// The elements of a reply in RESP2 as short texts.
fn fields(client: &mut Client, line: &str) -> Vec<String> {
    let text = shown(client, line);
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let inner = inner.unwrap_or_else(|| panic!("{line}: {text}"));
    inner.split(' ').map(|word| word.trim_matches('\'').to_owned()).collect()
}

/// Someone who listens to one channel of events at Redis.
struct Listener {
    client: Client,
}

impl Listener {
    fn of(redis: &Redis, channel: &str) -> Listener {
        let mut client = redis.client();
        assert!(client.call(&["SUBSCRIBE", channel]).starts_with(b"*3"));
        Listener { client }
    }

    /// The next event's text.
    fn next(&mut self) -> String {
        let Some(Value::Array(parts)) = parse(&self.client.read_frame()) else { panic!("a message") };
        match &parts[2] {
            Value::Bulk(text) => String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The next event of this type, and when it came.
    fn next_of(&mut self, kind: &str) -> (String, Instant) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let event = self.next();
            if event.contains(&format!("\"type\":\"{kind}\"")) {
                return (event, Instant::now());
            }
        }
        panic!("no event {kind}");
    }
}
