//! LOCK commands. Owns the names of a lock's keys and channels; `lua/lock_shared.lua` says what stands in them.
//!
//! What is left to the caller (the daemon's session layer, the typed client):
//!
//! - ACQUIRE: a token (`token_text` of 128 random bits) where the client gave none, and a nonce of 128 random bits, the same
//!   for all attempts and repeats of one ACQUIRE. `Acquired::parse` reads the reply.
//! - WAIT: subscribe to `wake_channel` first, for all locks. An attempt with `Waits::InLine` that is denied stands in line:
//!   look again (the same call) when a `Wake` is for this waiter, and in any case after `look_again`, which is also its
//!   sign of life. When its time is over, or its client left: `cancel`, which also ends a grant that came too late.
//!   In MULTI and without WAIT: `Waits::No`.
//! - RENEW: `Extend` each ttl / `RENEWALS_PER_TTL`. On LOCKLOST, or when the last success's sending time + ttl is reached
//!   without another one: `lost_push` to the client (RESP3), and `lost_event`. A RELEASE through the same session ends it.
//! - BIND: when the connection closes, `cancel` for each ACQUIRE with BIND that it was granted and did not release, by the
//!   nonce. A lock that was taken anew with the same token, by another ACQUIRE, stays. May be repeated until answered.
pub mod masters;
pub mod votes;

use super::script::script;
use super::{
    Arguments, Call, Fault, NOT_AN_INTEGER, Naming, Reply, SYNTAX_ERROR, Script, UNEXPECTED, understood,
};
use crate::resp::{bulk, encode_request, push_header};
use std::time::Duration;

static ACQUIRE: Script = script!("lock_acquire", "", "lock_shared");
static EXTEND: Script = script!("lock_extend", "allow-oom", "lock_shared");
static RELEASE: Script = script!("lock_release", "allow-oom", "lock_shared");
static CANCEL: Script = script!("lock_cancel", "allow-oom", "lock_shared");
static FORCE: Script = script!("lock_force", "allow-oom", "lock_shared");
static CHECK: Script = script!("lock_check", "no-writes", "lock_shared");
static INFO: Script = script!("lock_info", "no-writes", "lock_shared");

pub static SCRIPTS: &[&Script] = &[&ACQUIRE, &EXTEND, &RELEASE, &CANCEL, &FORCE, &CHECK, &INFO];

/// So often within its ttl the daemon extends a lock with RENEW.
pub const RENEWALS_PER_TTL: u32 = 3;

/// Expiry sends no message, so a waiter looks again after this at the latest. After three times as long it counts as dead.
pub const LOOK_AGAIN_MAX: Duration = Duration::from_secs(1);

/// Ten years: deadlines in microseconds stay whole numbers in Lua.
const TTL_MS_MAX: u64 = 10 * 365 * 24 * 3600 * 1000;

/// 128 random bits that name one ACQUIRE through all its attempts.
pub type Nonce = [u8; 16];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Acquire(Acquire),
    Extend(Extend),
    Release(Release),
    Check(Check),
    Info(Info),
    Force(Force),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acquire {
    pub name: Vec<u8>,
    pub ttl_ms: u64,
    /// None: the caller makes one.
    pub token: Option<Vec<u8>>,
    /// How long to wait at most; 0 and None: not at all.
    pub wait_ms: Option<u64>,
    pub fair: bool,
    pub reentrant: bool,
    pub renew: bool,
    pub bind: bool,
    /// The label that INFO shows.
    pub owner: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extend {
    pub name: Vec<u8>,
    pub token: Vec<u8>,
    pub ttl_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    pub name: Vec<u8>,
    pub token: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: Vec<u8>,
    pub token: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    pub name: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Force {
    pub name: Vec<u8>,
}

/// Whether a denied attempt stands in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    No,
    InLine,
}

/// `None` for a verb that does not exist.
pub fn parse(verb: &[u8], args: &mut Arguments) -> Result<Option<Command>, Fault> {
    let command = match verb {
        b"ACQUIRE" => Command::Acquire(acquire(args)?),
        b"EXTEND" => {
            let (name, token) = named_token(args)?;
            let ttl = args.required()?;
            args.end()?;
            Command::Extend(Extend { ttl_ms: ttl_ms(ttl, args)?, name: checked(name)?, token })
        }
        b"RELEASE" => {
            let (name, token) = named_token(args)?;
            args.end()?;
            Command::Release(Release { name: checked(name)?, token })
        }
        b"CHECK" => {
            let (name, token) = named_token(args)?;
            args.end()?;
            Command::Check(Check { name: checked(name)?, token })
        }
        b"INFO" => Command::Info(Info { name: only_name(args)? }),
        b"FORCE" => Command::Force(Force { name: only_name(args)? }),
        _ => return Ok(None),
    };
    Ok(Some(command))
}

fn acquire(args: &mut Arguments) -> Result<Acquire, Fault> {
    let (name, ttl) = (args.required()?, args.required()?);
    let mut acquire = Acquire {
        name: checked(name)?,
        ttl_ms: ttl_ms(ttl, args)?,
        token: None,
        wait_ms: None,
        fair: false,
        reentrant: false,
        renew: false,
        bind: false,
        owner: None,
    };
    while let Some(option) = args.option() {
        match option.as_slice() {
            b"TOKEN" => {
                let token = args.value()?;
                if token.is_empty() {
                    return Err("ERR a token cannot be empty".into());
                }
                acquire.token = Some(token.to_vec());
            }
            b"WAIT" => {
                let fault = "ERR timeout is not an integer or out of range";
                let value = super::arguments::integer(args.value()?, 0..=TTL_MS_MAX);
                acquire.wait_ms = Some(value.map_err(|_| fault)?);
            }
            b"FAIR" => acquire.fair = true,
            b"REENTRANT" => acquire.reentrant = true,
            b"RENEW" => acquire.renew = true,
            b"BIND" => acquire.bind = true,
            b"OWNER" => acquire.owner = Some(args.value()?.to_vec()),
            _ => return Err(SYNTAX_ERROR.into()),
        }
    }
    Ok(acquire)
}

fn only_name(args: &mut Arguments) -> Result<Vec<u8>, Fault> {
    let name = args.required()?;
    args.end()?;
    checked(name)
}

fn named_token<'a>(args: &mut Arguments<'a>) -> Result<(&'a [u8], Vec<u8>), Fault> {
    Ok((args.required()?, args.required()?.to_vec()))
}

