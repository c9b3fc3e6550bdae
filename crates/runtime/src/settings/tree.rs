//! Dotted names in nested values, and the nearest name to a wrong one.

use serde_json::{Map, Value};

/// Puts `value` at a dotted name, making the levels between.
pub(super) fn set(tree: &mut Value, name: &str, value: Value) {
    let mut at = tree;
    for part in name.split('.') {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(map) = at else { return };
        at = map.entry(part).or_insert(Value::Null);
    }
    *at = value;
}

/// Every leaf with its dotted name. A level without entries has none.
pub(super) fn leaves(tree: Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    collect(String::new(), tree, &mut found);
    found
}

fn collect(name: String, value: Value, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) => {
            for (part, value) in map {
                let name = if name.is_empty() { part } else { format!("{name}.{part}") };
                collect(name, value, found);
            }
        }
        value => found.push((name, value)),
    }
}

/// The most similar of `names`, unless all are too far away to be meant.
pub(super) fn nearest(wrong: &str, names: impl IntoIterator<Item = &'static str>) -> Option<&'static str> {
    let within = (wrong.len() / 3).max(2);
    let ranked = names.into_iter().map(|name| (distance(wrong, name), name));
    ranked.min().filter(|(distance, _)| *distance <= within).map(|(_, name)| name)
}

/// Insertions, deletions and replacements between two names (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
