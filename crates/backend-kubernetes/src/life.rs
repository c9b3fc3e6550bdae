//! One life of a runtime, as far as Kubernetes has to know it. Kept in its record, so that whoever comes after this
//! process knows what it was told.

use domain::{
    id::{HolderId, WorkspaceId},
    runtime::Spec,
};
use serde::{Deserialize, Serialize};

/// One life; nothing of it changes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Which.
    pub holder: HolderId,
    /// Whose.
    pub workspace_id: WorkspaceId,
    /// Its name, a DNS label.
    pub workspace: String,
    /// The project's name.
    pub project: String,
    /// The queue's name.
    pub queue: String,
    /// Greater is served first.
    pub queue_priority: i32,
    /// Others may have its devices.
    pub preemptible: bool,
    /// Counts the lives of the workspace.
    pub number: i64,
    /// Where.
    pub node: String,
    /// On which chips.
    pub grants: Vec<Grant>,
    /// What.
    pub spec: Spec,
    /// Opens the application. A secret.
    pub access_key: String,
    /// The path below which it is served; begins and ends with a slash.
    pub base_path: String,
}

/// What a life has of one chip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The chip's name.
    pub device: String,
    /// Of its compute; 1000 is all.
    pub milli: u32,
    /// Of its memory.
    pub memory_bytes: u64,
    /// Of a partitioned chip: the profile.
    pub profile: String,
    /// And the slots that it occupies.
    pub slots: u64,
}

impl std::fmt::Debug for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Life").field("holder", &self.holder).field("workspace", &self.workspace).finish_non_exhaustive()
    }
}
