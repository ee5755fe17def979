//! Ranges of sorted sets: by rank, by score, by member. Parses them and says which ranks they are.

use super::super::context::Fault;
use super::super::float;
use super::super::types::{Entry, Sorted};
use super::arguments;
use std::cmp::Ordering;
use std::ops::Range;

/// What the two limits of a request mean.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Rank,
    Score,
    Member,
}

pub(super) enum Interval<'a> {
    Ranks(i64, i64),
    Scores(ScoreLimit, ScoreLimit),
    Members(MemberLimit<'a>, MemberLimit<'a>),
}

pub(super) struct ScoreLimit {
    score: f64,
    is_outside: bool,
}

#[derive(Clone, Copy)]
pub(super) enum MemberLimit<'a> {
    Lowest,
    Highest,
    At { member: &'a [u8], is_outside: bool },
}

impl<'a> Interval<'a> {
    pub(super) fn parse(unit: Unit, min: &'a [u8], max: &'a [u8]) -> Result<Interval<'a>, Fault> {
        match unit {
            Unit::Rank => Ok(Interval::Ranks(arguments::integer(min)?, arguments::integer(max)?)),
            Unit::Score => {
                let limits = ScoreLimit::parse(min).zip(ScoreLimit::parse(max));
                let (min, max) = limits.ok_or(Fault::of("ERR min or max is not a float"))?;
                Ok(Interval::Scores(min, max))
            }
            Unit::Member => {
                let limits = MemberLimit::parse(min).zip(MemberLimit::parse(max));
                let (min, max) = limits.ok_or(Fault::of("ERR min or max not valid string range item"))?;
                Ok(Interval::Members(min, max))
            }
        }
    }

    /// The ranks that are meant, counted from the lowest even if `reverse` counts from the highest.
    pub(super) fn ranks(&self, sorted: &Sorted, reverse: bool) -> Range<usize> {
        let (start, end) = match self {
            Interval::Ranks(start, stop) => {
                let span = arguments::span(*start, *stop, sorted.len());
                if reverse {
                    (sorted.len() - span.end, sorted.len() - span.start)
                } else {
                    (span.start, span.end)
                }
            }
            Interval::Scores(min, max) => (
                sorted.count_while(|entry| !min.is_below(entry.score)),
                sorted.count_while(|entry| max.is_above(entry.score)),
            ),
            Interval::Members(min, max) => members(sorted, *min, *max, reverse),
        };
        start..end.max(start)
    }
}

impl ScoreLimit {
    fn parse(text: &[u8]) -> Option<ScoreLimit> {
        let (text, is_outside) = match text {
            [b'(', text @ ..] => (text, true),
            text => (text, false),
        };
        Some(ScoreLimit { score: float::parse_limit(text)?, is_outside })
    }

    fn is_below(&self, score: f64) -> bool {
        if self.is_outside { self.score < score } else { self.score <= score }
    }

    fn is_above(&self, score: f64) -> bool {
        if self.is_outside { score < self.score } else { score <= self.score }
    }
}

impl<'a> MemberLimit<'a> {
    fn parse(text: &'a [u8]) -> Option<MemberLimit<'a>> {
        match text {
            b"-" => Some(MemberLimit::Lowest),
            b"+" => Some(MemberLimit::Highest),
            [b'(', member @ ..] => Some(MemberLimit::At { member, is_outside: true }),
            [b'[', member @ ..] => Some(MemberLimit::At { member, is_outside: false }),
            _ => None,
        }
    }

    fn is_below(self, entry: &Entry) -> bool {
        match self {
            MemberLimit::Lowest => true,
            MemberLimit::Highest => false,
            MemberLimit::At { member, is_outside: true } => *member < *entry.member,
            MemberLimit::At { member, is_outside: false } => *member <= *entry.member,
        }
    }

    fn is_above(self, entry: &Entry) -> bool {
        match self {
            MemberLimit::Lowest => false,
            MemberLimit::Highest => true,
            MemberLimit::At { member, is_outside: true } => *entry.member < *member,
            MemberLimit::At { member, is_outside: false } => *entry.member <= *member,
        }
    }

    /// Whether nothing can be between these limits.
    fn exclude(min: MemberLimit<'_>, max: MemberLimit<'_>) -> bool {
        match (min, max) {
            (MemberLimit::Highest, _) | (_, MemberLimit::Lowest) => true,
            (MemberLimit::Lowest, _) | (_, MemberLimit::Highest) => false,
            (
                MemberLimit::At { member: low, is_outside: above },
                MemberLimit::At { member: high, is_outside: below },
            ) => match low.cmp(high) {
                Ordering::Less => false,
                Ordering::Equal => above || below,
                Ordering::Greater => true,
            },
        }
    }
}

/// Ranges by member are meant for members of one score. With several scores the order is another one, and Redis shows
/// what it meets on its way through a small set; large ones it searches, and so do we.
fn members(sorted: &Sorted, min: MemberLimit<'_>, max: MemberLimit<'_>, reverse: bool) -> (usize, usize) {
    let ends = sorted.get(0).zip(sorted.iter().next_back());
    let is_apart = |(first, last)| !min.is_below(last) || !max.is_above(first);
    if MemberLimit::exclude(min, max) || ends.is_none_or(is_apart) {
        return (0, 0);
    }
    if !sorted.is_small() {
        return (
            sorted.count_while(|entry| !min.is_below(entry)),
            sorted.count_while(|entry| max.is_above(entry)),
        );
    }
    if reverse {
        let above = sorted.iter().rev().take_while(|entry| !max.is_above(entry)).count();
        let met = sorted.iter().rev().skip(above).take_while(|entry| min.is_below(entry)).count();
        (sorted.len() - above - met, sorted.len() - above)
    } else {
        let below = sorted.iter().take_while(|entry| !min.is_below(entry)).count();
        let met = sorted.iter().skip(below).take_while(|entry| max.is_above(entry)).count();
        (below, below + met)
    }
}

/// What LIMIT leaves of these ranks: `offset` are skipped in the direction of the walk, a negative `count` is no limit.
pub(super) fn limited(ranks: Range<usize>, offset: i64, count: i64, reverse: bool) -> Range<usize> {
    let Ok(offset) = usize::try_from(offset) else { return 0..0 };
    let offset = offset.min(ranks.len());
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(ranks.len() - offset);
    if reverse {
        let end = ranks.end - offset;
        end - count..end
    } else {
        let start = ranks.start + offset;
        start..start + count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_counts_in_the_direction_of_the_walk() {
        for (offset, count, forward, backward) in [
            (0, -1, 3..8, 3..8),
            (1, 2, 4..6, 5..7),
            (4, 9, 7..8, 3..4),
            (9, 1, 8..8, 3..3),
            (0, 0, 3..3, 8..8),
            (-1, 5, 0..0, 0..0),
        ] {
            assert_eq!(limited(3..8, offset, count, false), forward);
            assert_eq!(limited(3..8, offset, count, true), backward);
        }
    }
}
