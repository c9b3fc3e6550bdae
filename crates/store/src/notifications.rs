//! Whom to tell of runs, and what was told. Refuses to send anything, and to show what is secret: callers do that.

use crate::Error;
use deadpool_postgres::GenericClient;
use domain::id::{PipelineId, RunId, WorkspaceId};
use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

/// What is configured for a workspace, or for one of its pipelines.
#[derive(Debug, Clone)]
pub struct Configured {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The pipeline; `None` means all of them.
    pub pipeline: Option<PipelineId>,
    /// Its name; empty for all.
    pub pipeline_name: String,
    /// In the form of `notification_config`, with its secrets.
    pub config: Value,
    /// When it was set.
    pub updated_at: Timestamp,
}

/// A notification, as it stands.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of notification, with names")]
pub struct Notification {
    pub id: i64,
    pub pipeline: String,
    pub run: Option<RunId>,
    pub event: String,
    pub source: String,
    pub channel: String,
    pub status: String,
    pub attempts: i16,
    pub not_before: Timestamp,
    pub error: String,
    pub created_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

/// What is configured for these workspaces.
///
/// # Errors
/// When the statement fails.
pub async fn configured(db: &impl GenericClient, workspaces: &[Uuid]) -> Result<Vec<Configured>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/notification_config/list.sql")).await?;
    let rows = db.query(&statement, &[&workspaces]).await?;
    let decode = |row: &Row| {
        let pipeline: Uuid = row.get("pipeline_id");
        Configured {
            workspace: WorkspaceId(row.get("workspace_id")),
            pipeline: (!pipeline.is_nil()).then_some(PipelineId(pipeline)),
            pipeline_name: row.get("pipeline"),
            config: row.get("config"),
            updated_at: row.get("updated_at"),
        }
    };
    Ok(rows.iter().map(decode).collect())
}

/// Sets what is configured for a workspace or one of its pipelines; `None` removes it.
///
/// # Errors
/// When the statement fails.
pub async fn configure(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    pipeline: Option<PipelineId>,
    config: Option<&Value>,
) -> Result<(), Error> {
    let pipeline = pipeline.map_or(Uuid::nil(), |id| id.0);
    match config {
        Some(config) => {
            let statement = db.prepare_cached(include_str!("../sql/notification_config/upsert.sql")).await?;
            db.execute(&statement, &[&workspace.0, &pipeline, config]).await?;
        }
        None => {
            let statement = db.prepare_cached(include_str!("../sql/notification_config/delete.sql")).await?;
            db.execute(&statement, &[&workspace.0, &pipeline]).await?;
        }
    }
    Ok(())
}

/// Whom the metadata of a pipeline's version tells, if anybody.
///
/// # Errors
/// When the statement fails.
pub async fn of_version(db: &impl GenericClient, pipeline: PipelineId, version: i64) -> Result<Option<Value>, Error> {
    let sql = include_str!("../sql/pipeline_version/select_notification_config.sql");
    let statement = db.prepare_cached(sql).await?;
    Ok(db.query_opt(&statement, &[&pipeline.0, &version]).await?.and_then(|row| row.get("config")))
}

/// A page of notifications, newest first, before the id `before`.
///
/// # Errors
/// When the statement fails.
pub async fn list(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    run: Option<RunId>,
    before: i64,
    limit: i64,
) -> Result<Vec<Notification>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/notification/list.sql")).await?;
    let run = run.map(|run| run.0);
    let rows = db.query(&statement, &[&workspace.0, &before, &run, &limit]).await?;
    let decode = |row: &Row| Notification {
        id: row.get("id"),
        pipeline: row.get("pipeline"),
        run: row.get::<_, Option<Uuid>>("run_id").map(RunId),
        event: row.get("event"),
        source: row.get("source"),
        channel: row.get("channel"),
        status: row.get("status"),
        attempts: row.get("attempts"),
        not_before: row.get("not_before"),
        error: row.get("error"),
        created_at: row.get("created_at"),
        ended_at: row.get("ended_at"),
    };
    Ok(rows.iter().map(decode).collect())
}
