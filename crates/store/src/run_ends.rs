//! Ends of runs, counted once each. Refuses to know what else becomes of them.

use crate::Error;
use deadpool_postgres::{GenericClient, Transaction};
use domain::id::{PipelineId, RunId, TriggerId, WorkspaceId};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use tokio_postgres::Row;
use uuid::Uuid;

/// Of an end's id: its place in its batch. The rest names the batch.
const PLACE_BITS: u32 = 24;
/// Ends of the version before that are taken at once.
const LEFT_MAX: i64 = 500;

/// A run that ended, or that is late.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of run, with names")]
pub struct Ended {
    /// Of this end, and of no other. 0 for a run that goes on.
    pub end_id: i64,
    pub run: RunId,
    pub status: String,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    /// Of the life before, if it had ended and was retried.
    pub former_end_at: Option<Timestamp>,
    pub workspace_id: WorkspaceId,
    pub workspace: String,
    pub pipeline_id: PipelineId,
    pub pipeline: String,
    pub pipeline_version: i64,
    pub trigger_id: TriggerId,
    pub trigger: String,
    pub created_at: Timestamp,
    pub execution_date: Timestamp,
    /// Why it failed or was cancelled.
    pub reason: String,
    /// By when it should have ended.
    pub due_at: Option<Timestamp>,
    /// Whether its end is one and a schedule asked for it, so that it could be late.
    pub is_scheduled: bool,
}

/// The block that failed first.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Its uuid.
    pub block: String,
    /// Its error, as stored.
    pub error: Value,
}

/// What was taken out of the queue.
#[derive(Debug)]
pub struct Taken {
    /// Of runs that are not forgotten.
    pub ends: Vec<Ended>,
    /// Whether there may be more.
    pub more: bool,
}

/// Takes ends that nobody has taken, of up to `batches` batches, and up to 500 of those that a scheduler of the version before left one
/// by one. `None` when there is none. They are gone when the transaction commits, and only then.
///
/// # Errors
/// When a statement fails.
pub async fn take(db: &Transaction<'_>, batches: i64) -> Result<Option<Taken>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/run_end/take.sql")).await?;
    let mut rows = db.query(&statement, &[&LEFT_MAX]).await?;
    let left = rows.len();
    let statement = db.prepare_cached(include_str!("../sql/run_end_batch/take.sql")).await?;
    rows.extend(db.query(&statement, &[&batches]).await?);
    if rows.is_empty() {
        return Ok(None);
    }
    let taken: HashSet<i64> = rows[left..].iter().map(|row| row.get::<_, i64>("id") >> PLACE_BITS).collect();
    let is_full = |taken: usize, limit: i64| i64::try_from(taken).is_ok_and(|taken| taken >= limit);
    let decode = |row: &Row| Ended {
        end_id: row.get("id"),
        completed_at: row.get("completed_at"),
        former_end_at: row.get("former_end_at"),
        reason: row.get::<_, Option<String>>("reason").unwrap_or_default(),
        is_scheduled: row.get("is_scheduled"),
        ..unended(row)
    };
    let ends = rows.iter().filter(|row| row.get("is_known")).map(decode).collect();
    Ok(Some(Taken { ends, more: is_full(left, LEFT_MAX) || is_full(taken.len(), batches) }))
}

/// A page of unfinished runs that became late in the last `lately_s` seconds, after the run `after`.
///
/// # Errors
/// When the statement fails.
pub async fn late(db: &impl GenericClient, lately_s: f64, after: RunId, limit: i64) -> Result<Vec<Ended>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/run/list_late.sql")).await?;
    Ok(db.query(&statement, &[&lately_s, &after.0, &limit]).await?.iter().map(unended).collect())
}

