//! Models of workspaces, their versions, and uploads that have not all arrived. Refuses to know where bytes lie.

use crate::{Error, query};
use deadpool_postgres::GenericClient;
use domain::id::{ModelId, ModelVersionId, UploadId, UserId, WorkspaceId};
use jiff::Timestamp;
use std::time::Duration;
use tokio_postgres::Row;
use uuid::Uuid;

/// A version: content that never changes.
#[derive(Debug, Clone)]
pub struct Version {
    /// That of its upload; its parts lie below it.
    pub id: ModelVersionId,
    /// The model's name.
    pub model: String,
    /// As it was uploaded, without a folder.
    pub file_name: String,
    /// Of all parts together.
    pub size_bytes: i64,
    /// Lower-case hexadecimal, of all parts together.
    pub sha256: String,
    /// Digests of the parts, in order.
    pub parts: Vec<String>,
    /// When its last byte had come.
    pub created_at: Timestamp,
    /// E-mail address; empty when unknown.
    pub created_by: String,
}

/// A model with its latest version.
#[derive(Debug, Clone)]
pub struct Model {
    /// Stable.
    pub id: ModelId,
    /// Unique in its workspace.
    pub name: String,
    /// When its first version came.
    pub created_at: Timestamp,
    /// How many versions.
    pub versions: i64,
    /// The latest one.
    pub latest: Version,
}

/// What is uploaded.
#[derive(Debug, Clone, Copy)]
pub struct Announced<'a> {
    /// Into which workspace.
    pub workspace: WorkspaceId,
    /// The model's name.
    pub name: &'a str,
    /// The file's name.
    pub file_name: &'a str,
    /// Of all of it.
    pub size_bytes: i64,
    /// Of all of it, lower-case hexadecimal.
    pub sha256: &'a str,
}

/// An upload that has not all arrived.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of model_upload")]
pub struct Upload {
    pub id: UploadId,
    pub workspace: WorkspaceId,
    pub name: String,
    pub file_name: String,
    pub size_bytes: i64,
    pub sha256: String,
    pub received_bytes: i64,
    pub parts: Vec<String>,
}

/// What a workspace holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Its name.
    pub workspace: String,
    /// Models in use.
    pub models: i64,
    /// Pipelines in use.
    pub pipelines: i64,
}

fn version(row: &Row, model: String, first: usize) -> Version {
    Version {
        id: ModelVersionId(row.get(first)),
        model,
        file_name: row.get(first + 1),
        size_bytes: row.get(first + 2),
        sha256: row.get(first + 3),
        created_at: row.get(first + 4),
        created_by: row.get(first + 5),
        parts: row.get(first + 6),
    }
}

fn upload(row: &Row) -> Upload {
    Upload {
        id: UploadId(row.get(0)),
        workspace: WorkspaceId(row.get(1)),
        name: row.get(2),
        file_name: row.get(3),
        size_bytes: row.get(4),
        sha256: row.get(5),
        received_bytes: row.get(6),
        parts: row.get(7),
    }
}

/// How many models a workspace has, and how many versions the one of this name.
///
/// # Errors
/// When the statement fails.
pub async fn count(db: &impl GenericClient, workspace: WorkspaceId, name: &str) -> Result<(i64, i64), Error> {
    let row = query::one(db, include_str!("../sql/model/count.sql"), &[&workspace.0, &name]).await?;
    Ok((row.get(0), row.get(1)))
}

/// How many uploads of a workspace are open.
///
/// # Errors
/// When the statement fails.
pub async fn count_uploads(db: &impl GenericClient, workspace: WorkspaceId) -> Result<i64, Error> {
    Ok(query::one(db, include_str!("../sql/model_upload/count.sql"), &[&workspace.0]).await?.get(0))
}

/// The open upload of this very content. Hold the workspace's lock when beginning one because there is none.
///
/// # Errors
/// When the statement fails.
pub async fn find_upload(db: &impl GenericClient, announced: &Announced<'_>) -> Result<Option<Upload>, Error> {
    let Announced { workspace, name, file_name, size_bytes, sha256 } = announced;
    let parameters: query::Parameters<'_> = &[&workspace.0, name, file_name, size_bytes, sha256];
    Ok(query::row(db, include_str!("../sql/model_upload/find.sql"), parameters).await?.as_ref().map(upload))
}

/// Begins an upload.
///
/// # Errors
/// When the statement fails.
pub async fn insert_upload(
    db: &impl GenericClient,
    id: UploadId,
    announced: &Announced<'_>,
    by: UserId,
) -> Result<(), Error> {
    let Announced { workspace, name, file_name, size_bytes, sha256 } = announced;
    let parameters: query::Parameters<'_> = &[&id.0, &workspace.0, name, file_name, size_bytes, sha256, &by.0];
    query::execute(db, include_str!("../sql/model_upload/insert.sql"), parameters).await?;
    Ok(())
}

/// An open upload.
///
/// # Errors
/// When the statement fails.
pub async fn get_upload(db: &impl GenericClient, id: UploadId) -> Result<Option<Upload>, Error> {
    Ok(query::row(db, include_str!("../sql/model_upload/get.sql"), &[&id.0]).await?.as_ref().map(upload))
}

