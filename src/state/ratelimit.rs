//! RATELIMIT commands. Owns what a limit is, the names of subjects' keys, and what an answer means;
//! `lua/ratelimit_shared.lua` says what stands in the keys and how each algorithm counts.
//!
//! What is left to the caller (the daemon's session layer, the typed client):
//!
//! - `Check::resolve` with the `Limits` in force; then `Resolved::check` or `peek`, and `Outcome::parse` where needed.
//! - L1: after a denial of `Resolved::may_be_remembered`, the next check with the same `Resolved` goes over the tracked link;
//!   the script reads the key by a plain read command, so L2 tracks it. If that is a denial too, `Outcome::parse` of it may
//!   be stored under the key (`Resolved::key`) and the `Resolved`, until the key is invalidated. It answers `Outcome::after` of
//!   the time since the request was *sent*: None means that the denial is over, and L2 is to be asked.
//! - L2 away: `Resolved::on_l2_down`. `Open`: `Outcome::open`. `Closed`: `Outcome::closed`. `Local`: the same script on a
//!   keyspace in this process, of `Resolved::divided`. Driver `none`: `Outcome::open`.
//! - MULTI: `Multi::plan`.
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::iter::once;
use std::net::{IpAddr, Ipv6Addr};

use smallvec::SmallVec;

use super::script::{Word, digits, script};
use super::{Arguments, Call, Fault, Naming, Reply, SYNTAX_ERROR, Script};
use crate::command::slot;
use crate::config::{LimitAlgorithm, LimitOnL2Down, Policy};

mod outcome;

pub use outcome::{Outcome, multi_reply, outcomes_of_multi};

static CHECK: Script = script!("ratelimit_check", "", "ratelimit_shared").batched();
static PEEK: Script = script!("ratelimit_peek", "no-writes", "ratelimit_shared");
static REFUND: Script = script!("ratelimit_refund", "allow-oom", "ratelimit_shared");
static MULTI: Script = script!("ratelimit_multi", "", "ratelimit_shared");
static RESET: Script = script!("ratelimit_reset");

pub static SCRIPTS: &[&Script] = &[&CHECK, &PEEK, &REFUND, &MULTI, &RESET];

/// The names of an outcome's fields in RESP3.
pub const FIELDS: &[&str] = &["allowed", "limit", "remaining", "retry_after_ms", "reset_ms"];

/// Products of a limit and its window up to here are exact in Lua.
pub const EXACT_MAX: u64 = 1 << 53;

/// Ten years: the end of the next window stays a time that Redis can expire at.
const WINDOW_MS_MAX: u64 = 10 * 365 * 24 * 3600 * 1000;

/// Items of one MULTI: its script runs in one piece.
const ITEMS_MAX: usize = 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Check(Check),
    Peek(Check),
    Reset(Subject),
    Refund(Refund),
    Multi(Multi),
}

/// Who is limited: `ratelimit:<scope>:<subject>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// `[A-Za-z0-9_-]+`. In the scope `ip` the subject is an address.
    pub scope: Short,
    pub subject: Short,
}

/// Most scopes and subjects need no memory of their own.
pub type Short = SmallVec<[u8; 24]>;

/// How much a subject may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Terms {
    /// By a name of the configuration.
    Policy(Vec<u8>),
    Limit {
        limit: u64,
        window_ms: u64,
        burst: Option<u64>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub subject: Subject,
    pub terms: Terms,
    /// None: the policy's; without one sliding, with a burst GCRA.
    pub algorithm: Option<LimitAlgorithm>,
    pub cost: u64,
    pub shadow: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    pub subject: Subject,
    pub terms: Terms,
    pub algorithm: Option<LimitAlgorithm>,
    pub cost: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multi {
    pub items: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub subject: Subject,
    pub policy: Vec<u8>,
    pub cost: u64,
}

/// What the configuration says.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    pub naming: &'a Naming,
    pub policies: &'a BTreeMap<String, Policy>,
    pub ipv6_prefix_bits: u64,
    /// For limits without a policy, and for policies that do not say.
    pub on_l2_down: LimitOnL2Down,
}

