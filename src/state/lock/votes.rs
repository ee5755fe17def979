//! What the answers of several masters mean together: who holds a lock, until when, with which fence. Pure.
//!
//! Any two majorities share a master. So a lock that a majority granted, and that a majority still held when its fence was
//! written back, is held by nobody else, and whoever holds it next was told by one of these masters a larger fence.
use std::fmt;
use std::time::Duration;

use super::super::understood;
use super::Acquired;
use crate::resp::{Value, array_header, bulk, integer, null};

/// So many masters there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quorum {
    masters: usize,
}

impl Quorum {
    pub fn of(masters: usize) -> Quorum {
        Quorum { masters }
    }

    /// So many must say the same.
    pub fn needed(self) -> usize {
        self.masters / 2 + 1
    }

    /// Where so many say something else, no majority can come about.
    pub fn blocking(self) -> usize {
        self.masters - self.needed() + 1
    }
}

/// What is left of a ttl that long after it began, in milliseconds: masters' clocks run differently by up to a hundredth, and
/// Redis ends keys to the millisecond. None: nothing.
pub fn validity_ms(ttl_ms: u64, elapsed: Duration) -> Option<u64> {
    let elapsed_ms = u64::try_from(elapsed.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
    ttl_ms.checked_sub(drift_ms(ttl_ms).saturating_add(elapsed_ms)).filter(|left| *left > 0)
}

fn drift_ms(ttl_ms: u64) -> u64 {
    ttl_ms / 100 + 2
}

/// What one master answered; `None`: nothing in time, or it was not asked.
pub type Frame<'a> = Option<&'a [u8]>;

/// Why no majority came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lack {
    quorum: Quorum,
    silent: usize,
    new: usize,
}

impl Lack {
    pub fn of(quorum: Quorum, frames: &[Frame<'_>]) -> Lack {
        Count::of(quorum, frames).lack
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lack { quorum, silent, new } = self;
        let (masters, needed) = (quorum.masters, quorum.needed());
        write!(f, "NOQUORUM {needed} of the {masters} masters of locks must agree: ")?;
        match (silent, new) {
            (0, 0) => f.write_str("they say different things, try again"),
            (silent, 0) => write!(f, "{silent} did not answer in time"),
            (0, new) => write!(f, "{new} started lately and may not count yet"),
            (silent, new) => {
                write!(f, "{silent} did not answer in time, {new} started lately and may not count yet")
            }
        }
    }
}

/// An answer, as far as all commands have it in common.
enum Said {
    Silent,
    /// It does not count.
    New,
    Error(Vec<u8>),
    Value(Value),
}

fn said(frame: Frame<'_>) -> Said {
    let Some(frame) = frame else { return Said::Silent };
    if frame.starts_with(b"-NEWMASTER") {
        return Said::New;
    }
    match understood(frame) {
        Ok(value) => Said::Value(value),
        Err(fault) => Said::Error(fault.into_owned().into_bytes()),
    }
}

/// Answers, counted.
struct Count {
    quorum: Quorum,
    values: Vec<Value>,
    /// Errors that a majority could say, but not LOCKLOST.
    errors: Vec<Vec<u8>>,
    lost: usize,
    lack: Lack,
}

impl Count {
    fn of(quorum: Quorum, frames: &[Frame<'_>]) -> Count {
        let lack = Lack { quorum, silent: quorum.masters - frames.len().min(quorum.masters), new: 0 };
        let mut count = Count { quorum, values: Vec::new(), errors: Vec::new(), lost: 0, lack };
        for frame in frames {
            match said(*frame) {
                Said::Silent => count.lack.silent += 1,
                Said::New => count.lack.new += 1,
                Said::Error(line) if line.starts_with(b"LOCKLOST") => count.lost += 1,
                Said::Error(line) => count.errors.push(line),
                Said::Value(value) => count.values.push(value),
            }
        }
        count
    }

    /// The error that keeps a majority from coming about, or the lack of one.
    fn verdict(self) -> Verdict {
        match self.errors.len() >= self.quorum.blocking() {
            true => Verdict::Refused(self.errors.into_iter().next().unwrap_or_default()),
            false => Verdict::Lacking(self.lack),
        }
    }
}

/// Why there is no answer by a majority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Lacking(Lack),
    /// With this error line.
    Refused(Vec<u8>),
    Lost,
}

impl Verdict {
    /// As the client gets it, without `-`.
    pub fn line(&self) -> Vec<u8> {
        match self {
            Verdict::Lacking(lack) => lack.to_string().into_bytes(),
            Verdict::Refused(line) => line.clone(),
            Verdict::Lost => b"LOCKLOST the lock is not held with this token".to_vec(),
        }
    }

