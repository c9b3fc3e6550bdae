//! Secrets that `notification_config`, or the place of outputs, names. Their values are not known when a project is read, and
//! would have to lie in clear in its definition: so a reference stays (`domain::references`), and is filled in when a message
//! is sent or the place is opened.
//!
//! Refuses to know any secret.

use crate::template::OWN_SECRET;
use domain::references;
use serde_json::{Map, Value};

/// What stands for a secret while the file is parsed: a plain word in YAML, quoted or not.
const BEGIN: &str = "orrery-secret(";
const END: char = ')';

/// For the template: what stands in place of a secret. Only names that a secret can have are referred to.
pub(crate) fn mark(function: &str, name: &str) -> Option<String> {
    let is_name =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    (function == OWN_SECRET && is_name).then(|| format!("{BEGIN}{name}{END}"))
}

/// A configuration whose marks are references.
pub(crate) fn written(config: Map<String, Value>) -> Map<String, Value> {
    config.into_iter().map(|(key, value)| (key, value_of(value))).collect()
}

/// The parser bounds how deep a document is nested.
fn value_of(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains(BEGIN) => Value::String(written_text(&text)),
        Value::Array(items) => items.into_iter().map(value_of).collect(),
        Value::Object(fields) => Value::Object(written(fields)),
        other => other,
    }
}

/// A text whose marks are references.
pub(crate) fn written_text(text: &str) -> String {
    let mut pieces = text.split(BEGIN);
    let mut written = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match piece.split_once(END) {
            Some((name, rest)) => written.extend([references::to(name).as_str(), rest]),
            None => written.extend([BEGIN, piece]),
        }
    }
    written
}