/// A check whose policy, key and algorithm are known. Equal ones have equal answers at equal times.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resolved {
    pub key: Vec<u8>,
    letter: u8,
    limit: u64,
    window_ms: u64,
    /// What fits at once: the limit, or the burst of GCRA.
    capacity: u64,
    cost: u64,
    shadow: bool,
    down: u8,
}

/// `None` for a verb that does not exist.
pub fn parse(verb: &[u8], args: &mut Arguments) -> Result<Option<Command>, Fault> {
    let command = match verb {
        b"CHECK" => Command::Check(check(args)?),
        b"PEEK" => Command::Peek(check(args)?),
        b"RESET" => {
            let subject = subject(args)?;
            args.end()?;
            Command::Reset(subject)
        }
        b"REFUND" => Command::Refund(refund(args)?),
        b"MULTI" => Command::Multi(multi(args)?),
        _ => return Ok(None),
    };
    Ok(Some(command))
}

fn subject(args: &mut Arguments) -> Result<Subject, Fault> {
    let (scope, subject) = (args.required()?, args.required()?);
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if scope.is_empty() || !scope.iter().all(fits) {
        return Err("ERR a scope is made of letters, digits, _ and -".into());
    }
    Ok(Subject { scope: Short::from_slice(scope), subject: Short::from_slice(subject) })
}

fn check(args: &mut Arguments) -> Result<Check, Fault> {
    let subject = subject(args)?;
    let options = Options::read(args, true)?;
    Ok(Check {
        subject,
        terms: options.terms,
        algorithm: options.algorithm,
        cost: options.cost,
        shadow: options.shadow,
    })
}

fn refund(args: &mut Arguments) -> Result<Refund, Fault> {
    let subject = subject(args)?;
    let cost = args.number(0..=EXACT_MAX)?;
    let options = Options::read(args, false)?;
    Ok(Refund { subject, cost, terms: options.terms, algorithm: options.algorithm })
}

fn multi(args: &mut Arguments) -> Result<Multi, Fault> {
    let count = args.number(1..=ITEMS_MAX as u64)? as usize;
    if args.len() != 4 * count {
        return Err(args.wrong_number());
    }
    let item = |args: &mut Arguments| {
        let (subject, policy) = (subject(args)?, args.required()?.to_vec());
        Ok(Item { subject, policy, cost: args.number(0..=EXACT_MAX)? })
    };
    Ok(Multi { items: (0..count).map(|_| item(args)).collect::<Result<_, Fault>>()? })
}

/// What stands behind scope and subject.
struct Options {
    terms: Terms,
    algorithm: Option<LimitAlgorithm>,
    cost: u64,
    shadow: bool,
}

impl Options {
    /// `of_check`: COST, SHADOW and BURST are options too.
    fn read(args: &mut Arguments, of_check: bool) -> Result<Options, Fault> {
        if args.is_empty() {
            return Err(args.wrong_number());
        }
        let (mut policy, mut limit, mut window_ms, mut burst) = (None, None, None, None);
        let (mut algorithm, mut cost, mut shadow) = (None, 1, false);
        while let Some(option) = args.option() {
            match option.as_slice() {
                b"POLICY" => policy = Some(args.value()?.to_vec()),
                b"LIMIT" => limit = Some(args.value_number(1..=EXACT_MAX)?),
                b"WINDOW" => window_ms = Some(args.value_number(1..=WINDOW_MS_MAX)?),
                b"ALGO" => algorithm = Some(algorithm_of(args.value()?)?),
                b"BURST" => burst = Some(args.value_number(1..=EXACT_MAX)?),
                b"COST" if of_check => cost = args.value_number(0..=EXACT_MAX)?,
                b"SHADOW" if of_check => shadow = true,
                _ => return Err(SYNTAX_ERROR.into()),
            }
        }
        let terms = match (policy, limit, window_ms) {
            (Some(policy), None, None) if burst.is_none() => Terms::Policy(policy),
            (None, Some(limit), Some(window_ms)) => Terms::Limit { limit, window_ms, burst },
            _ => return Err(SYNTAX_ERROR.into()),
        };
        Ok(Options { terms, algorithm, cost, shadow })
    }
}

