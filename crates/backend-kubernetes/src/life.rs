//! One life of a runtime, as far as Kubernetes has to know it. Kept in its record, so that whoever comes after this
//! process knows what it was told.

use domain::{
    id::{HolderId, WorkspaceId},
    runtime::Spec,
};
use serde::{Deserialize, Serialize};

/// What stands in place of an access key.
const KEY_MASK: &str = "<access key>";

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

impl Life {
    /// Words that its own scripts and application may have a part in, without the key that opens the application: more people
    /// read them than may open it.
    #[must_use]
    pub fn without_key(&self, words: &str) -> String {
        if self.access_key.is_empty() { words.to_owned() } else { words.replace(&self.access_key, KEY_MASK) }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_told_has_no_key_in_it() {
        let told = |access_key: &str, words: &str| {
            let id = "00000000-0000-4000-8000-000000000001";
            let ask = json!({ "gpus": 0, "gpu_milli": 0, "gpu_memory_bytes": null, "models": [], "models_ordered": false,
                              "link": "any", "cpu_milli": 100, "memory_bytes": 1 });
            let life: Life = serde_json::from_value(json!({
                "holder": id, "workspace_id": id, "workspace": "lab", "project": "p", "queue": "default",
                "queue_priority": 0, "preemptible": false, "number": 1, "node": "n", "grants": [],
                "spec": { "app": "jupyter", "ask": ask }, "access_key": access_key, "base_path": "/",
            }))
            .unwrap();
            life.without_key(words)
        };
        assert_eq!(told("c0ffee", "JUPYTER_TOKEN=c0ffee\nc0ffee"), "JUPYTER_TOKEN=<access key>\n<access key>");
        assert_eq!(told("", "no key yet"), "no key yet");
    }
}