    pub fn is_lack(&self) -> bool {
        matches!(self, Verdict::Lacking(_))
    }
}

/// What came of an attempt at a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// Enough masters grant it; the largest of their fences.
    Granted {
        fence: u64,
    },
    /// Others have it. `split`: this attempt has some masters too, and nobody may have enough.
    Denied {
        fence: Option<u64>,
        retry_ms: u64,
        split: bool,
    },
    Failed(Verdict),
}

impl Attempt {
    pub fn of(quorum: Quorum, frames: &[Frame<'_>]) -> Attempt {
        let (mut fences, mut held, mut retries) = (Vec::new(), None, Vec::new());
        for frame in frames.iter().flatten() {
            match Acquired::parse(frame) {
                Ok(Acquired::Granted { fence, .. }) => fences.push(fence),
                Ok(Acquired::Denied { fence, retry_ms }) => {
                    held = held.max(fence);
                    retries.push(retry_ms);
                }
                Err(_) => {}
            }
        }
        if fences.len() >= quorum.needed() {
            return Attempt::Granted { fence: fences.into_iter().max().unwrap_or_default() };
        }
        if fences.len() + retries.len() >= quorum.needed() {
            retries.sort_unstable();
            // When so many are free that they would be enough.
            let wanted = quorum.needed() - fences.len();
            return Attempt::Denied {
                fence: held,
                retry_ms: retries.get(wanted - 1).copied().unwrap_or_default(),
                split: !fences.is_empty(),
            };
        }
        let count = Count::of(quorum, frames);
        match count.lost >= quorum.blocking() {
            true => Attempt::Failed(Verdict::Refused(
                b"LOCKLOST this ACQUIRE was granted and released before".into(),
            )),
            false => Attempt::Failed(count.verdict()),
        }
    }

    /// Whether so many deny it that the others cannot grant it.
    pub fn is_decided(quorum: Quorum, frames: &[Frame<'_>]) -> bool {
        let is_denial = |frame: &&&[u8]| matches!(Acquired::parse(frame), Ok(Acquired::Denied { .. }));
        frames.iter().flatten().filter(is_denial).count() >= quorum.blocking()
    }
}

/// Whether a master granted an attempt.
pub fn is_grant(frame: &[u8]) -> bool {
    matches!(Acquired::parse(frame), Ok(Acquired::Granted { .. }))
}

/// Whether enough say that the lock is held.
pub fn has_agreed(quorum: Quorum, frames: &[Frame<'_>]) -> bool {
    frames.iter().flatten().filter(|frame| **frame == b":1\r\n").count() >= quorum.needed()
}

/// EXTEND: enough masters did.
pub fn extended(quorum: Quorum, frames: &[Frame<'_>]) -> Result<(), Verdict> {
    number(quorum, frames).map(|_| ())
}

/// RELEASE: so many holds are left; a majority has no fewer.
pub fn released(quorum: Quorum, frames: &[Frame<'_>]) -> Result<i64, Verdict> {
    number(quorum, frames)
}

/// The largest number that a majority reaches.
fn number(quorum: Quorum, frames: &[Frame<'_>]) -> Result<i64, Verdict> {
    let count = Count::of(quorum, frames);
    let mut numbers: Vec<i64> = count.values.iter().filter_map(Value::int).collect();
    if numbers.len() >= quorum.needed() {
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        return Ok(numbers[quorum.needed() - 1]);
    }
    Err(if count.lost >= quorum.blocking() { Verdict::Lost } else { count.verdict() })
}

/// FORCE: whether any of those that answered was held, where enough did.
pub fn forced(quorum: Quorum, frames: &[Frame<'_>]) -> Result<bool, Verdict> {
    let count = Count::of(quorum, frames);
    let numbers: Vec<i64> = count.values.iter().filter_map(Value::int).collect();
    match numbers.len() >= quorum.needed() {
        true => Ok(numbers.contains(&1)),
        false => Err(count.verdict()),
    }
}

/// How long a majority keeps what has these times left; -1 never ends.
fn kept_ms(quorum: Quorum, times: &mut [i64]) -> i64 {
    let endless = |ms: i64| if ms < 0 { i64::MAX } else { ms };
    times.sort_unstable_by_key(|ms| std::cmp::Reverse(endless(*ms)));
    let ms = times[quorum.needed() - 1];
    if ms < 0 { ms } else { (ms - drift_ms(ms.unsigned_abs()) as i64).max(0) }
}

/// CHECK, as one Redis would answer it.
pub fn checked(quorum: Quorum, frames: &[Frame<'_>]) -> Result<Vec<u8>, Verdict> {
    let count = Count::of(quorum, frames);
    let (mut fence, mut times, mut free) = (None, Vec::new(), 0);
    for value in &count.values {
        match value.elements() {
            Some([held, of, ttl]) if held.int() == Some(1) => {
                fence = fence.max(of.int());
                times.push(ttl.int().unwrap_or_default());
            }
            Some([_, _, _]) => free += 1,
            _ => {}
        }
    }
    let mut out = Vec::new();
    array_header(&mut out, 3);
    if times.len() >= quorum.needed() {
        integer(&mut out, 1);
        int_or_null(&mut out, fence);
        integer(&mut out, kept_ms(quorum, &mut times));
    } else if free >= quorum.blocking() {
        integer(&mut out, 0);
        null(&mut out, false);
        integer(&mut out, 0);
    } else {
        return Err(count.verdict());
    }
    Ok(out)
}

/// INFO, as one Redis would answer it.
pub fn info(quorum: Quorum, frames: &[Frame<'_>]) -> Result<Vec<u8>, Verdict> {
    let count = Count::of(quorum, frames);
    let holder = |value: &Value| value.elements().filter(|fields| fields.len() == 4).map(|f| f[1].int());
    let largest = count
        .values
        .iter()
        .filter_map(holder)
        .map(|fence| count.values.iter().filter(|other| holder(other) == Some(fence)).count())
        .max()
        .unwrap_or_default();
    let mut out = Vec::new();
    if largest >= quorum.needed() {
        let of_majority = |value: &&Value| {
            let fence = holder(value);
            fence.is_some() && count.values.iter().filter(|other| holder(other) == fence).count() == largest
        };
        let rows: Vec<&[Value]> =
            count.values.iter().filter(of_majority).filter_map(Value::elements).collect();
        let mut times: Vec<i64> = rows.iter().filter_map(|row| row[2].int()).collect();
        array_header(&mut out, 4);
        match rows.iter().find_map(|row| row[0].text()) {
            Some(owner) => bulk(&mut out, owner),
            None => null(&mut out, false),
        }
        int_or_null(&mut out, rows.iter().find_map(|row| row[1].int()));
        integer(&mut out, kept_ms(quorum, &mut times));
        integer(&mut out, rows.iter().filter_map(|row| row[3].int()).max().unwrap_or_default());
        return Ok(out);
    }
    // Nobody has a majority, and no one who has not answered can make one.
    let answered = count.values.len();
    if answered >= quorum.needed() && largest + (quorum.masters - answered) < quorum.needed() {
        null(&mut out, false);
        return Ok(out);
    }
    Err(count.verdict())
}

fn int_or_null(out: &mut Vec<u8>, value: Option<i64>) {
    match value {
        Some(value) => integer(out, value),
        None => null(out, false),
    }
}

/// What ACQUIRE answers, as one Redis would.
pub fn acquired(token: &[u8], fence: u64, ms: u64) -> Vec<u8> {
    let mut out = Vec::new();
    array_header(&mut out, 4);
    integer(&mut out, 1);
    bulk(&mut out, token);
    integer(&mut out, fence as i64);
    integer(&mut out, ms as i64);
    out
}

/// The same of a denial.
pub fn denied(fence: Option<u64>, retry_ms: u64) -> Vec<u8> {
    let mut out = Vec::new();
    array_header(&mut out, 4);
    integer(&mut out, 0);
    null(&mut out, false);
    int_or_null(&mut out, fence.map(|fence| fence as i64));
    integer(&mut out, retry_ms as i64);
    out
}

#[cfg(test)]
mod tests;
