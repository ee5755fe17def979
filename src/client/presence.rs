//! Presence: who is online in a channel. Owns which entries were joined through a manager; beating and sweeping is in
//! `upkeep`, events in `events`.

mod events;
mod upkeep;

pub use events::{PresenceEvent, PresenceEventKind, PresenceEvents};
pub use upkeep::KeepAlive;

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value as Json;
use tokio::time::Instant;

use super::{Client, Error, Repeat, command, millis, random, text};
use crate::resp::Value;
use crate::state;
use crate::state::presence;
use crate::state::presence::hints::{self, Hint};
use crate::state::presence::{Beat, Command, Entry, Join};

/// Who is online, per channel, across all workers.
///
/// A manager stands for one connection of its process; a user with several connections (tabs, devices) is announced with
/// the first and leaves with the last: [`for_connection`](Self::for_connection) names them. An entry lives for the ttl (60
/// seconds) unless it is beaten: [`keep_alive`](Self::keep_alive) does that for all that join through this manager while it is there.
///
/// ```no_run
/// # use madcache::client::{Client, Error, PresenceManager};
/// # async fn example(client: Client) -> Result<(), Error> {
/// let presence_manager = PresenceManager::new(client);
/// let _alive = presence_manager.keep_alive();
/// presence_manager.join_channel("ann", "public-chat".to_string(), None).await?;
/// let count = presence_manager.get_channel_online_count("public-chat".to_string()).await?;
/// println!("{count} online");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct PresenceManager {
    client: Client,
    connection: String,
    ttl: Duration,
    /// What keepers beat for. Empty while there are none: then nobody would take out what has ended.
    joined: Arc<Mutex<HashMap<Entry, Kept>>>,
    keepers: Arc<AtomicUsize>,
}

/// What was joined, and when its hints were written.
#[derive(Debug, Clone)]
struct Kept {
    join: Join,
    hinted: Instant,
}

/// What a join came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// This connection brought the user in.
    pub first: bool,
    /// How many users the channel has now.
    pub users: u64,
    /// The number of the channel's last event.
    pub seq: u64,
}

/// What a leave came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// The user has no connection left in the channel.
    pub last: bool,
    /// How many users the channel has now.
    pub users: u64,
    /// The number of the channel's last event.
    pub seq: u64,
}

/// A user in a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The user's id.
    pub user: String,
    /// How many connections the user has there.
    pub connections: u64,
    /// What the last join or update with meta gave.
    pub meta: Option<Json>,
}

/// A channel as it is after the event `seq`.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelState {
    /// Events with larger numbers are news.
    pub seq: u64,
    /// In no order.
    pub members: Vec<Member>,
}

impl PresenceManager {
    /// A connection of its own, with a random name.
    pub fn new(client: impl Into<Client>) -> PresenceManager {
        PresenceManager {
            client: client.into(),
            connection: format!("{:032x}", u128::from_be_bytes(random())),
            ttl: Duration::from_millis(presence::TTL_MS_DEFAULT),
            joined: Arc::default(),
            keepers: Arc::default(),
        }
    }

    /// For another connection that this process serves, a websocket say. [`keep_alive`](Self::keep_alive) of either beats
    /// for both.
    #[must_use]
    pub fn for_connection(&self, connection: impl Into<String>) -> PresenceManager {
        PresenceManager { connection: connection.into(), ..self.clone() }
    }

    /// How long an entry lives without a heartbeat.
    #[must_use]
    pub fn with_ttl(self, ttl: Duration) -> PresenceManager {
        PresenceManager { ttl, ..self }
    }

    /// Enters a user, or refreshes the entry. May be repeated: only the first of a user's connections is announced.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a channel with braces or one that ends in `:user` or `:users`; [`Error::Unreachable`].
    pub async fn join_channel(
        &self,
        user: impl Display,
        channel: impl AsRef<str>,
        meta: Option<Json>,
    ) -> Result<Joined, Error> {
        let (user, ttl) = (user.to_string(), millis(self.ttl));
        let meta = meta.map(|meta| meta.to_string());
        let mut words = vec![&b"PRESENCE.JOIN"[..], channel.as_ref().as_bytes(), user.as_bytes()];
        words.extend([self.connection.as_bytes(), b"TTL", ttl.as_bytes()]);
        words.extend(meta.iter().flat_map(|meta| [&b"META"[..], meta.as_bytes()]));
        let state::Command::Presence(Command::Join(join)) = command(&words)? else {
            unreachable!("PRESENCE.JOIN")
        };
        let (hinted, joined) = (Instant::now(), self.enter(&join).await?);
        let mut kept = self.kept();
        if self.keepers.load(Relaxed) > 0 {
            kept.insert(join.entry.clone(), Kept { join, hinted });
        }
        drop(kept);
        Ok(joined)
    }

