//! What the daemon must know of L2 as a whole: whether it is there, its version, whether it evicts, how many clients
//! and tracked keys it takes. Asked now and then on a connection of its own. A change is logged once.

mod cluster;
mod dial;
mod masters;
mod sentinel;
mod wakes;

pub use cluster::{follow as follow_topology, know_nodes};
pub use masters::{Unfit, meet_masters, watch_masters};
pub use sentinel::follow as follow_leader;
pub use wakes::listen;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind};

use crate::config::{Kind, Target};
use crate::shared::{Leader, Remote, Shared};

const PAUSE: Duration = Duration::from_millis(500);
/// An answer that takes longer counts as none.
const PATIENCE: Duration = Duration::from_secs(1);
/// Settings of L2 are looked at this many pauses apart.
const SETTINGS_EVERY: u64 = 60;
/// Redis's default for `tracking-table-max-keys`.
const TRACKED_KEYS_DEFAULT: u64 = 1_000_000;

/// Watches a Redis as long as the daemon runs.
pub async fn watch(shared: Arc<Shared>, remote: Arc<Remote>) {
    // Nobody knows yet; the first round says, and logs, how it is.
    remote.is_reachable.store(false, Relaxed);
    let mut told = None;
    let mut connection = None;
    let mut warned = Warned::default();
    let mut rounds = 0u64;
    let mut changes = remote.leader.changes();
    loop {
        if remote.leader.now() == Leader::Soon {
            // The sender is in `remote`.
            let _ = changes.changed().await;
            connection = None;
            continue;
        }
        if connection.is_none() {
            rounds = 0;
        }
        let with_settings = rounds.is_multiple_of(SETTINGS_EVERY);
        let asked = round(&shared, &remote, &mut connection, with_settings, &mut warned);
        let answer = tokio::select! {
            answer = asked => answer,
            _ = changes.changed() => {
                connection = None;
                continue;
            }
        };
        let answered = answer.is_ok();
        // Links notice a change too, and may have told it already.
        let known = remote.is_reachable.swap(answered, Relaxed) == answered && told.is_some();
        match answer {
            Ok(()) if !known => tracing::info!("{remote} is reachable"),
            Err(reason) if !known && told != Some(false) => {
                tracing::warn!(%reason, "{remote} does not answer");
            }
            _ => {}
        }
        told = Some(answered);
        if !answered {
            connection = None;
        }
        if let Some(cache) = shared.cache.as_ref().filter(|_| remote.is_l2) {
            cache.set_l2_down(!answered);
        }
        rounds += 1;
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = changes.changed() => connection = None,
        }
    }
}

/// Asks whether it is there, and sometimes how it is set up.
async fn round(
    shared: &Shared,
    remote: &Remote,
    connection: &mut Option<MultiplexedConnection>,
    settings: bool,
    warned: &mut Warned,
) -> RedisResult<()> {
    let connection = match connection {
        Some(connection) => {
            ask::<redis::Value>(connection, &["PING"]).await?;
            connection
        }
        None => {
            let target = leader(remote)?;
            connection.insert(first_word(shared, &target).await.map_err(|e| dial::explained(e, &target))?)
        }
    };
    match settings {
        true => look_at_settings(shared, remote, connection, warned).await,
        false => Ok(()),
    }
}

async fn look_at_settings(
    shared: &Shared,
    remote: &Remote,
    connection: &mut MultiplexedConnection,
    warned: &mut Warned,
) -> RedisResult<()> {
    // A user without the right to ask leaves the defaults in force.
    let names = ["CONFIG", "GET", "maxmemory", "maxmemory-policy", "maxclients", "tracking-table-max-keys"];
    let settings: Vec<(String, String)> = ask(connection, &names).await?.unwrap_or_default();
    warn_of_eviction(remote, &settings, warned);
    if remote.is_l2 {
        let server: String = ask(connection, &["INFO", "server"]).await?.unwrap_or_default();
        shared.fields_expire.store(fields_expire(&server), Relaxed);
        shared.hello_says_proto.store(hello_says_proto(&server), Relaxed);
        let clients: String = ask(connection, &["INFO", "clients"]).await?.unwrap_or_default();
        note_settings(shared, &clients, &settings, warned);
    }
    Ok(())
}

/// Whom to ask now.
fn leader(remote: &Remote) -> RedisResult<Arc<Target>> {
    match remote.leader.now() {
        Leader::Known(target) => Ok(target),
        Leader::Nobody(reason) => Err((ErrorKind::Client, "nobody leads", reason.to_string()).into()),
        Leader::Soon => Err((ErrorKind::Client, "it is being asked who leads").into()),
    }
}

/// A new connection that was answered on: what is wrong with it may show only then.
async fn first_word(shared: &Shared, target: &Target) -> RedisResult<MultiplexedConnection> {
    let mut connection = dial::connection(target, shared).await?;
    ask::<redis::Value>(&mut connection, &["PING"]).await?;
    Ok(connection)
}

