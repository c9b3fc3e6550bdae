//! YAML into a tree that remembers its lines, within a budget.
//!
//! Mage reads its files with a YAML 1.1 parser: `yes` and `on` are booleans, `010` is eight, and of two equal keys the
//! last one wins. The same holds here, except that a repeated key is worth a warning. Refuses to know what keys mean.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value as Json};
use serde_saphyr::Spanned;
use std::{cell::RefCell, fmt};

/// Values of one file, counted after aliases are expanded.
const NODES_MAX: usize = 300_000;
/// Nesting of one file.
const DEPTH_MAX: usize = 64;
/// Events that aliases may replay: what a "billion laughs" file multiplies.
const REPLAYED_EVENTS_MAX: usize = 50_000;

/// A value and the line where it starts.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) line: u32,
    /// Where the value is written, in bytes.
    at: Option<usize>,
}

/// What YAML can say.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Null, boolean, number or text; never an array or object.
    Scalar(Json),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map; keys that are not text are written as text.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Of the key: the value of a nested map starts one line later.
    pub(crate) line: u32,
    pub(crate) value: Node,
}

/// Why a file is not YAML that we read.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) line: u32,
    pub(crate) message: String,
}

/// A file's tree and the keys that occur twice in one map, with their lines.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) root: Node,
    pub(crate) repeated: Vec<(String, u32)>,
}

impl Node {
    fn null(line: u32) -> Self {
        Self { value: Value::Scalar(Json::Null), line, at: None }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Scalar(Json::Null))
    }

    /// What a person would call it.
    pub(crate) fn noun(&self) -> &'static str {
        match &self.value {
            Value::Scalar(Json::Null) => "nothing",
            Value::Scalar(Json::Bool(_)) => "a boolean",
            Value::Scalar(Json::Number(_)) => "a number",
            Value::Scalar(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// The same value without lines.
    pub(crate) fn to_json(&self) -> Json {
        match &self.value {
            Value::Scalar(scalar) => scalar.clone(),
            Value::List(items) => Json::Array(items.iter().map(Node::to_json).collect()),
            Value::Map(entries) => Json::Object(object(entries)),
        }
    }
}

/// The entries as a JSON object.
pub(crate) fn object(entries: &[Entry]) -> Map<String, Json> {
    entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect()
}

/// Parses one document; an empty file is null.
pub(crate) fn parse(text: &str) -> Result<Document, Broken> {
    if text.trim().is_empty() {
        return Ok(Document { root: Node::null(0), repeated: Vec::new() });
    }
    REPEATED.with_borrow_mut(Vec::clear);
    let parsed = serde_saphyr::from_str_with_options::<Spanned<Value>>(text, options());
    let repeated = REPEATED.take();
    match parsed {
        Ok(spanned) => {
            let mut root = node(spanned);
            if let Some(line) = nul(&root) {
                return Err(Broken {
                    line,
                    message: "a text holds a NUL character, which nothing here can keep".to_owned(),
                });
            }
            read_booleans(&mut root, text);
            Ok(Document { root, repeated })
        }
        Err(error) => Err(broken(&error)),
    }
}

fn options() -> serde_saphyr::Options {
    let mut options = serde_saphyr::options! {
        // The other choice also takes `y` and `n`, which Mage reads as text.
        strict_booleans: true,
        legacy_octal_numbers: true,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_nodes: NODES_MAX, max_depth: DEPTH_MAX, max_documents: 1 },
    };
    options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::LastWins;
    options.alias_limits.max_total_replayed_events = REPLAYED_EVENTS_MAX;
    options
}

fn broken(error: &serde_saphyr::Error) -> Broken {
    let error = error.without_snippet();
    let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default().trim_end_matches([':', ' ']).to_owned();
    let message = if column > 0 && !first.contains("column") { format!("{first} (column {column})") } else { first };
    Broken { line: u32::try_from(line).unwrap_or(0), message }
}

thread_local! {
    // A visitor has no place for findings, and every map of the tree may have some.
    static REPEATED: RefCell<Vec<(String, u32)>> = const { RefCell::new(Vec::new()) };
}

fn node(spanned: Spanned<Value>) -> Node {
    let at = spanned.defined.span().byte_offset().and_then(|at| usize::try_from(at).ok());
    Node { line: u32::try_from(spanned.referenced.line()).unwrap_or(0), value: spanned.value, at }
}

/// The line of the first text with a NUL, which PostgreSQL stores in no text.
fn nul(node: &Node) -> Option<u32> {
    match &node.value {
        Value::Scalar(Json::String(text)) => text.contains('\0').then_some(node.line),
        Value::Scalar(_) => None,
        Value::List(items) => items.iter().find_map(nul),
        Value::Map(entries) => entries.iter().find_map(|entry| match entry.key.contains('\0') {
            true => Some(entry.line),
            false => nul(&entry.value),
        }),
    }
}

