//! What a volume shall be, as the owner of the pool says it.

use domain::{id::VolumeId, volume::Volume};
use proto::internal::v1 as pb;

/// `None` for one without an id.
pub(super) fn from_proto(volume: pb::PoolVolume) -> Option<Volume> {
    let size_bytes = u64::try_from(volume.size_bytes).unwrap_or(0);
    let id = VolumeId::from_slice(&volume.id)?;
    let pb::PoolVolume { project, name, storage_class, deleted, .. } = volume;
    Some(Volume { id, project, name, size_bytes, storage_class, deleted })
}
