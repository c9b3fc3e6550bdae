//! One row of the table of settings, and how its text becomes a value.

use super::every_service::COMMON_KEYS;
use serde_json::Value;
use std::net::SocketAddr;

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its name in the file, with dots between the levels: `grpc.listen`.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Its default as one writes it; empty when it has none.
    pub default: &'static str,
    /// What it is for, in one sentence, with its unit and bounds.
    pub doc: &'static str,
}

impl Key {
    /// One row.
    #[must_use]
    pub const fn new(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Self {
        Self { name, kind, default, doc }
    }

    /// The same setting where another default fits.
    #[must_use]
    pub const fn with_default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    /// Its name in the environment, after `ORRERY_` and the service.
    pub(super) fn environment(&self) -> String {
        self.name.to_ascii_uppercase().replace('.', "__").replace('-', "_")
    }

    /// Its name as a flag, after the two dashes.
    pub(super) fn flag(&self) -> String {
        self.name.replace(['.', '_'], "-")
    }
}

/// The rows of a service and the common ones that it does not describe itself.
pub(super) fn table(keys: &[Key]) -> Vec<Key> {
    let common = COMMON_KEYS.iter().filter(|common| keys.iter().all(|key| key.name != common.name));
    keys.iter().chain(common).copied().collect()
}

/// What a setting holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A path of a file or folder.
    Path,
    /// A path of a file that holds a secret. Its content is never shown.
    SecretFile,
    /// An address to listen on: `127.0.0.1:7070`.
    Address,
    /// A URI: `http://scheduler:7071`, `file:///srv/blobs`. Its user and password are never shown.
    Uri,
    /// A whole number, zero or more.
    Integer,
    /// A number of bytes; `64 KiB`, `16 MiB` and `2 GiB` are understood.
    Bytes,
    /// A span of time: `30s`, `500ms`, `1h 30m`.
    Duration,
    /// `true` or `false`.
    Boolean,
    /// Several texts; with commas between them in the environment and in flags.
    List,
}

impl Kind {
    /// The name of the type in the documentation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Path => "path",
            Self::SecretFile => "path of a secret",
            Self::Address => "address:port",
            Self::Uri => "URI",
            Self::Integer => "integer",
            Self::Bytes => "bytes",
            Self::Duration => "duration",
            Self::Boolean => "boolean",
            Self::List => "list",
        }
    }

    /// The value that a text stands for; `None` when it stands for none. Empty text takes an optional setting back.
    pub(super) fn parse(self, text: &str) -> Option<Value> {
        let text = text.trim();
        if text.is_empty() {
            return Some(if self == Self::List { Value::Array(Vec::new()) } else { Value::Null });
        }
        match self {
            Self::Text | Self::Path | Self::SecretFile => Some(text.into()),
            Self::Address => text.parse::<SocketAddr>().ok().map(|_| text.into()),
            Self::Uri => is_uri(text).then(|| text.into()),
            Self::Integer => text.parse::<u64>().ok().map(Value::from),
            Self::Bytes => bytes(text).map(Value::from),
            Self::Duration => super::duration::parse(text).map(|_| text.into()),
            Self::Boolean => text.parse::<bool>().ok().map(Value::from),
            Self::List => Some(text.split(',').map(|item| Value::from(item.trim())).collect()),
        }
    }

    /// The value that a value of the file stands for: already typed, or text as in the environment.
    pub(super) fn accept(self, value: Value) -> Option<Value> {
        match (self, value) {
            (_, Value::String(text)) => self.parse(&text),
            (Self::Integer | Self::Bytes, value @ Value::Number(_)) => value.is_u64().then_some(value),
            (Self::Boolean, value @ Value::Bool(_)) => Some(value),
            (Self::List, Value::Array(items)) => items.iter().all(Value::is_string).then_some(Value::Array(items)),
            _ => None,
        }
    }
}

/// Only the form that all schemes share: what may follow is up to who uses it.
fn is_uri(text: &str) -> bool {
    let scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    text.split_once("://").is_some_and(|(before, after)| {
        before.starts_with(|c: char| c.is_ascii_alphabetic())
            && before.chars().all(scheme)
            && !after.is_empty()
            && !text.contains(|c: char| c.is_whitespace() || c.is_control())
    })
}

fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}
