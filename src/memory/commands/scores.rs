//! Scores and members of sorted sets in replies, and the storing of results.

use super::super::context::{Context, Reply};
use super::super::float;
use super::super::types::{Entry, Sorted};

impl Reply<'_> {
    /// A double with 17 digits, which RESP2 has as a bulk string.
    pub fn score(&mut self, score: f64) {
        let text = float::double_text(score);
        if !self.resp3 {
            return self.bulk(&text);
        }
        self.out.push(b',');
        self.out.extend_from_slice(&text);
        self.out.extend_from_slice(b"\r\n");
    }

    pub fn score_or_null(&mut self, score: Option<f64>) {
        match score {
            Some(score) => self.score(score),
            None => self.null(),
        }
    }

    /// Members, with their scores if asked for: in RESP3 as pairs.
    pub fn entries<'e>(&mut self, entries: impl ExactSizeIterator<Item = &'e Entry>, with_scores: bool) {
        let is_nested = with_scores && self.resp3;
        self.array(if with_scores && !is_nested { 2 * entries.len() } else { entries.len() });
        for entry in entries {
            if is_nested {
                self.array(2);
            }
            self.bulk(&entry.member);
            if with_scores {
                self.score(entry.score);
            }
        }
    }
}

impl Context<'_> {
    /// Stores a result, or removes the key where there is none, and replies how large it is.
    pub(super) fn store_sorted(&mut self, key: &[u8], result: Sorted) {
        self.reply.count(result.len());
        if result.is_empty() {
            self.keys.remove(key);
        } else {
            self.keys.insert(key, result);
        }
    }
}
