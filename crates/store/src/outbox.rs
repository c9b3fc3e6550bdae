//! Notifications on their way out: noted with what they are about, claimed, sent, settled. Refuses to know how any is
//! sent.

use crate::{
    Error, Store,
    notifications::{self, SealedConfig},
};
use deadpool_postgres::GenericClient;
use domain::id::{PipelineId, RunId, WorkspaceId};
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

/// What is to be sent.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of notification")]
pub struct Note {
    /// The same note is noted once.
    pub key: String,
    pub workspace: WorkspaceId,
    pub pipeline: PipelineId,
    pub pipeline_version: i64,
    pub run: Option<RunId>,
    /// `failure`, `success`, `passed_sla` or `test`.
    pub event: &'static str,
    /// Where its configuration is.
    pub source: Source,
    pub channel: String,
    pub facts: Value,
}

/// Where the configuration of a notification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The metadata of the project and the pipeline, in the run's version.
    Project,
    /// What was configured for the pipeline.
    Pipeline,
    /// What was configured for the workspace.
    Workspace,
}

impl Source {
    /// As the column says.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Pipeline => "pipeline",
            Self::Workspace => "workspace",
        }
    }
}

/// A notification that this process is to send.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Names it.
    pub id: i64,
    /// Names it for receivers: the same in every attempt.
    pub key: String,
    /// Which attempt this is, from 1; the fence of [`settle`].
    pub attempt: i16,
    /// What happened.
    pub event: String,
    /// Which channel of the configuration.
    pub channel: String,
    /// What the message says.
    pub facts: Value,
    /// When it was noted.
    pub created_at: Timestamp,
    /// The configuration as it is now, without its secrets where they are sealed; `None` when it was removed.
    pub config: Option<Value>,
    /// The same with its secrets.
    pub sealed: Option<SealedConfig>,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The receiver took it.
    Sent,
    /// To be tried again after this time.
    Again(Duration, String),
    /// Not tried: to be claimed again after this time.
    Back(Duration),
    /// Given up.
    Failed(String),
}

/// Notes what is to be sent.
///
/// # Errors
/// When the statement fails.
pub async fn note(db: &impl GenericClient, notes: &[Note]) -> Result<(), Error> {
    if notes.is_empty() {
        return Ok(());
    }
    let statement = db.prepare_cached(include_str!("../sql/notification/insert.sql")).await?;
    let keys: Vec<&str> = notes.iter().map(|n| n.key.as_str()).collect();
    let workspaces: Vec<Uuid> = notes.iter().map(|n| n.workspace.0).collect();
    let pipelines: Vec<Uuid> = notes.iter().map(|n| n.pipeline.0).collect();
    let versions: Vec<i64> = notes.iter().map(|n| n.pipeline_version).collect();
    let runs: Vec<Option<Uuid>> = notes.iter().map(|n| n.run.map(|run| run.0)).collect();
    let events: Vec<&str> = notes.iter().map(|n| n.event).collect();
    let sources: Vec<&str> = notes.iter().map(|n| n.source.as_str()).collect();
    let channels: Vec<&str> = notes.iter().map(|n| n.channel.as_str()).collect();
    let facts: Vec<&Value> = notes.iter().map(|n| &n.facts).collect();
    db.execute(&statement, &[&keys, &workspaces, &pipelines, &versions, &runs, &events, &sources, &channels, &facts])
        .await?;
    Ok(())
}

/// Takes up to `limit` notifications that are due. Nobody else takes them for `lease`.
///
/// # Errors
/// When the database does not answer.
pub async fn claim(store: &Store, limit: i64, lease: Duration) -> Result<Vec<Claimed>, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/notification/claim.sql")).await?;
    let rows = client.query(&statement, &[&limit, &lease.as_secs_f64()]).await?;
    let claimed = |row: &tokio_postgres::Row| Claimed {
        id: row.get("id"),
        key: row.get("key"),
        attempt: row.get("attempts"),
        event: row.get("event"),
        channel: row.get("channel"),
        facts: row.get("facts"),
        created_at: row.get("created_at"),
        config: row.get("config"),
        sealed: notifications::sealed(row),
    };
    Ok(rows.iter().map(claimed).collect())
}

/// Notes what became of an attempt; nothing, when a later one was begun.
///
/// # Errors
/// When the database does not answer; then it is sent again when its lease is over.
pub async fn settle(store: &Store, claimed: &Claimed, fate: &Fate) -> Result<(), Error> {
    let (status, error, pause) = match fate {
        Fate::Sent => ("sent", None, Duration::ZERO),
        Fate::Again(pause, error) => ("pending", Some(error.replace('\0', "")), *pause),
        Fate::Back(pause) => ("pending", None, *pause),
        Fate::Failed(error) => ("failed", Some(error.replace('\0', "")), Duration::ZERO),
    };
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/notification/settle.sql")).await?;
    client.execute(&statement, &[&claimed.id, &claimed.attempt, &status, &error, &pause.as_secs_f64()]).await?;
    Ok(())
}

/// Forgets up to `limit` notifications that ended before `before`.
///
/// # Errors
/// When the database does not answer.
pub async fn forget(store: &Store, before: Timestamp, limit: i64) -> Result<u64, Error> {
    let client = store.client().await?;
    Ok(client.execute(include_str!("../sql/notification/delete_before.sql"), &[&before, &limit]).await?)
}
