//! Runs and block runs as readers see them. Refuses to change any: runtime state has one writer, and it is not here.

use crate::{Error, query};
use deadpool_postgres::GenericClient;
use domain::id::{BackfillId, PipelineId, RunId, TriggerId, WorkspaceId};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::HashMap;
use tokio_postgres::Row;

/// A run, with the names that people know it by.
#[derive(Debug, Clone)]
pub struct Run {
    /// Time-ordered.
    pub id: RunId,
    /// The workspace's name.
    pub workspace: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The pipeline.
    pub pipeline_id: PipelineId,
    /// The version that it stays on.
    pub pipeline_version: i64,
    /// As the column says: `initial`, `running`, `completed`, `failed`, `cancelled`.
    pub status: String,
    /// JSON object.
    pub variables: Value,
    /// The logical time.
    pub execution_date: Timestamp,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its first block could start.
    pub started_at: Option<Timestamp>,
    /// Set once it ended.
    pub completed_at: Option<Timestamp>,
    /// Why it failed, was or is being cancelled; empty otherwise.
    pub reason: String,
    /// The trigger's name.
    pub trigger: String,
    /// The run that it retries or that started it.
    pub parent: Option<RunId>,
    /// Blocks that run something.
    pub blocks_total: i32,
    /// Those of them that ended.
    pub blocks_done: i32,
    /// The backfill that it belongs to.
    pub backfill: Option<BackfillId>,
    /// That one's name; empty without one.
    pub backfill_name: String,
}

impl Run {
    /// Nothing about it changes any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.completed_at.is_some()
    }
}

/// A block, a dynamic child or a callback of a run.
#[derive(Debug, Clone)]
pub struct BlockRun {
    /// The block's uuid; `<callback>:<watched block>` for a callback.
    pub block: String,
    /// -1 for the block itself.
    pub child: i32,
    /// As the column says; `None` for a child that has not started.
    pub status: Option<String>,
    /// Tries that count, with the one in progress.
    pub attempts: i32,
    /// Of the first try.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// When the next try may start.
    pub not_before: Option<Timestamp>,
    /// By the database's clock, that time has not come.
    pub waits: bool,
    /// The executor's name; empty before the first try.
    pub executor: String,
    /// Pointer to the outputs of the accepted attempt.
    pub output: Option<Value>,
    /// Why it failed.
    pub error: Option<Value>,
    /// How many children it has, when its upstream is dynamic.
    pub children: Option<i32>,
}

/// How far the children of one block are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChildCounts {
    /// Ended well.
    pub completed: i32,
    /// Ended badly.
    pub failed: i32,
}

/// What the one who created a run asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The run.
    pub id: RunId,
    /// JSON object: those of the call, over those of the trigger.
    pub variables: Value,
    /// JSON object: what a call told beside the variables.
    pub event_variables: Option<Value>,
    /// The logical time.
    pub execution_date: Timestamp,
    /// Seconds.
    pub timeout_s: Option<i32>,
    /// Whether its other blocks go on when one has failed.
    pub allow_blocks_to_fail: bool,
}

/// Which runs of a workspace to list.
#[derive(Debug, Clone)]
pub struct Filter<'a> {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Only this pipeline's.
    pub pipeline: Option<PipelineId>,
    /// Only these statuses; empty means all.
    pub statuses: &'a [&'a str],
    /// Only those that this trigger started.
    pub trigger: Option<TriggerId>,
    /// Only this backfill's.
    pub backfill: Option<BackfillId>,
    /// Only runs older than this one.
    pub before: Option<RunId>,
}

fn decode_run(row: &Row) -> Run {
    Run {
        id: RunId(row.get(0)),
        workspace: row.get(1),
        pipeline: row.get(2),
        pipeline_id: PipelineId(row.get(3)),
        pipeline_version: row.get(4),
        status: row.get(5),
        variables: row.get(6),
        execution_date: row.get(7),
        created_at: row.get(8),
        started_at: row.get(9),
        completed_at: row.get(10),
        reason: row.get(11),
        trigger: row.get(12),
        parent: row.get::<_, Option<uuid::Uuid>>(13).map(RunId),
        blocks_total: row.get(14),
        blocks_done: row.get(15),
        backfill: row.get::<_, Option<uuid::Uuid>>(16).map(BackfillId),
        backfill_name: row.get(17),
    }
}

fn decode_block(row: &Row) -> BlockRun {
    BlockRun {
        block: row.get(0),
        child: row.get(1),
        status: row.get(2),
        attempts: row.get(3),
        started_at: row.get(4),
        completed_at: row.get(5),
        not_before: row.get(6),
        waits: row.get(7),
        executor: row.get(8),
        output: row.get(9),
        error: row.get(10),
        children: row.get(11),
    }
}

