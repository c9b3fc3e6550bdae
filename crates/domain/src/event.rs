//! Events and the patterns that choose among them: Mage's, and the operators of Amazon EventBridge.
//!
//! A pattern is an object: each of its fields must match the event's field of the same name. A list matches when one of
//! its entries does: a literal, or an operator such as `{"prefix": "eu-"}`. An object goes one level down. A field of the
//! event that is itself a list matches when one of its entries does. Numbers are compared as numbers.
//!
//! Refuses to know what an event leads to.

mod parser;

use crate::trigger::Invalid;
use parser::Parser;
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
    Text(Wording),
    Exists(bool),
    Numeric(Vec<(Comparison, f64)>),
    /// None of these.
    AnythingBut(Vec<Test>),
}

/// What a text must say.
#[derive(Debug, Clone, PartialEq)]
struct Wording {
    place: Place,
    /// In small letters where case does not count.
    wanted: String,
    any_case: bool,
}

/// Where in a text.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Start,
    End,
    Whole,
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
        Parser::default().fields(map, "", 1).map(Self)
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
            (Self::Text(wording), Value::String(text)) => wording.fits(text),
            (Self::Numeric(all), Value::Number(number)) => number
                .as_f64()
                .is_some_and(|number| all.iter().all(|(comparison, than)| comparison.holds(number, *than))),
            (Self::AnythingBut(none), value) => !none.iter().any(|test| test.matches_one(value)),
            (Self::Exists(wanted), _) => *wanted,
            (Self::Text(_) | Self::Numeric(_), _) => false,
        }
    }
}

impl Wording {
    fn exact(place: Place, wanted: &str) -> Self {
        Self { place, wanted: wanted.to_owned(), any_case: false }
    }

    fn any_case(place: Place, wanted: &str) -> Self {
        Self { place, wanted: wanted.to_lowercase(), any_case: true }
    }

    fn fits(&self, text: &str) -> bool {
        if self.any_case { self.stands_in(&text.to_lowercase()) } else { self.stands_in(text) }
    }

    fn stands_in(&self, text: &str) -> bool {
        match self.place {
            Place::Start => text.starts_with(&self.wanted),
            Place::End => text.ends_with(&self.wanted),
            Place::Whole => text == self.wanted,
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
    fn case_counts_only_where_it_is_said_to() {
        check(json!({"s": [{"equals-ignore-case": "Alice"}]}), json!({"s": "aLICE"}), true);
        check(json!({"s": [{"equals-ignore-case": "alice"}]}), json!({"s": "alice "}), false);
        check(json!({"s": [{"equals-ignore-case": "ärger"}]}), json!({"s": "ÄRGER"}), true);
        check(json!({"s": [{"equals-ignore-case": "5"}]}), json!({"s": 5}), false);
        check(json!({"s": [{"prefix": {"equals-ignore-case": "EventB"}}]}), json!({"s": "eventBridge"}), true);
        check(json!({"s": [{"prefix": {"equals-ignore-case": "EventB"}}]}), json!({"s": "an eventB"}), false);
        check(json!({"s": [{"prefix": "EventB"}]}), json!({"s": "eventBridge"}), false);
        check(json!({"s": [{"suffix": {"equals-ignore-case": ".png"}}]}), json!({"s": "A.PNG"}), true);
        check(json!({"s": [{"suffix": {"equals-ignore-case": ".png"}}]}), json!({"s": "a.jpg"}), false);
        let none = json!({"s": [{"anything-but": {"equals-ignore-case": ["Initializing", "stopped"]}}]});
        check(none.clone(), json!({"s": "INITIALIZING"}), false);
        check(none.clone(), json!({"s": "Stopped"}), false);
        check(none.clone(), json!({"s": "running"}), true);
        check(none, json!({}), false);
        check(json!({"s": [{"anything-but": {"equals-ignore-case": "x"}}]}), json!({"s": "X"}), false);
        check(json!({"s": [{"anything-but": {"prefix": ["a", "b"]}}]}), json!({"s": "bcd"}), false);
        check(json!({"s": [{"anything-but": {"suffix": ["a", "b"]}}]}), json!({"s": "bcd"}), true);
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
            (json!({"a": [{"anything-but": {"exists": true}}]}), "\"exists\""),
            (json!({"a": [{"anything-but": {"wildcard": "*/lib/*"}}]}), "\"wildcard\""),
            (json!({"a": [{"anything-but": {"prefix": {"equals-ignore-case": "x"}}}]}), "\"prefix\""),
            (json!({"a": [{"anything-but": {"prefix": "x", "suffix": "y"}}]}), "only one"),
            (json!({"a": [{"anything-but": {"suffix": []}}]}), "\"suffix\""),
            (json!({"a": [{"anything-but": []}]}), "literals"),
            (json!({"a": [{"prefix": {"wildcard": "x*"}}]}), "\"wildcard\""),
            (json!({"a": [{"suffix": {"equals-ignore-case": 1}}]}), "\"equals-ignore-case\""),
            (json!({"a": [{"suffix": {"equals-ignore-case": "x".repeat(1 << 20)}}]}), "longer than"),
            (json!({"a": [{"equals-ignore-case": ["x"]}]}), "a string"),
            (json!({"a": [{"wildcard": "x*"}]}), "\"wildcard\""),
            (json!({"a": [{"cidr": "10.0.0.0/8"}]}), "\"cidr\""),
            (json!({"$or": [{"a": [1]}, {"b": [2]}]}), "$or"),
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
