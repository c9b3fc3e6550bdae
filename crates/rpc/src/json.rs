//! `google.protobuf.Struct` as JSON and back.

use crate::status::Problem;
use prost_types::{ListValue, Struct, Value as Wire, value::Kind};
use serde_json::{Map, Number, Value};

/// Values may be nested this deep.
pub const DEPTH_MAX: usize = 64;
/// From 2^53 on a double does not hold every whole number: the next one becomes this one.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// Up to 2^64 a whole number may have been an integer of 64 bits, such as an id, until it became a double.
const INTEGER_MAX: f64 = 18_446_744_073_709_551_616.0;

/// The object that somebody sent in the field `field`. Whole numbers become integers: the wire has only doubles.
///
/// # Errors
/// Values nested deeper than [`DEPTH_MAX`], numbers that JSON does not have, and whole numbers from 2^53 to 2^64: which one was
/// meant is not known any more.
pub fn struct_to_json(object: Struct, field: &str) -> Result<Map<String, Value>, Problem> {
    to_object(object, &sent, 0).map_err(|wrong| Problem::invalid(field, wrong))
}

/// The object that a server shows.
///
/// # Errors
/// Values nested deeper than [`DEPTH_MAX`], and numbers that JSON does not have.
pub fn shown_to_json(object: Struct) -> Result<Map<String, Value>, Problem> {
    to_object(object, &number, 0).map_err(|wrong| Problem::invalid("value", wrong))
}

/// The object for the wire.
///
/// # Errors
/// Values nested deeper than [`DEPTH_MAX`], and integers that a double does not hold: they would change on the way.
pub fn json_to_struct(object: &Map<String, Value>, field: &str) -> Result<Struct, Problem> {
    from_object(object, 0).map_err(|wrong| Problem::invalid(field, wrong))
}

/// What is stored, to be looked at, whatever it is: integers that a double does not hold, and what is nested deeper than
/// [`DEPTH_MAX`], are shown as their JSON text. Nothing is missing, and no number is another one.
#[must_use]
pub fn shown(object: &Map<String, Value>) -> Struct {
    show_object(object, 1)
}

fn show_object(object: &Map<String, Value>, depth: usize) -> Struct {
    Struct { fields: object.iter().map(|(name, value)| (name.clone(), show(value, depth))).collect() }
}

fn show(value: &Value, depth: usize) -> Wire {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::String(value) => Kind::StringValue(value.clone()),
        Value::Number(number) => match double(number) {
            Ok(value) => Kind::NumberValue(value),
            Err(_) => Kind::StringValue(number.to_string()),
        },
        Value::Object(_) | Value::Array(_) if depth >= DEPTH_MAX => Kind::StringValue(value.to_string()),
        Value::Object(object) => Kind::StructValue(show_object(object, depth + 1)),
        Value::Array(list) => {
            let values = list.iter().map(|value| show(value, depth + 1)).collect();
            Kind::ListValue(ListValue { values })
        }
    };
    Wire { kind: Some(kind) }
}

/// Why a text with a NUL is refused: PostgreSQL keeps none.
pub const NUL: &str = "must hold no NUL character; leave it out";

/// Where in an object the first text or name with a NUL is, as `a.b[2]`; a name by what it is in.
#[must_use]
pub fn nul(object: &Map<String, Value>, path: &str) -> Option<String> {
    object.iter().find_map(|(name, value)| match name.contains('\0') {
        true => Some(if path.is_empty() { "a name" } else { path }.to_owned()),
        false => nul_in(value, below(path, name)),
    })
}

fn nul_in(value: &Value, path: String) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then_some(path),
        Value::Object(object) => nul(object, &path),
        Value::Array(list) => list.iter().enumerate().find_map(|(at, value)| nul_in(value, format!("{path}[{at}]"))),
        _ => None,
    }
}

/// The path of a field in what has this path.
#[must_use]
pub fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The first integer in a JSON text that has more than 64 bits: whoever reads it here gets another number.
#[must_use]
pub fn oversized_integer(json: &[u8]) -> Option<&str> {
    let is_of_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    let mut rest = json;
    while let Some((first, others)) = rest.split_first() {
        rest = match first {
            b'"' => after_text(others),
            b'-' | b'0'..=b'9' => {
                let length = rest.iter().take_while(|byte| is_of_number(byte)).count();
                let (number, others) = rest.split_at(length);
                let text = std::str::from_utf8(number).unwrap_or_default();
                let digits = text.strip_prefix('-').unwrap_or(text);
                let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                if is_whole && text.parse::<i64>().is_err() && text.parse::<u64>().is_err() {
                    return Some(text);
                }
                others
            }
            _ => others,
        };
    }
    None
}

