//! The order of a sorted set: a counted B+ tree over (score, member), so that an entry's rank, and the entry at a rank,
//! are found in O(log n). Owns the order alone; it does not know whether a member is there twice.

use std::cmp::Ordering;
use std::ops::Range;

use crate::memory::compact::Compact;

/// Entries of a leaf, children of an inner node: beyond it a node splits.
const WIDTH_MAX: usize = 32;
/// A node that shrinks below it joins a neighbour, if the two fit into one.
const WIDTH_MIN: usize = WIDTH_MAX / 4;

/// A member with its score, which is never NaN.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub score: f64,
    pub member: Compact,
}

impl Entry {
    /// Lower scores first; equal scores by the bytes of their members.
    fn compare(&self, score: f64, member: &[u8]) -> Ordering {
        let scores = self.score.partial_cmp(&score).expect("a score is never NaN");
        scores.then_with(|| (*self.member).cmp(member))
    }
}

#[derive(Clone, Debug)]
pub struct Ranking {
    root: Node,
    len: usize,
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(Vec<Entry>),
    Inner(Vec<Child>),
}

#[derive(Clone, Debug)]
struct Child {
    /// No entry of this child is before it, and none of the children before is not. It outlives the entry it is a copy of.
    bound: Entry,
    /// Entries below.
    len: usize,
    node: Node,
}

impl Default for Ranking {
    fn default() -> Ranking {
        Ranking { root: Node::Leaf(Vec::new()), len: 0 }
    }
}

impl Ranking {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Puts in an entry that is not there yet.
    pub fn insert(&mut self, entry: Entry) {
        self.len += 1;
        if let Some(right) = self.root.insert(entry) {
            let left = std::mem::replace(&mut self.root, Node::Leaf(Vec::new()));
            // The first child's bound is never asked for.
            let bound = Entry { score: f64::NEG_INFINITY, member: Compact::from(&[][..]) };
            let left = Child { bound, len: self.len - right.len, node: left };
            self.root = Node::Inner(vec![left, right]);
        }
    }

    /// Takes out the entry at `rank`.
    pub fn remove_at(&mut self, rank: usize) -> Entry {
        assert!(rank < self.len, "only what is there is removed");
        self.len -= 1;
        let entry = self.root.remove_at(rank);
        while let Node::Inner(children) = &mut self.root
            && children.len() == 1
        {
            self.root = children.pop().expect("there is one child").node;
        }
        entry
    }

    /// How many entries are before this one, whether it is there or not.
    pub fn rank(&self, score: f64, member: &[u8]) -> usize {
        self.count_while(|entry| entry.compare(score, member) == Ordering::Less)
    }

    /// How many entries `is_before` holds for. It must hold for a prefix of the order.
    pub fn count_while(&self, is_before: impl Fn(&Entry) -> bool) -> usize {
        let (mut node, mut before) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(entries) => return before + entries.partition_point(&is_before),
                Node::Inner(children) => {
                    let at = children[1..].partition_point(|child| is_before(&child.bound));
                    before += children[..at].iter().map(|child| child.len).sum::<usize>();
                    node = &children[at].node;
                }
            }
        }
    }

    pub fn get(&self, rank: usize) -> Option<&Entry> {
        (rank < self.len).then(|| {
            let (entries, first) = self.leaf_of(rank);
            &entries[rank - first]
        })
    }

    /// The entries of these ranks, from both ends. Ranks that are not there are left out.
    pub fn range(&self, ranks: Range<usize>) -> Ranked<'_> {
        let end = ranks.end.min(self.len);
        Ranked { ranking: self, ranks: ranks.start.min(end)..end, front: (&[], 0), back: (&[], 0) }
    }

    pub fn iter(&self) -> Ranked<'_> {
        self.range(0..self.len)
    }

    /// The leaf that holds `rank`, and the rank of its first entry.
    fn leaf_of(&self, rank: usize) -> (&[Entry], usize) {
        let (mut node, mut first) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(entries) => return (entries, first),
                Node::Inner(children) => {
                    let (at, inside) = child_of(children, rank - first);
                    first = rank - inside;
                    node = &children[at].node;
                }
            }
        }
    }
}

