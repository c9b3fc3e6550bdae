//! Backfills: written by the owner of their pipeline's shard, read by everybody. Refuses to compute intervals.

use crate::{Error, Store, query, shards::Shard};
use deadpool_postgres::GenericClient;
use domain::{
    backfill::{Cursor, Length, Order, Status},
    id::{BackfillId, PipelineId, WorkspaceId},
};
use jiff::Timestamp;
use serde::de::Error as _;
use serde_json::Value;
use tokio_postgres::{Row, types::Json};
use uuid::Uuid;

/// What somebody asked for.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the columns of backfill")]
pub struct Spec {
    pub name: String,
    pub start_at: Timestamp,
    pub end_at: Timestamp,
    pub length: Length,
    pub time_zone: String,
    pub order: Order,
    pub parallelism: u32,
    pub variables: Value,
    pub allow_blocks_to_fail: bool,
}

/// A backfill and how far it is.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of backfill")]
pub struct Backfill {
    pub id: BackfillId,
    pub workspace_id: WorkspaceId,
    pub pipeline_id: PipelineId,
    pub spec: Spec,
    pub cursor: Cursor,
    pub created_at: Timestamp,
    pub completed_at: Option<Timestamp>,
    /// Why it paused itself.
    pub pause_reason: Option<String>,
}

/// What its owner writes of a backfill as it goes on.
#[derive(Debug, Clone)]
pub struct Progress {
    /// How far it is.
    pub cursor: Cursor,
    /// When it has ended.
    pub ended_at: Option<Timestamp>,
    /// Why it paused itself, if it did.
    pub pause_reason: Option<String>,
}

/// A backfill with the names that people know its places by.
#[derive(Debug, Clone)]
pub struct View {
    /// The row.
    pub backfill: Backfill,
    /// Its pipeline's name.
    pub pipeline: String,
    /// Its workspace's name.
    pub workspace: String,
}

/// How a backfill is named.
#[derive(Debug, Clone, Copy)]
pub enum BackfillRef<'a> {
    /// By its identifier.
    Id(BackfillId),
    /// By its name in a pipeline.
    Name(PipelineId, &'a str),
}

/// What the column `unit` says of intervals that `cron` names.
const CRON: &str = "cron";

fn word<T: serde::Serialize>(value: &T) -> String {
    // Unit variants are serialised as their names.
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Creates a backfill under its shard's epoch; false when the pipeline has one of this name, or the shard another owner.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(store: &Store, backfill: &Backfill, shard: Shard) -> Result<bool, Error> {
    let Backfill { id, workspace_id, pipeline_id, spec, cursor, .. } = backfill;
    let (unit, every, cron) = match &spec.length {
        Length::Units(unit, every) => (word(unit), *every, None),
        Length::Cron(expression) => (CRON.to_owned(), 1, Some(expression.as_str())),
    };
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/backfill/insert.sql")).await?;
    let row = client
        .query_opt(
            &statement,
            &[
                &id.0,
                &shard.id,
                &shard.epoch,
                &workspace_id.0,
                &pipeline_id.0,
                &spec.name,
                &spec.start_at,
                &spec.end_at,
                &unit,
                &i32::try_from(every).unwrap_or(i32::MAX),
                &spec.time_zone,
                &(spec.order == Order::Descending),
                &i32::try_from(spec.parallelism).unwrap_or(i32::MAX),
                &spec.variables.to_string(),
                &spec.allow_blocks_to_fail,
                &i64::try_from(cursor.total).unwrap_or(i64::MAX),
                &cron,
            ],
        )
        .await?;
    Ok(row.is_some())
}

/// What the owner of these shards has to carry on.
///
/// # Errors
/// When the database does not answer or holds what this version cannot read.
pub async fn unfinished(db: &impl GenericClient, shards: &[i16]) -> Result<Vec<Backfill>, Error> {
    let rows = query::rows(db, include_str!("../sql/backfill/select_unfinished.sql"), &[&shards]).await?;
    rows.iter().map(decode).collect()
}

/// One backfill.
///
/// # Errors
/// When the statement fails, or holds what this version cannot read.
pub async fn get(db: &impl GenericClient, backfill: BackfillRef<'_>) -> Result<Option<View>, Error> {
    let (id, pipeline, name) = match backfill {
        BackfillRef::Id(id) => (Some(id.0), None, None),
        BackfillRef::Name(pipeline, name) => (None, Some(pipeline.0), Some(name)),
    };
    let statement = db.prepare_cached(include_str!("../sql/backfill/get.sql")).await?;
    let row = db.query_opt(&statement, &[&id, &pipeline, &name]).await?;
    row.as_ref().map(view).transpose()
}

/// A page of a workspace's backfills, newest first, after the one `before`.
///
/// # Errors
/// When the statement fails, or holds what this version cannot read.
pub async fn list(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    pipeline: Option<PipelineId>,
    before: Option<BackfillId>,
    limit: i64,
) -> Result<Vec<View>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/backfill/list.sql")).await?;
    let before = before.map_or(Uuid::max(), |before| before.0);
    let rows = db.query(&statement, &[&workspace.0, &pipeline.map(|id| id.0), &before, &limit]).await?;
    rows.iter().map(view).collect()
}

fn view(row: &Row) -> Result<View, Error> {
    Ok(View { backfill: decode(row)?, pipeline: row.get("pipeline"), workspace: row.get("workspace") })
}

fn decode(row: &Row) -> Result<Backfill, Error> {
    let id: Uuid = row.get("id");
    let corrupt = |source| Error::Corrupt { what: "backfill", id: id.to_string(), source };
    let count = |column: &str| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
    let number = |column: &str| u32::try_from(row.get::<_, i32>(column)).unwrap_or(0);
    let length = match row.get::<_, Option<String>>("cron") {
        Some(expression) => Length::Cron(expression),
        None => {
            let unit = serde_json::from_value(Value::String(row.get("unit"))).map_err(corrupt)?;
            Length::Units(unit, number("every"))
        }
    };
    let status: Status = row.get::<_, &str>("status").parse().map_err(|e| corrupt(serde_json::Error::custom(e)))?;
    let Json(variables): Json<Value> = row.get("variables");
    Ok(Backfill {
        id: BackfillId(id),
        workspace_id: WorkspaceId(row.get("workspace_id")),
        pipeline_id: PipelineId(row.get("pipeline_id")),
        spec: Spec {
            name: row.get("name"),
            start_at: row.get("start_at"),
            end_at: row.get("end_at"),
            length,
            time_zone: row.get("time_zone"),
            order: if row.get("descending") { Order::Descending } else { Order::Ascending },
            parallelism: number("parallelism"),
            variables,
            allow_blocks_to_fail: row.get("allow_blocks_to_fail"),
        },
        cursor: Cursor {
            status,
            total: count("total"),
            started: count("started"),
            completed: count("completed"),
            failed: count("failed"),
            cancelled: count("cancelled"),
            last: row.get("last_at"),
        },
        created_at: row.get("created_at"),
        completed_at: row.get("completed_at"),
        pause_reason: row.get("pause_reason"),
    })
}
