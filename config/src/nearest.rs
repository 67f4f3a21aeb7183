//! The nearest of several names to one that was mistyped.

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().flat_map(char::to_lowercase).collect();
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// Longest name that is compared, in bytes; the work is quadratic.
const LONGEST: usize = 256;

/// The candidate that `name` most likely means, if any is near enough to be worth saying.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    // A name of one letter is near to anything.
    let length = name.chars().count();
    let allowed = if length < 2 { 0 } else { length.div_ceil(3) };
    candidates
        .into_iter()
        // Names that differ in length by more than the bound cannot be within it.
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= allowed)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_word_and_nonsense_finds_none() {
        assert_eq!(nearest("liten", ["listen", "limits", "tls"]), Some("listen"));
        assert_eq!(nearest("max_in_fligth", ["max_in_flight", "weight"]), Some("max_in_flight"));
        assert_eq!(nearest("banana", ["listen", "limits"]), None);
        assert_eq!(nearest("", ["listen"]), None);
        assert_eq!(nearest("a", ["ca"]), None);
        assert_eq!(nearest("Kind", ["kind"]), Some("kind"));
    }
}
