//! User sessions: logins that hold on every node. Owns how email and role stand in a session's JSON, nothing else of it.

use std::fmt::Display;
use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::{Client, Error, Repeat, command, duration, millis, random, text};
use crate::resp::Value;
use crate::state;
use crate::state::session::{Command, KeyMode, Settings, Validated};
use crate::state::{Call, Reply};

pub use crate::state::session::Surplus;

/// The checked command of these words, which name the variant: `parse` gives no other.
macro_rules! session_command {
    ($variant:ident, $words:expr) => {
        match command($words)? {
            state::Command::Session(Command::$variant(request)) => request,
            _ => unreachable!("parsed as what it is named"),
        }
    };
}

/// Logins, kept where all nodes see them: a user stays logged in when the node that answers changes, and a logout holds on
/// all of them.
///
/// A session ends when it was not used for the idle time (an hour), and in any case at the end of its absolute time (30
/// days). Tokens are 256 random bits; the server stores only their hash.
///
/// ```no_run
/// # use madcache::client::{Client, Error, SessionManager};
/// # async fn example(client: Client) -> Result<(), Error> {
/// let session_manager = SessionManager::new(client);
/// let session_token =
///     session_manager.create_session("ann", "ann@example.com", "authenticated".to_string()).await?;
/// // On any node:
/// if let Some(session) = session_manager.validate_session(&session_token).await? {
///     println!("{} is {}", session.email, session.role);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct SessionManager {
    client: Client,
    idle: Option<Duration>,
    absolute: Option<Duration>,
    max: Option<(u64, Surplus)>,
    key_mode: KeyMode,
}

/// A session that is live.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// Names the session without giving access to it, and survives rotation.
    pub id: String,
    /// Whose it is.
    pub user_id: String,
    /// As given at the login; empty for a session that something else created without one.
    pub email: String,
    /// As given at the login; empty as above.
    pub role: String,
    /// All that is kept with the session, `email` and `role` among it.
    pub data: Map<String, Json>,
    /// Grows with each change of `data`.
    pub version: u64,
    /// Until it ends if it is not used any more.
    pub idle_left: Duration,
    /// Until it ends in any case.
    pub absolute_left: Duration,
}

/// One of a user's sessions, as a list of them shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// For [`SessionManager::revoke`].
    pub id: String,
    /// The label given at the login.
    pub device: Option<String>,
    /// Milliseconds since 1970, by the server's clock.
    pub created_ms: u64,
    /// The last use that was written down.
    pub used_ms: u64,
    /// When it ends if it is not used any more.
    pub expires_ms: u64,
}

/// A token in place of another.
#[derive(Clone, PartialEq, Eq)]
pub struct Rotated {
    /// To be given to the client.
    pub token: String,
    /// The same as before.
    pub id: String,
    /// Until the session ends if it is not used any more.
    pub expires_in: Duration,
}

impl std::fmt::Debug for Rotated {
    /// Without the token: logs are read by others.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rotated").field("id", &self.id).finish_non_exhaustive()
    }
}

impl SessionManager {
    /// Sessions on this server, an hour idle and 30 days in all, any number of them per user.
    pub fn new(client: impl Into<Client>) -> SessionManager {
        SessionManager {
            client: client.into(),
            idle: None,
            absolute: None,
            max: None,
            key_mode: KeyMode::Hashed,
        }
    }

    /// New sessions end when they were not used for so long.
    #[must_use]
    pub fn with_idle(self, idle: Duration) -> SessionManager {
        SessionManager { idle: Some(idle), ..self }
    }

    /// New sessions end after so long in any case.
    #[must_use]
    pub fn with_absolute(self, absolute: Duration) -> SessionManager {
        SessionManager { absolute: Some(absolute), ..self }
    }

    /// A user has at most so many sessions; `surplus` says what happens at one more.
    #[must_use]
    pub fn with_max(self, sessions: u64, surplus: Surplus) -> SessionManager {
        SessionManager { max: Some((sessions, surplus)), ..self }
    }

    /// Keys hold the token itself instead of its hash: the daemon's `key_mode = "plain"`.
    #[must_use]
    pub fn with_plain_keys(self) -> SessionManager {
        SessionManager { key_mode: KeyMode::Plain, ..self }
    }

