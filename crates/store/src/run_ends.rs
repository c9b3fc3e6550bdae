//! Ends of runs, counted once each. Refuses to know what else becomes of them.

use crate::Error;
use deadpool_postgres::{GenericClient, Transaction};
use domain::id::{PipelineId, RunId, TriggerId, WorkspaceId};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::HashMap;
use tokio_postgres::Row;
use uuid::Uuid;

/// Of an end's id: its place in its batch. The rest names the batch.
const PLACE_BITS: u32 = 24;
/// Ends of the version before that are taken at once.
const LEFT_MAX: i64 = 500;

/// An end of a run, as its commit left it.
#[derive(Debug, Clone)]
pub struct End {
    /// Of this end, and of no other.
    pub id: i64,
    /// Whose. It may be forgotten by now.
    pub run: RunId,
    /// As what it ended.
    pub status: String,
    /// When this life started, if it did.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Timestamp,
    /// Of the life before, if it had ended and was retried.
    pub former_end_at: Option<Timestamp>,
}

/// What runs were of.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of run, with names")]
pub struct Version {
    pub workspace_id: WorkspaceId,
    pub pipeline_id: PipelineId,
    pub pipeline: String,
    pub pipeline_version: i64,
}

/// A run that ended, or that is late, with all that a message tells of it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of run, with names")]
pub struct Ended {
    /// Of this end, and of no other. 0 for a run that goes on.
    pub end_id: i64,
    pub run: RunId,
    pub status: String,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub of: Version,
    pub workspace: String,
    pub trigger_id: TriggerId,
    pub trigger: String,
    pub execution_date: Timestamp,
    /// Why it failed or was cancelled.
    pub reason: String,
    /// By when it should have ended.
    pub due_at: Option<Timestamp>,
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
    /// Oldest first.
    pub ends: Vec<End>,
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
    let left = db.query(&statement, &[&LEFT_MAX]).await?;
    let statement = db.prepare_cached(include_str!("../sql/run_end_batch/take.sql")).await?;
    let taken = db.query(&statement, &[&batches]).await?;
    if left.is_empty() && taken.is_empty() {
        return Ok(None);
    }
    let is_full = |taken: usize, limit: i64| i64::try_from(taken).is_ok_and(|taken| taken >= limit);
    let more = is_full(left.len(), LEFT_MAX) || is_full(taken.len(), batches);
    let alone = |row: &Row| End {
        id: row.get("id"),
        run: RunId(row.get("run_id")),
        status: row.get("status"),
        started_at: row.get("started_at"),
        completed_at: row.get("completed_at"),
        former_end_at: row.get("former_end_at"),
    };
    let ends = left.iter().map(alone).chain(taken.iter().flat_map(of_batch)).collect();
    Ok(Some(Taken { ends, more }))
}

/// An end is named by its batch and its place there, from 1.
fn of_batch(row: &Row) -> impl Iterator<Item = End> + use<> {
    let first = row.get::<_, i64>("id") << PLACE_BITS;
    let runs: Vec<Uuid> = row.get("run_ids");
    let statuses: Vec<String> = row.get("statuses");
    let started: Vec<Option<Timestamp>> = row.get("started_ats");
    let completed: Vec<Timestamp> = row.get("completed_ats");
    let former: Vec<Option<Timestamp>> = row.get("former_end_ats");
    (first + 1..).zip(runs).zip(statuses).zip(started).zip(completed).zip(former).map(
        |(((((id, run), status), started_at), completed_at), former_end_at)| End {
            id,
            run: RunId(run),
            status,
            started_at,
            completed_at,
            former_end_at,
        },
    )
}

/// Of these ends, those of these pipelines, with all that a message tells of them. A run that is forgotten is not among them.
///
/// # Errors
/// When the statement fails.
pub async fn describe(db: &impl GenericClient, ends: &[End], of: &[PipelineId]) -> Result<Vec<Ended>, Error> {
    if ends.is_empty() || of.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = ends.iter().map(|end| end.id).collect();
    let columns = Columns::of(ends);
    let of: Vec<Uuid> = of.iter().map(|pipeline| pipeline.0).collect();
    let statement = db.prepare_cached(include_str!("../sql/run_end_batch/describe.sql")).await?;
    let Columns { runs, statuses, started, completed, .. } = &columns;
    let rows = db.query(&statement, &[&ids, runs, statuses, started, completed, &of]).await?;
    let decode = |row: &Row| Ended {
        end_id: row.get("id"),
        completed_at: row.get("completed_at"),
        reason: row.get::<_, Option<String>>("reason").unwrap_or_default(),
        ..unended(row)
    };
    Ok(rows.iter().map(decode).collect())
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
        of: version(row),
        workspace: row.get("workspace"),
        trigger_id: TriggerId(row.get("trigger_id")),
        trigger: row.get("trigger"),
        execution_date: row.get("execution_date"),
        reason: String::new(),
        due_at: row.get("sla_at"),
    }
}

fn version(row: &Row) -> Version {
    Version {
        workspace_id: WorkspaceId(row.get("workspace_id")),
        pipeline_id: PipelineId(row.get("pipeline_id")),
        pipeline: row.get("pipeline"),
        pipeline_version: row.get("pipeline_version"),
    }
}

/// Ends as the arrays that statements take.
struct Columns<'a> {
    runs: Vec<Uuid>,
    statuses: Vec<&'a str>,
    started: Vec<Option<Timestamp>>,
    completed: Vec<Timestamp>,
    former: Vec<Option<Timestamp>>,
}

impl<'a> Columns<'a> {
    fn of(ends: &'a [End]) -> Self {
        Self {
            runs: ends.iter().map(|end| end.run.0).collect(),
            statuses: ends.iter().map(|end| end.status.as_str()).collect(),
            started: ends.iter().map(|end| end.started_at).collect(),
            completed: ends.iter().map(|end| end.completed_at).collect(),
            former: ends.iter().map(|end| end.former_end_at).collect(),
        }
    }
}

/// Adds ends to the statistics, in the transaction that took them; of a run that is forgotten nothing is counted. Answers what the
/// runs were of, each once: nothing of a run itself leaves the database for being counted.
///
/// # Errors
/// When the statement fails.
pub async fn count(db: &Transaction<'_>, ends: &[End]) -> Result<Vec<Version>, Error> {
    let Columns { runs, statuses, started, completed, former } = &Columns::of(ends);
    let statement = db.prepare_cached(include_str!("../sql/run_end_batch/count.sql")).await?;
    let rows = db.query(&statement, &[runs, statuses, started, completed, former]).await?;
    Ok(rows.iter().map(version).collect())
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
