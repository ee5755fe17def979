//! Asks a server whether it is a master: the one that leads twice a second, one that is to lead until it says so.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};
use tokio::sync::{mpsc, watch};

use super::Note;
use crate::config::{Address, Target};
use crate::shared::{Remote, Shared};

const PACE: Duration = Duration::from_millis(500);
/// As long as it does not lead.
const PACE_BEFORE: Duration = Duration::from_millis(50);

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Role {
    Master,
    Replica,
    /// It does not answer, and why.
    Silent(String),
}

/// Asks whoever is the subject, as long as the daemon runs.
pub(super) async fn examine(
    shared: Arc<Shared>,
    remote: Arc<Remote>,
    mut subjects: watch::Receiver<Option<(Address, Arc<Target>)>>,
    notes: mpsc::Sender<Note>,
) {
    let mut doubts = remote.leader.doubts();
    let mut connection = None;
    loop {
        if subjects.has_changed().unwrap_or(true) {
            connection = None;
        }
        let Some((address, target)) = subjects.borrow_and_update().clone() else {
            match subjects.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            }
        };
        let role = tokio::select! {
            role = role_of(&shared, &mut connection, &target) => role,
            _ = subjects.changed() => {
                connection = None;
                continue;
            }
        };
        let pace = if role == Role::Master { PACE } else { PACE_BEFORE };
        if matches!(role, Role::Silent(_)) {
            connection = None;
        }
        if notes.send(Note::Role(address, role)).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(pace) => {}
            _ = doubts.changed() => {}
            _ = subjects.changed() => connection = None,
        }
    }
}

async fn role_of(shared: &Shared, connection: &mut Option<MultiplexedConnection>, target: &Target) -> Role {
    let role = async {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(crate::l2::dial::connection(target, shared).await?),
        };
        // It says what ROLE says, and every user may ask it.
        redis::cmd("HELLO").query_async(connection).await
    };
    let told: RedisResult<Value> = role.await;
    match told {
        Ok(hello) if says(&hello, b"role").is_some_and(|role| role != b"master") => Role::Replica,
        Ok(_) => Role::Master,
        // What the URL's user is refused, links will say.
        Err(error) if !crate::l2::is_absence(&error) && error.code().is_some() => Role::Master,
        Err(error) => Role::Silent(error.to_string()),
    }
}

/// The value of a field in the reply to HELLO.
fn says<'a>(hello: &'a Value, name: &[u8]) -> Option<&'a [u8]> {
    let text = |value: &'a Value| match value {
        Value::BulkString(text) => Some(text.as_slice()),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    };
    match hello {
        Value::Array(flat) => {
            flat.chunks_exact(2).find(|pair| text(&pair[0]) == Some(name)).and_then(|pair| text(&pair[1]))
        }
        Value::Map(pairs) => {
            pairs.iter().find(|(key, _)| text(key) == Some(name)).and_then(|(_, value)| text(value))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_is_found_in_both_protocols() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let flat = [
            text("server"),
            text("redis"),
            text("role"),
            text("replica"),
            text("modules"),
            Value::Array(vec![]),
        ];
        assert_eq!(says(&Value::Array(flat.to_vec()), b"role"), Some(&b"replica"[..]));
        let map = Value::Map(vec![(text("id"), Value::Int(1)), (text("role"), text("master"))]);
        assert_eq!(says(&map, b"role"), Some(&b"master"[..]));
        assert_eq!(says(&Value::Nil, b"role"), None);
    }
}
