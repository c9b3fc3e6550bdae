//! Secrets that a text or a configuration names instead of holding them: `{{ mage_secret_var('NAME') }}`, as a project's file
//! writes it. They are filled in for one use, in memory: a message, or the address of a store. Refuses to know where secrets
//! are, and who may see which.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A secret of fewer characters is part of too many words to be masked where runs are shown.
pub const MASKED_CHARS_MIN: usize = 4;

const BEGIN: &str = "{{ mage_secret_var('";
const END: &str = "') }}";

/// What stands for the secret of this name.
#[must_use]
pub fn to(name: &str) -> String {
    format!("{BEGIN}{name}{END}")
}

/// Whether a text is not known yet, since it names a secret.
#[must_use]
pub fn has(text: &str) -> bool {
    text.contains(BEGIN)
}

/// Whether a text begins with a secret.
#[must_use]
pub fn starts(text: &str) -> bool {
    text.starts_with(BEGIN)
}

/// The names of the secrets that a configuration needs.
#[must_use]
pub fn names(config: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(config, &mut found);
    found
}

/// The names of the secrets that a text needs.
#[must_use]
pub fn names_in(text: &str) -> BTreeSet<String> {
    let names = text.split(BEGIN).skip(1).filter_map(|rest| rest.split_once(END));
    names.map(|(name, _)| name.to_owned()).collect()
}

fn collect(config: &Value, found: &mut BTreeSet<String>) {
    match config {
        Value::String(text) => found.extend(names_in(text)),
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, found)),
        _ => {}
    }
}

/// The configuration with these secrets in the places of their names; others stay named.
#[must_use]
pub fn fill(config: &Value, secrets: &BTreeMap<String, String>) -> Value {
    match config {
        Value::String(text) => Value::String(fill_in(text, secrets)),
        Value::Array(items) => items.iter().map(|item| fill(item, secrets)).collect(),
        Value::Object(fields) => {
            let filled = fields.iter().map(|(key, value)| (key.clone(), fill(value, secrets)));
            Value::Object(filled.collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

/// The text with these secrets in the places of their names; others stay named. What is filled in is not looked through
/// again: a secret is no template.
#[must_use]
pub fn fill_in(text: &str, secrets: &BTreeMap<String, String>) -> String {
    let mut pieces = text.split(BEGIN);
    let mut filled = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match piece.split_once(END).and_then(|(name, rest)| Some((secrets.get(name)?, rest))) {
            Some((secret, rest)) => filled.extend([secret.trim(), rest]),
            None => filled.extend([BEGIN, piece]),
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_found_and_filled_in_once() {
        let config = json!({
            "slack_config": { "webhook_url": "https://h/{{ mage_secret_var('a') }}/{{ mage_secret_var('b') }}" },
            "list": ["{{ mage_secret_var('c') }}", 7, null], "plain": "{{ mage_secret_var(",
        });
        assert_eq!(names(&config).into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
        let secrets = [("a", "1\n"), ("b", "{{ mage_secret_var('a') }}")];
        let secrets = secrets.map(|(name, secret)| (name.to_owned(), secret.to_owned())).into();
        let filled = fill(&config, &secrets);
        assert_eq!(filled["slack_config"]["webhook_url"], "https://h/1/{{ mage_secret_var('a') }}");
        assert_eq!(fill_in(&to("a"), &secrets), "1");
        assert_eq!((&filled["list"], &filled["plain"]), (&config["list"], &config["plain"]));
    }
}