    /// Logs a user in, and answers the token for the client.
    ///
    /// # Errors
    /// [`Error::TooManySessions`] with [`Surplus::Reject`]; [`Error::Invalid`] for an empty user id;
    /// [`Error::Unreachable`]: a session may have been made whose token nobody knows, and which ends by itself.
    pub async fn create_session(
        &self,
        user_id: impl Display,
        email: impl Into<String>,
        role: impl Into<String>,
    ) -> Result<String, Error> {
        self.create(&user_id.to_string(), email.into(), role.into(), None).await
    }

    /// The same with a label that [`list`](Self::list) shows: a browser, a phone.
    ///
    /// # Errors
    /// As [`create_session`](Self::create_session).
    pub async fn create_session_on(
        &self,
        device: &str,
        user_id: impl Display,
        email: impl Into<String>,
        role: impl Into<String>,
    ) -> Result<String, Error> {
        self.create(&user_id.to_string(), email.into(), role.into(), Some(device)).await
    }

    async fn create(
        &self,
        user: &str,
        email: String,
        role: String,
        device: Option<&str>,
    ) -> Result<String, Error> {
        let data = serde_json::json!({ "email": email, "role": role }).to_string();
        let mut words = vec!["SESSION.CREATE".to_owned(), user.to_owned(), "DATA".to_owned(), data];
        words.extend(self.idle.into_iter().flat_map(|idle| ["IDLE".to_owned(), millis(idle)]));
        words.extend(self.absolute.into_iter().flat_map(|end| ["ABSOLUTE".to_owned(), millis(end)]));
        words.extend(device.into_iter().flat_map(|device| ["DEVICE".to_owned(), device.to_owned()]));
        words.extend(self.max.into_iter().flat_map(|(sessions, surplus)| {
            let surplus = match surplus {
                Surplus::Evict => "EVICT",
                Surplus::Reject => "REJECT",
            };
            ["MAX".to_owned(), sessions.to_string(), surplus.to_owned()]
        }));
        let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        let create = session_command!(Create, &words);
        let call = create.call(&self.settings().await?, &random(), &random());
        Ok(self.granted(&call).await?.token)
    }

    /// The session of a token; `None`: it has ended, or never was. Counts as a use of the session.
    ///
    /// # Errors
    /// [`Error::Unreachable`]: nobody knows whether the user is logged in; do not take it for a no.
    pub async fn validate_session(&self, token: &str) -> Result<Option<Session>, Error> {
        let validate = session_command!(Validate, &[b"SESSION.VALIDATE", token.as_bytes()]);
        let settings = self.settings().await?;
        let frame = self.client.run(&validate.call(&settings), Repeat::Safe).await?;
        let Some(validated) = Validated::parse(&frame).map_err(Error::Unexpected)? else { return Ok(None) };
        if validated.wants_touch(0) {
            self.client.run_aside(vec![validate.touch(&settings)]);
        }
        Ok(Some(Session::new(&validated)))
    }

    /// Replaces what is kept with a session, unless it was changed since it was read. Answers its new version.
    ///
    /// # Errors
    /// [`Error::Stale`], [`Error::NoSession`].
    pub async fn update(&self, token: &str, seen: &Session, data: &Map<String, Json>) -> Result<u64, Error> {
        let (data, version) = (serde_json::json!(data).to_string(), seen.version.to_string());
        let words: [&[u8]; 5] =
            [b"SESSION.SET", token.as_bytes(), data.as_bytes(), b"IFVER", version.as_bytes()];
        let set = session_command!(Set, &words);
        let version = self.client.number(&set.call(&self.settings().await?), Repeat::Once).await?;
        version.try_into().map_err(|_| Error::unexpected())
    }

    /// A new token for the session, as after a login with more rights. The old one validates for `grace` still.
    ///
    /// # Errors
    /// [`Error::NoSession`]; [`Error::Stale`] if this token was rotated before.
    pub async fn rotate(&self, token: &str, grace: Duration) -> Result<Rotated, Error> {
        let grace = grace.as_millis().to_string();
        let words: [&[u8]; 4] = [b"SESSION.ROTATE", token.as_bytes(), b"GRACE", grace.as_bytes()];
        let rotate = session_command!(Rotate, &words);
        self.granted(&rotate.call(&self.settings().await?, &random())).await
    }

