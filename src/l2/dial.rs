//! Opens the redis crate's connections. Where a target is reached by TLS they stand on a stream that was made here, so that
//! they trust whom the links trust, and say as clearly what is wrong.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{
    AsyncConnectionConfig, ErrorKind, IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisResult,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::PATIENCE;
use crate::config::{Endpoint, Target};
use crate::shared::Shared;
use crate::tls::{self, Connector, Peer};

pub(super) async fn connection(target: &Target, shared: &Shared) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let Some(connector) = shared.tls.connector(target) else {
        return client(target)?.get_multiplexed_async_connection_with_config(&config).await;
    };
    within(PATIENCE, async {
        let stream = stream(&target.endpoint, &connector).await?;
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&settings(target), stream, config).await?;
        tokio::spawn(driver);
        Ok(connection)
    })
    .await
}

/// The same, where the server's own words matter if it refuses the login: the redis crate has one text for all of them.
pub(super) async fn logged_in(target: &Target, shared: &Shared) -> RedisResult<MultiplexedConnection> {
    let nobody = Target { username: None, password: None, ..target.clone() };
    let mut connection = connection(&nobody, shared).await?;
    if let Some(password) = &target.password {
        let mut auth = redis::cmd("AUTH");
        auth.arg(&target.username).arg(password.expose()).exec_async(&mut connection).await?;
    }
    Ok(connection)
}

pub(super) async fn subscription(target: &Target, shared: &Shared) -> RedisResult<PubSub> {
    let Some(connector) = shared.tls.connector(target) else {
        return client(target)?.get_async_pubsub().await;
    };
    within(PATIENCE, async {
        let stream = stream(&target.endpoint, &connector).await?;
        PubSub::new(&settings(target), stream).await
    })
    .await
}

async fn within<T>(time: Duration, work: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    let late = |_| {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {time:?}; does it speak TLS on this port?"),
        )
    };
    tokio::time::timeout(time, work).await.map_err(late)?
}

async fn stream(endpoint: &Endpoint, connector: &Connector) -> RedisResult<TlsStream<TcpStream>> {
    let Endpoint::Tcp { host, port } = endpoint else {
        return Err(RedisError::from((ErrorKind::Client, "TLS is spoken over TCP alone")));
    };
    let name = connector.name(host).map_err(io::Error::other)?;
    let stream = TcpStream::connect((host.as_str(), *port)).await?;
    stream.set_nodelay(true)?;
    let connecting = TlsConnector::from(connector.config.clone()).connect(name, stream);
    Ok(connecting.await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::other(tls::went_away(Peer::Redis)),
        _ => error,
    })?)
}

/// The reason in words why a new connection is of no use, where TLS has failed or may be what is missing.
pub(super) fn explained(error: RedisError, target: &Target) -> RedisError {
    let reason = match failure_of_tls(&error) {
        Some(failure) => tls::reason(failure, Peer::Redis),
        None if error.is_connection_dropped() && !error.is_connection_refusal() => {
            tls::closed_at_once(target.tls.is_some()).to_owned()
        }
        None => return error,
    };
    io::Error::new(io::ErrorKind::ConnectionAborted, reason).into()
}

fn failure_of_tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    // The redis crate and io::Error wrap what they were given.
    if let Some(shared) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        return failure_of_tls(&**shared);
    }
    if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return failure_of_tls(inner);
    }
    error.downcast_ref().or_else(|| failure_of_tls(error.source()?))
}

fn settings(target: &Target) -> RedisConnectionInfo {
    let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(user) = &target.username {
        settings = settings.set_username(user);
    }
    if let Some(password) = &target.password {
        settings = settings.set_password(password.expose());
    }
    settings
}

fn client(target: &Target) -> RedisResult<redis::Client> {
    let addr = match &target.endpoint {
        Endpoint::Tcp { host, port } => redis::ConnectionAddr::Tcp(host.clone(), *port),
        Endpoint::Unix { path } => redis::ConnectionAddr::Unix(path.into()),
        Endpoint::Memory | Endpoint::Sentinel(_) | Endpoint::Cluster { .. } => {
            return Err(RedisError::from((ErrorKind::Client, "there is no one Redis to connect to")));
        }
    };
    redis::Client::open(addr.into_connection_info()?.set_redis_settings(settings(target)))
}
