//! Redis dies, stops, comes back, is cut off; the daemon is told to end; neighbours are slow. Each request gets what
//! the fault model promises, nothing runs twice, and everything goes on without a restart. Times are measured in seconds
//! here, so that a busy machine fails nothing; figures belong to the benches.

#[path = "../support/mod.rs"]
mod support;

mod drain;
mod load;
mod neighbours;
mod outage;
mod relay;

use std::time::{Duration, Instant};

use support::{Client, Daemon, eventually};

/// What is promised after Redis is back.
const RECOVERY_MAX: Duration = Duration::from_secs(1);

/// The reply to one request over a connection of its own; `None` if the connection ended instead.
pub fn ask(port: u16, args: &[&str]) -> Option<String> {
    let mut client = Client::connect(port);
    client.send_raw(&support::encode(args)).ok()?;
    let frame = client.try_read_frame().ok()?;
    Some(String::from_utf8_lossy(&frame).trim_end().to_string())
}

/// A script that keeps Redis's only thread busy for so long, then answers `done`.
pub fn busy_script(time: Duration) -> String {
    format!(
        "local function now() local t = redis.call('TIME') return t[1] * 1000000 + t[2] end \
         local e = now() + {} while now() < e do end return 'done'",
        time.as_micros()
    )
}

/// Waits until writes work again, and fails if that takes too long.
pub fn expect_recovery(daemon: &Daemon, what: &str) {
    let begin = Instant::now();
    eventually(what, || ask(daemon.port, &["SET", "recovered", "yes"]).as_deref() == Some("+OK"));
    let took = begin.elapsed();
    println!("faults: {what} after {} ms", took.as_millis());
    assert!(took < RECOVERY_MAX, "{what} only after {took:?}");
}
