//! Messages of the API as proto3 JSON, with every field present so that scripts can rely on the shape.

use crate::failure::{Code, Failure, Result};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use std::sync::OnceLock;

/// `message` as one line of proto3 JSON; `name` is its full name, such as `orrery.v1.Run`.
pub(crate) fn line(name: &str, message: &impl Message) -> Result<String> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).ok());
    let fault = || Failure::new(Code::Internal, format!("cannot print {name} as JSON"), "leave out --json");
    let descriptor = pool.as_ref().and_then(|p| p.get_message_by_name(name)).ok_or_else(fault)?;
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message).map_err(|_| fault())?;
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut bytes);
    let options = SerializeOptions::new().skip_default_fields(false);
    dynamic.serialize_with_options(&mut serializer, &options).map_err(|_| fault())?;
    String::from_utf8(bytes).map_err(|_| fault())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{Run, RunStatus};

    #[test]
    fn the_shape_is_stable() {
        let run = Run { id: "x".into(), status: RunStatus::Completed.into(), pipeline_version: 7, ..Run::default() };
        let value: serde_json::Value = serde_json::from_str(&line("orrery.v1.Run", &run).unwrap()).unwrap();
        assert_eq!(value["status"], "RUN_STATUS_COMPLETED");
        assert_eq!(value["pipelineVersion"], "7");
        assert_eq!(value["reason"], "");
        assert_eq!(value["blocksTotal"], 0);
    }
}
