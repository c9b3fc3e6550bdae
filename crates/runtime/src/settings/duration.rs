//! Spans of time in settings: `30s`, `500ms`, `1h 30m`. For `#[serde(with = "runtime::settings::duration")]`.

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::time::Duration;

/// The span that a text stands for; `None` for anything else, negative spans included.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    Duration::try_from(text.trim().parse::<SignedDuration>().ok()?).ok()
}

/// The text of a span: `1m 30s`.
#[must_use]
pub fn format(span: Duration) -> String {
    SignedDuration::try_from(span).map_or_else(|_| format!("{}s", span.as_secs()), |span| format!("{span:#}"))
}

/// Writes a span as text.
///
/// # Errors
/// Only those of the serializer.
pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    format(*span).serialize(serializer)
}

/// Reads a span from text.
///
/// # Errors
/// When the text is not a span of time.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not a span of time such as 30s or 500ms")))
}
