//! Pipelines and their immutable versions. Refuses to know where their definitions come from.

use crate::Error;
use deadpool_postgres::GenericClient;
use domain::{
    id::{PipelineId, WorkspaceId},
    pipeline::{Pipeline, PipelineKind},
};
use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;

/// A pipeline and its version in force.
#[derive(Debug, Clone)]
pub struct Head {
    /// Stable over its versions.
    pub id: PipelineId,
    /// The folder's name.
    pub name: String,
    /// The version in force.
    pub version: i64,
    /// The bundle of that version.
    pub bundle_digest: String,
    /// The definition as stored.
    pub spec: Value,
    /// When that version came into force.
    pub updated_at: Timestamp,
    /// No longer in the project.
    pub archived: bool,
}

impl Head {
    /// The definition as a value.
    ///
    /// # Errors
    /// When it was written by a version that this one does not understand.
    pub fn pipeline(&self) -> Result<Pipeline, Error> {
        decode_spec(self.id, self.spec.clone())
    }
}

/// A row of a list of pipelines.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The folder's name.
    pub name: String,
    /// The version in force.
    pub version: i64,
    /// The bundle of that version.
    pub bundle_digest: String,
    /// When that version came into force.
    pub updated_at: Timestamp,
    /// Free text.
    pub description: String,
    /// What engine it is written for.
    pub kind: PipelineKind,
    /// For filtering.
    pub tags: Vec<String>,
    /// How many blocks.
    pub block_count: i32,
}

fn decode_spec(id: PipelineId, spec: Value) -> Result<Pipeline, Error> {
    serde_json::from_value(spec).map_err(|source| corrupt("pipeline definition", id, source))
}

fn corrupt(what: &'static str, id: impl ToString, source: serde_json::Error) -> Error {
    Error::Corrupt { what, id: id.to_string(), source }
}

fn decode_head(row: &Row) -> Head {
    Head {
        id: PipelineId(row.get(0)),
        name: row.get(1),
        version: row.get(2),
        bundle_digest: row.get(3),
        spec: row.get(4),
        updated_at: row.get(5),
        archived: row.get(6),
    }
}

fn decode_summary(row: &Row) -> Result<Summary, Error> {
    let name: String = row.get(0);
    let kind = Value::String(row.get(5));
    Ok(Summary {
        version: row.get(1),
        bundle_digest: row.get(2),
        updated_at: row.get(3),
        description: row.get(4),
        kind: serde_json::from_value(kind).map_err(|e| corrupt("pipeline type", &name, e))?,
        tags: serde_json::from_value(row.get(6)).map_err(|e| corrupt("pipeline tags", &name, e))?,
        block_count: row.get(7),
        name,
    })
}

/// Every pipeline of a workspace, archived ones too.
///
/// # Errors
/// When the statement fails.
pub async fn heads(db: &impl GenericClient, workspace: WorkspaceId) -> Result<Vec<Head>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/pipeline/heads.sql")).await?;
    Ok(db.query(&statement, &[&workspace.0]).await?.iter().map(decode_head).collect())
}

/// The pipeline of this name, archived or not.
///
/// # Errors
/// When the statement fails.
pub async fn get(db: &impl GenericClient, workspace: WorkspaceId, name: &str) -> Result<Option<Head>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/pipeline/get.sql")).await?;
    Ok(db.query_opt(&statement, &[&workspace.0, &name]).await?.as_ref().map(decode_head))
}

/// As [`get`], by the workspace's name: one question less on the way to a run.
///
/// # Errors
/// When the statement fails.
pub async fn get_by_names(db: &impl GenericClient, workspace: &str, name: &str) -> Result<Option<Head>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/pipeline/get_by_names.sql")).await?;
    Ok(db.query_opt(&statement, &[&workspace, &name]).await?.as_ref().map(decode_head))
}

/// A page of the pipelines in force, by name, after the name `after`.
///
/// # Errors
/// When the statement fails, or a row was written by a version that this one does not understand.
pub async fn list(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    after: &str,
    limit: i64,
) -> Result<Vec<Summary>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/pipeline/list.sql")).await?;
    db.query(&statement, &[&workspace.0, &after, &limit]).await?.iter().map(decode_summary).collect()
}

/// One version's definition.
///
/// # Errors
/// When the statement fails or the definition cannot be understood.
pub async fn version(db: &impl GenericClient, id: PipelineId, version: i64) -> Result<Option<Pipeline>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/pipeline_version/get.sql")).await?;
    let row = db.query_opt(&statement, &[&id.0, &version]).await?;
    row.map(|row| decode_spec(id, row.get(0))).transpose()
}

/// A new pipeline at version 1.
///
/// # Errors
/// When the name is taken or a statement fails.
pub async fn insert(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    name: &str,
    bundle_digest: &str,
    spec: &Value,
) -> Result<PipelineId, Error> {
    let id = PipelineId(uuid::Uuid::now_v7());
    let statement = db.prepare_cached(include_str!("../sql/pipeline/insert.sql")).await?;
    db.execute(&statement, &[&id.0, &workspace.0, &name]).await?;
    insert_version(db, id, 1, bundle_digest, spec).await?;
    Ok(id)
}

/// Puts the version after `head` into force. `None` when `head` is no longer what is in force.
///
/// # Errors
/// When a statement fails.
pub async fn raise(
    db: &impl GenericClient,
    head: &Head,
    bundle_digest: &str,
    spec: &Value,
) -> Result<Option<i64>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/pipeline/raise.sql")).await?;
    if db.execute(&statement, &[&head.id.0, &head.version]).await? == 0 {
        return Ok(None);
    }
    let version = head.version + 1;
    insert_version(db, head.id, version, bundle_digest, spec).await?;
    Ok(Some(version))
}

/// Takes a pipeline out of force; its runs stay.
///
/// # Errors
/// When the statement fails.
pub async fn archive(db: &impl GenericClient, id: PipelineId) -> Result<(), Error> {
    let statement = db.prepare_cached(include_str!("../sql/pipeline/archive.sql")).await?;
    db.execute(&statement, &[&id.0]).await?;
    Ok(())
}

async fn insert_version(
    db: &impl GenericClient,
    id: PipelineId,
    version: i64,
    bundle_digest: &str,
    spec: &Value,
) -> Result<(), Error> {
    let statement = db.prepare_cached(include_str!("../sql/pipeline_version/insert.sql")).await?;
    db.execute(&statement, &[&id.0, &version, &bundle_digest, spec]).await?;
    Ok(())
}
