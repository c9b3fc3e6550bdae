//! Events and the patterns that choose among them: Mage's, and the operators of Amazon EventBridge.
//!
//! A pattern is an object: each of its fields must match the event's field of the same name. A list matches when one of
//! its entries does: a literal, or an operator such as `{"prefix": "eu-"}`. An object goes one level down. A field of the
//! event that is itself a list matches when one of its entries does. Numbers are compared as numbers.
//!
//! Refuses to know what an event leads to.

use crate::trigger::{Invalid, shorten};
use serde_json::{Map, Number, Value};

/// The most bytes of one pattern, as JSON.
pub const PATTERN_BYTES_MAX: usize = 64 * 1024;
/// The most patterns of one trigger; one of them has to match.
pub const PATTERNS_MAX: usize = 20;
/// How deep a pattern may go.
pub const DEPTH_MAX: usize = 20;
/// The most entries of all lists of one pattern together.
pub const ENTRIES_MAX: usize = 1_000;

/// What an event must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern(Fields);

#[derive(Debug, Clone, PartialEq)]
struct Fields(Vec<(String, Field)>);

#[derive(Debug, Clone, PartialEq)]
enum Field {
    /// One level down.
    Below(Fields),
    /// One of these.
    OneOf(Vec<Test>),
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Equals(Value),
    Prefix(String),
    Suffix(String),
    Exists(bool),
    Numeric(Vec<(Comparison, f64)>),
    /// None of these.
    AnythingBut(Vec<Test>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

impl Pattern {
    /// Understands a pattern. An empty one matches every event.
    ///
    /// # Errors
    /// [`Invalid`] with the path of what is wrong.
    pub fn parse(pattern: &Value) -> Result<Self, Invalid> {
        let Value::Object(map) = pattern else {
            return Err(Invalid::new("must be an object whose fields are lists or objects"));
        };
        let mut parser = Parser { entries: 0, bytes: 0 };
        parser.fields(map, "", 1).map(Self)
    }

    /// Whether the event is one of those.
    #[must_use]
    pub fn matches(&self, event: &Value) -> bool {
        event.as_object().is_some_and(|event| self.0.match_object(event))
    }
}

/// Checks the patterns of a trigger. Without any nothing matches.
///
/// # Errors
/// When there are too many, or as [`Pattern::parse`].
pub fn parse_all(patterns: &[Value]) -> Result<Vec<Pattern>, Invalid> {
    if patterns.len() > PATTERNS_MAX {
        let count = patterns.len();
        return Err(Invalid::new(format!("must be at most {PATTERNS_MAX} patterns, and are {count}")));
    }
    let parse = |(at, pattern)| Pattern::parse(pattern).map_err(|invalid| below(format!("[{at}]"), invalid));
    patterns.iter().enumerate().map(parse).collect()
}

fn below(outer: String, invalid: Invalid) -> Invalid {
    let separator = if invalid.field.is_empty() || invalid.field.starts_with('[') { "" } else { "." };
    let field = format!("{outer}{separator}{}", invalid.field);
    invalid.of(field)
}

impl Fields {
    fn match_object(&self, event: &Map<String, Value>) -> bool {
        self.0.iter().all(|(name, field)| field.matches(event.get(name)))
    }
}

impl Field {
    fn matches(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            (Self::Below(fields), Some(Value::Object(event))) => fields.match_object(event),
            (Self::Below(fields), Some(Value::Array(items))) => {
                items.iter().filter_map(Value::as_object).any(|event| fields.match_object(event))
            }
            // What lies below something that is not there is not there either.
            (Self::Below(fields), _) => fields.0.iter().all(|(_, field)| field.matches(None)),
            (Self::OneOf(tests), value) => tests.iter().any(|test| test.matches(value)),
        }
    }
}

impl Test {
    fn matches(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            // Only leaves count as being there.
            (Self::Exists(wanted), value) => value.is_some_and(|value| !value.is_object()) == *wanted,
            (_, None) => false,
            (Self::AnythingBut(none), Some(Value::Array(items))) => {
                items.iter().any(|item| !none.iter().any(|test| test.matches_one(item)))
            }
            (test, Some(Value::Array(items))) => items.iter().any(|item| test.matches_one(item)),
            (test, Some(value)) => test.matches_one(value),
        }
    }