    /// Logs out: the session of this token ends. `false`: there was none.
    ///
    /// # Errors
    /// [`Error::Unreachable`]: try again, or the session may live on.
    pub async fn destroy(&self, token: &str) -> Result<bool, Error> {
        let destroy = session_command!(Destroy, &[b"SESSION.DESTROY", token.as_bytes()]);
        Ok(self.client.number(&destroy.call(&self.settings().await?), Repeat::Safe).await? == 1)
    }

    /// Ends the session with this id, which [`list`](Self::list) shows. `false`: there was none.
    ///
    /// # Errors
    /// As [`destroy`](Self::destroy).
    pub async fn revoke(&self, id: &str) -> Result<bool, Error> {
        let revoke = session_command!(Revoke, &[b"SESSION.REVOKE", id.as_bytes()]);
        Ok(self.client.number(&revoke.call(&self.settings().await?), Repeat::Safe).await? == 1)
    }

    /// Ends all sessions of a user, on all nodes. Answers how many there were.
    ///
    /// # Errors
    /// As [`destroy`](Self::destroy).
    pub async fn destroy_all(&self, user_id: impl Display) -> Result<u64, Error> {
        self.end_all(&user_id.to_string(), None).await
    }

    /// Ends all sessions of a user but the one of this token: after a change of the password.
    ///
    /// # Errors
    /// As [`destroy`](Self::destroy).
    pub async fn destroy_others(&self, user_id: impl Display, token: &str) -> Result<u64, Error> {
        self.end_all(&user_id.to_string(), Some(token)).await
    }

    async fn end_all(&self, user: &str, except: Option<&str>) -> Result<u64, Error> {
        let mut words = vec![&b"SESSION.DESTROYALL"[..], user.as_bytes()];
        words.extend(except.into_iter().flat_map(|token| [&b"EXCEPT"[..], token.as_bytes()]));
        let request = session_command!(DestroyAll, &words);
        let ended = self.client.number(&request.call(&self.settings().await?), Repeat::Safe).await?;
        ended.try_into().map_err(|_| Error::unexpected())
    }

    /// The live sessions of a user, those that end first before the others.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn list(&self, user_id: impl Display) -> Result<Vec<SessionInfo>, Error> {
        let list = session_command!(List, &[b"SESSION.LIST", user_id.to_string().as_bytes()]);
        let value = self.client.ask(&list.call(&self.settings().await?), Repeat::Safe).await?;
        let rows = value.elements().ok_or_else(Error::unexpected)?;
        rows.iter().map(|row| SessionInfo::new(row).ok_or_else(Error::unexpected)).collect()
    }

    async fn settings(&self) -> Result<Settings, Error> {
        let naming = self.client.naming().await?;
        Ok(Settings { naming, key_mode: self.key_mode, ..Settings::default() })
    }

    /// Runs what makes a token. The token itself is no part of the script's reply.
    async fn granted(&self, call: &Call) -> Result<Rotated, Error> {
        let Reply::Granted(fresh) = call.reply else { unreachable!("CREATE and ROTATE make tokens") };
        let value = self.client.ask(call, Repeat::Once).await?;
        let Some([id, expires]) = value.elements() else { return Err(Error::unexpected()) };
        Ok(Rotated {
            token: text(fresh.as_bytes()),
            id: id.text().map(text).ok_or_else(Error::unexpected)?,
            expires_in: duration(expires.int().ok_or_else(Error::unexpected)?),
        })
    }
}

impl Session {
    fn new(found: &Validated) -> Session {
        let data = found.data.and_then(|data| serde_json::from_slice(data).ok()).unwrap_or_default();
        let field = |name: &str| match Map::get(&data, name) {
            Some(Json::String(text)) => text.clone(),
            _ => String::new(),
        };
        Session {
            id: text(found.id),
            user_id: text(found.user),
            email: field("email"),
            role: field("role"),
            version: found.version.unsigned_abs(),
            idle_left: duration(found.idle_ms.min(found.ends_ms - found.now_ms)),
            absolute_left: duration(found.ends_ms - found.now_ms),
            data,
        }
    }
}

impl SessionInfo {
    fn new(row: &Value) -> Option<SessionInfo> {
        let [id, device, created, used, expires] = row.elements()? else { return None };
        let time = |value: &Value| value.int().and_then(|ms| u64::try_from(ms).ok());
        Some(SessionInfo {
            id: text(id.text()?),
            device: device.text().map(text),
            created_ms: time(created)?,
            used_ms: time(used)?,
            expires_ms: time(expires)?,
        })
    }
}
