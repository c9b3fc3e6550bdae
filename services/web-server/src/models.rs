//! Models on their way in and out: contents in parts of one size, each durable before it counts. Refuses to know what a
//! model is for, and the protocol by which its bytes travel.

pub(crate) mod bytes;
mod download;
mod places;
mod upload;

pub(crate) use download::download;
pub(crate) use places::{Transfers, handed_out};
pub(crate) use upload::{receive, start};

use crate::fault::Fault;
use domain::ErrorKind;
use domain::id::{ModelVersionId, UploadId};
use proto::v1;
use store::models::{Model, Version};

/// The size of every part but the last. Offsets of uploads are multiples of it.
const PART_BYTES: usize = 8 << 20;
/// The largest chunk of a stream.
pub(crate) const CHUNK_BYTES_MAX: usize = 1 << 20;

/// A SHA-256 as it is written.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A version as callers see it.
pub(crate) fn version(version: Version) -> v1::ModelVersion {
    v1::ModelVersion {
        id: version.id.to_string(),
        model: version.model,
        file_name: version.file_name,
        size_bytes: version.size_bytes,
        sha256: version.sha256,
        created_at: Some(rpc::timestamp::to_proto(version.created_at)),
        created_by: version.created_by,
    }
}

/// A model of a workspace as callers see it.
pub(crate) fn model(workspace: &str, model: Model) -> v1::Model {
    v1::Model {
        id: model.id.to_string(),
        workspace: workspace.to_owned(),
        name: model.name,
        created_at: Some(rpc::timestamp::to_proto(model.created_at)),
        versions: i32::try_from(model.versions).unwrap_or(i32::MAX),
        latest: Some(version(model.latest)),
    }
}

/// There is no such version, or it is not the caller's to see.
pub(crate) fn no_version(id: ModelVersionId) -> Fault {
    let message = format!("there is no version `{id}` of a model; `orrery models show NAME` lists a model's versions");
    Fault::new(ErrorKind::NotFound, "MODEL_VERSION_NOT_FOUND", message)
}

/// There is no such upload, or it is not the caller's to see.
pub(crate) fn no_upload(id: UploadId) -> Fault {
    let message = format!("there is no open upload `{id}`; it has ended, or was left for days: start it again");
    Fault::new(ErrorKind::NotFound, "UPLOAD_NOT_FOUND", message)
}

/// There is no model of this name.
pub(crate) fn no_model(workspace: &str, name: &str) -> Fault {
    let message = format!("workspace `{workspace}` has no model `{name}`; `orrery models` lists them");
    Fault::new(ErrorKind::NotFound, "MODEL_NOT_FOUND", message)
}
