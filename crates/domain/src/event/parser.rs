//! Reads patterns. Refuses what it does not know, naming the key and the path, and to read more than the limits allow.

use super::{Comparison, DEPTH_MAX, ENTRIES_MAX, Field, Fields, PATTERN_BYTES_MAX, Place, Test, Wording};
use crate::trigger::{Invalid, shorten};
use serde_json::{Map, Value};

/// The operator that stands by itself and inside others.
const IGNORE_CASE: &str = "equals-ignore-case";
/// What may stand in a list.
const KNOWN: &str = "prefix, suffix, equals-ignore-case, exists, numeric and anything-but";

/// Counts while it reads, so that a pattern of a megabyte is refused before it is understood.
#[derive(Default)]
pub(super) struct Parser {
    entries: usize,
    bytes: usize,
}

impl Parser {
    pub(super) fn fields(&mut self, map: &Map<String, Value>, path: &str, depth: usize) -> Result<Fields, Invalid> {
        if depth > DEPTH_MAX {
            return Err(Invalid::new(format!("goes deeper than {DEPTH_MAX} levels")).of(path));
        }
        let mut fields = Vec::with_capacity(map.len().min(ENTRIES_MAX));
        for (name, value) in map {
            self.count(name.len(), path)?;
            let path = if path.is_empty() { shorten(name) } else { format!("{path}.{}", shorten(name)) };
            let field = match value {
                Value::Object(below) => Field::Below(self.fields(below, &path, depth + 1)?),
                Value::Array(entries) if entries.is_empty() => {
                    return Err(Invalid::new("is an empty list, which nothing matches").of(path));
                }
                Value::Array(entries) if name == "$or" && entries.iter().any(Value::is_object) => {
                    let why = "has the operator \"$or\", which is not supported; give the trigger one pattern for each alternative";
                    return Err(Invalid::new(why).of(path));
                }
                Value::Array(entries) => Field::OneOf(self.tests(entries, &path)?),
                _ => return Err(Invalid::new("must be a list of what may match, or an object").of(path)),
            };
            fields.push((name.clone(), field));
        }
        Ok(Fields(fields))
    }

    fn tests(&mut self, entries: &[Value], path: &str) -> Result<Vec<Test>, Invalid> {
        entries.iter().map(|entry| self.test(entry, path)).collect()
    }

    fn test(&mut self, entry: &Value, path: &str) -> Result<Test, Invalid> {
        match entry {
            Value::Object(operator) => {
                let (name, operand) = only(operator).ok_or_else(|| {
                    Invalid::new("has an operator that is not one of a kind, such as {\"prefix\": \"eu-\"}").of(path)
                })?;
                self.operator(name, operand, path)
            }
            Value::Array(_) => Err(Invalid::new("has a list in a list").of(path)),
            literal => {
                self.count(text(literal).len(), path)?;
                Ok(Test::Equals(literal.clone()))
            }
        }
    }

    fn operator(&mut self, name: &str, operand: &Value, path: &str) -> Result<Test, Invalid> {
        self.count(name.len() + text(operand).len(), path)?;
        let refuse = |what: &str| Err(Invalid::new(format!("has {name:?} with something else than {what}")).of(path));
        match (name, operand) {
            ("prefix", operand) => self.part(name, Place::Start, operand, path),
            ("suffix", operand) => self.part(name, Place::End, operand, path),
            (IGNORE_CASE, Value::String(text)) => Ok(Test::Text(Wording::any_case(Place::Whole, text))),
            (IGNORE_CASE, _) => refuse("a string"),
            ("exists", Value::Bool(wanted)) => Ok(Test::Exists(*wanted)),
            ("exists", _) => refuse("true or false"),
            ("numeric", Value::Array(parts)) => match numeric(parts) {
                Some(all) => Ok(Test::Numeric(all)),
                None => refuse("one or two comparisons, such as [\">\", 0, \"<=\", 5]"),
            },
            ("numeric", _) => refuse("a list"),
            ("anything-but", operand) => self.anything_but(operand, path).map(Test::AnythingBut),
            _ => {
                let name = shorten(name);
                Err(Invalid::new(format!("has the operator {name:?}, which is none of {KNOWN}")).of(path))
            }
        }
    }