/// Which child holds this rank, and the rank inside it.
fn child_of(children: &[Child], mut rank: usize) -> (usize, usize) {
    for (at, child) in children.iter().enumerate() {
        if rank < child.len {
            return (at, rank);
        }
        rank -= child.len;
    }
    unreachable!("a node's length is the sum of its children's")
}

impl Node {
    /// Gives what stands right of this node if it had to split.
    fn insert(&mut self, entry: Entry) -> Option<Child> {
        match self {
            Node::Leaf(entries) => {
                let at = entries
                    .partition_point(|other| other.compare(entry.score, &entry.member) == Ordering::Less);
                entries.insert(at, entry);
                let right = split(entries)?;
                Some(Child { bound: right[0].clone(), len: right.len(), node: Node::Leaf(right) })
            }
            Node::Inner(children) => {
                let is_left = |child: &Child| child.bound.compare(entry.score, &entry.member).is_le();
                let at = children[1..].partition_point(is_left);
                children[at].len += 1;
                if let Some(right) = children[at].node.insert(entry) {
                    children[at].len -= right.len;
                    children.insert(at + 1, right);
                }
                let right = split(children)?;
                let len = right.iter().map(|child| child.len).sum();
                Some(Child { bound: right[0].bound.clone(), len, node: Node::Inner(right) })
            }
        }
    }

    fn remove_at(&mut self, rank: usize) -> Entry {
        match self {
            Node::Leaf(entries) => entries.remove(rank),
            Node::Inner(children) => {
                let (at, inside) = child_of(children, rank);
                children[at].len -= 1;
                let entry = children[at].node.remove_at(inside);
                if children[at].node.width() < WIDTH_MIN {
                    join(children, at);
                }
                entry
            }
        }
    }

    fn width(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Inner(children) => children.len(),
        }
    }
}

/// The upper half of what has become too wide.
fn split<T>(items: &mut Vec<T>) -> Option<Vec<T>> {
    (items.len() > WIDTH_MAX).then(|| {
        let right = items.split_off(items.len() / 2);
        items.shrink_to_fit();
        right
    })
}

/// Makes one of this child and a neighbour, where they fit. An empty child goes unless it is the only one.
fn join(children: &mut Vec<Child>, at: usize) {
    if children[at].len == 0 && children.len() > 1 {
        children.remove(at);
        return;
    }
    let neighbours = [at.checked_sub(1), Some(at)];
    let fits = |&left: &usize| {
        left + 1 < children.len()
            && children[left].node.width() + children[left + 1].node.width() <= WIDTH_MAX
    };
    if let Some(left) = neighbours.into_iter().flatten().find(fits) {
        let right = children.remove(left + 1);
        children[left].len += right.len;
        match (&mut children[left].node, right.node) {
            (Node::Leaf(entries), Node::Leaf(more)) => entries.extend(more),
            (Node::Inner(below), Node::Inner(more)) => below.extend(more),
            _ => unreachable!("all leaves are at one depth"),
        }
    }
}

/// Entries by rank. A leaf is looked up once, then walked.
#[derive(Clone)]
pub struct Ranked<'a> {
    ranking: &'a Ranking,
    ranks: Range<usize>,
    front: (&'a [Entry], usize),
    back: (&'a [Entry], usize),
}

impl<'a> Iterator for Ranked<'a> {
    type Item = &'a Entry;

    fn next(&mut self) -> Option<&'a Entry> {
        let rank = self.ranks.next()?;
        Some(entry_in(self.ranking, &mut self.front, rank))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ranks.size_hint()
    }
}

impl<'a> DoubleEndedIterator for Ranked<'a> {
    fn next_back(&mut self) -> Option<&'a Entry> {
        let rank = self.ranks.next_back()?;
        Some(entry_in(self.ranking, &mut self.back, rank))
    }
}

impl ExactSizeIterator for Ranked<'_> {}

