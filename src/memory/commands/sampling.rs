//! Random elements, as HRANDFIELD, SRANDMEMBER and ZRANDMEMBER ask for them: which positions of a collection to show.
//! Knows no collection.

use super::super::context::{Argv, Fault};
use super::super::random::Random;
use super::arguments;

/// Redis repeats elements until its memory is full; here it is an error to want more than this.
const REPEATED_MAX: i64 = 1 << 24;

/// Where a sample is larger than 1/n of the collection, positions are dealt from a shuffled list.
const DEALT_FROM: usize = 3;

pub(super) struct Options {
    /// Negative: with repetitions.
    pub(super) count: i64,
    /// With values, or with scores.
    pub(super) with_more: bool,
}

/// `key [count [more]]`; `None` without a count.
pub(super) fn parse(argv: &Argv<'_>, more: &str) -> Result<Option<Options>, Fault> {
    let Some(count) = argv.get(2) else { return Ok(None) };
    let count = arguments::signed_count(count)?;
    let with_more = argv.len() > 3;
    if argv.len() > 4 || with_more && !arguments::is(argv[3], more) {
        return Err(Fault::SYNTAX);
    }
    // With more, twice as many must be a number still.
    if with_more && count > i64::MAX / 2 || count < -REPEATED_MAX {
        return Err(Fault::of("ERR value is out of range"));
    }
    Ok(Some(Options { count, with_more }))
}

/// A position in 0..len from one random number.
pub(super) fn below(random: u64, len: usize) -> usize {
    Random::seeded(random).below(len)
}

/// `count` different positions in 0..len, or `-count` that may repeat, in random order unless it is all of them.
pub(super) fn positions(seed: u64, len: usize, count: i64) -> Vec<usize> {
    let mut random = Random::seeded(seed);
    if len == 0 {
        return Vec::new();
    }
    let Ok(wanted) = usize::try_from(count) else {
        return (0..count.unsigned_abs()).map(|_| random.below(len)).collect();
    };
    if wanted >= len {
        return (0..len).collect();
    }
    if wanted > len / DEALT_FROM {
        let mut dealt: Vec<usize> = (0..len).collect();
        for at in 0..wanted {
            dealt.swap(at, at + random.below(len - at));
        }
        dealt.truncate(wanted);
        return dealt;
    }
    let mut seen = std::collections::HashSet::with_capacity(wanted);
    std::iter::repeat_with(|| random.below(len)).filter(|&at| seen.insert(at)).take(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_positions_are_different_and_every_one_has_its_turn() {
        for len in [1, 2, 9, 100] {
            let mut met = vec![0; len];
            for seed in 0..2000 {
                for count in [1, len / 4, len / 2, len - 1, len, len + 5] {
                    let mut found = positions(seed, len, count as i64);
                    assert_eq!(found.len(), count.min(len));
                    found.iter().for_each(|&at| met[at] += 1);
                    found.sort();
                    found.dedup();
                    assert_eq!(found.len(), count.min(len));
                }
            }
            assert!(met.iter().all(|&times| times > 2000), "{met:?}");
        }
    }

    #[test]
    fn repeated_ones_come_in_any_number() {
        assert_eq!(positions(1, 3, -10).len(), 10);
        assert!(positions(1, 3, -10).iter().all(|&at| at < 3));
        assert!(positions(1, 0, -10).is_empty());
        assert!(positions(1, 3, 0).is_empty());
    }
}