    /// A string, or one in any case.
    fn part(&mut self, name: &str, place: Place, operand: &Value, path: &str) -> Result<Test, Invalid> {
        match operand {
            Value::String(text) => Ok(Test::Text(Wording::exact(place, text))),
            Value::Object(inner) => match only(inner) {
                Some((IGNORE_CASE, Value::String(text))) => {
                    self.count(text.len(), path)?;
                    Ok(Test::Text(Wording::any_case(place, text)))
                }
                Some((IGNORE_CASE, _)) => {
                    Err(Invalid::new(format!("has {name:?} with {IGNORE_CASE:?} of something else than a string"))
                        .of(path))
                }
                _ => Err(Invalid::new(format!(
                    "has {name:?} with {}, where only a string or {IGNORE_CASE:?} may stand",
                    keys(inner)
                ))
                .of(path)),
            },
            _ => Err(Invalid::new(format!("has {name:?} with something else than a string")).of(path)),
        }
    }

    /// A literal, a list of literals, or one of prefix, suffix and equals-ignore-case with a string or a list of strings.
    fn anything_but(&mut self, operand: &Value, path: &str) -> Result<Vec<Test>, Invalid> {
        match operand {
            Value::Array(literals) if literals.is_empty() || literals.iter().any(|l| l.is_array() || l.is_object()) => {
                Err(Invalid::new("has \"anything-but\" with a list that is not one of literals").of(path))
            }
            Value::Array(literals) => self.tests(literals, path),
            Value::Object(inner) => match only(inner) {
                Some((name @ ("prefix" | "suffix" | IGNORE_CASE), operand)) => self.none_of(name, operand, path),
                _ => {
                    let (keys, known) = (keys(inner), "\"prefix\", \"suffix\" or \"equals-ignore-case\"");
                    let why = format!("has \"anything-but\" with {keys}, where only one of {known} may stand");
                    Err(Invalid::new(why).of(path))
                }
            },
            literal => Ok(vec![Test::Equals(literal.clone())]),
        }
    }

    /// Each of these strings by itself.
    fn none_of(&mut self, name: &str, operand: &Value, path: &str) -> Result<Vec<Test>, Invalid> {
        let one = std::slice::from_ref(operand);
        let texts = operand.as_array().map_or(one, Vec::as_slice);
        if texts.is_empty() || !texts.iter().all(Value::is_string) {
            let why =
                format!("has \"anything-but\" with {name:?} of something else than a string or a list of strings");
            return Err(Invalid::new(why).of(path));
        }
        texts.iter().map(|text| self.operator(name, text, path)).collect()
    }

    fn count(&mut self, bytes: usize, path: &str) -> Result<(), Invalid> {
        self.entries += 1;
        self.bytes += bytes;
        if self.bytes > PATTERN_BYTES_MAX {
            return Err(Invalid::new(format!("is longer than {PATTERN_BYTES_MAX} bytes")).of(path));
        }
        if self.entries > ENTRIES_MAX {
            return Err(Invalid::new(format!("has more than {ENTRIES_MAX} entries")).of(path));
        }
        Ok(())
    }
}

/// The only field of an object.
fn only(object: &Map<String, Value>) -> Option<(&str, &Value)> {
    let mut fields = object.iter();
    match (fields.next(), fields.next()) {
        (Some((name, value)), None) => Some((name, value)),
        _ => None,
    }
}

/// The first fields of an object, for a person.
fn keys(object: &Map<String, Value>) -> String {
    let names: Vec<String> = object.keys().take(3).map(|name| format!("{:?}", shorten(name))).collect();
    if names.is_empty() { "an empty object".to_owned() } else { names.join(", ") }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn numeric(parts: &[Value]) -> Option<Vec<(Comparison, f64)>> {
    let (pairs, rest) = parts.as_chunks::<2>();
    if !rest.is_empty() || !(1..=2).contains(&pairs.len()) {
        return None;
    }
    pairs.iter().map(|[sign, than]| Some((Comparison::of(sign.as_str()?)?, than.as_f64()?))).collect()
}
