//! The master of a service, as its sentinels name it: asked for with each connection that is opened. Knows no script.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, IntoConnectionInfo, RedisError, RedisResult};

use super::{Error, PATIENCE};
use crate::config::{Address, Endpoint, Secret, Target, Upstream};

const SCHEME: &str = "redis-sentinel://";

pub(super) struct Elected {
    service: String,
    /// Whom to connect as, wherever it is.
    target: Target,
    sentinels: Vec<redis::Client>,
}

impl Elected {
    /// None: another kind of URL.
    pub(super) fn open(url: &str) -> Result<Option<Elected>, Error> {
        let scheme = url.trim().get(..SCHEME.len());
        if !scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME)) {
            return Ok(None);
        }
        let target = Upstream { url: Some(Secret::new(url)), ..Upstream::default() }.target();
        let target = target.map_err(|error| {
            let text = error.to_string().replace("upstream.url", "the URL");
            Error::Url((ErrorKind::InvalidClientConfig, "it cannot be used", text).into())
        })?;
        let Some(known) = target.sentinels() else { return Ok(None) };
        let sentinels = known.addresses.iter().map(|address| client(&target.sentinel(known, address)));
        let sentinels = sentinels.collect::<RedisResult<_>>().map_err(Error::Url)?;
        Ok(Some(Elected { service: known.service.clone(), sentinels, target: target.clone() }))
    }

    /// The newest word of all sentinels that answer.
    pub(super) async fn master(&self) -> RedisResult<redis::Client> {
        let asked = self.sentinels.iter().map(|sentinel| self.ask(sentinel));
        let answers = futures_util::future::join_all(asked).await;
        let mut failure: Option<RedisError> = None;
        let mut newest: Option<(u64, Address)> = None;
        for answer in answers {
            match answer {
                Ok((epoch, address)) if newest.as_ref().is_none_or(|(known, _)| epoch > *known) => {
                    newest = Some((epoch, address));
                }
                Ok(_) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match newest {
            Some((_, address)) => client(&self.target.at(&address)),
            None => {
                let reason = failure.map_or_else(String::new, |error| error.to_string());
                Err((ErrorKind::Io, "no sentinel names a master", reason).into())
            }
        }
    }

    async fn ask(&self, sentinel: &redis::Client) -> RedisResult<(u64, Address)> {
        let patience = Some(PATIENCE / 2);
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(patience).set_response_timeout(patience);
        let mut connection = sentinel.get_multiplexed_async_connection_with_config(&config).await?;
        let asked = |what: &str| redis::cmd("SENTINEL").arg(what).arg(&self.service).clone();
        let state: RedisResult<HashMap<String, String>> = asked("MASTER").query_async(&mut connection).await;
        let epoch = state.ok().and_then(|state| state.get("config-epoch")?.parse().ok()).unwrap_or(0);
        let address: Option<(String, u16)> =
            asked("GET-MASTER-ADDR-BY-NAME").query_async(&mut connection).await?;
        let (host, port) = address
            .ok_or_else(|| (ErrorKind::Client, "a sentinel knows no such service", self.service.clone()))?;
        Ok((epoch, Address { host, port }))
    }

    /// Whether the server that was connected to is a master indeed.
    pub(super) async fn check(connection: &mut MultiplexedConnection) -> Result<(), Error> {
        let role: RedisResult<Vec<redis::Value>> = redis::cmd("ROLE").query_async(connection).await;
        // A user without the right to ask is told by READONLY.
        match role.as_deref() {
            Ok([redis::Value::BulkString(role), ..]) if role != b"master" => {
                Err(Error::away("the server that the sentinels name is a replica"))
            }
            _ => Ok(()),
        }
    }
}

fn client(target: &Target) -> RedisResult<redis::Client> {
    let Endpoint::Tcp { host, port } = &target.endpoint else {
        return Err((ErrorKind::Client, "not the address of one server").into());
    };
    let mut settings =
        redis::RedisConnectionInfo::default().set_skip_set_lib_name().set_db(i64::from(target.db));
    if let Some(user) = &target.username {
        settings = settings.set_username(user);
    }
    if let Some(password) = &target.password {
        settings = settings.set_password(password.expose());
    }
    let address = redis::ConnectionAddr::Tcp(host.clone(), *port);
    redis::Client::open(address.into_connection_info()?.set_redis_settings(settings))
}
