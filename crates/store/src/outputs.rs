//! Outputs of blocks: where they are, and how they go. Refuses to know what is in them, and removes none itself.

use crate::{Error, Store};
use deadpool_postgres::GenericClient;
use domain::{
    id::{PipelineId, RunId, WorkspaceId},
    unit::Output,
};
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

/// The pointer to what a unit left.
#[derive(Debug, Clone)]
pub struct Pointer {
    /// Of the accepted attempt.
    pub lease: i64,
    /// As the column says.
    pub status: String,
    /// What it left; `None` before it has completed.
    pub output: Option<Output>,
    /// Since when it is gone.
    pub expired_at: Option<Timestamp>,
}

/// How long a pipeline keeps outputs.
#[derive(Debug, Clone)]
pub struct Retention {
    /// The pipeline.
    pub pipeline: PipelineId,
    /// Its name.
    pub name: String,
    /// From a run's end; `None` for ever.
    pub period: Option<Duration>,
    /// Of the runs themselves; `None` is the cluster's own time.
    pub runs_period: Option<Duration>,
    /// Of log lines; `None` is the cluster's own time.
    pub logs_period: Option<Duration>,
}

/// What a removal would take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removable {
    /// Ended runs that still have outputs.
    pub runs: i64,
    /// Of those outputs.
    pub bytes: i64,
    /// Runs that are as old and have not ended.
    pub unfinished: i64,
}

/// A run whose outputs an executor is to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Whose.
    pub run: RunId,
    /// Whose metadata says where they are.
    pub bundle_digest: String,
    /// This one included.
    pub tries: i32,
}

/// The outputs of a block, of one of its children, or of a callback; `None` when it has no row.
///
/// # Errors
/// When the statement fails, or what it finds cannot be read.
pub async fn pointer(db: &impl GenericClient, run: RunId, block: &str, child: i32) -> Result<Option<Pointer>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/block_run/select_output.sql")).await?;
    let Some(row) = db.query_opt(&statement, &[&run.0, &block, &child]).await? else { return Ok(None) };
    let output: Option<Value> = row.get("output");
    let output = output.map(serde_json::from_value).transpose().map_err(|source| Error::Corrupt {
        what: "block run",
        id: run.to_string(),
        source,
    })?;
    Ok(Some(Pointer {
        lease: row.get("lease"),
        status: row.get("status"),
        output,
        expired_at: row.get("outputs_expired_at"),
    }))
}

/// Since when the outputs of a run are gone; `None` when they are there, or there is no such run.
///
/// # Errors
/// When the database does not answer.
pub async fn expired_at(store: &Store, run: RunId) -> Result<Option<Timestamp>, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/run/select_expired.sql")).await?;
    Ok(client.query_opt(&statement, &[&run.0]).await?.and_then(|row| row.get("outputs_expired_at")))
}

/// The pipelines of a workspace, or of all; or only the one of this name.
///
/// # Errors
/// When the statement fails.
pub async fn retentions(
    db: &impl GenericClient,
    workspace: Option<WorkspaceId>,
    name: Option<&str>,
) -> Result<Vec<Retention>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/pipeline/select_retention.sql")).await?;
    let rows = db.query(&statement, &[&workspace.map(|id| id.0), &name]).await?;
    let period = |seconds: Option<i64>| seconds.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
    let read = |row: &tokio_postgres::Row| Retention {
        pipeline: PipelineId(row.get("id")),
        name: row.get("name"),
        period: period(row.get("retention_s")),
        runs_period: period(row.get("runs_retention_s")),
        logs_period: period(row.get("logs_retention_s")),
    };
    Ok(rows.iter().map(read).collect())
}

/// What [`request`] would take.
///
/// # Errors
/// When the statement fails.
pub async fn count(db: &impl GenericClient, pipeline: PipelineId, before: Timestamp) -> Result<Removable, Error> {
    let statement = db.prepare_cached(include_str!("../sql/output_removal/count.sql")).await?;
    let row = db.query_one(&statement, &[&pipeline.0, &before]).await?;
    Ok(Removable { runs: row.get("runs"), bytes: row.get("bytes"), unfinished: row.get("unfinished") })
}

/// Marks the outputs of up to `limit` runs that ended before this instant as gone and asks for their removal, which
/// nobody begins within `grace`. Answers how many runs.
///
/// # Errors
/// When the database does not answer.
pub async fn request(
    store: &Store,
    pipeline: PipelineId,
    before: Timestamp,
    grace: Duration,
    limit: i64,
) -> Result<i64, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/output_removal/request.sql")).await?;
    let row = client.query_one(&statement, &[&pipeline.0, &before, &grace.as_secs_f64(), &limit]).await?;
    Ok(row.get("runs"))
}

/// Takes removals that are due. After `lease`, whoever comes next takes them.
///
/// # Errors
/// When the database does not answer.
pub async fn claim(store: &Store, limit: i64, lease: Duration) -> Result<Vec<Removal>, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/output_removal/claim.sql")).await?;
    let rows = client.query(&statement, &[&limit, &lease.as_secs_f64()]).await?;
    let read = |row: &tokio_postgres::Row| Removal {
        run: RunId(row.get("run_id")),
        bundle_digest: row.get("bundle_digest"),
        tries: row.get("tries"),
    };
    Ok(rows.iter().map(read).collect())
}

/// The outputs of these runs are gone.
///
/// # Errors
/// When the database does not answer.
pub async fn removed(store: &Store, runs: &[RunId]) -> Result<(), Error> {
    let runs: Vec<Uuid> = runs.iter().map(|run| run.0).collect();
    store.client().await?.execute(include_str!("../sql/output_removal/done.sql"), &[&runs]).await?;
    Ok(())
}

/// The outputs of these runs could not be removed; they come again later.
///
/// # Errors
/// When the database does not answer.
pub async fn not_removed(store: &Store, failures: &[(RunId, String)]) -> Result<(), Error> {
    let runs: Vec<Uuid> = failures.iter().map(|(run, _)| run.0).collect();
    let errors: Vec<&str> = failures.iter().map(|(_, error)| error.as_str()).collect();
    store.client().await?.execute(include_str!("../sql/output_removal/failed.sql"), &[&runs, &errors]).await?;
    Ok(())
}
