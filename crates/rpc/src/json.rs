//! `google.protobuf.Struct` as JSON and back.

use crate::status::Problem;
use prost_types::{ListValue, Struct, Value as Wire, value::Kind};
use serde_json::{Map, Number, Value};

/// Values may be nested this deep.
pub const DEPTH_MAX: usize = 64;
/// Above it a double does not hold every whole number.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// The object in the field `field`. Whole numbers become integers: the wire has only doubles.
///
/// # Errors
/// Values nested deeper than [`DEPTH_MAX`], and numbers that JSON does not have.
pub fn struct_to_json(object: Struct, field: &str) -> Result<Map<String, Value>, Problem> {
    to_object(object, 0).map_err(|wrong| Problem::invalid(field, wrong))
}

/// The object for the wire.
///
/// # Errors
/// Values nested deeper than [`DEPTH_MAX`], and integers that a double does not hold: they would change on the way.
pub fn json_to_struct(object: &Map<String, Value>, field: &str) -> Result<Struct, Problem> {
    from_object(object, 0).map_err(|wrong| Problem::invalid(field, wrong))
}

fn deeper(depth: usize) -> Result<usize, String> {
    if depth < DEPTH_MAX { Ok(depth + 1) } else { Err(format!("must not be nested deeper than {DEPTH_MAX} levels")) }
}

fn to_object(object: Struct, depth: usize) -> Result<Map<String, Value>, String> {
    let depth = deeper(depth)?;
    object.fields.into_iter().map(|(name, value)| Ok((name, to_value(value, depth)?))).collect()
}

fn to_value(value: Wire, depth: usize) -> Result<Value, String> {
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::StringValue(value)) => value.into(),
        Some(Kind::NumberValue(value)) => Value::Number(number(value)?),
        Some(Kind::StructValue(object)) => Value::Object(to_object(object, depth)?),
        Some(Kind::ListValue(list)) => {
            let depth = deeper(depth)?;
            Value::Array(list.values.into_iter().map(|value| to_value(value, depth)).collect::<Result<_, _>>()?)
        }
    })
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
        _ => Err(format!("must not hold the number {number}; write it as text")),
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
        assert!(there(json!({"id": 9_007_199_254_740_993_i64})).unwrap_err().message.contains("write it as text"));
        let nan = Struct { fields: [("x".to_owned(), Wire { kind: Some(Kind::NumberValue(f64::NAN)) })].into() };
        assert!(struct_to_json(nan, "variables").is_err());
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
