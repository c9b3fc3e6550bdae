//! Whom to tell of runs, and what was told. Refuses to send anything, and to show what is secret: callers do that.

use crate::{Error, query, secrets::Sealed};
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
    /// In the form of `notification_config`; without its secrets, where they are sealed.
    pub config: Value,
    /// Rises with each change.
    pub version: i64,
    /// The same with its secrets; `None` for what was set before there were seals.
    pub sealed: Option<SealedConfig>,
    /// When it was set.
    pub updated_at: Timestamp,
}

/// A configuration as it lies in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedConfig {
    /// What the seal is bound to; its name is [`SEAL_NAME`].
    pub scope: String,
    /// Rises with each change, and is part of what the seal binds.
    pub version: i64,
    /// The configuration as JSON.
    pub seal: Sealed,
}

/// The name that seals of configurations are bound to.
pub const SEAL_NAME: &str = "notification_config";

/// What seals of a configuration are bound to.
#[must_use]
pub fn scope(workspace: WorkspaceId, pipeline: Option<PipelineId>) -> String {
    format!("notifications:{workspace}/{}", pipeline.map_or(Uuid::nil(), |id| id.0))
}

/// The seal in the columns of a row, if there is one.
pub(crate) fn sealed(row: &Row) -> Option<SealedConfig> {
    let value: Vec<u8> = row.get::<_, Option<_>>("sealed")?;
    let pipeline: Uuid = row.get("pipeline_id");
    let pipeline = (!pipeline.is_nil()).then_some(PipelineId(pipeline));
    let seal = Sealed { key_id: row.get("key_id"), wrapped_key: row.get("wrapped_key"), value };
    Some(SealedConfig {
        scope: scope(WorkspaceId(row.get("workspace_id")), pipeline),
        version: row.get("version"),
        seal,
    })
}

fn decode(row: &Row) -> Configured {
    let pipeline: Uuid = row.get("pipeline_id");
    Configured {
        workspace: WorkspaceId(row.get("workspace_id")),
        pipeline: (!pipeline.is_nil()).then_some(PipelineId(pipeline)),
        pipeline_name: row.get("pipeline"),
        config: row.get("config"),
        version: row.get("version"),
        sealed: sealed(row),
        updated_at: row.get("updated_at"),
    }
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
    Ok(rows.iter().map(decode).collect())
}

/// The version of what is configured; 0 where nothing is.
///
/// # Errors
/// When the statement fails.
pub async fn version(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    pipeline: Option<PipelineId>,
) -> Result<i64, Error> {
    let pipeline = pipeline.map_or(Uuid::nil(), |id| id.0);
    let sql = include_str!("../sql/notification_config/get_version.sql");
    Ok(query::row(db, sql, &[&workspace.0, &pipeline]).await?.map_or(0, |row| row.get(0)))
}

/// Sets what is configured for a workspace or one of its pipelines; false when somebody else has set it since its version
/// was read, which must be one below the new one.
///
/// # Errors
/// When the statement fails.
pub async fn configure(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    pipeline: Option<PipelineId>,
    config: &Value,
    version: i64,
    seal: Option<&Sealed>,
) -> Result<bool, Error> {
    let pipeline = pipeline.map_or(Uuid::nil(), |id| id.0);
    let key = seal.map(|seal| (&seal.key_id, &seal.wrapped_key, &seal.value));
    let parameters: query::Parameters<'_> = &[
        &workspace.0,
        &pipeline,
        config,
        &version,
        &key.map(|key| key.0),
        &key.map(|key| key.1),
        &key.map(|key| key.2),
    ];
    Ok(query::execute(db, include_str!("../sql/notification_config/upsert.sql"), parameters).await? > 0)
}

/// Removes what is configured.
///
/// # Errors
/// When the statement fails.
pub async fn unconfigure(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    pipeline: Option<PipelineId>,
) -> Result<(), Error> {
    let pipeline = pipeline.map_or(Uuid::nil(), |id| id.0);
    query::execute(db, include_str!("../sql/notification_config/delete.sql"), &[&workspace.0, &pipeline]).await?;
    Ok(())
}

/// Configurations that one of these keys seals, or none, locked until the transaction ends.
///
/// # Errors
/// When the statement fails.
pub async fn lock_stale(db: &impl GenericClient, keys: &[&str], limit: i64) -> Result<Vec<Configured>, Error> {
    let rows = query::rows(db, include_str!("../sql/notification_config/lock_stale.sql"), &[&keys, &limit]).await?;
    Ok(rows.iter().map(decode).collect())
}

/// How many configurations are not sealed by this key.
///
/// # Errors
/// When the statement fails.
pub async fn count_stale(db: &impl GenericClient, key_id: &str) -> Result<i64, Error> {
    Ok(query::one(db, include_str!("../sql/notification_config/count_stale.sql"), &[&key_id]).await?.get(0))
}

/// Another seal of a configuration that [`lock_stale`] answered.
///
/// # Errors
/// When the statement fails.
pub async fn reseal(db: &impl GenericClient, of: &Configured, config: &Value, seal: &Sealed) -> Result<(), Error> {
    let pipeline = of.pipeline.map_or(Uuid::nil(), |id| id.0);
    let parameters: query::Parameters<'_> =
        &[&of.workspace.0, &pipeline, config, &seal.key_id, &seal.wrapped_key, &seal.value];
    query::execute(db, include_str!("../sql/notification_config/reseal.sql"), parameters).await?;
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