fn unended(row: &Row) -> Ended {
    Ended {
        end_id: 0,
        run: RunId(row.get("run_id")),
        status: row.get("status"),
        started_at: row.get("started_at"),
        completed_at: None,
        former_end_at: None,
        workspace_id: WorkspaceId(row.get("workspace_id")),
        workspace: row.get("workspace"),
        pipeline_id: PipelineId(row.get("pipeline_id")),
        pipeline: row.get("pipeline"),
        pipeline_version: row.get("pipeline_version"),
        trigger_id: TriggerId(row.get("trigger_id")),
        trigger: row.get("trigger"),
        created_at: row.get("created_at"),
        execution_date: row.get("execution_date"),
        reason: String::new(),
        due_at: row.get("sla_at"),
        is_scheduled: false,
    }
}

/// Adds ends to the statistics, in the transaction that took them.
///
/// # Errors
/// When a statement fails.
pub async fn count(db: &Transaction<'_>, ends: &[Ended]) -> Result<(), Error> {
    let runs: Vec<Uuid> = ends.iter().map(|end| end.run.0).collect();
    let workspaces: Vec<Uuid> = ends.iter().map(|end| end.workspace_id.0).collect();
    let pipelines: Vec<Uuid> = ends.iter().map(|end| end.pipeline_id.0).collect();
    let triggers: Vec<Uuid> = ends.iter().map(|end| end.trigger_id.0).collect();
    let statuses: Vec<&str> = ends.iter().map(|end| end.status.as_str()).collect();
    let started: Vec<Option<Timestamp>> = ends.iter().map(|end| end.started_at).collect();
    let former: Vec<Option<Timestamp>> = ends.iter().map(|end| end.former_end_at).collect();
    let completed: Vec<Option<Timestamp>> = ends.iter().map(|end| end.completed_at).collect();
    let statement = db.prepare_cached(include_str!("../sql/run_stat/add.sql")).await?;
    db.execute(&statement, &[&workspaces, &pipelines, &triggers, &statuses, &started, &completed]).await?;
    let statement = db.prepare_cached(include_str!("../sql/block_stat/add.sql")).await?;
    db.execute(&statement, &[&runs, &workspaces, &pipelines, &started, &former, &completed]).await?;
    count_lateness(db, ends).await
}

/// A run is created once, however often it ends.
async fn count_lateness(db: &Transaction<'_>, ends: &[Ended]) -> Result<(), Error> {
    let first = || ends.iter().filter(|end| end.is_scheduled && end.former_end_at.is_none());
    if first().next().is_none() {
        return Ok(());
    }
    let workspaces: Vec<Uuid> = first().map(|end| end.workspace_id.0).collect();
    let pipelines: Vec<Uuid> = first().map(|end| end.pipeline_id.0).collect();
    let triggers: Vec<Uuid> = first().map(|end| end.trigger_id.0).collect();
    let created: Vec<Timestamp> = first().map(|end| end.created_at).collect();
    let due: Vec<Timestamp> = first().map(|end| end.execution_date).collect();
    let statement = db.prepare_cached(include_str!("../sql/lateness_stat/add.sql")).await?;
    db.execute(&statement, &[&workspaces, &pipelines, &triggers, &created, &due]).await?;
    Ok(())
}

/// Of each of these ends that is a failure, by its id, the block that failed first; unless that runs again by now.
///
/// # Errors
/// When the statement fails.
pub async fn failures(db: &impl GenericClient, ends: &[Ended]) -> Result<HashMap<i64, Failure>, Error> {
    let failed = || ends.iter().filter(|end| end.status == "failed");
    let ids: Vec<i64> = failed().map(|end| end.end_id).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let runs: Vec<Uuid> = failed().map(|end| end.run.0).collect();
    let completed: Vec<Option<Timestamp>> = failed().map(|end| end.completed_at).collect();
    let statement = db.prepare_cached(include_str!("../sql/block_run/list_failures.sql")).await?;
    let rows = db.query(&statement, &[&ids, &runs, &completed]).await?;
    let failure = |row: &Row| {
        let error = row.get::<_, Option<Value>>("error").unwrap_or_default();
        (row.get("end_id"), Failure { block: row.get("block"), error })
    };
    Ok(rows.iter().map(failure).collect())
}