/// What follows a text whose begin was read.
fn after_text(json: &[u8]) -> &[u8] {
    let mut escaped = false;
    let end = json.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    end.map_or(&[], |end| &json[end + 1..])
}

/// Why a number is refused.
#[must_use]
pub fn beyond(number: &str) -> String {
    format!("{number} is beyond 2^53; send it as a string")
}

fn deeper(depth: usize) -> Result<usize, String> {
    if depth < DEPTH_MAX { Ok(depth + 1) } else { Err(format!("must not be nested deeper than {DEPTH_MAX} levels")) }
}

/// How a double is read.
type Reader = dyn Fn(f64) -> Result<Number, String>;

fn to_object(object: Struct, read: &Reader, depth: usize) -> Result<Map<String, Value>, String> {
    let depth = deeper(depth)?;
    object.fields.into_iter().map(|(name, value)| Ok((name, to_value(value, read, depth)?))).collect()
}

fn to_value(value: Wire, read: &Reader, depth: usize) -> Result<Value, String> {
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::StringValue(value)) => value.into(),
        Some(Kind::NumberValue(value)) => Value::Number(read(value)?),
        Some(Kind::StructValue(object)) => Value::Object(to_object(object, read, depth)?),
        Some(Kind::ListValue(list)) => {
            let depth = deeper(depth)?;
            Value::Array(list.values.into_iter().map(|value| to_value(value, read, depth)).collect::<Result<_, _>>()?)
        }
    })
}

fn sent(value: f64) -> Result<Number, String> {
    if (WHOLE_MAX..=INTEGER_MAX).contains(&value.abs()) {
        return Err(format!("must not hold a whole number from 2^53 on: {}", beyond(&format!("{value:.0}"))));
    }
    number(value)
}

#[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53, checked beside it")]
fn number(value: f64) -> Result<Number, String> {
    if value.fract() == 0.0 && value.abs() <= WHOLE_MAX {
        return Ok(Number::from(value as i64));
    }
    Number::from_f64(value).ok_or_else(|| format!("must not hold the number {value}"))
}

fn from_object(object: &Map<String, Value>, depth: usize) -> Result<Struct, String> {
    let depth = deeper(depth)?;
    let fields = object.iter().map(|(name, value)| Ok((name.clone(), from_value(value, depth)?)));
    Ok(Struct { fields: fields.collect::<Result<_, String>>()? })
}

fn from_value(value: &Value, depth: usize) -> Result<Wire, String> {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::String(value) => Kind::StringValue(value.clone()),
        Value::Number(value) => Kind::NumberValue(double(value)?),
        Value::Object(object) => Kind::StructValue(from_object(object, depth)?),
        Value::Array(list) => {
            let depth = deeper(depth)?;
            let values = list.iter().map(|value| from_value(value, depth)).collect::<Result<_, _>>()?;
            Kind::ListValue(ListValue { values })
        }
    };
    Ok(Wire { kind: Some(kind) })
}

