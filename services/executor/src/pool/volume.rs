//! What a volume shall be, as the owner of the pool says it.

use domain::id::VolumeId;
use proto::internal::v1 as pb;

/// One volume. See `PoolVolume` of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Which.
    pub id: VolumeId,
    /// The project's name.
    pub project: String,
    /// In its project.
    pub name: String,
    /// Bytes.
    pub size_bytes: u64,
    /// It and what is in it shall go.
    pub deleted: bool,
}

impl Volume {
    /// `None` for one without an id.
    #[must_use]
    pub fn from_proto(volume: pb::PoolVolume) -> Option<Self> {
        let size_bytes = u64::try_from(volume.size_bytes).unwrap_or(0);
        let id = VolumeId::from_slice(&volume.id)?;
        Some(Self { id, project: volume.project, name: volume.name, size_bytes, deleted: volume.deleted })
    }
}
