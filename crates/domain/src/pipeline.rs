//! A pipeline as its project folder defines it: immutable, one value per version.
//!
//! Everything that a scheduler or an executor needs of a Mage `metadata.yaml` is here; how it is read is the business
//! of the `project` crate.

use crate::retry::RetryPolicy;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One version of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    /// The folder's name below `pipelines/`; it wins over a `uuid` key in the file.
    pub name: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// What engine it is written for.
    pub kind: PipelineKind,
    /// For filtering only.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The steps of the DAG, in file order. Edges come from each block's `upstream`.
    pub blocks: Vec<Block>,
    /// Guards; `upstream` names the guarded blocks.
    #[serde(default)]
    pub conditionals: Vec<Block>,
    /// Reactions; `upstream` names the watched blocks.
    #[serde(default)]
    pub callbacks: Vec<Block>,
    /// Defaults of the run's variables.
    #[serde(default)]
    pub variables: Map<String, Value>,
    /// All blocks of a run share one process, and so one `context`.
    #[serde(default)]
    pub one_process: bool,
    /// With `one_process`: outputs stay in that process's memory.
    #[serde(default)]
    pub cache_output_in_memory: bool,
    /// Where blocks run unless they say otherwise; `None` is the executor's own default.
    #[serde(default)]
    pub executor_type: Option<String>,
    /// Backend settings, as written.
    #[serde(default)]
    pub executor_config: Map<String, Value>,
    /// Limits on what runs at once.
    #[serde(default)]
    pub concurrency: Concurrency,
    /// Notification settings, as written.
    #[serde(default)]
    pub notification_config: Map<String, Value>,
    /// Longest time of a whole run, seconds.
    #[serde(default)]
    pub run_timeout_s: Option<u32>,
    /// How long outputs are kept after a run's end, seconds; `None` keeps them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs_retention_s: Option<u64>,
    /// How long ended runs are kept, seconds; `None` is the cluster's own time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs_retention_s: Option<u64>,
    /// How long log lines are kept after a run's end, seconds; `None` is the cluster's own time, which is also the longest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs_retention_s: Option<u64>,
    /// The least level, as Python names it, at which the logging of its blocks makes lines; `None` is `INFO`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<String>,
    /// The secrets of its workspace and project that its blocks may ask for; those of its own are always its. `None` leaves
    /// it to the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<String>>,
    /// The secrets that its project names where its outputs are kept: for whoever writes, shows or removes these, and not for
    /// its blocks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub place_secrets: Vec<String>,
}

impl Pipeline {
    /// True when a run's outputs live and die with its one process.
    #[must_use]
    pub fn keeps_outputs_in_memory(&self) -> bool {
        self.one_process && self.cache_output_in_memory
    }
}

/// Mage's pipeline types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PipelineKind {
    /// A batch DAG; the default.
    Python,
    /// Source, transformers, sinks; runs until stopped.
    Streaming,
    /// Singer taps and targets.
    Integration,
    /// A batch DAG on Spark.
    Pyspark,
    /// A batch DAG on Databricks.
    Databricks,
    /// Built from a framework's template.
    ExecutionFramework,
}

/// One step of a pipeline, a guard or a reaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// Unique in the pipeline; may contain `/` for nested files.
    pub uuid: String,
    /// Shown to people.
    pub name: String,
    /// Decides the decorator that the runner looks for.
    pub kind: BlockKind,
    /// Decides how the file is run.
    pub language: Language,
    /// The file, relative to the project folder; `None` for kinds without one.
    #[serde(default)]
    pub file: Option<String>,
    /// In order: the n-th is the n-th positional argument.
    #[serde(default)]
    pub upstream: Vec<String>,
    /// As written; handed to user code whole.
    #[serde(default)]
    pub configuration: Map<String, Value>,
    /// `None` follows the pipeline.
    #[serde(default)]
    pub executor_type: Option<String>,
    /// Backend settings, as written.
    #[serde(default)]
    pub executor_config: Map<String, Value>,
    /// Project value overlaid with the block's own.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// Longest time of one try, seconds.
    #[serde(default)]
    pub timeout_s: Option<u32>,
    /// Keys of limits that hold for it across pipelines, its pipeline's own included; see [`crate::limits`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
    /// The block whose file this one shares.
    #[serde(default)]
    pub replica_of: Option<String>,
    /// Each item that it returns becomes a child of every downstream block.
    #[serde(default)]
    pub dynamic: bool,
    /// Downstream of its children there is one block again.
    #[serde(default)]
    pub reduce_output: bool,
}

/// Mage's block types, as far as a pipeline may name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are Mage's own")]
pub enum BlockKind {
    DataLoader,
    Transformer,
    DataExporter,
    Custom,
    Sensor,
    Conditional,
    Callback,
    Dbt,
    GlobalDataProduct,
    Extension,
    Markdown,
    Chart,
    Scratchpad,
}

impl BlockKind {
    /// Kinds that a run passes over: they complete without running anything.
    #[must_use]
    pub fn is_inert(self) -> bool {
        matches!(self, Self::Markdown | Self::Chart | Self::Scratchpad)
    }
}

/// Languages of block files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they name themselves")]
pub enum Language {
    Python,
    Sql,
    R,
    Yaml,
    Markdown,
}

/// Mage's `concurrency_config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    /// Blocks of one run at once.
    #[serde(default)]
    pub block_run_limit: Option<u32>,
    /// Runs of one trigger at once.
    #[serde(default)]
    pub pipeline_run_limit: Option<u32>,
    /// Runs of the pipeline at once, over all triggers.
    #[serde(default)]
    pub pipeline_run_limit_all_triggers: Option<u32>,
    /// What happens to a run over the limit.
    #[serde(default)]
    pub on_limit: OnLimit,
}

/// What happens to a run over the limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLimit {
    /// It waits for a place.
    #[default]
    Wait,
    /// It is cancelled.
    Skip,
}