/// One run.
///
/// # Errors
/// When the statement fails.
pub async fn get(db: &impl GenericClient, id: RunId) -> Result<Option<Run>, Error> {
    Ok(all(db, &[id.0]).await?.pop())
}

/// These, in this order; those that are gone are left out.
async fn all(db: &impl GenericClient, runs: &[uuid::Uuid]) -> Result<Vec<Run>, Error> {
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    Ok(query::rows(db, include_str!("../sql/run/get.sql"), &[&runs]).await?.iter().map(decode_run).collect())
}

/// What was asked for when these runs were created; those that are gone are left out.
///
/// # Errors
/// When the statement fails.
pub async fn asked(db: &impl GenericClient, runs: &[RunId]) -> Result<Vec<Asked>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/run/list_asked.sql")).await?;
    let runs: Vec<uuid::Uuid> = runs.iter().map(|run| run.0).collect();
    let decode = |row: &Row| Asked {
        id: RunId(row.get(0)),
        variables: row.get(1),
        event_variables: row.get(2),
        execution_date: row.get(3),
        timeout_s: row.get(4),
        allow_blocks_to_fail: row.get(5),
    };
    Ok(db.query(&statement, &[&runs]).await?.iter().map(decode).collect())
}

/// A page of runs, newest first.
///
/// # Errors
/// When the statement fails.
pub async fn list(db: &impl GenericClient, filter: &Filter<'_>, limit: i64) -> Result<Vec<Run>, Error> {
    let page = match (filter.trigger, filter.backfill) {
        (Some(trigger), None) => of_trigger(db, filter, trigger, limit).await?,
        // No trigger starts the runs of a backfill.
        (Some(_), Some(_)) => Vec::new(),
        (None, backfill) => {
            let before = filter.before.map_or(uuid::Uuid::max(), |id| id.0);
            let (pipeline, backfill) = (filter.pipeline.map(|id| id.0), backfill.map(|id| id.0));
            let parameters: query::Parameters<'_> =
                &[&filter.workspace.0, &pipeline, &filter.statuses, &before, &limit, &backfill];
            query::rows(db, include_str!("../sql/run/list.sql"), parameters).await?
        }
    };
    all(db, &page.iter().map(|row| row.get(0)).collect::<Vec<_>>()).await
}

async fn of_trigger(
    db: &impl GenericClient,
    filter: &Filter<'_>,
    trigger: TriggerId,
    limit: i64,
) -> Result<Vec<Row>, Error> {
    let (at, key) = match filter.before {
        // Nothing is as new as this.
        None => (domain::trigger::LAST, String::new()),
        Some(run) => {
            let found = query::row(db, include_str!("../sql/firing/of_run.sql"), &[&trigger.0, &run.0]).await?;
            // Runs are forgotten oldest first: what came before one that is gone is gone.
            let Some(found) = found else { return Ok(Vec::new()) };
            (found.get::<_, Timestamp>(0), found.get(1))
        }
    };
    let parameters: query::Parameters<'_> = &[&filter.workspace.0, &filter.statuses, &trigger.0, &at, &key, &limit];
    query::rows(db, include_str!("../sql/run/list_of_trigger.sql"), parameters).await
}

/// The blocks and callbacks of a run that have a row, by name, without children.
///
/// # Errors
/// When the statement fails.
pub async fn blocks(db: &impl GenericClient, id: RunId) -> Result<HashMap<String, BlockRun>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/block_run/list.sql")).await?;
    let rows = db.query(&statement, &[&id.0]).await?;
    Ok(rows.iter().map(decode_block).map(|b| (b.block.clone(), b)).collect())
}

/// How far the children of each block are. O(children of the run): ask only when a block has some.
///
/// # Errors
/// When the statement fails.
pub async fn count_children(db: &impl GenericClient, id: RunId) -> Result<HashMap<String, ChildCounts>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/block_run/count_children.sql")).await?;
    let rows = db.query(&statement, &[&id.0]).await?;
    Ok(rows.iter().map(|r| (r.get(0), ChildCounts { completed: r.get(1), failed: r.get(2) })).collect())
}

/// The children `first..=last` of a block, those that have not started too.
///
/// # Errors
/// When the statement fails.
pub async fn children(
    db: &impl GenericClient,
    id: RunId,
    block: &str,
    first: i32,
    last: i32,
) -> Result<Vec<BlockRun>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/block_run/children.sql")).await?;
    Ok(db.query(&statement, &[&id.0, &block, &first, &last]).await?.iter().map(decode_block).collect())
}
