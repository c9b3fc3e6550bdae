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

/// Where messages wait, as far as that is known without opening their configuration: each lane leads to one receiver, and
/// several may lead to the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the columns of notification")]
pub struct Lane {
    pub workspace: Uuid,
    pub pipeline: Uuid,
    pub source: String,
    pub channel: String,
}

/// A lane in which something waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub lane: Lane,
    /// How often its receiver failed, one time after the other.
    pub failures: i32,
    /// It has no pause now.
    pub is_open: bool,
}

/// A notification that this process is to send.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Names it.
    pub id: i64,
    /// Where it waited.
    pub lane: Lane,
    /// How often the receiver of that lane has failed, one time after the other.
    pub failures: i32,
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
    /// The pipeline's version whose metadata holds the configuration, and by which it sees secrets.
    pub of_version: Option<(PipelineId, i64)>,
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

/// Up to `limit` lanes in which something waits, in their order, behind `after`.
///
/// # Errors
/// When the database does not answer.
pub async fn waiting(store: &Store, after: &Lane, limit: i64) -> Result<Vec<Waiting>, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/notification/lanes.sql")).await?;
    let Lane { workspace, pipeline, source, channel } = after;
    let rows = client.query(&statement, &[workspace, pipeline, source, channel, &limit]).await?;
    let waiting = |row: &tokio_postgres::Row| Waiting {
        lane: Lane { workspace: row.get(0), pipeline: row.get(1), source: row.get(2), channel: row.get(3) },
        failures: row.get(4),
        is_open: row.get(5),
    };
    Ok(rows.iter().map(waiting).collect())
}

/// Takes up to `limit` notifications that are due in these lanes, of each no more than is said with it. Nobody else takes
/// them for `lease`.
///
/// # Errors
/// When the database does not answer.
pub async fn claim(store: &Store, lanes: &[(&Lane, i64)], limit: i64, lease: Duration) -> Result<Vec<Claimed>, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/notification/claim.sql")).await?;
    let workspaces: Vec<Uuid> = lanes.iter().map(|(lane, _)| lane.workspace).collect();
    let pipelines: Vec<Uuid> = lanes.iter().map(|(lane, _)| lane.pipeline).collect();
    let sources: Vec<&str> = lanes.iter().map(|(lane, _)| lane.source.as_str()).collect();
    let channels: Vec<&str> = lanes.iter().map(|(lane, _)| lane.channel.as_str()).collect();
    let most: Vec<i64> = lanes.iter().map(|(_, most)| *most).collect();
    let seconds = lease.as_secs_f64();
    let rows =
        client.query(&statement, &[&limit, &seconds, &workspaces, &pipelines, &sources, &channels, &most]).await?;
    let claimed = |row: &tokio_postgres::Row| Claimed {
        id: row.get("id"),
        lane: Lane {
            workspace: row.get("lane_workspace"),
            pipeline: row.get("lane_pipeline"),
            source: row.get("source"),
            channel: row.get("channel"),
        },
        failures: row.get("failures"),
        key: row.get("key"),
        attempt: row.get("attempts"),
        event: row.get("event"),
        channel: row.get("channel"),
        facts: row.get("facts"),
        created_at: row.get("created_at"),
        config: row.get("config"),
        sealed: notifications::sealed(row),
        of_version: row.get::<_, Option<Uuid>>("of_pipeline").map(|id| (PipelineId(id), row.get("of_version"))),
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

/// Lets a lane wait whose receiver did not take a message: for `pause`, then twice as long each time, up to `pause_max`.
///
/// # Errors
/// When the database does not answer.
pub async fn put_off(store: &Store, lane: &Lane, pause: Duration, pause_max: Duration) -> Result<(), Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/notification_lane/put_off.sql")).await?;
    let Lane { workspace, pipeline, source, channel } = lane;
    let (pause, pause_max) = (pause.as_secs_f64(), pause_max.as_secs_f64());
    client.execute(&statement, &[workspace, pipeline, source, channel, &pause, &pause_max]).await?;
    Ok(())
}

/// Lets a lane wait no more, whose receiver took a message.
///
/// # Errors
/// When the database does not answer.
pub async fn reopen(store: &Store, lane: &Lane) -> Result<(), Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/notification_lane/delete.sql")).await?;
    let Lane { workspace, pipeline, source, channel } = lane;
    client.execute(&statement, &[workspace, pipeline, source, channel]).await?;
    Ok(())
}

/// Gives up to `limit` notifications up that were noted before `before` and are not under way; `why` is told of each.
///
/// # Errors
/// When the database does not answer.
pub async fn expire(store: &Store, before: Timestamp, why: &str, limit: i64) -> Result<u64, Error> {
    let client = store.client().await?;
    Ok(client.execute(include_str!("../sql/notification/expire.sql"), &[&before, &why, &limit]).await?)
}

/// Forgets pauses of lanes that ended `idle` ago, and in which nothing waits.
///
/// # Errors
/// When the database does not answer.
pub async fn forget_lanes(store: &Store, idle: Duration) -> Result<u64, Error> {
    let client = store.client().await?;
    Ok(client.execute(include_str!("../sql/notification_lane/delete_idle.sql"), &[&idle.as_secs_f64()]).await?)
}

/// Forgets up to `limit` notifications that ended before `before`.
///
/// # Errors
/// When the database does not answer.
pub async fn forget(store: &Store, before: Timestamp, limit: i64) -> Result<u64, Error> {
    let client = store.client().await?;
    Ok(client.execute(include_str!("../sql/notification/delete_before.sql"), &[&before, &limit]).await?)
}