/// Notes a durable part of `size_bytes` behind the first `received_bytes`; false when the upload is elsewhere by now, or
/// gone.
///
/// # Errors
/// When the statement fails.
pub async fn append_part(
    db: &impl GenericClient,
    id: UploadId,
    received_bytes: i64,
    part: &str,
    size_bytes: i64,
) -> Result<bool, Error> {
    let sql = include_str!("../sql/model_upload/append.sql");
    Ok(query::execute(db, sql, &[&id.0, &received_bytes, &part, &size_bytes]).await? > 0)
}

/// Makes an upload whose bytes have all arrived the latest version of its model; false when it is gone. To be called in a
/// transaction.
///
/// # Errors
/// When a statement fails.
pub async fn finish_upload(db: &impl GenericClient, id: UploadId, by: UserId) -> Result<bool, Error> {
    let taken = query::row(db, include_str!("../sql/model_upload/take.sql"), &[&id.0]).await?;
    let Some(taken) = taken.as_ref().map(upload) else { return Ok(false) };
    let model = bring_back(db, taken.workspace, &taken.name).await?;
    let parameters: query::Parameters<'_> =
        &[&id.0, &model, &taken.file_name, &taken.size_bytes, &taken.sha256, &taken.parts, &by.0];
    query::execute(db, include_str!("../sql/model_version/insert.sql"), parameters).await?;
    Ok(true)
}

/// The model of this name, new or as it is; one that was archived comes back.
///
/// # Errors
/// When the statement fails.
pub async fn bring_back(db: &impl GenericClient, workspace: WorkspaceId, name: &str) -> Result<Uuid, Error> {
    let sql = include_str!("../sql/model/upsert.sql");
    Ok(query::one(db, sql, &[&Uuid::now_v7(), &workspace.0, &name]).await?.get(0))
}

/// Forgets an upload.
///
/// # Errors
/// When the statement fails.
pub async fn delete_upload(db: &impl GenericClient, id: UploadId) -> Result<(), Error> {
    query::execute(db, include_str!("../sql/model_upload/delete.sql"), &[&id.0]).await?;
    Ok(())
}

/// Forgets up to `limit` uploads that nobody has gone on with for `idle`; their parts are the caller's to remove.
///
/// # Errors
/// When the statement fails.
pub async fn delete_stale_uploads(db: &impl GenericClient, idle: Duration, limit: i64) -> Result<Vec<UploadId>, Error> {
    let sql = include_str!("../sql/model_upload/delete_stale.sql");
    let rows = query::rows(db, sql, &[&idle.as_secs_f64(), &limit]).await?;
    Ok(rows.iter().map(|row| UploadId(row.get(0))).collect())
}

/// A page of models in use by name, after the name `after`.
///
/// # Errors
/// When the statement fails.
pub async fn list(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    after: &str,
    limit: i64,
) -> Result<Vec<Model>, Error> {
    let rows = query::rows(db, include_str!("../sql/model/list.sql"), &[&workspace.0, &after, &limit]).await?;
    let model = |row: &Row| Model {
        id: ModelId(row.get(0)),
        name: row.get(1),
        created_at: row.get(2),
        versions: row.get(3),
        latest: version(row, row.get(1), 4),
    };
    Ok(rows.iter().map(model).collect())
}

/// A version with its parts.
///
/// # Errors
/// When the statement fails.
pub async fn get_version(db: &impl GenericClient, id: ModelVersionId) -> Result<Option<Version>, Error> {
    let row = query::row(db, include_str!("../sql/model_version/get.sql"), &[&id.0]).await?;
    Ok(row.map(|row| version(&row, row.get(0), 1)))
}

/// A page of a model's versions, newest first, before the time and id of `before`.
///
/// # Errors
/// When the statement fails.
pub async fn versions(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    name: &str,
    before: Option<(Timestamp, Uuid)>,
    limit: i64,
) -> Result<Vec<Version>, Error> {
    // Nothing is newer than this, and PostgreSQL can hold it.
    let (at, id) = before.unwrap_or((domain::trigger::LAST, Uuid::max()));
    let sql = include_str!("../sql/model_version/list.sql");
    let rows = query::rows(db, sql, &[&workspace.0, &name, &at, &id, &limit]).await?;
    Ok(rows.iter().map(|row| version(row, row.get(0), 1)).collect())
}

/// Takes a model out of lists; false when there is none of this name.
///
/// # Errors
/// When the statement fails.
pub async fn archive(db: &impl GenericClient, workspace: WorkspaceId, name: &str) -> Result<bool, Error> {
    Ok(query::execute(db, include_str!("../sql/model/archive.sql"), &[&workspace.0, &name]).await? > 0)
}

/// A page by name of what the workspaces hold that a person may see; `None` sees all.
///
/// # Errors
/// When the statement fails.
pub async fn counts(
    db: &impl GenericClient,
    after: &str,
    limit: i64,
    user: Option<UserId>,
) -> Result<Vec<Counts>, Error> {
    let sql = include_str!("../sql/workspace/count_models.sql");
    let rows = query::rows(db, sql, &[&after, &limit, &user.map(|id| id.0)]).await?;
    let counts = |row: &Row| Counts { workspace: row.get(0), models: row.get(1), pipelines: row.get(2) };
    Ok(rows.iter().map(counts).collect())
}