fn algorithm_of(word: &[u8]) -> Result<LimitAlgorithm, Fault> {
    match word.to_ascii_lowercase().as_slice() {
        b"sliding" => Ok(LimitAlgorithm::Sliding),
        b"gcra" => Ok(LimitAlgorithm::Gcra),
        b"fixed" => Ok(LimitAlgorithm::Fixed),
        b"log" => Ok(LimitAlgorithm::Log),
        _ => Err(SYNTAX_ERROR.into()),
    }
}

impl Subject {
    /// The key: IPv6 addresses stand for their network, those that only wrap an IPv4 address for that one.
    pub fn key(&self, limits: &Limits) -> Vec<u8> {
        let subject: Cow<[u8]> = match self.scope.as_slice() {
            b"ip" => network(&self.subject, limits.ipv6_prefix_bits),
            _ => Cow::Borrowed(&self.subject),
        };
        limits.naming.key([b"ratelimit:", &self.scope, b":", &subject])
    }

    /// RESET.
    pub fn reset(&self, limits: &Limits) -> Call {
        Call::new(&RESET, vec![self.key(limits)], Vec::new(), Reply::AsIs)
    }
}

/// What is no address stays as it is.
fn network(text: &[u8], ipv6_prefix_bits: u64) -> Cow<'_, [u8]> {
    let address = std::str::from_utf8(text).ok().and_then(|text| text.parse::<IpAddr>().ok());
    match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(address)) => Cow::Owned(address.to_string().into_bytes()),
        Some(IpAddr::V6(address)) => {
            let host_bits = 128 - ipv6_prefix_bits.clamp(1, 128) as u32;
            let mask = u128::MAX << host_bits;
            Cow::Owned(Ipv6Addr::from_bits(address.to_bits() & mask).to_string().into_bytes())
        }
        None => Cow::Borrowed(text),
    }
}

impl Check {
    /// What the check means with the policies in force; NOPOLICY where its one is not among them.
    pub fn resolve(&self, limits: &Limits) -> Result<Resolved, Fault> {
        Resolved::new(limits, &self.subject, &self.terms, self.algorithm, self.cost, self.shadow)
    }
}

impl Refund {
    /// `Resolved::refund` of it answers how much was given back.
    pub fn resolve(&self, limits: &Limits) -> Result<Resolved, Fault> {
        Resolved::new(limits, &self.subject, &self.terms, self.algorithm, self.cost, false)
    }

    /// Answers how much was given back.
    pub fn call(&self, limits: &Limits) -> Result<Call, Fault> {
        Ok(self.resolve(limits)?.refund())
    }
}

impl Resolved {
    fn new(
        limits: &Limits,
        subject: &Subject,
        terms: &Terms,
        algorithm: Option<LimitAlgorithm>,
        cost: u64,
        shadow: bool,
    ) -> Result<Resolved, Fault> {
        let (policy, on_l2_down);
        let (limit, window_ms, burst, algorithm) = match terms {
            Terms::Policy(name) => {
                policy = std::str::from_utf8(name).ok().and_then(|name| limits.policies.get(name));
                let policy = policy.ok_or_else(|| no_policy(name))?;
                on_l2_down = policy.on_l2_down.unwrap_or(limits.on_l2_down);
                (policy.limit, policy.window_ms, policy.burst, algorithm.unwrap_or(policy.algorithm()))
            }
            Terms::Limit { limit, window_ms, burst } => {
                on_l2_down = limits.on_l2_down;
                let default = if burst.is_some() { LimitAlgorithm::Gcra } else { LimitAlgorithm::Sliding };
                let algorithm = algorithm.unwrap_or(default);
                if burst.is_some() && algorithm != LimitAlgorithm::Gcra {
                    return Err(SYNTAX_ERROR.into());
                }
                (*limit, *window_ms, *burst, algorithm)
            }
        };
        let capacity = burst.filter(|_| algorithm == LimitAlgorithm::Gcra).unwrap_or(limit);
        let exact = limit.max(capacity).checked_mul(window_ms).is_some_and(|product| product <= EXACT_MAX);
        if !exact || limit == 0 || window_ms == 0 {
            return Err("ERR limit (or burst) times window is out of range".into());
        }
        let letter = match algorithm {
            LimitAlgorithm::Sliding => b's',
            LimitAlgorithm::Gcra => b'g',
            LimitAlgorithm::Fixed => b'f',
            LimitAlgorithm::Log => b'l',
        };
        let down = match on_l2_down {
            LimitOnL2Down::Open => b'o',
            LimitOnL2Down::Closed => b'c',
            LimitOnL2Down::Local => b'l',
        };
        Ok(Resolved { key: subject.key(limits), letter, limit, window_ms, capacity, cost, shadow, down })
    }

