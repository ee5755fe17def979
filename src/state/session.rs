//! SESSION commands: logins of users, not client connections. Owns the names of a user session's keys;
//! `lua/session_shared.lua` says what stands in them.
//!
//! What is left to the caller (the daemon's session layer, the typed client):
//!
//! - CREATE, ROTATE: 256 random bits for the token, and for CREATE 128 for the id. The token is no argument of the script;
//!   `Reply::Granted` puts it into the client's reply.
//! - VALIDATE: run `Validate::call` (over the tracked link, for L1: it reads its one key only), understand the frame with
//!   `Validated::parse`, and show it with `Validated::answer`, then and at each hit. Where that says `touch`, run
//!   `Validate::touch` and wait for nobody (once: a touch under way for the key is enough). `Verdict::Unknown`, and STRICT:
//!   ask L2. In MULTI `Call::reply` does it; a touch that is due is run behind EXEC.
//! - Keys that these scripts write but do not declare (other sessions of the user, the old token of a rotated one) are in
//!   the same slot; L1 learns of them by push and barrier as of any script's writes.
use super::script::script;
use super::{
    Arguments, Call, Fault, NOT_AN_INTEGER, Naming, Reply, SYNTAX_ERROR, Script, UNEXPECTED,
    arguments::integer, json,
};

mod token;
mod validated;

pub use token::{Fresh, KeyMode, Tag, Token};
pub use validated::{Use, Validated, Verdict};

static CREATE: Script = script!("session_create", "", "session_shared").finding_keys();
static VALIDATE: Script = script!("session_validate", "no-writes", "session_shared");
static TOUCH: Script = script!("session_touch", "allow-oom", "session_shared").finding_keys();
static SET: Script = script!("session_set", "", "session_shared").finding_keys();
static ROTATE: Script = script!("session_rotate", "", "session_shared").finding_keys();
static DESTROY: Script = script!("session_destroy", "allow-oom", "session_shared").finding_keys();
static REVOKE: Script = script!("session_revoke", "allow-oom", "session_shared").finding_keys();
static DESTROYALL: Script = script!("session_destroyall", "allow-oom", "session_shared").finding_keys();
static LIST: Script = script!("session_list", "allow-oom", "session_shared").finding_keys();

pub static SCRIPTS: &[&Script] =
    &[&CREATE, &VALIDATE, &TOUCH, &SET, &ROTATE, &DESTROY, &REVOKE, &DESTROYALL, &LIST];

/// Thirty years: as for presence, far from where numbers in Lua lose digits.
const TIME_MS_MAX: u64 = 30 * 365 * 24 * 3600 * 1000;

/// What the configuration says of sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub naming: Naming,
    pub key_mode: KeyMode,
    /// Where CREATE says nothing else.
    pub idle_ms: u64,
    pub absolute_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            naming: Naming::default(),
            key_mode: KeyMode::Hashed,
            idle_ms: 3_600_000,
            absolute_ms: 30 * 24 * 3_600_000,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Create(Create),
    Validate(Validate),
    Touch(Touch),
    Set(Set),
    Rotate(Rotate),
    Destroy(Destroy),
    Revoke(Revoke),
    DestroyAll(DestroyAll),
    List(List),
    Count(Count),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    pub user: Vec<u8>,
    pub idle_ms: Option<u64>,
    pub absolute_ms: Option<u64>,
    pub data: Option<Vec<u8>>,
    pub device: Option<Vec<u8>>,
    pub max: Option<Max>,
}