/// A name may be any bytes but braces: it stands in the hash tag of its companions.
fn checked(name: &[u8]) -> Result<Vec<u8>, Fault> {
    if name.iter().any(|byte| matches!(byte, b'{' | b'}')) {
        return Err("ERR the name of a lock cannot hold { or }".into());
    }
    Ok(name.to_vec())
}

fn ttl_ms(text: &[u8], args: &Arguments) -> Result<u64, Fault> {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let value = super::arguments::integer(unsigned, 0..=i64::MAX as u64).map_err(|_| NOT_AN_INTEGER)?;
    if unsigned.len() < text.len() || !(1..=TTL_MS_MAX).contains(&value) {
        return Err(format!("ERR invalid expire time in '{}' command", args.command()).into());
    }
    Ok(value)
}

/// The keys of one lock: the five that scripts know, in their order.
struct Keys {
    lock: Vec<u8>,
    grant: Vec<u8>,
    released: Vec<u8>,
    queue: Vec<u8>,
    signs: Vec<u8>,
}

impl Keys {
    fn new(naming: &Naming, name: &[u8]) -> Keys {
        let lock = naming.key([b"lock:", name]);
        let companion = |what: &[u8]| naming.companion(&lock, what);
        Keys {
            grant: companion(b"grant"),
            released: companion(b"released"),
            queue: companion(b"queue"),
            signs: companion(b"signs"),
            lock,
        }
    }

    fn all(self) -> Vec<Vec<u8>> {
        vec![self.lock, self.grant, self.released, self.queue, self.signs]
    }
}

impl Acquire {
    /// One attempt. `token`: the one given, or one that stays the same in all attempts.
    pub fn call(&self, naming: &Naming, token: &[u8], nonce: &Nonce, waits: Waits) -> Call {
        let mut letters = Vec::new();
        letters.extend((waits == Waits::InLine).then_some(b'w'));
        letters.extend(self.fair.then_some(b'f'));
        letters.extend(self.reentrant.then_some(b'r'));
        let args = vec![
            token.to_vec(),
            self.ttl_ms.to_string().into_bytes(),
            hexadecimal(nonce),
            letters,
            self.owner.clone().unwrap_or_default(),
            naming.events("lock", &self.name),
        ];
        let reply = Reply::Fields(&["granted", "token", "fence", "ms"]);
        Call::new(&ACQUIRE, Keys::new(naming, &self.name).all(), args, reply)
    }

    /// Whether an attempt whose fate is unknown may be sent again (with the same nonce). A client's own repetition of
    /// REENTRANT would count another hold.
    pub fn is_repeatable(&self) -> bool {
        !self.reentrant
    }
}

impl Extend {
    pub fn call(&self, naming: &Naming) -> Call {
        let keys = Keys::new(naming, &self.name);
        let args = vec![self.token.clone(), self.ttl_ms.to_string().into_bytes()];
        Call::new(&EXTEND, vec![keys.lock, keys.grant], args, Reply::AsIs)
    }
}

impl Release {
    pub fn call(&self, naming: &Naming) -> Call {
        let args = vec![
            self.token.clone(),
            wake_channel(naming),
            naming.events("lock", &self.name),
            self.name.clone(),
        ];
        Call::new(&RELEASE, Keys::new(naming, &self.name).all(), args, Reply::AsIs)
    }
}

