//! Clients that speak something else than they should, or whose TLS fails: what the log says of them, at most a line a minute
//! for each reason, however many there are. Closes nobody.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Worker;

const PAUSE: Duration = Duration::from_secs(60);
/// Reasons that are remembered; some hold what the client has sent.
const REASONS_MAX: usize = 64;

/// Whether this reason was not logged within a minute, by any worker.
fn is_due(reason: &str) -> bool {
    static LOGGED: Mutex<Option<HashMap<String, Instant>>> = Mutex::new(None);
    let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    let logged = logged.get_or_insert_default();
    logged.retain(|_, at| at.elapsed() < PAUSE);
    if logged.len() >= REASONS_MAX || logged.contains_key(reason) {
        return false;
    }
    logged.insert(reason.to_owned(), Instant::now());
    true
}

impl Worker {
    /// Somebody speaks HTTP.
    pub fn warn_of_http(&self, addr: &str) {
        if is_due("http") {
            tracing::warn!(
                addr,
                "possible SECURITY ATTACK: somebody sends HTTP (POST or Host:) to the Redis port; connection closed"
            );
        }
    }

    /// Somebody speaks TLS to the plain port.
    pub fn warn_of_tls(&self, addr: &str) {
        if is_due("tls") {
            tracing::warn!(
                addr,
                "somebody speaks TLS to server.port, which is for plain text; connection closed: use server.tls_port, or redis://"
            );
        }
    }

    /// A client's handshake did not come to its end.
    pub fn tls_failed(&self, addr: &str, error: &io::Error) {
        self.metrics.refused_tls.add(1);
        let reason = error.to_string();
        if is_due(&reason) {
            tracing::warn!(addr, %reason, "TLS with a client failed; connection closed");
        }
    }
}
