//! Workspaces. Refuses to know who may see them.

use crate::Error;
use deadpool_postgres::GenericClient;
use domain::id::WorkspaceId;
use jiff::Timestamp;
use tokio_postgres::Row;

/// A named environment.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// Stable over its life.
    pub id: WorkspaceId,
    /// A DNS label.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The bundle in force; `None` before the first deployment.
    pub bundle_digest: Option<String>,
}

fn decode(row: &Row) -> Workspace {
    Workspace { id: WorkspaceId(row.get(0)), name: row.get(1), created_at: row.get(2), bundle_digest: row.get(3) }
}

/// Creates a workspace; `None` when the name is taken.
///
/// # Errors
/// When the statement fails.
pub async fn insert(db: &impl GenericClient, id: WorkspaceId, name: &str) -> Result<Option<Workspace>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/workspace/insert.sql")).await?;
    Ok(db.query_opt(&statement, &[&id.0, &name]).await?.as_ref().map(decode))
}

/// The workspace of this name.
///
/// # Errors
/// When the statement fails.
pub async fn get(db: &impl GenericClient, name: &str) -> Result<Option<Workspace>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/workspace/get.sql")).await?;
    Ok(db.query_opt(&statement, &[&name]).await?.as_ref().map(decode))
}

/// As [`get`], and locks it until the transaction ends.
///
/// # Errors
/// When the statement fails.
pub async fn lock(db: &impl GenericClient, name: &str) -> Result<Option<Workspace>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/workspace/lock.sql")).await?;
    Ok(db.query_opt(&statement, &[&name]).await?.as_ref().map(decode))
}

/// A page of workspaces by name, after the name `after`.
///
/// # Errors
/// When the statement fails.
pub async fn list(db: &impl GenericClient, after: &str, limit: i64) -> Result<Vec<Workspace>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/workspace/list.sql")).await?;
    Ok(db.query(&statement, &[&after, &limit]).await?.iter().map(decode).collect())
}
