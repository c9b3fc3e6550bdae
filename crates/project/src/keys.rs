//! Typed reading of a YAML map: every refusal names its key, its line and what was expected.
//!
//! Refuses to know which keys exist.

use crate::{
    diagnostic::{Place, Report},
    nearest::nearest,
    yaml::{self, Entry, Node, Value},
};
use serde_json::{Map, Value as Json};

/// A map of the file and its path from the top, such as `blocks[2].`.
#[derive(Debug, Clone)]
pub(crate) struct Keys<'n> {
    entries: &'n [Entry],
    prefix: String,
    line: u32,
}

/// One item of a list of names.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) place: Place,
}

impl<'n> Keys<'n> {
    /// The map at `node`; anything else but null is an error, and null is an empty map.
    pub(crate) fn of(node: &'n Node, path: &str, report: &mut Report) -> Option<Self> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
        match &node.value {
            Value::Map(entries) => Some(Self { entries, prefix, line: node.line }),
            Value::Scalar(Json::Null) => Some(Self { entries: &[], prefix, line: node.line }),
            _ => {
                let message = format!("expected a map of keys and values, found {}", node.noun());
                report.error(Place::new(path, node.line), message, "write `key: value` lines here");
                None
            }
        }
    }

    /// Where `key` is, or where the map starts when it is absent.
    pub(crate) fn place(&self, key: &str) -> Place {
        let line = self.entries.iter().find(|e| e.key == key).map_or(self.line, |e| e.line);
        Place::new(format!("{}{key}", self.prefix), line)
    }

    /// The map itself, as a key.
    pub(crate) fn here(&self) -> Place {
        Place::new(self.prefix.trim_end_matches('.'), self.line)
    }

