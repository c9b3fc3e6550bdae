//! The blocks of a run in pipeline order, with those that have no row yet: readiness is derived from the graph, never
//! stored. Pure. Refuses to know where the rows come from.

use crate::encode;
use domain::{
    executor_type::Backend,
    pipeline::{Block, Pipeline},
};
use proto::v1::{self, BlockRunStatus as Status};
use std::collections::HashMap;
use store::run_views::{BlockRun, ChildCounts, Run};

/// What a page or a watcher shows of a run.
pub(crate) struct View<'a> {
    /// The run.
    pub(crate) run: &'a Run,
    /// The version that it runs.
    pub(crate) pipeline: &'a Pipeline,
    /// The rows of blocks and callbacks.
    pub(crate) rows: &'a HashMap<String, BlockRun>,
    /// The counts of those that have children.
    pub(crate) counts: &'a HashMap<String, ChildCounts>,
    /// What runs on executors that take work now; `None` where nobody asked.
    pub(crate) backends: Option<&'a [Backend]>,
}

impl View<'_> {
    /// Every block in pipeline order, each followed by the callbacks that it called.
    pub(crate) fn blocks(&self) -> Vec<v1::BlockRun> {
        let each =
            |block: &Block| std::iter::once(self.block(block)).chain(self.callbacks_of(block)).collect::<Vec<_>>();
        self.pipeline.blocks.iter().flat_map(each).collect()
    }

    /// Whether some block could start now; a row that waits may be one of many children.
    pub(crate) fn has_queued(&self) -> bool {
        let queued = |block: &Block| match self.rows.get(&block.uuid) {
            Some(row) => {
                let open = matches!(row.status.as_deref(), None | Some("initial" | "running"));
                open && !self.run.has_ended()
            }
            None => self.status_without_row(block) == Status::Queued,
        };
        self.pipeline.blocks.iter().any(queued)
    }

    /// Why a queued block does not start, where nobody is there for it.
    fn wait_reason(&self, block: &Block, status: Status) -> String {
        let Some(backends) = self.backends.filter(|_| status == Status::Queued) else { return String::new() };
        let (what, remedy) = match Backend::of(block, self.pipeline) {
            _ if backends.is_empty() => ("", "start one"),
            Some(Backend::Kubernetes) if !backends.contains(&Backend::Kubernetes) => (
                " that runs blocks on Kubernetes (executor_type k8s)",
                "start one with `attempts = kubernetes`, or remove the executor type",
            ),
            Some(Backend::Process) if !backends.contains(&Backend::Process) => {
                (" that runs blocks as processes", "start one with `attempts = process`, or make k8s the executor type")
            }
            _ => return String::new(),
        };
        format!("no executor is connected{what}: {remedy}")
    }

    /// A child of a block, from its row.
    pub(crate) fn child(&self, block: &Block, row: &BlockRun) -> v1::BlockRun {
        let status = match &row.status {
            Some(status) => self.status(status, row.waits),
            None if self.run.has_ended() => Status::Initial,
            None => Status::Queued,
        };
        let child_name = self.child_name(block, row.child);
        v1::BlockRun { child_name, ..self.message(block, row, status) }
    }

    fn block(&self, block: &Block) -> v1::BlockRun {
        match self.rows.get(&block.uuid) {
            Some(row) => self.message(block, row, self.status(row.status.as_deref().unwrap_or_default(), row.waits)),
            None => {
                let status = self.status_without_row(block);
                v1::BlockRun {
                    run_id: self.run.id.to_string(),
                    block: block.uuid.clone(),
                    r#type: encode::name(&block.kind),
                    child: -1,
                    status: status.into(),
                    wait_reason: self.wait_reason(block, status),
                    ..v1::BlockRun::default()
                }
            }
        }
    }

    fn callbacks_of(&self, block: &Block) -> impl Iterator<Item = v1::BlockRun> {
        let watching = self.pipeline.callbacks.iter().filter(|c| c.upstream.contains(&block.uuid));
        watching.filter_map(|callback| {
            let row = self.rows.get(&format!("{}:{}", callback.uuid, block.uuid))?;
            Some(self.message(callback, row, self.status(row.status.as_deref().unwrap_or_default(), row.waits)))
        })
    }

    fn status_without_row(&self, block: &Block) -> Status {
        let completed = |uuid: &String| self.rows.get(uuid).is_some_and(|r| r.status.as_deref() == Some("completed"));
        if self.run.status == "running" && block.upstream.iter().all(completed) {
            Status::Queued
        } else {
            Status::Initial
        }
    }

    fn status(&self, word: &str, waits: bool) -> Status {
        match word {
            "initial" if waits || self.run.has_ended() => Status::Initial,
            "initial" => Status::Queued,
            "running" => Status::Running,
            "completed" => Status::Completed,
            "failed" => Status::Failed,
            "cancelled" => Status::Cancelled,
            "upstream_failed" => Status::UpstreamFailed,
            "condition_failed" => Status::ConditionFailed,
            _ => Status::Unspecified,
        }
    }

    /// Children are named by the one dynamic block that makes them, where its metadata names its items.
    fn child_name(&self, block: &Block, child: i32) -> String {
        let dynamic = |uuid: &&String| self.pipeline.blocks.iter().any(|b| b.dynamic && b.uuid == **uuid);
        let mut parents = block.upstream.iter().filter(dynamic);
        let (Some(parent), None) = (parents.next(), parents.next()) else { return String::new() };
        let output = self.rows.get(parent).and_then(output);
        let at = usize::try_from(child).unwrap_or(usize::MAX);
        output.and_then(|mut o| (at < o.item_names.len()).then(|| o.item_names.swap_remove(at))).unwrap_or_default()
    }

    fn message(&self, block: &Block, row: &BlockRun, status: Status) -> v1::BlockRun {
        let counts = self.counts.get(&row.block).filter(|_| row.child < 0).copied().unwrap_or_default();
        v1::BlockRun {
            run_id: self.run.id.to_string(),
            block: row.block.clone(),
            r#type: encode::name(&block.kind),
            child: row.child,
            child_name: String::new(),
            status: status.into(),
            attempts: row.attempts,
            started_at: row.started_at.map(rpc::timestamp::to_proto),
            completed_at: row.completed_at.map(rpc::timestamp::to_proto),
            not_before: row.not_before.map(rpc::timestamp::to_proto),
            executor: row.executor.clone(),
            error: error(row),
            outputs: output(row).map(outputs).unwrap_or_default(),
            children_total: row.children.unwrap_or_default(),
            children_completed: counts.completed,
            children_failed: counts.failed,
            wait_reason: self.wait_reason(block, status),
        }
    }
}

fn output(row: &BlockRun) -> Option<domain::unit::Output> {
    serde_json::from_value(row.output.clone()?).ok()
}

fn outputs(output: domain::unit::Output) -> Vec<v1::Output> {
    let message =
        |o: domain::unit::OutputInfo| v1::Output { name: o.name, kind: o.kind, rows: o.rows, size_bytes: o.size_bytes };
    output.outputs.into_iter().map(message).collect()
}

fn error(row: &BlockRun) -> Option<v1::BlockError> {
    let failure: domain::unit::Failure = serde_json::from_value(row.error.clone()?).ok()?;
    Some(v1::BlockError { code: failure.code, message: failure.message, traceback: failure.traceback })
}
