//! The connection of a client: opened when it is needed, shared by all who ask, opened again when it broke. Shows replies
//! as the frames that `state` understands. Knows no script.

use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSubStream};
use redis::{AsyncConnectionConfig, Cmd, RedisError, RedisResult};
use tokio::sync::Mutex;

use super::elected::Elected;
use super::{Error, PATIENCE};
use crate::resp;

/// What was answered.
pub(super) enum Sent {
    Answered(Vec<u8>),
    /// EVALSHA of a script that the server does not have.
    NoScript,
}

/// Where to connect.
pub(super) enum Server {
    At(redis::Client),
    Elected(Elected),
}

impl Server {
    async fn client(&self) -> RedisResult<redis::Client> {
        match self {
            Server::At(redis) => Ok(redis.clone()),
            Server::Elected(elected) => elected.master().await,
        }
    }
}

pub(super) struct Links {
    server: Server,
    /// Held while it is opened, so that many who find it closed open one.
    open: Mutex<Opened>,
}

#[derive(Default)]
struct Opened {
    link: Option<Link>,
    /// How many were opened: tells a broken one from the one opened after it.
    count: u64,
}

#[derive(Clone)]
pub(super) struct Link {
    connection: MultiplexedConnection,
    number: u64,
    /// The server is a cluster: keys of one script need a common hash tag.
    pub(super) tagged: bool,
}

impl Links {
    pub(super) fn new(server: Server) -> Links {
        Links { server, open: Mutex::default() }
    }

    pub(super) async fn link(&self) -> Result<Link, Error> {
        let mut open = self.open.lock().await;
        if let Some(link) = &open.link {
            return Ok(link.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let redis = self.server.client().await.map_err(Error::of)?;
        let mut connection =
            redis.get_multiplexed_async_connection_with_config(&config).await.map_err(Error::of)?;
        if let Server::Elected(_) = self.server {
            Elected::check(&mut connection).await?;
        }
        // A user without the right to ask is not on a cluster, or will be told by CROSSSLOT.
        let info: RedisResult<String> = redis::cmd("INFO").arg("cluster").query_async(&mut connection).await;
        let tagged = match info {
            Ok(info) => info.contains("cluster_enabled:1"),
            Err(error) if is_broken(&error) => return Err(Error::away(error)),
            Err(_) => false,
        };
        open.count += 1;
        let link = Link { connection, number: open.count, tagged };
        open.link = Some(link.clone());
        Ok(link)
    }

    /// The next who asks opens another one.
    pub(super) async fn forget(&self, broken: &Link) {
        let mut open = self.open.lock().await;
        if open.link.as_ref().is_some_and(|link| link.number == broken.number) {
            open.link = None;
        }
    }

    pub(super) async fn subscribe(&self, channel: &[u8]) -> Result<PubSubStream, Error> {
        within(PATIENCE, async {
            let mut subscription = self.server.client().await?.get_async_pubsub().await?;
            subscription.subscribe(channel).await?;
            Ok(subscription.into_on_message())
        })
        .await
    }
}

async fn within<T>(time: Duration, work: impl Future<Output = RedisResult<T>>) -> Result<T, Error> {
    match tokio::time::timeout(time, work).await {
        Ok(outcome) => outcome.map_err(Error::of),
        Err(_) => Err(Error::away("no answer in time")),
    }
}

impl Link {
    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Sent> {
        let mut connection = self.connection.clone();
        match connection.send_packed_command(command).await.and_then(redis::Value::extract_error) {
            Ok(value) => {
                let mut frame = Vec::new();
                write(&value, &mut frame);
                Ok(Sent::Answered(frame))
            }
            Err(error) if error.code() == Some("NOSCRIPT") => Ok(Sent::NoScript),
            Err(error) => Err(error),
        }
    }
}

/// Whether the connection is of no more use: everything but an answer of the server's, and the answer of a master that has
/// become a replica.
pub(super) fn is_broken(error: &RedisError) -> bool {
    error.code().is_none_or(|code| code == "READONLY")
}

/// A request as the redis crate wants it.
pub(super) fn command_of(request: &[u8]) -> Cmd {
    let words = resp::parse(request);
    let words = words.as_ref().and_then(|value| value.elements()).expect("requests are arrays");
    let mut command = Cmd::new();
    for word in words {
        command.arg(word.text().expect("of bulk strings"));
    }
    command
}

/// What our scripts answer, as the frame that it was.
fn write(value: &redis::Value, out: &mut Vec<u8>) {
    match value {
        redis::Value::Nil => resp::null(out, false),
        redis::Value::Int(number) => resp::integer(out, *number),
        redis::Value::BulkString(text) => resp::bulk(out, text),
        redis::Value::SimpleString(text) => resp::simple(out, text),
        redis::Value::Okay => resp::simple(out, "OK"),
        redis::Value::Array(elements) => {
            resp::array_header(out, elements.len());
            elements.iter().for_each(|element| write(element, out));
        }
        // No script of ours answers these; whoever reads the frame finds that it is not what was asked for.
        _ => resp::simple(out, "?"),
    }
}