impl Check {
    pub fn call(&self, naming: &Naming) -> Call {
        let keys = Keys::new(naming, &self.name);
        let reply = Reply::Fields(&["held", "fence", "ttl_ms"]);
        Call::new(&CHECK, vec![keys.lock, keys.grant], vec![self.token.clone()], reply)
    }
}

impl Info {
    pub fn call(&self, naming: &Naming) -> Call {
        let keys = Keys::new(naming, &self.name);
        let reply = Reply::Fields(&["owner", "fence", "ttl_ms", "waiters"]);
        Call::new(&INFO, vec![keys.lock, keys.grant, keys.signs], Vec::new(), reply)
    }
}

impl Force {
    pub fn call(&self, naming: &Naming) -> Call {
        let args = vec![wake_channel(naming), naming.events("lock", &self.name), self.name.clone()];
        Call::new(&FORCE, Keys::new(naming, &self.name).all(), args, Reply::AsIs)
    }
}

/// Ends what one ACQUIRE began, whatever became of it: its place in line, its hold, and attempts that arrive later.
/// Answers 1 if a hold ended. May be repeated.
pub fn cancel(naming: &Naming, name: &[u8], nonce: &Nonce) -> Call {
    let args = vec![hexadecimal(nonce), wake_channel(naming), naming.events("lock", name), name.to_vec()];
    Call::new(&CANCEL, Keys::new(naming, name).all(), args, Reply::AsIs)
}

/// Where releases of any lock are told to the daemons whose clients wait.
pub fn wake_channel(naming: &Naming) -> Vec<u8> {
    naming.key([b"x:lock:wake"])
}

/// A message of the wake channel: waiters for `name` may look again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wake<'a> {
    pub name: &'a [u8],
    /// The only one that can be granted the lock now; None: any waiter can.
    pub next: Option<Nonce>,
}

impl<'a> Wake<'a> {
    pub fn parse(message: &'a [u8]) -> Option<Wake<'a>> {
        let blank = message.iter().position(|&byte| byte == b' ')?;
        let (next, name) = (&message[..blank], &message[blank + 1..]);
        let next = if next == b"*" { None } else { Some(nonce_of(next)?) };
        Some(Wake { name, next })
    }
}

/// What ACQUIRE answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired {
    Granted {
        token: Vec<u8>,
        fence: u64,
        ttl_ms: u64,
    },
    /// `fence`: the holder's; None for a foreign one, and where the lock is free but others wait for it.
    Denied {
        fence: Option<u64>,
        retry_ms: u64,
    },
}

impl Acquired {
    pub fn parse(frame: &[u8]) -> Result<Acquired, Fault> {
        let value = understood(frame)?;
        let Some([granted, token, fence, ms]) = value.elements() else { return Err(UNEXPECTED.into()) };
        let number = |value: &crate::resp::Value| value.int().and_then(|value| u64::try_from(value).ok());
        let ms = number(ms).ok_or(UNEXPECTED)?;
        match (granted.int(), token.text(), number(fence)) {
            (Some(1), Some(token), Some(fence)) => {
                Ok(Acquired::Granted { token: token.to_vec(), fence, ttl_ms: ms })
            }
            (Some(0), None, fence) => Ok(Acquired::Denied { fence, retry_ms: ms }),
            _ => Err(UNEXPECTED.into()),
        }
    }
}

/// When a waiter that was denied looks again at the latest.
pub fn look_again(retry_ms: u64) -> Duration {
    Duration::from_millis(retry_ms.max(1)).min(LOOK_AGAIN_MAX)
}

/// The token for 128 random bits.
pub fn token_text(random: &[u8; 16]) -> Vec<u8> {
    hexadecimal(random)
}

/// RESP3 push to the client whose lock was lost.
pub fn lost_push(name: &[u8], token: &[u8], out: &mut Vec<u8>) {
    push_header(out, 3, true);
    [&b"lock-lost"[..], name, token].iter().for_each(|text| bulk(out, text));
}

/// The PUBLISH that tells everybody of a loss.
pub fn lost_event(naming: &Naming, name: &[u8], fence: Option<u64>) -> Vec<u8> {
    let text = match fence {
        Some(fence) => format!(r#"{{"type":"lost","fence":{fence}}}"#),
        None => r#"{"type":"lost"}"#.to_owned(),
    };
    encode_request(&[b"PUBLISH", &naming.events("lock", name), text.as_bytes()])
}

fn hexadecimal(bits: &[u8; 16]) -> Vec<u8> {
    format!("{:032x}", u128::from_be_bytes(*bits)).into_bytes()
}

fn nonce_of(digits: &[u8]) -> Option<Nonce> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.len() == 32)?;
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests;
