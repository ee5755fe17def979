//! What a check answers: read, written, counted down, or given without L2. Knows no key and no script.
use std::time::Duration;

use super::{FIELDS, Resolved};
use crate::resp::{Value, array_header, bulk, integer, map_header};
use crate::state::{Fault, UNEXPECTED, understood};

/// The answer of a MULTI that ran one by one: the outcomes up to the first denial, as far as there is one. Items behind it
/// were not asked; they read as if nothing were left.
pub fn multi_reply(plan: &[Resolved], outcomes: &[Outcome], resp3: bool, out: &mut Vec<u8>) {
    let denied = outcomes.iter().position(|outcome| !outcome.allowed);
    let name = |out: &mut Vec<u8>, name: &str| {
        if resp3 {
            bulk(out, name.as_bytes());
        }
    };
    if resp3 {
        map_header(out, 3, true)
    } else {
        array_header(out, 3)
    }
    name(out, "allowed");
    integer(out, i64::from(denied.is_none()));
    name(out, "denied");
    integer(out, denied.map_or(-1, |index| index as i64));
    name(out, "limits");
    array_header(out, plan.len());
    for (index, resolved) in plan.iter().enumerate() {
        let unknown =
            Outcome { allowed: true, limit: resolved.capacity, remaining: 0, retry_ms: -1, reset_ms: 0 };
        outcomes.get(index).unwrap_or(&unknown).write(resp3, out);
    }
}

/// The outcomes in the reply of `at_once`, item by item.
pub fn outcomes_of_multi(frame: &[u8]) -> Result<Vec<Outcome>, Fault> {
    match understood(frame)?.elements() {
        Some([_, _, limits]) => limits.elements().ok_or(UNEXPECTED)?.iter().map(Outcome::of).collect(),
        _ => Err(UNEXPECTED.into()),
    }
}

/// What CHECK and PEEK answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub allowed: bool,
    pub limit: u64,
    pub remaining: u64,
    /// -1: allowed; -2: never, the cost is above the limit.
    pub retry_ms: i64,
    /// Until nothing of the limit is used.
    pub reset_ms: u64,
}

impl Outcome {
    pub fn parse(frame: &[u8]) -> Result<Outcome, Fault> {
        Outcome::of(&understood(frame)?)
    }

    fn of(value: &Value) -> Result<Outcome, Fault> {
        let numbers: Option<Vec<i64>> =
            value.elements().and_then(|elements| elements.iter().map(|element| element.int()).collect());
        match numbers.as_deref() {
            Some(&[allowed, limit, remaining, retry_ms, reset_ms]) => Ok(Outcome {
                allowed: allowed == 1,
                limit: limit.try_into().map_err(|_| UNEXPECTED)?,
                remaining: remaining.try_into().map_err(|_| UNEXPECTED)?,
                retry_ms,
                reset_ms: reset_ms.try_into().map_err(|_| UNEXPECTED)?,
            }),
            _ => Err(UNEXPECTED.into()),
        }
    }

    /// Whether a script's reply is a denial, without reading the rest of it.
    pub fn is_denial(frame: &[u8]) -> bool {
        frame.starts_with(b"*5\r\n:0\r\n")
    }

    /// The numbers in a form that costs nothing to read, for L1.
    pub fn keep(&self) -> Vec<u8> {
        let numbers = [
            i64::from(self.allowed),
            self.limit as i64,
            self.remaining as i64,
            self.retry_ms,
            self.reset_ms as i64,
        ];
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    /// What `keep` wrote.
    pub fn kept(bytes: &[u8]) -> Option<Outcome> {
        let (numbers, []) = bytes.as_chunks::<8>() else { return None };
        let &[allowed, limit, remaining, retry_ms, reset_ms] = numbers else { return None };
        Some(Outcome {
            allowed: u64::from_le_bytes(allowed) == 1,
            limit: u64::from_le_bytes(limit),
            remaining: u64::from_le_bytes(remaining),
            retry_ms: i64::from_le_bytes(retry_ms),
            reset_ms: u64::from_le_bytes(reset_ms),
        })
    }

    /// This denial when `elapsed` has passed since its request was sent; None when it may be over. It ends up to a
    /// millisecond early, never late: L2 counts whole milliseconds, and began to count after the request was sent.
    pub fn after(&self, elapsed: Duration) -> Option<Outcome> {
        let passed = i64::try_from(elapsed.as_nanos().div_ceil(1_000_000)).ok()?;
        if self.allowed || passed >= self.retry_ms {
            return None;
        }
        let reset_ms = self.reset_ms.saturating_sub(passed.unsigned_abs());
        Some(Outcome { retry_ms: self.retry_ms - passed, reset_ms, ..*self })
    }

    /// Allowed without asking anybody.
    pub fn open(resolved: &Resolved) -> Outcome {
        let limit = resolved.capacity;
        Outcome { allowed: true, limit, remaining: limit, retry_ms: -1, reset_ms: 0 }
    }

    /// Denied without asking anybody: to be tried again in a second. SHADOW is allowed even so.
    pub fn closed(resolved: &Resolved) -> Outcome {
        if resolved.shadow {
            return Outcome::open(resolved);
        }
        Outcome { allowed: false, limit: resolved.capacity, remaining: 0, retry_ms: 1000, reset_ms: 1000 }
    }

    /// What the limit's owner is told where a share of it answered: a cost that is above the share alone is not one that
    /// never fits.
    #[must_use]
    pub fn of_share(self, whole: &Resolved) -> Outcome {
        let fits_later = self.retry_ms == -2 && whole.cost <= whole.capacity;
        if fits_later { Outcome { retry_ms: 1000, ..self } } else { self }
    }

    /// As the script's reply reads.
    pub fn write(&self, resp3: bool, out: &mut Vec<u8>) {
        if resp3 {
            map_header(out, FIELDS.len(), true)
        } else {
            array_header(out, FIELDS.len())
        }
        let values = [
            i64::from(self.allowed),
            self.limit as i64,
            self.remaining as i64,
            self.retry_ms,
            self.reset_ms as i64,
        ];
        for (name, value) in FIELDS.iter().zip(values) {
            if resp3 {
                bulk(out, name.as_bytes());
            }
            integer(out, value);
        }
    }
}