    async fn enter(&self, join: &Join) -> Result<Joined, Error> {
        let (naming, client) = (self.client.naming().await?, &self.client);
        let began = Instant::now();
        let mut again = false;
        let default = presence::TTL_MS_DEFAULT;
        for hint in join.hints(&naming, default) {
            again |= hints::again(&client.run(&hint, Repeat::Safe).await?).map_err(Error::Unexpected)?;
        }
        let value = client.ask(&join.call(&naming, default, b""), Repeat::Safe).await?;
        if again || began.elapsed() > hints::SAFE {
            for hint in join.hints(&naming, default) {
                client.run(&hint, Repeat::Safe).await?;
            }
        }
        let [first, users, seq] = numbers(&value)?;
        Ok(Joined { first: first == 1, users, seq })
    }

    /// Takes this connection of the user out. May be repeated.
    ///
    /// # Errors
    /// [`Error::Unreachable`]: the entry ends with its ttl in any case, as it is not beaten any more.
    pub async fn leave(&self, user: impl Display, channel: impl AsRef<str>) -> Result<Left, Error> {
        let entry = self.entry(&user.to_string(), channel.as_ref())?;
        self.kept().remove(&entry);
        let naming = self.client.naming().await?;
        let [last, users, seq] = numbers(&self.client.ask(&entry.call(&naming), Repeat::Safe).await?)?;
        self.forget_hints(&naming, entry, last == 1);
        Ok(Left { last: last == 1, users, seq })
    }

    /// Takes all entries of this connection out, in all channels. Answers how many there were.
    ///
    /// # Errors
    /// As [`leave`](Self::leave).
    pub async fn leave_all(&self) -> Result<u64, Error> {
        self.kept().retain(|entry, _| entry.connection != self.connection.as_bytes());
        let naming = self.client.naming().await?;
        let connection = self.connection.as_bytes();
        let frame = self.client.run(&hints::of_connection(&naming, connection), Repeat::Safe).await?;
        let mut count = 0;
        for entry in hints::entries_of_connection(connection, &frame).map_err(Error::Unexpected)? {
            let call = entry.left(&naming, presence::Cause::Client, b"");
            let frame = self.client.run(&call, Repeat::Safe).await?;
            let left = presence::Left::parse(&frame).map_err(Error::Unexpected)?;
            count += u64::from(left.removed);
            self.forget_hints(&naming, entry, left.last);
        }
        Ok(count)
    }

    /// Refreshes one entry. `false`: it is gone; join again.
    ///
    /// # Errors
    /// [`Error::Unreachable`]: one beat is missing.
    pub async fn heartbeat(&self, user: impl Display, channel: impl AsRef<str>) -> Result<bool, Error> {
        let entry = self.entry(&user.to_string(), channel.as_ref())?;
        Ok(self.beat(&[&entry]).await?.first() == Some(&Beat::Refreshed))
    }