    /// The value of `key`; null counts as absent.
    pub(crate) fn node(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|e| e.key == key).map(|e| &e.value).filter(|v| !v.is_null())
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'n str> {
        self.entries.iter().map(|e| e.key.as_str())
    }

    /// Text; numbers and booleans are taken as they are written.
    pub(crate) fn text(&self, key: &str, report: &mut Report) -> Option<String> {
        let node = self.node(key)?;
        match &node.value {
            Value::Scalar(Json::String(text)) => Some(text.clone()),
            Value::Scalar(other) => Some(other.to_string()),
            _ => self.refuse(key, node, "text", report),
        }
    }

    /// A boolean; the words and the numbers that people write for one are understood.
    pub(crate) fn flag(&self, key: &str, report: &mut Report) -> Option<bool> {
        let node = self.node(key)?;
        match &node.value {
            Value::Scalar(Json::Bool(flag)) => Some(*flag),
            Value::Scalar(Json::Number(n)) if n.as_i64() == Some(0) => Some(false),
            Value::Scalar(Json::Number(n)) if n.as_i64() == Some(1) => Some(true),
            Value::Scalar(Json::String(text)) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Some(true),
                "false" | "0" | "no" | "off" | "" => Some(false),
                _ => self.refuse(key, node, "true or false", report),
            },
            _ => self.refuse(key, node, "true or false", report),
        }
    }

    /// A whole number from 0; a fraction is rounded up, since every number here is a count or seconds.
    pub(crate) fn number(&self, key: &str, report: &mut Report) -> Option<u32> {
        let node = self.node(key)?;
        let given = match &node.value {
            Value::Scalar(Json::Number(number)) => number.as_f64(),
            Value::Scalar(Json::String(text)) if text.trim().is_empty() => return None,
            Value::Scalar(Json::String(text)) => text.trim().parse::<f64>().ok(),
            _ => None,
        };
        match given.filter(|n| n.is_finite() && *n >= 0.0 && n.ceil() <= f64::from(u32::MAX)) {
            Some(n) => {
                if n.fract() != 0.0 {
                    let message = format!("fractions are rounded up: {n} counts as {}", n.ceil());
                    report.warn(self.place(key), message, "write a whole number");
                }
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just above")]
                Some(n.ceil() as u32)
            }
            None => self.refuse(key, node, "a whole number from 0 to 4294967295", report),
        }
    }

    /// A number above 0; 0 means "not set", as Mage takes it.
    pub(crate) fn positive(&self, key: &str, report: &mut Report) -> Option<u32> {
        self.number(key, report).filter(|n| *n > 0)
    }

    /// A list of names; one name alone is a list of one.
    pub(crate) fn list(&self, key: &str, report: &mut Report) -> Vec<Named> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let path = format!("{}{key}", self.prefix);
        match &node.value {
            Value::Scalar(Json::String(name)) => vec![Named { name: name.clone(), place: self.place(key) }],
            Value::List(items) => {
                items.iter().enumerate().filter_map(|(n, item)| named(n, item, &path, report)).collect()
            }
            _ => {
                self.refuse::<()>(key, node, "a list of names", report);
                Vec::new()
            }
        }
    }

    /// The nodes of a list, with their paths.
    pub(crate) fn nodes(&self, key: &str, report: &mut Report) -> Vec<(String, &'n Node)> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let path = format!("{}{key}", self.prefix);
        match &node.value {
            Value::List(items) => items.iter().enumerate().map(|(n, item)| (format!("{path}[{n}]"), item)).collect(),
            // An empty map in place of an empty list is written by old versions.
            Value::Map(entries) if entries.is_empty() => Vec::new(),
            _ => {
                self.refuse::<()>(key, node, "a list", report);
                Vec::new()
            }
        }
    }

    /// A nested map.
    pub(crate) fn map(&self, key: &str, report: &mut Report) -> Option<Keys<'n>> {
        let node = self.node(key)?;
        let mut keys = Keys::of(node, &format!("{}{key}", self.prefix), report)?;
        keys.line = self.place(key).line;
        Some(keys)
    }

    /// A nested map where there is one; anything else that is written there is not judged.
    pub(crate) fn nested(&self, key: &str) -> Option<Keys<'n>> {
        let Value::Map(entries) = &self.node(key)?.value else { return None };
        Some(Keys { entries, prefix: format!("{}{key}.", self.prefix), line: self.place(key).line })
    }

    /// A nested map as JSON; empty when absent.
    pub(crate) fn object(&self, key: &str, report: &mut Report) -> Map<String, Json> {
        self.map(key, report).map(|keys| yaml::object(keys.entries)).unwrap_or_default()
    }

    /// The whole map as JSON.
    pub(crate) fn here_object(&self) -> Map<String, Json> {
        yaml::object(self.entries)
    }

    /// Warns of keys that nobody reads, with the one that was probably meant.
    pub(crate) fn warn_unknown(&self, known: &[&str], report: &mut Report) {
        for entry in self.entries.iter().filter(|e| !known.contains(&e.key.as_str())) {
            let remedy = match nearest(&entry.key, known.iter().copied()) {
                Some(candidate) => format!("did you mean {candidate:?}?"),
                None => "remove it, or leave it: it changes nothing".to_owned(),
            };
            let place = Place::new(format!("{}{}", self.prefix, entry.key), entry.line);
            report.warn(place, format!("the key {:?} is not known and is ignored", entry.key), remedy);
        }
    }

    fn refuse<T>(&self, key: &str, node: &Node, expected: &str, report: &mut Report) -> Option<T> {
        let found = match &node.value {
            Value::Scalar(Json::String(text)) => format!("{:?}", text.chars().take(80).collect::<String>()),
            Value::Scalar(scalar) => scalar.to_string(),
            _ => node.noun().to_owned(),
        };
        let message = format!("expected {expected}, found {found}");
        report.error(self.place(key), message, format!("write {expected} for {key:?}, or remove the key"));
        None
    }
}

fn named(n: usize, item: &Node, path: &str, report: &mut Report) -> Option<Named> {
    let place = Place::new(format!("{path}[{n}]"), item.line);
    match &item.value {
        Value::Scalar(Json::Null) => None,
        Value::Scalar(Json::String(name)) => Some(Named { name: name.clone(), place }),
        Value::Scalar(other) => Some(Named { name: other.to_string(), place }),
        _ => {
            report.error(place, format!("expected a name, found {}", item.noun()), "write the name as plain text");
            None
        }
    }
}