/// None: L2 answers, but with an error.
async fn ask<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    words: &[&str],
) -> RedisResult<Option<T>> {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    match command.query_async(connection).await {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if is_absence(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Whether the error means that L2 is not there; while it loads it serves nobody either.
fn is_absence(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.kind() == ErrorKind::Server(ServerErrorKind::BusyLoading)
}

/// What the server itself said, if that is the error.
fn words(error: &RedisError) -> Option<String> {
    error.code().map(|code| format!("{code} {}", error.detail().unwrap_or_default()))
}

/// Since Redis 7.4 and Valkey 9.0 hash fields expire by themselves.
fn fields_expire(info: &str) -> bool {
    is_since(info, "redis_version", (7, 4)) || is_since(info, "valkey_version", (9, 0))
}

/// The text of NOAUTH names `<proto>` since Redis 7.2; Valkey calls itself Redis 7.2.
fn hello_says_proto(info: &str) -> bool {
    field(info, "redis_version").is_none() || is_since(info, "redis_version", (7, 2))
}

fn is_since(info: &str, name: &str, first: (u32, u32)) -> bool {
    let Some(version) = field(info, name) else { return false };
    let mut numbers = version.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= first
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// What is wrong with L2's settings, as long as it is: each is warned of when it begins.
#[derive(Default)]
struct Warned {
    clients: bool,
    tracked_keys: bool,
    eviction: bool,
}

fn begins(was: &mut bool, is: bool) -> bool {
    !std::mem::replace(was, is) && is
}

fn setting<'a>(settings: &'a [(String, String)], name: &str) -> Option<&'a str> {
    settings.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// A lock that is evicted is granted twice, and a user session ends early; their keys have a TTL, so that every policy
/// but `noeviction` means them.
fn warn_of_eviction(remote: &Remote, settings: &[(String, String)], warned: &mut Warned) {
    let policy = setting(settings, "maxmemory-policy").unwrap_or("noeviction");
    let limited = setting(settings, "maxmemory").is_some_and(|bytes| bytes != "0");
    let kinds = [Kind::Lock, Kind::Session].into_iter().filter(|kind| remote.kinds.contains(kind));
    let kinds: Vec<&str> = kinds.map(Kind::name).collect();
    let evicts = limited && policy != "noeviction" && !kinds.is_empty();
    if begins(&mut warned.eviction, evicts) {
        tracing::warn!(
            policy,
            "{remote} may evict what it keeps of {}: set its maxmemory-policy to noeviction, or give them another Redis \
             (url_override)",
            kinds.join(" and ")
        );
    }
}

fn note_settings(shared: &Shared, clients: &str, settings: &[(String, String)], warned: &mut Warned) {
    let setting = |name: &str| setting(settings, name);
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
    let evicts = setting("maxmemory-policy").is_some_and(|p| p.ends_with("lru") || p.ends_with("lfu"));
    shared.l2_evicts.store(evicts, Relaxed);
    let connected = number(field(clients, "connected_clients")).unwrap_or(0);
    let clients_max = number(setting("maxclients").or(field(clients, "maxclients"))).unwrap_or(u64::MAX);
    if begins(&mut warned.clients, connected.saturating_mul(5) > clients_max.saturating_mul(4)) {
        tracing::warn!(
            connected,
            clients_max,
            "over 80 % of the connections that Redis allows are taken: raise its maxclients"
        );
    }
    let tracked_max = match number(setting("tracking-table-max-keys")) {
        Some(0) => u64::MAX,
        Some(max) => max,
        None => TRACKED_KEYS_DEFAULT,
    };
    let entries = shared.cache.as_ref().map_or(0, |cache| cache.entry_count());
    if begins(&mut warned.tracked_keys, entries > tracked_max) {
        tracing::warn!(
            entries,
            tracked_max,
            "L1 holds more entries than Redis tracks keys: raise its tracking-table-max-keys"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_fields_expire_since_redis_7_4_and_valkey_9() {
        assert!(!fields_expire("# Server\r\nredis_version:7.0.15\r\n"));
        assert!(fields_expire("# Server\r\nredis_version:7.4.0\r\n"));
        assert!(fields_expire("redis_version:8.0.1\r\n"));
        assert!(!fields_expire("redis_version:7.2.4\r\nvalkey_version:8.1.0\r\n"));
        assert!(fields_expire("redis_version:7.2.4\r\nvalkey_version:9.0.0\r\n"));
        assert!(!fields_expire(""));
    }

    #[test]
    fn a_lasting_condition_begins_once() {
        let mut was = false;
        let seen: Vec<bool> =
            [false, true, true, false, true].into_iter().map(|is| begins(&mut was, is)).collect();
        assert_eq!(seen, [false, true, false, false, true]);
    }
}
