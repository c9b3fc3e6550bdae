//! The known name that was probably meant.

/// Longest name that is compared; a longer one is nobody's typing error, and the work is quadratic.
const NAME_MAX: usize = 200;

/// The candidate closest to `name`, if one is close enough to be a slip.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > NAME_MAX {
        return None;
    }
    let allowed = (name.chars().count() / 3).max(2);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= NAME_MAX && candidate.len().abs_diff(name.len()) <= allowed * 4)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `did you mean …?`, or the list of what is allowed when it is short.
pub(crate) fn choose(name: &str, allowed: &[&str]) -> String {
    match nearest(name, allowed.iter().copied()) {
        Some(candidate) => format!("did you mean {candidate:?}?"),
        None => format!("use one of {}", allowed.join(", ")),
    }
}

/// Levenshtein's distance: insertions, deletions and replacements.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_nothing_else() {
        let known = ["load_users", "clean_users", "export"];
        assert_eq!(nearest("load_user", known), Some("load_users"));
        assert_eq!(nearest("exprot", known), Some("export"));
        assert_eq!(nearest("quite_another_thing", known), None);
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
    }
}