    /// How many users are in the channel.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn get_channel_online_count(&self, channel: impl AsRef<str>) -> Result<u64, Error> {
        let channel = checked(channel.as_ref())?;
        let naming = self.client.naming().await?;
        let value = self.client.ask(&presence::count(&naming, &channel), Repeat::Safe).await?;
        let [users, _connections] = numbers(&value)?;
        Ok(users)
    }

    /// The users of the channel, in no order, with what they gave as meta.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn members(&self, channel: impl AsRef<str>) -> Result<Vec<Member>, Error> {
        Ok(self.state(channel).await?.members)
    }

    /// The channel with the number of its last event: what a listener begins with, and what it reads when it finds a gap.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn state(&self, channel: impl AsRef<str>) -> Result<ChannelState, Error> {
        let channel = checked(channel.as_ref())?;
        let naming = self.client.naming().await?;
        let value = self.client.ask(&presence::state(&naming, &channel), Repeat::Safe).await?;
        let (seq, rows) =
            value.elements().and_then(|found| found.split_first()).ok_or_else(Error::unexpected)?;
        let seq = seq.int().and_then(|seq| u64::try_from(seq).ok()).ok_or_else(Error::unexpected)?;
        let members = rows.iter().map(|row| Member::new(row).ok_or_else(Error::unexpected));
        Ok(ChannelState { seq, members: members.collect::<Result<_, _>>()? })
    }

    /// The channels in which a user is.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn channels(&self, user: impl Display) -> Result<Vec<String>, Error> {
        let (user, asked) = (user.to_string().into_bytes(), Instant::now());
        let naming = self.client.naming().await?;
        let frame = self.client.run(&hints::of_user(&naming, &user), Repeat::Safe).await?;
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        for channel in hints::channels_of_user(&frame).map_err(Error::Unexpected)? {
            let call = presence::present(&naming, &channel, &user);
            match self.client.number(&call, Repeat::Safe).await? {
                1 => found.push(text(&channel)),
                _ => wrong.push(Hint::User { user: user.clone(), channel }),
            }
        }
        self.client.run_aside(Hint::forget(&naming, &wrong, asked.elapsed()));
        Ok(found)
    }

    /// Gives the user other meta in the channel, announced as an update. `false`: this connection is not in.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn update(
        &self,
        user: impl Display,
        channel: impl AsRef<str>,
        meta: &Json,
    ) -> Result<bool, Error> {
        let entry = self.entry(&user.to_string(), channel.as_ref())?;
        let update = presence::Update { entry, meta: meta.to_string().into_bytes() };
        let naming = self.client.naming().await?;
        let is_in = self.client.number(&update.call(&naming), Repeat::Safe).await? != 0;
        if let Some(kept) = self.kept().get_mut(&update.entry).filter(|_| is_in) {
            kept.join.meta = Some(update.meta);
        }
        Ok(is_in)
    }

    /// The joins, leaves and updates of a channel from now on.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn events(&self, channel: impl AsRef<str>) -> Result<PresenceEvents, Error> {
        let channel = checked(channel.as_ref())?;
        let naming = self.client.naming().await?;
        Ok(PresenceEvents::new(self.client.subscribe(&naming.events("presence", &channel)).await?))
    }

    async fn beat(&self, entries: &[&Entry]) -> Result<Vec<Beat>, Error> {
        let naming = self.client.naming().await?;
        let wanted: Vec<_> = entries.iter().map(|entry| (*entry, &b""[..])).collect();
        let mut answers = vec![Beat::Gone; entries.len()];
        for beats in presence::heartbeats(&naming, &wanted) {
            let frame = self.client.run(&beats.call, Repeat::Safe).await?;
            let found = Beat::parse_all(&frame).map_err(Error::Unexpected)?;
            beats.places.iter().zip(found).for_each(|(place, beat)| answers[*place] = beat);
        }
        Ok(answers)
    }

    fn entry(&self, user: &str, channel: &str) -> Result<Entry, Error> {
        let words: [&[u8]; 4] =
            [b"PRESENCE.LEAVE", channel.as_bytes(), user.as_bytes(), self.connection.as_bytes()];
        match command(&words)? {
            state::Command::Presence(Command::Leave(entry)) => Ok(entry),
            _ => unreachable!("PRESENCE.LEAVE"),
        }
    }

    fn forget_hints(&self, naming: &state::Naming, entry: Entry, last: bool) {
        let user = Hint::User { user: entry.user.clone(), channel: entry.channel.clone() };
        let wrong: Vec<_> = last.then_some(user).into_iter().chain([Hint::Connection(entry)]).collect();
        self.client.run_aside(Hint::forget(naming, &wrong, Duration::ZERO));
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Entry, Kept>> {
        self.joined.lock().expect("nobody panics while an entry is noted")
    }
}

/// The channel's name, as the daemon takes it.
fn checked(channel: &str) -> Result<Vec<u8>, Error> {
    match command(&[b"PRESENCE.COUNT", channel.as_bytes()])? {
        state::Command::Presence(Command::Count { channel }) => Ok(channel),
        _ => unreachable!("PRESENCE.COUNT"),
    }
}

fn numbers<const N: usize>(value: &Value) -> Result<[u64; N], Error> {
    let number = |value: &Value| value.int().and_then(|value| u64::try_from(value).ok());
    let numbers: Option<Vec<u64>> = value.elements().and_then(|found| found.iter().map(number).collect());
    numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(Error::unexpected)
}

impl Member {
    fn new(row: &Value) -> Option<Member> {
        let [user, connections, meta] = row.elements()? else { return None };
        Some(Member {
            user: text(user.text()?),
            connections: connections.int()?.try_into().ok()?,
            meta: meta.text().and_then(|meta| serde_json::from_slice(meta).ok()),
        })
    }
}
