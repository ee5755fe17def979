//! Finds the known name that is nearest to an unknown one, for error messages.

/// The nearest of `known`, or none that anybody could have meant. A name that only lacks its last words (mostly its
/// unit) is nearer than any slip of the pen.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let lacks_end = |candidate: &&str| candidate.strip_prefix(name).is_some_and(|tail| tail.starts_with('_'));
    if let Some(whole) = known.clone().filter(lacks_end).min_by_key(|candidate| candidate.len()) {
        return Some(whole);
    }
    let far = name.len().div_ceil(2).max(2);
    known
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in bytes, computed row by row.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substitution = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_finds_its_key() {
        let known = ["ttl_seconds", "bytes_max", "l1"];
        assert_eq!(nearest("ttl_secnds", known.into_iter()), Some("ttl_seconds"));
        assert_eq!(nearest("byte_max", known.into_iter()), Some("bytes_max"));
    }

    #[test]
    fn a_name_without_its_unit_finds_its_key() {
        assert_eq!(nearest("ttl", ["l1", "ttl_seconds"].into_iter()), Some("ttl_seconds"));
    }

    #[test]
    fn a_name_that_resembles_nothing_finds_nothing() {
        assert_eq!(nearest("zzzzzzzzzz", ["ttl_seconds", "l1"].into_iter()), None);
    }

    #[test]
    fn distances_count_insertions_deletions_and_substitutions() {
        for (a, b, expected) in
            [("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("same", "same", 0)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
