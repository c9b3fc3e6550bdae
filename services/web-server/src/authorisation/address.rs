//! A field of a message, found without decoding the message: what is addressed must be known before anything else of it
//! is looked at, and a deployment lists thousands of files. Reads as the generated decoders do: the last value counts.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, SerializeOptions};
use serde_json::Value;

/// Of lists and maps with more than this only their size is told: they are read before anybody knows who may ask, and what is
/// decoded takes many times their bytes.
const MANY_BYTES_MAX: usize = 64 << 10;

/// The message is not what its type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Where a field is.
#[derive(Debug, Clone)]
pub(super) struct Field {
    /// Its number, after those of the messages around it; of several values, only those of the messages.
    numbers: Vec<u32>,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    One(Kind),
    /// A list or a map.
    Many(FieldDescriptor),
}

impl Field {
    /// The field of this path, such as `member.email`; `None` when there is none that can be told as text.
    pub(super) fn find(message: &MessageDescriptor, path: &str) -> Option<Self> {
        let (mut numbers, mut current) = (Vec::new(), message.clone());
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            let field = current.get_field_by_name(part)?;
            if field.is_list() || field.is_map() {
                return parts.peek().is_none().then_some(Self { numbers, form: Form::Many(field) });
            }
            numbers.push(field.number());
            match (field.kind(), parts.peek()) {
                (Kind::Message(inner), Some(_)) => current = inner,
                (kind @ (Kind::String | Kind::Bool | Kind::Enum(_) | Kind::Int32 | Kind::Int64), None) => {
                    return Some(Self { numbers, form: Form::One(kind) });
                }
                _ => return None,
            }
        }
        None
    }

    /// Whether it is a list or a map.
    pub(super) fn is_many(&self) -> bool {
        matches!(self.form, Form::Many(_))
    }

    /// Its value as text, lists and maps as JSON; empty when it is absent.
    pub(super) fn read(&self, message: &[u8]) -> Result<String, Malformed> {
        match &self.form {
            Form::One(kind) => {
                let mut last = String::new();
                scan(message, &self.numbers, kind, &mut last)?;
                Ok(last)
            }
            Form::Many(field) => {
                let mut whole = Vec::new();
                gather(message, &self.numbers, &mut whole)?;
                if whole.len() > MANY_BYTES_MAX {
                    return Ok(format!("{} bytes", whole.len()));
                }
                many(field, &whole)
            }
        }
    }
}

/// A list or a map of a message, as JSON with the names of the contract.
fn many(field: &FieldDescriptor, message: &[u8]) -> Result<String, Malformed> {
    let message = DynamicMessage::decode(field.parent_message().clone(), message).map_err(|_| Malformed)?;
    let names = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
    let fields = message.serialize_with_options(serde_json::value::Serializer, &names).unwrap_or(Value::Null);
    Ok(fields.get(field.name()).map(Value::to_string).unwrap_or_default())
}

/// All parts of an inner message: together they are what the decoder reads.
fn gather(mut message: &[u8], numbers: &[u32], whole: &mut Vec<u8>) -> Result<(), Malformed> {
    let Some((number, inner)) = numbers.split_first() else {
        whole.extend_from_slice(message);
        return Ok(());
    };
    while !message.is_empty() {
        let (tag, wire) = decode_key(&mut message).map_err(|_| Malformed)?;
        match wire {
            _ if tag != *number => {
                skip_field(wire, tag, &mut message, DecodeContext::default()).map_err(|_| Malformed)?;
            }
            WireType::LengthDelimited => gather(delimited(&mut message)?, inner, whole)?,
            _ => return Err(Malformed),
        }
    }
    Ok(())
}

fn scan(mut message: &[u8], numbers: &[u32], kind: &Kind, last: &mut String) -> Result<(), Malformed> {
    let Some((number, inner)) = numbers.split_first() else { return Ok(()) };
    while !message.is_empty() {
        let (tag, wire) = decode_key(&mut message).map_err(|_| Malformed)?;
        if tag != *number {
            skip_field(wire, tag, &mut message, DecodeContext::default()).map_err(|_| Malformed)?;
            continue;
        }
        let text = matches!(kind, Kind::String);
        match wire {
            WireType::LengthDelimited if !inner.is_empty() => {
                scan(delimited(&mut message)?, inner, kind, last)?;
            }
            WireType::LengthDelimited if text => {
                *last = String::from_utf8(delimited(&mut message)?.to_vec()).map_err(|_| Malformed)?;
            }
            WireType::Varint if inner.is_empty() && !text => {
                *last = number_of(kind, decode_varint(&mut message).map_err(|_| Malformed)?);
            }
            _ => return Err(Malformed),
        }
    }
    Ok(())
}

