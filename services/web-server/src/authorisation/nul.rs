//! A NUL in a text of a request. PostgreSQL keeps none, in no text and in no JSON, so every method refuses it here, at once and
//! with the field's name. Refuses to know what a text is for.

use super::address::{Malformed, delimited};
use crate::fault::Fault;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

/// Messages within messages; decoders go no deeper.
const DEPTH_MAX: u32 = 100;

/// Refuses a message with a NUL in one of its texts. One that cannot be read is for its method to refuse. Nothing is decoded, so
/// that whoever sends much takes no more memory than that.
pub(super) fn check(kind: &MessageDescriptor, message: &[u8]) -> Result<(), Fault> {
    // Without a byte that is zero there is no such text, and nearly no request has one.
    if !message.contains(&0) {
        return Ok(());
    }
    let found = in_message(kind, message, "", DEPTH_MAX).unwrap_or_default();
    found.map_or(Ok(()), |field| Err(Fault::field(field, rpc::json::NUL)))
}

fn in_message(
    kind: &MessageDescriptor,
    mut message: &[u8],
    path: &str,
    depth: u32,
) -> Result<Option<String>, Malformed> {
    let depth = depth.checked_sub(1).ok_or(Malformed)?;
    // How many of a repeated field were before; they need not stand together.
    let mut before: Vec<(u32, usize)> = Vec::new();
    while !message.is_empty() {
        let (tag, wire) = decode_key(&mut message).map_err(|_| Malformed)?;
        let field = kind.get_field(tag).filter(|_| wire == WireType::LengthDelimited);
        let Some(field) = field.filter(|field| matches!(field.kind(), Kind::String | Kind::Message(_))) else {
            skip_field(wire, tag, &mut message, DecodeContext::default()).map_err(|_| Malformed)?;
            continue;
        };
        let content = delimited(&mut message)?;
        let at = match before.iter_mut().find(|(known, _)| *known == tag) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                before.push((tag, 0));
                0
            }
        };
        // Its path is put together only where something may be found.
        if content.contains(&0)
            && let Some(found) = in_field(&field, content, &named(kind, &field, path, at), depth)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The path of a field. What stands in a `google.protobuf.Struct` has names of its own.
fn named(kind: &MessageDescriptor, field: &FieldDescriptor, path: &str, at: usize) -> String {
    let is_named = kind.package_name() != "google.protobuf";
    let path = if is_named { rpc::json::below(path, field.name()) } else { path.to_owned() };
    if field.is_list() { format!("{path}[{at}]") } else { path }
}

fn in_field(field: &FieldDescriptor, content: &[u8], path: &str, depth: u32) -> Result<Option<String>, Malformed> {
    match field.kind() {
        Kind::String => Ok(Some(path.to_owned())),
        Kind::Message(entry) if field.is_map() => in_entry(&entry, content, path, depth),
        Kind::Message(inner) => in_message(&inner, content, path, depth),
        _ => Ok(None),
    }
}

/// An entry of a map: a key, and a value whose path ends with it.
fn in_entry(kind: &MessageDescriptor, entry: &[u8], path: &str, depth: u32) -> Result<Option<String>, Malformed> {
    let (mut key, mut value, mut rest) = ("", None, entry);
    while !rest.is_empty() {
        match decode_key(&mut rest).map_err(|_| Malformed)? {
            (1, WireType::LengthDelimited) => key = str::from_utf8(delimited(&mut rest)?).map_err(|_| Malformed)?,
            (2, WireType::LengthDelimited) => value = Some(delimited(&mut rest)?),
            (tag, wire) => skip_field(wire, tag, &mut rest, DecodeContext::default()).map_err(|_| Malformed)?,
        }
    }
    if key.contains('\0') {
        return Ok(Some(path.to_owned()));
    }
    let Some((field, value)) = kind.get_field(2).zip(value).filter(|(_, value)| value.contains(&0)) else {
        return Ok(None);
    };
    in_field(&field, value, &rpc::json::below(path, key), depth)
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
            ("a", json!({ "list": ["a", "b", { "c": ["\0"] }] }), Some("spec.variables.list[2].c[0]")),
        ] {
            let told = refused(workspace, &variables);
            assert_eq!(told.is_some(), field.is_some(), "{variables}: {told:?}");
            assert!(told.unwrap_or_default().contains(field.unwrap_or_default()), "{variables}");
        }
    }
}