/// How many sessions a user may have, and what happens to one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Max {
    pub sessions: u64,
    pub surplus: Surplus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surplus {
    /// Those end that would end first.
    Evict,
    /// MAXSESSIONS.
    Reject,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validate {
    pub token: Token,
    pub counts: Use,
    /// L2 is asked in any case.
    pub strict: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    pub token: Token,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub token: Token,
    pub data: Vec<u8>,
    pub if_version: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotate {
    pub token: Token,
    pub grace_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destroy {
    pub token: Token,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoke {
    pub id: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestroyAll {
    pub user: Vec<u8>,
    pub except: Option<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    pub user: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    pub user: Vec<u8>,
}

/// `None` for a verb that does not exist.
pub fn parse(verb: &[u8], args: &mut Arguments) -> Result<Option<Command>, Fault> {
    let command = match verb {
        b"CREATE" => Command::Create(create(args)?),
        b"VALIDATE" => Command::Validate(validate(args)?),
        b"TOUCH" => Command::Touch(Touch { token: Token::new(only(args)?) }),
        b"SET" => Command::Set(set(args)?),
        b"ROTATE" => {
            let token = Token::new(args.required()?);
            let grace_ms = match args.option().as_deref() {
                None => 0,
                Some(b"GRACE") => args.value_number(0..=TIME_MS_MAX)?,
                Some(_) => return Err(SYNTAX_ERROR.into()),
            };
            finished(args)?;
            Command::Rotate(Rotate { token, grace_ms })
        }
        b"DESTROY" => Command::Destroy(Destroy { token: Token::new(only(args)?) }),
        b"REVOKE" => Command::Revoke(Revoke { id: only(args)?.to_vec() }),
        b"DESTROYALL" => {
            let user = args.required()?;
            let except = match args.option().as_deref() {
                None => None,
                Some(b"EXCEPT") => Some(Token::new(args.value()?)),
                Some(_) => return Err(SYNTAX_ERROR.into()),
            };
            finished(args)?;
            Command::DestroyAll(DestroyAll { user: checked(user)?, except })
        }
        b"LIST" => Command::List(List { user: checked(only(args)?)? }),
        b"COUNT" => Command::Count(Count { user: checked(only(args)?)? }),
        _ => return Ok(None),
    };
    Ok(Some(command))
}

fn create(args: &mut Arguments) -> Result<Create, Fault> {
    let user = checked(args.required()?)?;
    let mut create = Create { user, idle_ms: None, absolute_ms: None, data: None, device: None, max: None };
    while let Some(option) = args.option() {
        match option.as_slice() {
            b"IDLE" => create.idle_ms = Some(time_ms(args.value()?, args)?),
            b"ABSOLUTE" => create.absolute_ms = Some(time_ms(args.value()?, args)?),
            b"DATA" => create.data = Some(json::checked(args.value()?)?),
            b"DEVICE" => create.device = Some(args.value()?.to_vec()),
            b"MAX" => {
                let sessions = args.value_number(1..=1_000_000)?;
                let surplus = match args.value()?.to_ascii_uppercase().as_slice() {
                    b"EVICT" => Surplus::Evict,
                    b"REJECT" => Surplus::Reject,
                    _ => return Err(SYNTAX_ERROR.into()),
                };
                create.max = Some(Max { sessions, surplus });
            }
            _ => return Err(SYNTAX_ERROR.into()),
        }
    }
    Ok(create)
}

fn validate(args: &mut Arguments) -> Result<Validate, Fault> {
    let mut validate = Validate { token: Token::new(args.required()?), counts: Use::Counts, strict: false };
    while let Some(option) = args.option() {
        match option.as_slice() {
            b"NOTOUCH" => validate.counts = Use::Not,
            b"STRICT" => validate.strict = true,
            _ => return Err(SYNTAX_ERROR.into()),
        }
    }
    Ok(validate)
}

fn set(args: &mut Arguments) -> Result<Set, Fault> {
    let (token, data) = (Token::new(args.required()?), args.required()?);
    let if_version = match args.option().as_deref() {
        None => None,
        Some(b"IFVER") => Some(args.value_number(0..=1 << 53)?),
        Some(_) => return Err(SYNTAX_ERROR.into()),
    };
    finished(args)?;
    Ok(Set { token, data: json::checked(data)?, if_version })
}

fn only<'a>(args: &mut Arguments<'a>) -> Result<&'a [u8], Fault> {
    let only = args.required()?;
    args.end()?;
    Ok(only)
}

fn finished(args: &Arguments) -> Result<(), Fault> {
    if args.is_empty() { Ok(()) } else { Err(SYNTAX_ERROR.into()) }
}

fn checked(user: &[u8]) -> Result<Vec<u8>, Fault> {
    if user.is_empty() { Err("ERR a user id cannot be empty".into()) } else { Ok(user.to_vec()) }
}

fn time_ms(text: &[u8], args: &Arguments) -> Result<u64, Fault> {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let value = integer(unsigned, 0..=i64::MAX as u64).map_err(|_| NOT_AN_INTEGER)?;
    if unsigned.len() < text.len() || !(1..=TIME_MS_MAX).contains(&value) {
        return Err(format!("ERR invalid expire time in '{}' command", args.command()).into());
    }
    Ok(value)
}

fn text(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

impl Settings {
    /// The key of a token.
    fn key(&self, tag: &Tag, name: &[u8]) -> Vec<u8> {
        let mut key = tag.base(&self.naming);
        key.extend_from_slice(name);
        key
    }

    fn index(&self, tag: &Tag) -> Vec<Vec<u8>> {
        vec![tag.companion(&self.naming, b"index"), tag.companion(&self.naming, b"names")]
    }

    /// A script about the session of one token: its key, the index and the names; base, name and `more`.
    fn by_token(&self, script: &'static Script, token: &Token, more: Vec<Vec<u8>>) -> Call {
        self.by_tokens(script, token, None, more)
    }

    /// With the key of a token that is to take its place.
    fn by_tokens(
        &self,
        script: &'static Script,
        token: &Token,
        next: Option<Vec<u8>>,
        more: Vec<Vec<u8>>,
    ) -> Call {
        let (tag, name) = (token.tag(), token.name(self.key_mode));
        let mut keys = vec![self.key(&tag, &name)];
        keys.extend(next);
        keys.extend(self.index(&tag));
        let mut args = vec![tag.base(&self.naming), name];
        args.extend(more);
        Call::new(script, keys, args, Reply::AsIs)
    }
}

impl Create {
    /// `secret` and `id` are random.
    pub fn call(&self, settings: &Settings, secret: &[u8; 32], id: &[u8; 16]) -> Call {
        let tag = Tag::of_user(&self.user);
        let fresh = Fresh::new(secret, &tag);
        let (most, surplus) = self.max.map_or((0, &b""[..]), |max| match max.surplus {
            Surplus::Evict => (max.sessions, b"EVICT"),
            Surplus::Reject => (max.sessions, b"REJECT"),
        });
        let more = vec![
            token::id(id, &tag),
            self.user.clone(),
            text(self.idle_ms.unwrap_or(settings.idle_ms)),
            text(self.absolute_ms.unwrap_or(settings.absolute_ms)),
            self.data.clone().unwrap_or_default(),
            self.device.clone().unwrap_or_default(),
            text(most),
            surplus.to_vec(),
        ];
        settings.by_token(&CREATE, &fresh.into(), more).read_as(Reply::Granted(fresh))
    }
}

impl Validate {
    /// Reads the session; `Call::reply` answers as of now.
    pub fn call(&self, settings: &Settings) -> Call {
        let key = settings.key(&self.token.tag(), &self.token.name(settings.key_mode));
        Call::new(&VALIDATE, vec![key], Vec::new(), Reply::Validated(self.counts))
    }

    /// Writes the use down, if none was for idle/20. Nobody needs its reply.
    pub fn touch(&self, settings: &Settings) -> Call {
        settings.by_token(&TOUCH, &self.token, Vec::new())
    }
}

impl Touch {
    pub fn call(&self, settings: &Settings) -> Call {
        settings.by_token(&TOUCH, &self.token, Vec::new())
    }
}

impl Set {
    pub fn call(&self, settings: &Settings) -> Call {
        let version = self.if_version.map(text).unwrap_or_default();
        settings.by_token(&SET, &self.token, vec![self.data.clone(), version])
    }
}

impl Rotate {
    /// `secret` is random.
    pub fn call(&self, settings: &Settings, secret: &[u8; 32]) -> Call {
        let tag = self.token.tag();
        let fresh = Fresh::new(secret, &tag);
        let name = Token::from(fresh).name(settings.key_mode);
        let new_key = settings.key(&tag, &name);
        let more = vec![name, text(self.grace_ms)];
        settings.by_tokens(&ROTATE, &self.token, Some(new_key), more).read_as(Reply::Granted(fresh))
    }
}

impl Destroy {
    pub fn call(&self, settings: &Settings) -> Call {
        settings.by_token(&DESTROY, &self.token, Vec::new())
    }
}

impl Revoke {
    pub fn call(&self, settings: &Settings) -> Call {
        let tag = Tag::of_text(&self.id);
        let args = vec![tag.base(&settings.naming), self.id.clone()];
        Call::new(&REVOKE, settings.index(&tag), args, Reply::AsIs)
    }
}

impl DestroyAll {
    pub fn call(&self, settings: &Settings) -> Call {
        let tag = Tag::of_user(&self.user);
        let mut keys = settings.index(&tag);
        // A token with another tag is no token of this user, and its key may be in another slot.
        let kept = self.except.as_ref().filter(|token| token.tag() == tag);
        keys.extend(kept.map(|token| settings.key(&tag, &token.name(settings.key_mode))));
        let args = vec![tag.base(&settings.naming), self.user.clone()];
        Call::new(&DESTROYALL, keys, args, Reply::AsIs)
    }
}

fn list(settings: &Settings, user: &[u8], count_only: &[u8], reply: Reply) -> Call {
    let tag = Tag::of_user(user);
    let args = vec![tag.base(&settings.naming), user.to_vec(), count_only.to_vec()];
    Call::new(&LIST, settings.index(&tag), args, reply)
}

impl List {
    pub fn call(&self, settings: &Settings) -> Call {
        let names = &["id", "device", "created_ms", "used_ms", "expires_ms"];
        list(settings, &self.user, b"", Reply::Rows(names))
    }
}

impl Count {
    pub fn call(&self, settings: &Settings) -> Call {
        list(settings, &self.user, b"1", Reply::AsIs)
    }
}

#[cfg(test)]
mod tests;