/// Turns the further booleans of YAML 1.1 into what Mage reads; quoted ones stay text.
fn read_booleans(node: &mut Node, text: &str) {
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| read_booleans(item, text)),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| read_booleans(&mut entry.value, text)),
        Value::Scalar(Json::String(word)) => {
            let flag = match word.as_str() {
                "yes" | "Yes" | "YES" | "on" | "On" | "ON" => true,
                "no" | "No" | "NO" | "off" | "Off" | "OFF" => false,
                _ => return,
            };
            if node.at.and_then(|at| text.get(at..)).is_some_and(|rest| rest.starts_with(word.as_str())) {
                node.value = Value::Scalar(Json::Bool(flag));
            }
        }
        Value::Scalar(_) => {}
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Scalar(Json::Null))
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Scalar(Json::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Scalar(Json::Bool(v)))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Scalar(Json::Number(v.into())))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Scalar(Json::Number(v.into())))
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        let number = Number::from_f64(v).ok_or_else(|| E::custom("numbers must be finite"))?;
        Ok(Value::Scalar(Json::Number(number)))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::Scalar(Json::String(v.to_owned())))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::Scalar(Json::String(v)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element::<Spanned<Value>>()? {
            items.push(node(item));
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut places = std::collections::HashMap::new();
        while let Some((key, value)) = access.next_entry::<Spanned<Value>, Spanned<Value>>()? {
            let key = node(key);
            let line = key.line;
            let name = key_text(&key).ok_or_else(|| A::Error::custom("a key must be text or a number"))?;
            let entry = Entry { key: name.clone(), line, value: node(value) };
            if let Some(&at) = places.get(&name) {
                REPEATED.with_borrow_mut(|all| all.push((name, line)));
                entries[at] = entry;
            } else {
                places.insert(name, entries.len());
                entries.push(entry);
            }
        }
        Ok(Value::Map(entries))
    }
}

fn key_text(key: &Node) -> Option<String> {
    match &key.value {
        Value::Scalar(Json::String(text)) => Some(text.clone()),
        Value::Scalar(other) => Some(other.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::{Duration, Instant};

    #[test]
    fn reads_values_as_mage_does() {
        let text =
            "é: y\na: yes\nb: 'yes'\nc: ~\nd: [1, 2.5, 0o10, 010]\n5: {x: null}\nwhen: 2023-05-10 18:20:14+00:00\n";
        let document = parse(text).unwrap();
        assert_eq!(
            document.root.to_json(),
            json!({"é": "y", "a": true, "b": "yes", "c": null, "d": [1, 2.5, 8, 8], "5": {"x": null}, "when": "2023-05-10 18:20:14+00:00"})
        );
    }

    #[test]
    fn remembers_lines_and_repeated_keys() {
        let document = parse("a: 1\nb:\n  c:\n  - x\n  - y\na: 2\n").unwrap();
        assert_eq!(document.root.to_json(), json!({"a": 2, "b": {"c": ["x", "y"]}}));
        assert_eq!(document.repeated, [("a".to_owned(), 6)]);
        let Value::Map(entries) = &document.root.value else { panic!() };
        let Value::Map(inner) = &entries[1].value.value else { panic!() };
        let Value::List(items) = &inner[0].value.value else { panic!() };
        assert_eq!((entries[1].line, inner[0].line, items[1].line), (2, 3, 5));
    }

    #[test]
    fn merge_keys_and_aliases_work() {
        let document = parse("base: &b {x: 1}\nd:\n  <<: *b\n  y: 2\n").unwrap();
        assert_eq!(document.root.to_json()["d"], json!({"x": 1, "y": 2}));
    }

    #[test]
    fn a_break_names_its_line() {
        let broken = parse("blocks:\n- uuid: a\n  type: [x\n- uuid: b\n").unwrap_err();
        assert!(broken.line >= 3, "{broken:?}");
        assert!(!broken.message.is_empty());
    }

    #[test]
    fn a_nul_names_its_line() {
        for text in ["a: 1\nb:\n- \"x\\0y\"\n", "a: 1\nb: 2\n\"c\\0\": 3\n"] {
            let broken = parse(text).unwrap_err();
            assert!(broken.line == 3 && broken.message.contains("NUL"), "{broken:?}");
        }
    }

    #[test]
    fn a_bomb_is_refused_quickly() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..10 {
            let previous = format!("*a{},", level - 1).repeat(10);
            bomb += &format!("a{level}: &a{level} [{previous}]\n");
        }
        let started = Instant::now();
        assert!(parse(&bomb).is_err());
        assert!(started.elapsed() < Duration::from_secs(5));
        assert!(parse(&"[".repeat(10_000)).is_err());
    }
}
