//! One sentinel: what it is asked twice a second, and its events, which say when to ask at once. Reports; decides nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSubStream};
use redis::{RedisError, RedisResult};
use tokio::sync::mpsc;

use super::Note;
use super::ballot::{Report, Silence, Vote};
use crate::config::{Address, Sentinels, Target};
use crate::shared::{Remote, Shared};

/// Between questions where no event comes.
const PACE: Duration = Duration::from_millis(500);
/// Before a sentinel that was lost is tried again: first and longest.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A sentinel is asked for others with every so many questions.
const OTHERS_EVERY: u64 = 10;
/// What happens to masters: another one, and each step on the way.
const EVENTS: [&str; 3] = ["+switch-master", "*failover-*", "+promoted-slave"];
/// Between these the old master is still named, and what it writes is lost.
const REPLACING: [&str; 3] = ["select_slave", "send_slaveof_noone", "wait_promotion"];

/// Talks with one sentinel as long as the daemon runs.
pub(super) async fn talk(
    shared: Arc<Shared>,
    remote: Arc<Remote>,
    sentinels: Arc<Sentinels>,
    from: Address,
    notes: mpsc::Sender<Note>,
) {
    let target = remote.target.sentinel(&sentinels, &from);
    let mut doubts = remote.leader.doubts();
    let mut pause = PAUSE_FIRST;
    loop {
        let mut link = None;
        let mut rounds = 0;
        loop {
            let said = match &mut link {
                Some(link) => ask(link, &sentinels.service, rounds).await,
                None => match connect(&shared, &target).await {
                    Ok(connected) => ask(link.insert(connected), &sentinels.service, rounds).await,
                    Err(error) => Err(silence(&error)),
                },
            };
            rounds += 1;
            let lost = matches!(said, Err(Silence::Away(_) | Silence::Refused(_)));
            if notes.send(Note::Said(Report { from: from.clone(), said })).await.is_err() {
                return;
            }
            let Some(link) = link.as_mut().filter(|_| !lost) else { break };
            pause = PAUSE_FIRST;
            tokio::select! {
                () = tokio::time::sleep(PACE) => {}
                event = next(&mut link.events) => if event.is_none() { break },
                _ = doubts.changed() => {}
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            _ = doubts.changed() => {}
        }
    }
}

struct Link {
    connection: MultiplexedConnection,
    id: String,
    /// None: we may ask, but not listen.
    events: Option<PubSubStream>,
}

async fn next(events: &mut Option<PubSubStream>) -> Option<redis::Msg> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

/// Listens before anything is asked, so that no event is missed.
async fn connect(shared: &Shared, target: &Target) -> RedisResult<Link> {
    let explained = |error| crate::l2::dial::explained(error, target);
    let mut connection = crate::l2::dial::connection(target, shared).await.map_err(explained)?;
    let listening = async {
        let mut subscription = crate::l2::dial::subscription(target, shared).await?;
        subscription.psubscribe(&EVENTS[..]).await?;
        Ok(subscription.into_on_message())
    };
    let events = match tokio::time::timeout(crate::l2::PATIENCE, listening).await {
        Ok(Ok(events)) => Some(events),
        Ok(Err(error)) if is_answer(&error) => None,
        Ok(Err(error)) => return Err(error),
        Err(_) => return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    };
    let id = crate::l2::ask(&mut connection, &["SENTINEL", "MYID"]).await?.unwrap_or_default();
    Ok(Link { connection, id, events })
}

async fn ask(link: &mut Link, service: &str, rounds: u64) -> Result<Vote, Silence> {
    let mut second = link.connection.clone();
    let question = |what: &str| redis::cmd("SENTINEL").arg(what).arg(service).clone();
    let (of_state, of_address) = (question("MASTER"), question("GET-MASTER-ADDR-BY-NAME"));
    // In this order: an old epoch with a new address is harmless, the reverse is not.
    let (state, address) =
        tokio::join!(of_state.query_async(&mut link.connection), of_address.query_async(&mut second));
    let state: RedisResult<HashMap<String, String>> = state;
    let address: RedisResult<Option<(String, u16)>> = address;
    let Some((host, port)) = address.map_err(|error| silence(&error))? else {
        return Err(Silence::NoService);
    };
    let state = match state {
        Ok(state) => state,
        Err(error) if is_answer(&error) => HashMap::new(),
        Err(error) => return Err(silence(&error)),
    };
    let step = state.get("failover-state").map(String::as_str);
    let mut others = Vec::new();
    if rounds.is_multiple_of(OTHERS_EVERY) {
        let told: RedisResult<Vec<HashMap<String, String>>> =
            question("SENTINELS").query_async(&mut link.connection).await;
        others = told.unwrap_or_default().iter().filter_map(other).collect();
    }
    Ok(Vote {
        id: link.id.clone(),
        master: Address { host, port },
        epoch: state.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0),
        is_replacing: step.is_some_and(|step| REPLACING.contains(&step)),
        others,
    })
}

fn other(fields: &HashMap<String, String>) -> Option<(Address, String)> {
    let host = fields.get("ip").filter(|host| !host.is_empty())?.clone();
    let port = fields.get("port")?.parse().ok().filter(|port| *port != 0)?;
    Some((Address { host, port }, fields.get("runid")?.clone()))
}

/// Whether the sentinel said so itself.
fn is_answer(error: &RedisError) -> bool {
    error.code().is_some_and(|code| !["NOAUTH", "WRONGPASS", "LOADING"].contains(&code))
}

fn silence(error: &RedisError) -> Silence {
    match crate::l2::words(error) {
        Some(words) => Silence::Refused(words),
        None if error.kind() == redis::ErrorKind::AuthenticationFailed => Silence::Refused(error.to_string()),
        None => Silence::Away(error.to_string()),
    }
}