fn entry_in<'a>(ranking: &'a Ranking, leaf: &mut (&'a [Entry], usize), rank: usize) -> &'a Entry {
    if rank < leaf.1 || rank - leaf.1 >= leaf.0.len() {
        *leaf = ranking.leaf_of(rank);
    }
    &leaf.0[rank - leaf.1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(score: f64, member: &str) -> Entry {
        Entry { score, member: member.as_bytes().into() }
    }

    /// Every node is as wide as it may be, and every child's length and bound are true.
    fn check(node: &Node) -> usize {
        assert!(node.width() <= WIDTH_MAX);
        match node {
            Node::Leaf(entries) => entries.len(),
            Node::Inner(children) => {
                for pair in children.windows(2) {
                    let bound = &pair[1].bound;
                    assert!(first(&pair[1].node).compare(bound.score, &bound.member).is_ge());
                    assert!(last(&pair[0].node).compare(bound.score, &bound.member).is_lt());
                }
                let lens: Vec<usize> = children.iter().map(|child| child.len).collect();
                assert_eq!(children.iter().map(|child| check(&child.node)).collect::<Vec<_>>(), lens);
                lens.iter().sum()
            }
        }
    }

    fn first(node: &Node) -> &Entry {
        match node {
            Node::Leaf(entries) => &entries[0],
            Node::Inner(children) => first(&children[0].node),
        }
    }

    fn last(node: &Node) -> &Entry {
        match node {
            Node::Leaf(entries) => entries.last().unwrap(),
            Node::Inner(children) => last(&children.last().unwrap().node),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn it_orders_and_counts_as_a_sorted_vector_does(
            steps in prop::collection::vec((0u8..6, 0u16..400, 0u8..8), 1..1500),
            grow in prop::bool::ANY,
        ) {
            let mut ranking = Ranking::default();
            let mut model: Vec<(u8, Vec<u8>)> = Vec::new();
            for (kind, name, score) in steps {
                let member = name.to_string().into_bytes();
                let wanted = (score, member.clone());
                match model.binary_search(&wanted) {
                    Err(at) if kind < 3 || grow => {
                        model.insert(at, wanted);
                        ranking.insert(Entry { score: f64::from(score), member: Compact::from(&member[..]) });
                    }
                    Err(at) => prop_assert_eq!(ranking.rank(f64::from(score), &member), at),
                    Ok(at) if kind < 2 => {
                        prop_assert_eq!(ranking.rank(f64::from(score), &member), at);
                    }
                    Ok(at) => {
                        model.remove(at);
                        prop_assert_eq!(&*ranking.remove_at(at).member, &member[..]);
                    }
                }
            }
            prop_assert_eq!(ranking.len(), model.len());
            if ranking.len() > 0 {
                prop_assert_eq!(check(&ranking.root), model.len());
            }
            let found = |entry: &Entry| (entry.score as u8, entry.member.to_vec());
            prop_assert_eq!(ranking.iter().map(found).collect::<Vec<_>>(), model.clone());
            let (low, high) = (model.len() / 3, model.len() * 2 / 3);
            let backwards: Vec<_> = ranking.range(low..high).rev().map(found).collect();
            prop_assert_eq!(backwards, model[low..high].iter().rev().cloned().collect::<Vec<_>>());
            for score in 0..8u8 {
                let before = model.iter().filter(|(other, _)| *other <= score).count();
                prop_assert_eq!(ranking.count_while(|entry| entry.score <= f64::from(score)), before);
            }
        }
    }

    #[test]
    fn it_shrinks_to_nothing_and_grows_again() {
        let mut ranking = Ranking::default();
        for round in 0..2 {
            for n in 0..5000 {
                ranking.insert(entry(f64::from(n % 7), &format!("{n:05}")));
            }
            for left in (0..5000).rev() {
                // From the front in one round, from all over in the other.
                ranking.remove_at(if round == 0 { 0 } else { left / 2 });
                if left % 500 == 1 {
                    assert_eq!(check(&ranking.root), left);
                }
            }
            assert_eq!(ranking.len(), 0);
            assert!(ranking.iter().next().is_none());
        }
    }

    #[test]
    fn both_ends_meet_in_the_middle() {
        let mut ranking = Ranking::default();
        for n in 0..100 {
            ranking.insert(entry(f64::from(n), ""));
        }
        let mut ranked = ranking.range(10..200);
        assert_eq!(ranked.len(), 90);
        let mut seen = 0;
        while let (Some(_), back) = (ranked.next(), ranked.next_back()) {
            seen += 1 + usize::from(back.is_some());
        }
        assert_eq!(seen, 90);
    }
}
