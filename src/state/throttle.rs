//! CL.THROTTLE as the module redis-cell answers it. Where L2 has that module, the caller forwards the request instead.
use super::script::script;
use super::{Arguments, Call, Fault, NOT_AN_INTEGER, Naming, Reply, Script};
use crate::resp::{array_header, integer};

static THROTTLE: Script = script!("throttle");

pub static SCRIPTS: &[&Script] = &[&THROTTLE];

/// By which name L2 is asked whether it has the module.
pub const NAME: &str = "cl.throttle";

/// `max_burst + 1` at once, and `count` per `period_seconds`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Throttle {
    pub key: Vec<u8>,
    pub max_burst: u64,
    pub count: u64,
    pub period_seconds: u64,
    /// 0 only asks.
    pub quantity: u64,
}

/// Microseconds up to here are exact in Lua.
const EXACT_MAX: u64 = 1 << 53;
const PERIOD_SECONDS_MAX: u64 = EXACT_MAX / 1_000_000;

pub fn parse(args: &mut Arguments) -> Result<Throttle, Fault> {
    if !(4..=5).contains(&args.len()) {
        return Err(args.wrong_number());
    }
    let throttle = Throttle {
        key: args.required()?.to_vec(),
        max_burst: args.number(0..=EXACT_MAX)?,
        count: args.number(1..=EXACT_MAX)?,
        period_seconds: args.number(1..=EXACT_MAX)?,
        quantity: if args.is_empty() { 1 } else { args.number(0..=EXACT_MAX)? },
    };
    // The time between two events, in microseconds: at least one, since the remaining ones are counted in them, and the
    // whole burst no longer than a number can tell.
    let period_us = throttle.period_seconds.saturating_mul(1_000_000);
    let interval_us = period_us / throttle.count;
    let burst_us = u128::from(period_us) * u128::from(throttle.max_burst + 1) / u128::from(throttle.count);
    if interval_us == 0 || burst_us > u128::from(EXACT_MAX) || period_us > EXACT_MAX {
        return Err(NOT_AN_INTEGER.into());
    }
    Ok(throttle)
}

impl Throttle {
    /// `[limited, max_burst + 1, remaining, retry_after_s or -1, reset_after_s]`, an array in RESP3 too.
    pub fn call(&self, naming: &Naming) -> Call {
        let numbers = [self.max_burst, self.count, self.period_seconds, self.quantity];
        let args = numbers.iter().map(|number| number.to_string().into_bytes()).collect();
        Call::new(&THROTTLE, vec![naming.key([b"ratelimit:throttle:", &self.key])], args, Reply::AsIs)
    }

    /// The reply without asking anybody: nothing used, or all.
    pub fn unasked(&self, is_limited: bool) -> Vec<u8> {
        let limit = (self.max_burst + 1) as i64;
        let numbers = if is_limited { [1, limit, 0, 1, 1] } else { [0, limit, limit, -1, 0] };
        let mut out = Vec::new();
        array_header(&mut out, numbers.len());
        numbers.iter().for_each(|number| integer(&mut out, *number));
        out
    }

    /// This daemon's share among `nodes`: at least one at once, and one in all their periods.
    #[must_use]
    pub fn divided(&self, nodes: u64) -> Throttle {
        let (nodes, count) = (nodes.max(1), self.count);
        let (count, period_seconds) = if count >= nodes {
            (count / nodes, self.period_seconds)
        } else {
            (1, (self.period_seconds.saturating_mul(nodes) / count).min(PERIOD_SECONDS_MAX))
        };
        let max_burst = ((self.max_burst + 1) / nodes).max(1) - 1;
        Throttle { key: self.key.clone(), max_burst, count, period_seconds, quantity: self.quantity }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(line: &str) -> Result<Throttle, String> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        match crate::state::parse(&words) {
            Ok(crate::state::Command::Throttle(throttle)) => Ok(throttle),
            Ok(other) => panic!("{other:?}"),
            Err(fault) => Err(fault.into_owned()),
        }
    }

    #[test]
    fn the_quantity_is_one_unless_given() {
        let expected =
            Throttle { key: b"k".to_vec(), max_burst: 15, count: 30, period_seconds: 60, quantity: 1 };
        assert_eq!(throttle("cl.throttle k 15 30 60"), Ok(expected.clone()));
        assert_eq!(throttle("CL.THROTTLE k 15 30 60 0"), Ok(Throttle { quantity: 0, ..expected }));
    }

    #[test]
    fn a_share_is_no_more_than_its_part_and_never_nothing() {
        let shares = |line: &str, nodes| {
            let share = throttle(line).expect("sound").divided(nodes);
            (share.max_burst + 1, share.count, share.period_seconds)
        };
        assert_eq!(shares("CL.THROTTLE k 15 30 60", 4), (4, 7, 60));
        assert_eq!(shares("CL.THROTTLE k 15 30 60", 1), (16, 30, 60));
        assert_eq!(shares("CL.THROTTLE k 2 3 60", 9), (1, 1, 180));
        assert_eq!(shares("CL.THROTTLE k 0 1 9007199254", 10_000), (1, 1, 9_007_199_254));
    }

    #[test]
    fn numbers_that_mean_nothing_are_refused() {
        for line in
            ["k 1 0 60", "k 1 1 0", "k -1 1 1", "k 1 1 1 -1", "k 1 1000001 1", "k 1 1 9007199255", "k x 1 1"]
        {
            assert_eq!(throttle(&format!("CL.THROTTLE {line}")), Err(NOT_AN_INTEGER.to_owned()), "{line}");
        }
        let arity = "ERR wrong number of arguments for 'cl.throttle' command";
        assert_eq!(throttle("CL.THROTTLE k 1 1"), Err(arity.to_owned()));
        assert_eq!(throttle("CL.THROTTLE k 1 1 1 1 1"), Err(arity.to_owned()));
    }
}
