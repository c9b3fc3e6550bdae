//! A NUL in a text of a request. PostgreSQL keeps none, in no text and in no JSON, so every method refuses it here, at once and
//! with the field's name. Refuses to know what a text is for.

use crate::fault::Fault;
use prost_reflect::{DynamicMessage, MapKey, MessageDescriptor, ReflectMessage, Value};

/// Refuses a message with a NUL in one of its texts. One that cannot be read is for its method to refuse.
pub(super) fn check(kind: &MessageDescriptor, message: &[u8]) -> Result<(), Fault> {
    // Without a byte that is zero there is no such text, and nearly no request has one.
    if !message.contains(&0) {
        return Ok(());
    }
    let found = DynamicMessage::decode(kind.clone(), message).ok().and_then(|message| in_message(&message, ""));
    found.map_or(Ok(()), |field| Err(Fault::field(field, rpc::json::NUL)))
}

fn in_message(message: &DynamicMessage, path: &str) -> Option<String> {
    // What stands in a `google.protobuf.Struct` has names of its own.
    let is_named = message.descriptor().package_name() != "google.protobuf";
    message.fields().find_map(|(field, value)| {
        in_value(value, if is_named { rpc::json::below(path, field.name()) } else { path.to_owned() })
    })
}

fn in_value(value: &Value, path: String) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then_some(path),
        Value::Message(message) => in_message(message, &path),
        Value::List(values) => {
            values.iter().enumerate().find_map(|(at, value)| in_value(value, format!("{path}[{at}]")))
        }
        Value::Map(entries) => entries.iter().find_map(|(key, value)| match key {
            MapKey::String(key) if key.contains('\0') => Some(path.clone()),
            MapKey::String(key) => in_value(value, rpc::json::below(&path, key)),
            _ => in_value(value, path.clone()),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use prost_reflect::DescriptorPool;
    use proto::v1::{BackfillSpec, CreateBackfillRequest};
    use serde_json::{Map, json};

    fn refused(workspace: &str, variables: &serde_json::Value) -> Option<String> {
        let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
        let kind = pool.get_message_by_name("orrery.v1.CreateBackfillRequest").unwrap();
        let empty = Map::new();
        let variables = rpc::json::json_to_struct(variables.as_object().unwrap_or(&empty), "variables").unwrap();
        let spec = BackfillSpec { variables: Some(variables), ..Default::default() };
        let message = CreateBackfillRequest { workspace: workspace.to_owned(), spec: Some(spec), ..Default::default() };
        check(&kind, &message.encode_to_vec()).err().map(|fault| fault.0.to_string())
    }

    #[test]
    fn the_field_is_named_wherever_it_is() {
        for (workspace, variables, field) in [
            ("a\0", json!({}), Some("workspace")),
            ("a", json!({ "x": "a\0b" }), Some("spec.variables.x")),
            ("a", json!({ "x": { "y": [1, "b", "\0"] } }), Some("spec.variables.x.y[2]")),
            ("a", json!({ "x\0": 1 }), Some("spec.variables")),
            // Numbers are written with bytes that are zero.
            ("a", json!({ "x": 1, "y": "\\u0000", "z": null }), None),
            ("a", json!({}), None),
        ] {
            let told = refused(workspace, &variables);
            assert_eq!(told.is_some(), field.is_some(), "{variables}: {told:?}");
            assert!(told.unwrap_or_default().contains(field.unwrap_or_default()), "{variables}");
        }
    }
}
