//! Typed identifiers: a run is never passed where an executor is meant.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// The identifier in 16 bytes, or `None` for any other length.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }

            /// The 16 bytes, as the internal protocol carries them.
            #[must_use]
            pub fn to_vec(self) -> Vec<u8> {
                self.0.as_bytes().to_vec()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(s: &str) -> Result<Self, Self::Err> {
                s.parse().map(Self)
            }
        }
    };
}

id!(
    /// A workspace.
    WorkspaceId
);
id!(
    /// A pipeline; stable over its versions.
    PipelineId
);
id!(
    /// A trigger.
    TriggerId
);
id!(
    /// A machine that carries devices, or that work without devices runs on.
    NodeId
);
id!(
    /// One device; the same as long as its driver reports the same hardware.
    DeviceId
);
id!(
    /// A queue, in which requests for devices wait.
    QueueId
);
id!(
    /// A volume of a project; its name may be given to another one after it was deleted.
    VolumeId
);
id!(
    /// A plan: what a project may use, and when.
    PlanId
);
id!(
    /// One life of a runtime, or one attempt of a block: what asks for devices and later holds them.
    HolderId
);
id!(
    /// Holders that start all together or not at all.
    GangId
);
id!(
    /// A run; time-ordered (UUID version 7), so that new runs lie together on disk.
    RunId
);
id!(
    /// A backfill.
    BackfillId
);
id!(
    /// One life of an executor process.
    ExecutorId
);
id!(
    /// One life of a scheduler process.
    SchedulerId
);

id!(
    /// A person.
    UserId
);
id!(
    /// A group of people.
    GroupId
);
id!(
    /// What quota and members hang on.
    ProjectId
);
id!(
    /// A personal API token.
    TokenId
);
id!(
    /// A secret; stable over its values.
    SecretId
);
id!(
    /// A model; stable over its versions.
    ModelId
);
id!(
    /// One version of a model.
    ModelVersionId
);
id!(
    /// An upload of a model that has not all arrived.
    UploadId
);

/// The slice of the work that `id` belongs to: its last byte. Everything of one pipeline lies in one shard, so that one
/// scheduler decides about it in its memory.
const fn shard(id: Uuid) -> u8 {
    id.as_bytes()[15]
}

impl PipelineId {
    /// The shard of the pipeline, its triggers and its runs.
    #[must_use]
    pub const fn shard(self) -> u8 {
        shard(self.0)
    }
}

impl BackfillId {
    /// A new, time-ordered identifier of a backfill in `shard`: that of its pipeline.
    #[must_use]
    pub fn new_in(shard: u8) -> Self {
        Self(RunId::new_in(shard).0)
    }

    /// The shard that the identifier was made for.
    #[must_use]
    pub const fn shard(self) -> u8 {
        shard(self.0)
    }
}

impl RunId {
    /// A new, time-ordered identifier of a run in `shard`: that of its pipeline.
    #[must_use]
    pub fn new_in(shard: u8) -> Self {
        let mut bytes = *Uuid::now_v7().as_bytes();
        bytes[15] = shard;
        Self(Uuid::from_bytes(bytes))
    }

    /// The shard that the identifier was made for. Whoever has a run's id knows its owner without asking.
    #[must_use]
    pub const fn shard(self) -> u8 {
        shard(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_lies_in_the_shard_of_its_pipeline_and_ids_stay_ordered() {
        let pipeline = PipelineId(Uuid::from_u128(0xab));
        let runs: Vec<RunId> = (0..100).map(|_| RunId::new_in(pipeline.shard())).collect();
        assert!(runs.iter().all(|run| run.shard() == 0xab && run.0.get_version_num() == 7));
        assert!(runs.is_sorted(), "later runs have greater ids");
    }
}
