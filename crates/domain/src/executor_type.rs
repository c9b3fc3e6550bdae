//! Where a block wants to run: Mage's `executor_type` of the block and of its pipeline, and which of them counts.
//!
//! Refuses to know which executors there are.

use crate::pipeline::{Block, Pipeline};

/// Names that Mage gives to its own machine.
const LOCAL: &str = "local_python";
/// The same, whatever the pipeline says.
const LOCAL_FORCED: &str = "local_python_force";
/// A block that does nothing, without a process.
const NOOP: &str = "noop";
/// Mage's other executors.
const REMOTE: [&str; 5] = ["k8s", "ecs", "gcp_cloud_run", "azure_container_instance", "pyspark"];

/// What a block asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutorType<'a> {
    /// A process of an executor.
    Process,
    /// The built-in no-op.
    Noop,
    /// A machine of its own, by Mage's name for the kind.
    Remote(&'a str),
    /// None of Mage's names.
    Unknown(&'a str),
}

impl<'a> ExecutorType<'a> {
    /// Every name that is known.
    pub const NAMES: [&'static str; 8] =
        [LOCAL, LOCAL_FORCED, NOOP, REMOTE[0], REMOTE[1], REMOTE[2], REMOTE[3], REMOTE[4]];

    /// What counts: the block's own type, unless that is the usual one; then the pipeline's.
    #[must_use]
    pub fn of(block: Option<&'a str>, pipeline: Option<&'a str>) -> Self {
        let unusual = |written: &Option<&'a str>| Self::says_something(*written);
        [block, pipeline].into_iter().find(unusual).flatten().map_or(Self::Process, Self::named)
    }

    /// Whether it is more than the usual type, which leaves the choice to whoever is asked next.
    #[must_use]
    pub fn says_something(written: Option<&str>) -> bool {
        !matches!(written.map(str::trim), None | Some("" | LOCAL))
    }

    fn named(written: &'a str) -> Self {
        match written.trim() {
            LOCAL_FORCED => Self::Process,
            NOOP => Self::Noop,
            name if REMOTE.contains(&name) => Self::Remote(name),
            name => Self::Unknown(name),
        }
    }
}

/// Mage's name for machines of a Kubernetes cluster.
pub const KUBERNETES: &str = REMOTE[0];

/// Where an executor runs attempts. An executor has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Backend {
    /// As processes beside it.
    Process,
    /// Each as a job of a Kubernetes cluster.
    Kubernetes,
}

impl Backend {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Process, Self::Kubernetes];

    /// As executors name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Kubernetes => "kubernetes",
        }
    }

    /// What an executor with a backend of this name takes: one that is not known takes what asks for no other place.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|backend| backend.as_str() == name).unwrap_or(Self::Process)
    }

    /// The backend that a block has to run on; `None` for one that every executor runs.
    ///
    /// Only Mage's `k8s` asks for a place of its own. What cannot be had (other clouds, names that nobody knows) runs as a
    /// process, as its deployment warned; so do runs in one process, whose blocks share a memory.
    #[must_use]
    pub fn of(block: &Block, pipeline: &Pipeline) -> Option<Self> {
        match ExecutorType::of(block.executor_type.as_deref(), pipeline.executor_type.as_deref()) {
            ExecutorType::Noop => None,
            ExecutorType::Remote(KUBERNETES) if !pipeline.one_process => Some(Self::Kubernetes),
            _ => Some(Self::Process),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_counts_before_the_pipeline_and_the_usual_type_says_nothing() {
        for (block, pipeline, expect) in [
            (None, None, ExecutorType::Process),
            (Some("local_python"), Some(""), ExecutorType::Process),
            (None, Some("noop"), ExecutorType::Noop),
            (Some(" local_python "), Some("k8s"), ExecutorType::Remote("k8s")),
            (Some("local_python_force"), Some("k8s"), ExecutorType::Process),
            (Some("noop"), Some("ecs"), ExecutorType::Noop),
            (Some("kubernetes"), None, ExecutorType::Unknown("kubernetes")),
        ] {
            assert_eq!(ExecutorType::of(block, pipeline), expect, "{block:?} in {pipeline:?}");
        }
        let known = |name: &&str| !matches!(ExecutorType::of(Some(*name), None), ExecutorType::Unknown(_));
        assert!(ExecutorType::NAMES.iter().all(known));
    }
}
