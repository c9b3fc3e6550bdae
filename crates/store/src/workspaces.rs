//! Workspaces. Refuses to know what a member may do.

use crate::{Error, Store, Transaction, query};
use deadpool_postgres::GenericClient;
use domain::id::{ProjectId, UserId, WorkspaceId};
use jiff::Timestamp;
use std::collections::HashSet;
use tokio_postgres::Row;
use uuid::Uuid;

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
    /// The name of the project that it belongs to.
    pub project: String,
    /// That project.
    pub project_id: ProjectId,
    /// Out of use.
    pub archived: bool,
}

/// Which workspaces to list.
#[derive(Debug, Clone, Default)]
pub struct Filter<'a> {
    /// Only those that this person may see; `None` sees all.
    pub user: Option<UserId>,
    /// Archived ones too.
    pub archived: bool,
    /// Only of this project; empty means all.
    pub project: &'a str,
}

fn decode(row: &Row) -> Workspace {
    Workspace {
        id: WorkspaceId(row.get(0)),
        name: row.get(1),
        created_at: row.get(2),
        bundle_digest: row.get(3),
        project: row.get(4),
        archived: row.get(5),
        project_id: ProjectId(row.get(6)),
    }
}

/// Creates a workspace; false when the name is taken.
///
/// # Errors
/// When the statement fails.
pub async fn insert(db: &impl GenericClient, id: WorkspaceId, name: &str, project: ProjectId) -> Result<bool, Error> {
    Ok(query::row(db, include_str!("../sql/workspace/insert.sql"), &[&id.0, &name, &project.0]).await?.is_some())
}

/// The workspace of this name.
///
/// # Errors
/// When the statement fails.
pub async fn get(db: &impl GenericClient, name: &str) -> Result<Option<Workspace>, Error> {
    Ok(query::row(db, include_str!("../sql/workspace/get.sql"), &[&name]).await?.as_ref().map(decode))
}

/// As [`get`], and locks it until the transaction ends.
///
/// # Errors
/// When the statement fails.
pub async fn lock(db: &impl GenericClient, name: &str) -> Result<Option<Workspace>, Error> {
    Ok(query::row(db, include_str!("../sql/workspace/lock.sql"), &[&name]).await?.as_ref().map(decode))
}

/// A page of workspaces by name, after the name `after`.
///
/// # Errors
/// When the statement fails.
pub async fn list(
    db: &impl GenericClient,
    filter: &Filter<'_>,
    after: &str,
    limit: i64,
) -> Result<Vec<Workspace>, Error> {
    let user = filter.user.map(|id| id.0);
    let parameters: query::Parameters<'_> = &[&after, &limit, &user, &filter.archived, &filter.project];
    Ok(query::rows(db, include_str!("../sql/workspace/list.sql"), parameters).await?.iter().map(decode).collect())
}

/// Those of these workspaces that are in use.
///
/// # Errors
/// When the database does not answer.
pub async fn in_use(store: &Store, workspaces: &[WorkspaceId]) -> Result<HashSet<WorkspaceId>, Error> {
    let ids: Vec<Uuid> = workspaces.iter().map(|id| id.0).collect();
    let client = store.client().await?;
    let rows = query::rows(&client, include_str!("../sql/workspace/in_use.sql"), &[&ids]).await?;
    Ok(rows.iter().map(|row| WorkspaceId(row.get(0))).collect())
}

/// Takes a workspace out of use, or back into it, and its triggers with it: once `db` has committed they fire no more, or
/// again. What is so already stays as it is.
///
/// # Errors
/// When a statement fails.
pub async fn set_archived(db: &Transaction<'_>, id: WorkspaceId, archived: bool) -> Result<(), Error> {
    let changed = query::row(db, include_str!("../sql/workspace/set_archived.sql"), &[&id.0, &archived]).await?;
    if changed.is_some() {
        query::execute(db, include_str!("../sql/trigger/follow_workspace.sql"), &[&id.0, &archived]).await?;
    }
    Ok(())
}