    fn matches_one(&self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Object(_) | Value::Array(_)) => false,
            (Self::Equals(wanted), value) => same(wanted, value),
            (Self::Prefix(prefix), Value::String(text)) => text.starts_with(prefix),
            (Self::Suffix(suffix), Value::String(text)) => text.ends_with(suffix),
            (Self::Numeric(all), Value::Number(number)) => number
                .as_f64()
                .is_some_and(|number| all.iter().all(|(comparison, than)| comparison.holds(number, *than))),
            (Self::AnythingBut(none), value) => !none.iter().any(|test| test.matches_one(value)),
            (Self::Exists(wanted), _) => *wanted,
            (Self::Prefix(_) | Self::Suffix(_) | Self::Numeric(_), _) => false,
        }
    }
}

/// `1` and `1.0` are the same number; integers beyond 2^53 are compared as what they are.
fn same(wanted: &Value, value: &Value) -> bool {
    match (wanted, value) {
        (Value::Number(a), Value::Number(b)) => {
            a == b || (is_float(a) != is_float(b) && a.as_f64().is_some() && a.as_f64() == b.as_f64())
        }
        _ => wanted == value,
    }
}

fn is_float(number: &Number) -> bool {
    number.is_f64()
}

impl Comparison {
    fn of(sign: &str) -> Option<Self> {
        Some(match sign {
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            "=" => Self::Equal,
            ">=" => Self::GreaterOrEqual,
            ">" => Self::Greater,
            _ => return None,
        })
    }

    #[expect(clippy::float_cmp, reason = "the operator asks for it")]
    fn holds(self, number: f64, than: f64) -> bool {
        match self {
            Self::Less => number < than,
            Self::LessOrEqual => number <= than,
            Self::Equal => number == than,
            Self::GreaterOrEqual => number >= than,
            Self::Greater => number > than,
        }
    }
}

/// Counts while it reads, so that a pattern of a megabyte is refused before it is understood.
struct Parser {
    entries: usize,
    bytes: usize,
}

