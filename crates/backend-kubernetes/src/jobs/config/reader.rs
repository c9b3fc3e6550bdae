//! Reading of objects that people wrote for Kubernetes, in either spelling of its names.

use super::Amounts;
use crate::quantity;
use k8s_openapi::{api::core::v1::LocalObjectReference, apimachinery::pkg::api::resource::Quantity};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Maps whose keys are anybody's words and are left as they stand.
const FREE: [&str; 6] = ["labels", "annotations", "matchLabels", "nodeSelector", "limits", "requests"];
/// Remarks of one config; whoever gets more has written something else.
const REMARKS_MAX: usize = 50;

/// Reads, and remembers what could not be taken.
#[derive(Default)]
pub(in super::super) struct Reader {
    pub(in super::super) remarks: Vec<String>,
}

impl Reader {
    /// Notes why something does not hold.
    pub(in super::super) fn refuse(&mut self, path: &str, why: &str) {
        if self.remarks.len() < REMARKS_MAX {
            self.remarks.push(format!("executor_config: `{path}` {why}; it is passed over"));
        }
    }

    /// A value of a known form; null is none.
    pub(super) fn typed<T: DeserializeOwned>(&mut self, path: &str, value: Option<Value>) -> Option<T> {
        let value = value.filter(|value| !value.is_null())?;
        serde_json::from_value(camels(value))
            .map_err(|error| self.refuse(path, &format!("makes no sense: {error}")))
            .ok()
    }

    /// Texts by names that are anybody's words.
    pub(super) fn texts(&mut self, path: &str, value: Option<Value>) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        for (name, text) in self.map(path, value).unwrap_or_default() {
            match text {
                Value::String(text) => drop(texts.insert(name, text)),
                Value::Null => {}
                other => drop(texts.insert(name, other.to_string())),
            }
        }
        texts
    }

    /// A list of objects of Kubernetes. What these do not have is told: it would be dropped in silence.
    pub(super) fn list<T: DeserializeOwned + Serialize>(&mut self, path: &str, value: Option<Value>) -> Vec<T> {
        let Some(items) = self.typed::<Vec<Value>>(path, value) else { return Vec::new() };
        let mut found = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(object) = self.typed::<T>(&path, Some(item.clone())) else { continue };
            let understood = serde_json::to_value(&object).unwrap_or_default();
            self.unknown(&path, &camels(item), &understood);
            found.push(object);
        }
        found
    }

    /// Names of secrets, as texts or as objects.
    pub(super) fn names(&mut self, path: &str, value: Option<Value>) -> Vec<LocalObjectReference> {
        let value = match value {
            Some(Value::String(name)) => Some(Value::Array(vec![Value::String(name)])),
            other => other,
        };
        let named = |item: Value| match item {
            Value::String(name) => serde_json::json!({ "name": name }),
            object => object,
        };
        let items = self.typed::<Vec<Value>>(path, value).unwrap_or_default();
        self.list(path, Some(items.into_iter().map(named).collect()))
    }

    /// An amount that Kubernetes reads as well.
    pub(super) fn amount(&mut self, path: &str, amount: Quantity) -> Option<Quantity> {
        if !quantity::is_amount(&amount.0) {
            // As people write bytes elsewhere.
            let meant = amount.0.replace(' ', "");
            let meant = meant.strip_suffix('B').filter(|text| quantity::is_amount(text));
            let right =
                meant.map_or("write one like 500m, 2, 512Mi or 16Gi".to_owned(), |text| format!("write {text}"));
            let shown: String = amount.0.chars().take(40).collect();
            self.refuse(path, &format!("is `{shown}`, which is no amount of Kubernetes; {right}"));
            return None;
        }
        Some(amount)
    }

    /// Amounts; numbers are amounts as well.
    pub(super) fn amounts(&mut self, path: &str, value: Option<Value>) -> Amounts {
        let mut amounts = Amounts::new();
        for (name, amount) in self.map(path, value).unwrap_or_default() {
            let amount = match amount {
                Value::String(text) => Quantity(text),
                Value::Number(number) => Quantity(number.to_string()),
                Value::Null => continue,
                _ => Quantity(String::new()),
            };
            if let Some(amount) = self.amount(&format!("{path}.{name}"), amount) {
                amounts.insert(name, amount);
            }
        }
        amounts
    }

    /// A map with its keys as they were written; null is none.
    pub(super) fn map(&mut self, path: &str, value: Option<Value>) -> Option<Map<String, Value>> {
        match value? {
            Value::Object(map) => Some(map),
            Value::Null => None,
            _ => {
                self.refuse(path, "is no map");
                None
            }
        }
    }

    /// Tells of every key that is left.
    pub(super) fn leftover(&mut self, path: &str, fields: &Map<String, Value>, taken: &str) {
        for key in fields.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key) {
            self.refuse(&format!("{path}.{key}"), &format!("is not for projects to set (only {taken} are)"));
        }
    }

    fn unknown(&mut self, path: &str, written: &Value, understood: &Value) {
        match (written, understood) {
            (Value::Object(written), Value::Object(understood)) => {
                for (key, value) in written.iter().filter(|(_, value)| !value.is_null()) {
                    let path = format!("{path}.{key}");
                    match understood.get(key) {
                        Some(known) => self.unknown(&path, value, known),
                        None => self.refuse(&path, "is not known to Kubernetes"),
                    }
                }
            }
            (Value::Array(written), Value::Array(understood)) => {
                for (index, (value, known)) in written.iter().zip(understood).enumerate() {
                    self.unknown(&format!("{path}[{index}]"), value, known);
                }
            }
            _ => {}
        }
    }
}

/// A key as Kubernetes spells it: `volume_mounts` is `volumeMounts`.
pub(super) fn camel(key: &str) -> String {
    let mut words = key.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |made, word| {
        let mut letters = word.chars();
        made + &letters.next().map(|letter| letter.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    })
}

fn camels(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let each = map.into_iter().map(|(key, value)| {
                let key = camel(&key);
                let value = if FREE.contains(&key.as_str()) { value } else { camels(value) };
                (key, value)
            });
            Value::Object(each.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(camels).collect()),
        other => other,
    }
}
