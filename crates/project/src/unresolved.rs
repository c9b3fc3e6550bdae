//! Secrets that a file asks for where nobody can give them: outside the runner their functions render to nothing, and the
//! value would be empty without a word.
//!
//! Refuses to know which of these places matter; who reads the file does.

use crate::{
    Env,
    diagnostic::Place,
    template,
    yaml::{self, Node, Value},
};

/// Stands for a secret while places are looked for; a plain word in YAML.
const MARK: &str = "orrery-unresolved-secret";

/// The keys whose values need a secret that `mark` marks, in the order of the file. A file that cannot be read has none: that
/// is told elsewhere.
fn marked(text: &str, env: Env<'_>, mark: fn(&str, &str) -> Option<String>) -> Vec<Place> {
    let mut found = Vec::new();
    if !template::names_secrets(text) {
        return found;
    }
    if let Ok(document) = template::render_with(text, env, mark).map(|rendered| yaml::parse(&rendered))
        && let Ok(document) = document
    {
        walk(&document.root, "", document.root.line, &mut found);
    }
    found
}

/// The keys whose values need a secret, in the order of the file.
pub(crate) fn places(text: &str, env: Env<'_>) -> Vec<Place> {
    marked(text, env, |_, _| Some(MARK.to_owned()))
}

/// As [`places`], without the secrets that the cluster itself keeps.
pub(crate) fn foreign_places(text: &str, env: Env<'_>) -> Vec<Place> {
    marked(text, env, |function, _| (function != template::OWN_SECRET).then(|| MARK.to_owned()))
}

/// The parser bounds how deep a document is nested.
fn walk(node: &Node, path: &str, line: u32, found: &mut Vec<Place>) {
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
                walk(&entry.value, &path, entry.line, found);
            }
        }
        Value::List(items) => {
            for (n, item) in items.iter().enumerate() {
                walk(item, &format!("{path}[{n}]"), item.line, found);
            }
        }
        Value::Scalar(serde_json::Value::String(text)) if text.contains(MARK) => found.push(Place::new(path, line)),
        Value::Scalar(_) => {}
    }
}