fn number_of(kind: &Kind, value: u64) -> String {
    match kind {
        Kind::Bool => (value != 0).to_string(),
        Kind::Enum(values) => {
            let number = i32::try_from(value).unwrap_or(i32::MIN);
            values.get_value(number).map_or_else(|| number.to_string(), |value| value.name().to_owned())
        }
        _ => value.cast_signed().to_string(),
    }
}

pub(super) fn delimited<'a>(message: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(decode_varint(message).map_err(|_| Malformed)?).map_err(|_| Malformed)?;
    let (content, rest) = message.split_at_checked(length).ok_or(Malformed)?;
    *message = rest;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use prost_reflect::DescriptorPool;
    use proto::v1::{
        CreateDeploymentRequest, ProjectMember, ProjectPolicy, Role, SetProjectMemberRequest, SetProjectPolicyRequest,
    };

    fn field(message: &str, path: &str) -> Option<Field> {
        let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
        Field::find(&pool.get_message_by_name(&format!("orrery.v1.{message}")).unwrap(), path)
    }

    #[test]
    fn fields_are_read_as_the_decoder_reads_them() {
        let member = ProjectMember { email: "a@b".into(), group: String::new(), role: Role::Admin.into() };
        let one = SetProjectMemberRequest { project: "p".into(), member: Some(member) };
        let other = SetProjectMemberRequest { project: "q".into(), member: None };
        let bytes = one.encode_to_vec();
        let read = |path: &str, bytes: &[u8]| field("SetProjectMemberRequest", path).unwrap().read(bytes).unwrap();
        assert_eq!(read("project", &bytes), "p");
        assert_eq!(read("member.email", &bytes), "a@b");
        assert_eq!(read("member.role", &bytes), "ROLE_ADMIN");
        assert_eq!(read("member.group", &bytes), "");
        // Two values for one field: the decoder takes the last one, and so do we.
        let both = [bytes, other.encode_to_vec()].concat();
        assert_eq!(SetProjectMemberRequest::decode(both.as_slice()).unwrap().project, "q");
        assert_eq!(read("project", &both), "q");
        assert_eq!(read("member.email", &both), "a@b");
    }

    #[test]
    fn what_the_decoder_refuses_is_refused() {
        let workspace = field("CreateDeploymentRequest", "workspace").unwrap();
        let good = CreateDeploymentRequest { workspace: "w".into(), validate_only: true, ..Default::default() };
        assert_eq!(
            field("CreateDeploymentRequest", "validate_only").unwrap().read(&good.encode_to_vec()).unwrap(),
            "true"
        );
        for bad in [&[0x0a, 5, b'x'][..], &[0x0a, 1, 0xff], &[0x08, 1], &[0x80], &[0x0b]] {
            assert!(CreateDeploymentRequest::decode(bad).is_err() && workspace.read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lists_and_maps_are_told_whole() {
        let images = ProjectPolicy { images: vec!["lab/*".into()], ..ProjectPolicy::default() };
        let models = ProjectPolicy { model_gpu_milli: [("A10".to_owned(), 2000)].into(), ..ProjectPolicy::default() };
        let of = |policy| SetProjectPolicyRequest { policy: Some(policy), ..Default::default() }.encode_to_vec();
        let read = |path: &str, bytes: &[u8]| field("SetProjectPolicyRequest", path).unwrap().read(bytes).unwrap();
        // The decoder takes both parts together, and so do we.
        let both = [of(images), of(models)].concat();
        assert_eq!(read("policy.images", &both), r#"["lab/*"]"#);
        assert_eq!(read("policy.model_gpu_milli", &both), r#"{"A10":2000}"#);
        assert_eq!(read("policy.images", &of(ProjectPolicy::default())), "");
        assert!(field("SetProjectPolicyRequest", "policy.images").unwrap().read(&[0x12, 5, 1]).is_err());
        let many = ProjectPolicy { images: vec![String::new(); MANY_BYTES_MAX], ..ProjectPolicy::default() };
        assert_eq!(read("policy.images", &of(many)), format!("{} bytes", 2 * MANY_BYTES_MAX), "and not decoded");
    }

    #[test]
    fn only_fields_with_a_value_of_their_own_can_be_named() {
        assert!(field("CreateRunRequest", "nothing").is_none() && field("SetProjectMemberRequest", "member").is_none());
        assert!(field("SetPlanRequest", "plan.windows.weekdays").is_none());
    }
}
