//! What a volume of a project shall be. Refuses to know where it lies, and who mounts it.

use crate::id::VolumeId;

/// What a volume shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Names its folder or claim.
    pub id: VolumeId,
    /// The project's name.
    pub project: String,
    /// In its project.
    pub name: String,
    /// Bytes.
    pub size_bytes: u64,
    /// The kind of storage that it is made of, where there are several; empty is the usual one.
    pub storage_class: String,
    /// It and what is in it shall go.
    pub deleted: bool,
}