fn double(number: &Number) -> Result<f64, String> {
    let value = number.as_f64().filter(|value| value.is_finite());
    let whole = number.is_i64() || number.is_u64();
    match value {
        Some(value) if !whole || value.abs() < WHOLE_MAX => Ok(value),
        _ => Err(format!("must not hold a whole number from 2^53 on: {}", beyond(&number.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn there(value: Value) -> Result<Struct, Problem> {
        json_to_struct(value.as_object().unwrap(), "variables")
    }

    #[test]
    fn objects_come_back() {
        let object =
            json!({"a": null, "b": true, "c": "é", "d": [1, -2, 0.5, [], {}], "e": {"f": 9_007_199_254_740_991_i64}});
        let back = struct_to_json(there(object.clone()).unwrap(), "variables").unwrap();
        assert_eq!(Value::Object(back), object);
    }

    #[test]
    fn nothing_changes_silently() {
        assert!(
            there(json!({"id": 9_007_199_254_740_993_i64}))
                .unwrap_err()
                .message
                .contains("9007199254740993 is beyond 2^53; send it as a string")
        );
        let of =
            |value: f64| Struct { fields: [("x".to_owned(), Wire { kind: Some(Kind::NumberValue(value)) })].into() };
        // What …993 has become in another client's hands, and a number that nobody takes for an id.
        for odd in [9_007_199_254_740_992.0, -9_007_199_254_740_992.0, 1e18, 18_446_744_073_709_551_616.0] {
            assert!(struct_to_json(of(odd), "v").unwrap_err().message.contains("is beyond 2^53"), "{odd}");
            assert!(shown_to_json(of(odd)).is_ok());
        }
        assert_eq!(struct_to_json(of(6.022e23), "v").unwrap()["x"], json!(6.022e23));
        assert_eq!(struct_to_json(of(9_007_199_254_740_991.0), "v").unwrap()["x"], json!(9_007_199_254_740_991_i64));
        let nan = Struct { fields: [("x".to_owned(), Wire { kind: Some(Kind::NumberValue(f64::NAN)) })].into() };
        assert!(struct_to_json(nan, "variables").is_err());
    }

    #[test]
    fn what_is_stored_is_shown_whole() {
        let deep = (1..DEPTH_MAX + 10).fold(json!({"end": 1}), |inner, _| json!({"a": inner}));
        let stored =
            json!({"id": 9_007_199_254_740_993_i64, "low": i64::MIN, "most": [u64::MAX], "n": 1, "deep": deep});
        let shown = shown_to_json(shown(stored.as_object().unwrap())).unwrap();
        assert_eq!(shown["id"], "9007199254740993");
        assert_eq!(shown["low"], "-9223372036854775808");
        assert_eq!((&shown["most"], &shown["n"]), (&json!(["18446744073709551615"]), &json!(1)));
        assert!(Value::Object(shown).to_string().contains("end"));
    }

    #[test]
    fn a_nul_is_found_where_it_is() {
        for (value, place) in [
            (json!({ "a": "b\0" }), Some("event.a")),
            (json!({ "a": { "b": [0, ["x", "\0"]] } }), Some("event.a.b[1][1]")),
            (json!({ "a": { "b\0": 1 } }), Some("event.a")),
            (json!({ "a": "\\u0000", "b": 0, "c": null }), None),
        ] {
            assert_eq!(nul(value.as_object().unwrap(), "event").as_deref(), place, "{value}");
        }
        assert_eq!(nul(json!({ "a": "\0" }).as_object().unwrap(), "").as_deref(), Some("a"));
        assert_eq!(nul(json!({ "\0": 1 }).as_object().unwrap(), "").as_deref(), Some("a name"));
    }

    #[test]
    fn integers_of_more_than_64_bits_are_found_where_they_are_numbers() {
        let of = |json: &str| oversized_integer(json.as_bytes()).map(str::to_owned);
        assert_eq!(of(r#"{"a": [1, 18446744073709551616]}"#).as_deref(), Some("18446744073709551616"));
        assert_eq!(of(r#"{"a":-9223372036854775809}"#).as_deref(), Some("-9223372036854775809"));
        for fine in [
            "",
            "{}",
            r#"{"99999999999999999999": "99999999999999999999", "b": "\\\"99999999999999999999"}"#,
            r#"[18446744073709551615, -9223372036854775808, 1e300, 99999999999999999999.5, 1.5E+30]"#,
            r#"{"broken"#,
            "[-, 1-2]",
        ] {
            assert_eq!(of(fine), None, "{fine}");
        }
    }

    #[test]
    fn depth_is_limited_both_ways() {
        let deep = |levels: usize| (1..levels).fold(json!({"end": 1}), |inner, _| json!({"a": inner}));
        let struct_of = |levels: usize| {
            (1..levels).fold(Struct::default(), |inner, _| Struct {
                fields: [("a".to_owned(), Wire { kind: Some(Kind::StructValue(inner)) })].into(),
            })
        };
        assert!(there(deep(DEPTH_MAX)).is_ok() && there(deep(DEPTH_MAX + 1)).is_err());
        assert!(struct_to_json(struct_of(DEPTH_MAX), "v").is_ok());
        assert!(struct_to_json(struct_of(DEPTH_MAX + 1), "v").is_err());
    }
}
