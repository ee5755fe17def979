//! A sorted set: its order, and while it is large also a table of its members' scores.

use super::heap_bytes;
use super::ranking::{Entry, Ranked, Ranking};
use crate::memory::dict::Dict;

/// A set of more or longer members has a table (zset-max-listpack-entries and -value).
const PLAIN_MEMBERS_MAX: usize = 128;
const PLAIN_LEN_MAX: usize = 64;

#[derive(Clone, Default)]
pub struct Sorted {
    ranking: Ranking,
    /// `None` while it is small: then the order is looked through.
    scores: Option<Dict<f64>>,
    bytes: usize,
}

impl Sorted {
    /// An empty one that has a table from the start: for results, see `compacted`.
    pub fn with_table() -> Sorted {
        Sorted { scores: Some(Dict::new()), ..Sorted::default() }
    }

    /// An empty one for so many members: it has a table from the start if that is many.
    pub fn with_room(members: usize) -> Sorted {
        if members > PLAIN_MEMBERS_MAX { Sorted::with_table() } else { Sorted::default() }
    }

    pub fn len(&self) -> usize {
        self.ranking.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Approximate bytes of the heap.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn encoding(&self) -> &'static str {
        if self.is_small() { "listpack" } else { "skiplist" }
    }

    /// Whether it has no table.
    pub fn is_small(&self) -> bool {
        self.scores.is_none()
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.scores {
            Some(scores) => scores.get(member).copied(),
            None => self.ranking.iter().find(|entry| *entry.member == *member).map(|entry| entry.score),
        }
    }

    /// Gives the score that the member had before. A score is never NaN.
    pub fn set(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let old = self.score(member);
        match old {
            Some(old) if old == score => return Some(old),
            Some(old) => {
                self.ranking.remove_at(self.ranking.rank(old, member));
            }
            None => {
                if member.len() > PLAIN_LEN_MAX || self.len() >= PLAIN_MEMBERS_MAX {
                    self.tabulate();
                }
                self.bytes += self.cost(member);
            }
        }
        // As in Redis, only a table keeps the sign of zero.
        let score = if self.is_small() { score + 0.0 } else { score };
        self.ranking.insert(Entry { score, member: member.into() });
        if let Some(scores) = &mut self.scores {
            scores.insert(member, score);
        }
        old
    }

    /// Gives the score that the member had.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let score = self.score(member)?;
        self.remove_at(self.ranking.rank(score, member));
        Some(score)
    }

    /// Takes out the member at a rank that is there.
    pub fn remove_at(&mut self, rank: usize) -> Entry {
        let entry = self.ranking.remove_at(rank);
        self.bytes -= self.cost(&entry.member);
        if let Some(scores) = &mut self.scores {
            scores.remove(&entry.member);
        }
        entry
    }

    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        self.score(member).map(|score| self.ranking.rank(score, member))
    }

    /// How many members `is_before` holds for. It must hold for a prefix of the order.
    pub fn count_while(&self, is_before: impl Fn(&Entry) -> bool) -> usize {
        self.ranking.count_while(is_before)
    }

    pub fn get(&self, rank: usize) -> Option<&Entry> {
        self.ranking.get(rank)
    }

    /// The members of these ranks in their order.
    pub fn range(&self, ranks: std::ops::Range<usize>) -> Ranked<'_> {
        self.ranking.range(ranks)
    }

    pub fn iter(&self) -> Ranked<'_> {
        self.ranking.iter()
    }

    /// One step of a scan: gives the next cursor, 0 at the end. What has no table is shown at once.
    pub fn scan(&self, cursor: u64, found: &mut dyn FnMut(&[u8], f64)) -> u64 {
        match &self.scores {
            Some(scores) => scores.scan(cursor, &mut |member, score| found(member, *score)),
            None => {
                self.ranking.iter().for_each(|entry| found(&entry.member, entry.score));
                0
            }
        }
    }

    /// What the ...STORE commands leave: without a table if it need not have one.
    pub fn compacted(self) -> Sorted {
        let is_short = |entry: &Entry| entry.member.len() <= PLAIN_LEN_MAX;
        if self.scores.is_some() && self.len() <= PLAIN_MEMBERS_MAX && self.iter().all(is_short) {
            let mut small = Sorted::default();
            self.iter().for_each(|entry| {
                small.set(&entry.member, entry.score);
            });
            return small;
        }
        self
    }

    fn cost(&self, member: &[u8]) -> usize {
        let in_order = size_of::<Entry>() + heap_bytes(member);
        let in_table = Dict::<f64>::ENTRY_BYTES + heap_bytes(member);
        if self.scores.is_some() { in_order + in_table } else { in_order }
    }

    fn tabulate(&mut self) {
        if self.scores.is_some() {
            return;
        }
        let mut scores = Dict::new();
        for entry in self.ranking.iter() {
            scores.insert(&entry.member, entry.score);
        }
        self.scores = Some(scores);
        self.bytes = self.iter().map(|entry| self.cost(&entry.member)).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> Vec<u8> {
        format!("member{n:04}").into_bytes()
    }

    #[test]
    fn the_129th_member_or_a_long_one_gives_it_a_table() {
        let mut sorted = Sorted::default();
        for n in 0..128 {
            assert_eq!(sorted.set(&name(n), (n % 5) as f64), None);
        }
        assert_eq!(sorted.encoding(), "listpack");
        sorted.set(&name(128), 1.0);
        assert_eq!(sorted.encoding(), "skiplist");
        sorted.remove(&name(128));
        assert_eq!(sorted.encoding(), "skiplist");
        assert_eq!(sorted.clone().compacted().encoding(), "listpack");
        sorted.set(&[b'x'; 65], 1.0);
        assert_eq!(sorted.compacted().encoding(), "skiplist");
    }

    #[test]
    fn a_member_has_one_score_and_one_rank() {
        for members in [50, 500] {
            let mut sorted = Sorted::default();
            for round in 0..3 {
                for n in 0..members {
                    let old = sorted.set(&name(n), ((n * 7 + round * 13) % 10) as f64);
                    assert_eq!(old.is_some(), round > 0);
                }
            }
            assert_eq!(sorted.len(), members);
            for (rank, entry) in sorted.iter().enumerate() {
                assert_eq!(sorted.rank(&entry.member), Some(rank));
                assert_eq!(sorted.score(&entry.member), Some(entry.score));
            }
            (0..members).for_each(|n| assert!(sorted.remove(&name(n)).is_some()));
            assert_eq!((sorted.bytes(), sorted.len()), (0, 0));
        }
    }

    #[test]
    fn zero_keeps_the_sign_it_had_first() {
        let mut sorted = Sorted::default();
        sorted.set(b"a", 0.0);
        sorted.set(b"a", -0.0);
        assert!(sorted.score(b"a").unwrap().is_sign_positive());
    }
}