    pub fn check(&self) -> Call {
        let call = self.call(&CHECK);
        // A log may have to be read from end to end.
        if self.letter == b'l' { call.alone() } else { call }
    }

    pub fn peek(&self) -> Call {
        self.call(&PEEK)
    }

    /// Gives back the cost of this check.
    pub fn refund(&self) -> Call {
        let args = self.args();
        Call::with_words(&REFUND, once(&*self.key), args.iter().map(Word::as_slice), Reply::AsIs)
    }

    fn call(&self, script: &'static Script) -> Call {
        let shadow: &[u8] = if self.shadow { b"s" } else { b"" };
        let args = self.args();
        let args = args.iter().map(Word::as_slice).chain([shadow]);
        Call::with_words(script, once(&*self.key), args, Reply::Fields(FIELDS))
    }

    /// The five arguments by which scripts know a rule.
    fn args(&self) -> [Word; 5] {
        let [limit, window, capacity, cost] =
            [self.limit, self.window_ms, self.capacity, self.cost].map(digits);
        [Word::from_slice(&[self.letter]), limit, window, capacity, cost]
    }

    /// Whether a denial of this check may be answered from L1. PEEK and MULTI never are, whatever this says.
    pub fn may_be_remembered(&self) -> bool {
        !self.shadow
    }

    pub fn on_l2_down(&self) -> LimitOnL2Down {
        match self.down {
            b'c' => LimitOnL2Down::Closed,
            b'l' => LimitOnL2Down::Local,
            _ => LimitOnL2Down::Open,
        }
    }

    /// This daemon's share of the limit among `nodes`, at least 1.
    #[must_use]
    pub fn divided(&self, nodes: u64) -> Resolved {
        let share = |value: u64| (value / nodes.max(1)).max(1);
        Resolved { limit: share(self.limit), capacity: share(self.capacity), ..self.clone() }
    }

    /// What fits at once, the `limit` of the answer.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }
}

fn no_policy(name: &[u8]) -> Fault {
    let name = String::from_utf8_lossy(name).replace(['\r', '\n'], " ");
    format!("NOPOLICY the configuration has no rate-limit policy '{name}'").into()
}

/// How a MULTI is run.
#[derive(Debug, Clone)]
pub enum Plan {
    /// All keys share a slot: all or nothing.
    Whole(Call),
    /// One `Resolved::check` after the other; after a denial each one that was allowed is given back by
    /// `Resolved::refund`. `multi_reply` gathers the outcomes. Never too much is admitted; for a moment, too little may be.
    OneByOne(Vec<Resolved>),
}

impl Multi {
    pub fn resolve(&self, limits: &Limits) -> Result<Vec<Resolved>, Fault> {
        let resolve = |item: &Item| {
            let terms = Terms::Policy(item.policy.clone());
            Resolved::new(limits, &item.subject, &terms, None, item.cost, false)
        };
        self.items.iter().map(resolve).collect()
    }

    pub fn plan(&self, limits: &Limits) -> Result<Plan, Fault> {
        let resolved = self.resolve(limits)?;
        let slots: Vec<u16> = resolved.iter().map(|item| slot(&item.key)).collect();
        if limits.naming.tagged && slots.iter().any(|slot| *slot != slots[0]) {
            return Ok(Plan::OneByOne(resolved));
        }
        Ok(Plan::Whole(at_once(&resolved)))
    }
}

/// Checks as one script: all or nothing. In a cluster their keys must share a slot.
pub fn at_once(items: &[Resolved]) -> Call {
    let keys = items.iter().map(|item| item.key.as_slice());
    let args: Vec<Word> = items.iter().flat_map(Resolved::args).collect();
    const ANSWER: Reply =
        Reply::Nested(&[("allowed", Reply::AsIs), ("denied", Reply::AsIs), ("limits", Reply::Rows(FIELDS))]);
    Call::with_words(&MULTI, keys, args.iter().map(Word::as_slice), ANSWER)
}

#[cfg(test)]
mod tests;
