//! Statistics of runs and blocks, as they were counted. Refuses to add any up: that is for whoever shows them.

use crate::Error;
use deadpool_postgres::GenericClient;
use domain::id::{PipelineId, TriggerId, WorkspaceId};
use tokio_postgres::Row;

/// The most rows of one answer; an answer of as many is cut, and says so by its length.
pub const ROWS_MAX: i64 = 200_000;

/// Which statistics.
#[derive(Debug, Clone, Copy)]
pub struct Filter<'a> {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Only this pipeline's.
    pub pipeline: Option<PipelineId>,
    /// Only of runs that this trigger started; blocks are not counted by trigger.
    pub trigger: Option<TriggerId>,
    /// `2026-01-31`, UTC.
    pub first_day: &'a str,
    /// Likewise, included.
    pub last_day: &'a str,
}

/// What was counted of one day, thing and status, with durations of one bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    /// `2026-01-31`, UTC.
    pub day: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The trigger's or the block's name.
    pub of: String,
    /// As the column of run or block run says; empty for lateness.
    pub status: String,
    /// Durations from 2^(bucket/4) ms on, up to the next bucket's.
    pub bucket: i16,
    /// How many.
    pub runs: i64,
    /// All durations together, milliseconds.
    pub total_ms: f64,
    /// The longest, milliseconds.
    pub longest_ms: f64,
}

fn decode(row: &Row, of: &str, status: bool) -> Counted {
    Counted {
        day: row.get("day"),
        pipeline: row.get("pipeline"),
        of: row.get(of),
        status: if status { row.get("status") } else { String::new() },
        bucket: row.get("bucket"),
        runs: row.get("runs"),
        total_ms: row.get("total_ms"),
        longest_ms: row.get("longest_ms"),
    }
}

/// Ends of runs.
///
/// # Errors
/// When the statement fails.
pub async fn runs(db: &impl GenericClient, filter: &Filter<'_>) -> Result<Vec<Counted>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/run_stat/list.sql")).await?;
    let Filter { workspace, pipeline, trigger, first_day, last_day } = filter;
    let (pipeline, trigger) = (pipeline.map(|id| id.0), trigger.map(|id| id.0));
    let rows = db.query(&statement, &[&workspace.0, first_day, last_day, &pipeline, &trigger, &ROWS_MAX]).await?;
    Ok(rows.iter().map(|row| decode(row, "trigger", true)).collect())
}

/// Ends of block runs, those of dynamic children and callbacks included.
///
/// # Errors
/// When the statement fails.
pub async fn blocks(db: &impl GenericClient, filter: &Filter<'_>) -> Result<Vec<Counted>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/block_stat/list.sql")).await?;
    let Filter { workspace, pipeline, first_day, last_day, .. } = filter;
    let pipeline = pipeline.map(|id| id.0);
    let rows = db.query(&statement, &[&workspace.0, first_day, last_day, &pipeline, &ROWS_MAX]).await?;
    Ok(rows.iter().map(|row| decode(row, "block", true)).collect())
}

/// How late scheduled runs were created.
///
/// # Errors
/// When the statement fails.
pub async fn lateness(db: &impl GenericClient, filter: &Filter<'_>) -> Result<Vec<Counted>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/lateness_stat/list.sql")).await?;
    let Filter { workspace, pipeline, trigger, first_day, last_day } = filter;
    let (pipeline, trigger) = (pipeline.map(|id| id.0), trigger.map(|id| id.0));
    let rows = db.query(&statement, &[&workspace.0, first_day, last_day, &pipeline, &trigger, &ROWS_MAX]).await?;
    Ok(rows.iter().map(|row| decode(row, "trigger", false)).collect())
}

/// Runs that have not ended: pipeline, status, how many.
///
/// # Errors
/// When the statement fails.
pub async fn unfinished(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    limit: i64,
) -> Result<Vec<(String, String, i64)>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/run/count_unfinished.sql")).await?;
    let rows = db.query(&statement, &[&workspace.0, &limit]).await?;
    Ok(rows.iter().map(|row| (row.get("pipeline"), row.get("status"), row.get("runs"))).collect())
}
