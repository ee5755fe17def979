//! The master that sentinels name, and its successors: real redis-servers and redis-sentinels that are killed, stopped and
//! replaced under load, before a daemon that follows them itself and before one behind HAProxy; and a sentinel that says what
//! the test wants, for what real ones do too seldom or too slowly.

#[path = "../support/mod.rs"]
mod support;

mod discovery;
mod failover;
mod following;
mod haproxy;
mod load;
mod switching;

use support::{Client, Daemon};

/// The reply to one request over a connection of its own; `None` if the connection ended instead.
fn ask(port: u16, args: &[&str]) -> Option<String> {
    let mut client = Client::connect(port);
    client.send_raw(&support::encode(args)).ok()?;
    let frame = client.try_read_frame().ok()?;
    Some(String::from_utf8_lossy(&frame).trim_end().to_string())
}

/// Waits until writes work.
fn expect_service(daemon: &Daemon) {
    support::eventually("the daemon has a master", || {
        ask(daemon.port, &["SET", "served", "yes"]).as_deref() == Some("+OK")
    });
}

/// A line of `INFO madcache` that is no number.
fn told(daemon: &Daemon, name: &str) -> String {
    let info = daemon.client().text(&["INFO", "madcache"]);
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name}: {info}")).trim().to_owned()
}
