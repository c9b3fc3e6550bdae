//! A run in the engine's memory, with what assignments of it need.

use domain::{
    id::{ExecutorId, RunId},
    run::{Run, Transition},
};
use jiff::{Timestamp, tz::TimeZone};
use proto::internal::v1 as pb;
use std::sync::Arc;
use store::shards::Shard;

/// Leases of one epoch: more than a unit can be leased while its shard has the same owner.
const LEASES_PER_EPOCH: i64 = 1 << 20;

/// One unfinished run.
pub(super) struct Live {
    pub(super) run: Run,
    pub(super) shard: Shard,
    pub(super) context: Arc<pb::RunContext>,
    /// Sent to each session once.
    pub(super) definition: Arc<pb::Definition>,
    /// In the engine's queue of runs with something to lease.
    pub(super) queued: bool,
    pub(super) wake: Option<Timestamp>,
    due: Vec<Transition>,
}

impl Live {
    pub(super) fn new(run: Run, shard: Shard, context: pb::RunContext, definition: Arc<pb::Definition>) -> Self {
        // A crash of the database may have forgotten leases of an earlier epoch that executors still hold.
        let run = run.with_leases_above(shard.epoch.saturating_mul(LEASES_PER_EPOCH));
        Self { run, shard, context: Arc::new(context), definition, queued: false, wake: None, due: Vec::new() }
    }

    /// With changes that loading found due.
    pub(super) fn with_due(self, due: Vec<Transition>) -> Self {
        Self { due, ..self }
    }

    pub(super) fn take_due(&mut self) -> Vec<Transition> {
        std::mem::take(&mut self.due)
    }

    pub(super) fn uses(&self, executor: ExecutorId) -> bool {
        self.run.home() == Some(executor) || self.run.running_units().any(|(_, _, on)| on == executor)
    }
}

/// What the executor needs to know of the run around an attempt.
pub(super) struct ContextOf<'a> {
    pub(super) run: RunId,
    pub(super) pipeline: &'a str,
    pub(super) workspace: &'a str,
    pub(super) trigger: &'a str,
    pub(super) variables: &'a serde_json::Map<String, serde_json::Value>,
    pub(super) defaults: &'a serde_json::Map<String, serde_json::Value>,
    pub(super) execution_date: Timestamp,
}

impl ContextOf<'_> {
    /// Pipeline variables overlaid with the run's own. The partition names the run, so that two runs of the same second
    /// never share one (in Mage they do), in the form that Mage's code expects: `<trigger>/<time>_<unique>`.
    pub(super) fn build(&self) -> pb::RunContext {
        let mut variables = self.defaults.clone();
        variables.extend(self.variables.iter().map(|(key, value)| (key.clone(), value.clone())));
        let date = self.execution_date.to_zoned(TimeZone::UTC);
        let unique = self.run.0.simple().to_string();
        pb::RunContext {
            pipeline: self.pipeline.to_owned(),
            workspace: self.workspace.to_owned(),
            event: variables.get("event").map_or_else(|| "{}".to_owned(), ToString::to_string),
            variables: serde_json::Value::Object(variables).to_string(),
            execution_date: self.execution_date.to_string(),
            execution_partition: format!("{}/{}_{unique}", self.trigger, date.strftime("%Y%m%dT%H%M%S")),
            trigger_name: self.trigger.to_owned(),
        }
    }
}