impl Parser {
    fn fields(&mut self, map: &Map<String, Value>, path: &str, depth: usize) -> Result<Fields, Invalid> {
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
                let mut names = operator.iter();
                match (names.next(), names.next()) {
                    (Some((name, operand)), None) => self.operator(name, operand, path),
                    _ => Err(Invalid::new("has an operator that is not one of a kind, such as {\"prefix\": \"eu-\"}")
                        .of(path)),
                }
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
            ("prefix", Value::String(prefix)) => Ok(Test::Prefix(prefix.clone())),
            ("suffix", Value::String(suffix)) => Ok(Test::Suffix(suffix.clone())),
            ("prefix" | "suffix", _) => refuse("a string"),
            ("exists", Value::Bool(wanted)) => Ok(Test::Exists(*wanted)),
            ("exists", _) => refuse("true or false"),
            ("numeric", Value::Array(parts)) => match numeric(parts) {
                Some(all) => Ok(Test::Numeric(all)),
                None => refuse("one or two comparisons, such as [\">\", 0, \"<=\", 5]"),
            },
            ("numeric", _) => refuse("a list"),
            ("anything-but", operand) => self.anything_but(operand, path),
            _ => {
                let name = shorten(name);
                let known = "prefix, suffix, exists, numeric and anything-but";
                Err(Invalid::new(format!("has the operator {name:?}, which is none of {known}")).of(path))
            }
        }
    }

    /// A literal, a list of literals, or one of prefix and suffix.
    fn anything_but(&mut self, operand: &Value, path: &str) -> Result<Test, Invalid> {
        let none = match operand {
            Value::Array(literals) if literals.is_empty() || literals.iter().any(|l| l.is_array() || l.is_object()) => {
                return Err(Invalid::new("has \"anything-but\" without literals").of(path));
            }
            Value::Array(literals) => self.tests(literals, path)?,
            Value::Object(_) => match self.test(operand, path)? {
                test @ (Test::Prefix(_) | Test::Suffix(_)) => vec![test],
                _ => {
                    return Err(Invalid::new("has \"anything-but\" with something else than prefix or suffix").of(path));
                }
            },
            literal => vec![Test::Equals(literal.clone())],
        };
        Ok(Test::AnythingBut(none))
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(pattern: Value, event: Value, expected: bool) {
        assert_eq!(Pattern::parse(&pattern).unwrap().matches(&event), expected, "{pattern} {event}");
    }

    #[test]
    fn as_mage_matches() {
        let object = json!({"source": "aws.s3", "detail": {"bucket": {"name": "in"}, "size": 7, "tags": ["a", "b"]}});
        check(json!({}), object.clone(), true);
        check(json!({"source": ["aws.s3"]}), object.clone(), true);
        check(json!({"source": ["aws.sqs", "aws.s3"]}), object.clone(), true);
        check(json!({"source": ["aws.sqs"]}), object.clone(), false);
        check(json!({"detail": {"bucket": {"name": ["in"]}}}), object.clone(), true);
        check(json!({"detail": {"bucket": {"name": ["out"]}}}), object.clone(), false);
        check(json!({"absent": ["x"]}), object.clone(), false);
        check(json!({"detail": {"size": [7.0]}}), object.clone(), true);
        check(json!({"detail": {"tags": ["b"]}}), object.clone(), true);
        check(json!({"detail": {"tags": ["c"]}}), object, false);
        check(json!({"n": [9_007_199_254_740_993_u64]}), json!({"n": 9_007_199_254_740_992_u64}), false);
        check(json!({"x": [null]}), json!({"x": null}), true);
        check(json!({"x": [null]}), json!({}), false);
        check(json!({"x": [true]}), json!({"x": 1}), false);
        check(json!({"x": ["a"]}), json!([{"x": "a"}]), false);
    }

    #[test]
    fn as_eventbridge_matches() {
        check(json!({"region": [{"prefix": "eu-"}]}), json!({"region": "eu-west-1"}), true);
        check(json!({"region": [{"prefix": "eu-"}]}), json!({"region": "us-east-1"}), false);
        check(json!({"region": [{"prefix": ""}]}), json!({"region": 5}), false);
        check(json!({"file": [{"suffix": ".csv"}, {"suffix": ".tsv"}]}), json!({"file": "a.tsv"}), true);
        check(json!({"x": [{"exists": true}]}), json!({"x": null}), true);
        check(json!({"x": [{"exists": false}]}), json!({"y": 1}), true);
        check(json!({"x": [{"exists": false}]}), json!({"x": 1}), false);
        check(json!({"x": {"y": [{"exists": false}]}}), json!({}), true);
        check(json!({"x": [{"exists": true}]}), json!({"x": {"y": 1}}), false);
        check(json!({"n": [{"numeric": [">", 0, "<=", 5]}]}), json!({"n": 5}), true);
        check(json!({"n": [{"numeric": [">", 0, "<=", 5]}]}), json!({"n": 5.1}), false);
        check(json!({"n": [{"numeric": ["=", 3e2]}]}), json!({"n": 300}), true);
        check(json!({"n": [{"numeric": ["<", 0]}]}), json!({"n": "-1"}), false);
        check(json!({"s": [{"anything-but": "x"}]}), json!({"s": "y"}), true);
        check(json!({"s": [{"anything-but": ["x", "y"]}]}), json!({"s": "y"}), false);
        check(json!({"s": [{"anything-but": {"prefix": "init"}}]}), json!({"s": "initial"}), false);
        check(json!({"s": [{"anything-but": {"suffix": "~"}}]}), json!({"s": "a"}), true);
        check(json!({"s": [{"anything-but": "x"}]}), json!({}), false);
        check(json!({"s": [{"anything-but": ["x"]}]}), json!({"s": ["x", "y"]}), true);
        check(json!({"s": [{"anything-but": 5}]}), json!({"s": 5.0}), false);
        check(json!({"a": {"b": [1]}}), json!({"a": [{"b": 2}, {"b": 1}]}), true);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let deep = (0..30).fold(json!(["x"]), |below, _| json!({ "a": below }));
        for (pattern, word) in [
            (json!("x"), "object"),
            (json!({"a": "x"}), "list"),
            (json!({"a": []}), "empty list"),
            (json!({"a": [["x"]]}), "list in a list"),
            (json!({"a": [{"prefix": 1}]}), "string"),
            (json!({"a": [{"exists": "yes"}]}), "true or false"),
            (json!({"a": [{"numeric": [">"]}]}), "comparisons"),
            (json!({"a": [{"numeric": ["!", 1]}]}), "comparisons"),
            (json!({"a": [{"anything-but": {"exists": true}}]}), "prefix or suffix"),
            (json!({"a": [{"anything-but": []}]}), "literals"),
            (json!({"a": [{"prefix": "x", "suffix": "y"}]}), "one of a kind"),
            (json!({"a": [{"regex": ".*"}]}), "regex"),
            (json!({"a": ["x".repeat(1 << 20)]}), "longer than"),
            (json!({ "x".repeat(1 << 20): ["a"] }), "longer than"),
            (json!({"a": vec![1; 2_000]}), "more than 1000 entries"),
            (deep, "deeper"),
        ] {
            let error = Pattern::parse(&pattern).unwrap_err().to_string();
            assert!(error.contains(word) && error.len() < 300, "{error}");
        }
        let error = parse_all(&[json!({}), json!({"detail": {"a": [{"regex": 1}]}})]).unwrap_err();
        assert_eq!(error.field, "[1].detail.a");
    }
}
