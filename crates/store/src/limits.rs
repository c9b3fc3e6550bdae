//! Definitions of limits that hold across pipelines. Refuses to count what they limit: see [`crate::permits`].

use crate::{Error, query};
use deadpool_postgres::GenericClient;
use domain::{id::WorkspaceId, limits::Definitions};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio_postgres::Row;
use uuid::Uuid;

/// One limit of a workspace.
#[derive(Debug, Clone)]
pub struct BlockLimit {
    /// See `domain::limits`.
    pub name: String,
    /// Blocks at once.
    pub max_blocks: u32,
    /// `project` or `api`.
    pub source: String,
    /// When it was last set.
    pub changed_at: Timestamp,
    /// Permits that are granted of it, over all of its keys.
    pub used: u64,
}

/// The names of the limits of each of these workspaces, which may have none.
///
/// # Errors
/// When the statement fails.
pub async fn definitions(
    db: &impl GenericClient,
    workspaces: &[WorkspaceId],
) -> Result<HashMap<WorkspaceId, Definitions>, Error> {
    if workspaces.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<Uuid> = workspaces.iter().map(|id| id.0).collect();
    let mut names: HashMap<WorkspaceId, Vec<Arc<str>>> = workspaces.iter().map(|id| (*id, Vec::new())).collect();
    for row in query::rows(db, include_str!("../sql/block_limit/of_workspaces.sql"), &[&ids]).await? {
        names.entry(WorkspaceId(row.get("workspace_id"))).or_default().push(Arc::from(row.get::<_, &str>("name")));
    }
    Ok(names.into_iter().map(|(id, names)| (id, names.into_iter().collect())).collect())
}

/// Workspaces whose limits changed within so long a time.
///
/// # Errors
/// When the statement fails.
pub async fn changed(db: &impl GenericClient, within: Duration) -> Result<Vec<WorkspaceId>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/block_limit/changed.sql")).await?;
    let rows = db.query(&statement, &[&within.as_secs_f64()]).await?;
    Ok(rows.iter().map(|row| WorkspaceId(row.get("workspace_id"))).collect())
}

/// The limits of a workspace, by name.
///
/// # Errors
/// When the statement fails.
pub async fn list(db: &impl GenericClient, workspace: WorkspaceId) -> Result<Vec<BlockLimit>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/block_limit/list.sql")).await?;
    let limit = |row: &Row| BlockLimit {
        name: row.get("name"),
        max_blocks: u32::try_from(row.get::<_, i32>("max_blocks")).unwrap_or(0),
        source: row.get("source"),
        changed_at: row.get("changed_at"),
        used: u64::try_from(row.get::<_, i64>("used")).unwrap_or(0),
    };
    Ok(db.query(&statement, &[&workspace.0]).await?.iter().map(limit).collect())
}

/// Defines a limit, or changes it.
///
/// # Errors
/// When the statement fails.
pub async fn set(db: &impl GenericClient, workspace: WorkspaceId, name: &str, max_blocks: u32) -> Result<(), Error> {
    let statement = db.prepare_cached(include_str!("../sql/block_limit/set.sql")).await?;
    let max_blocks = i32::try_from(max_blocks).unwrap_or(i32::MAX);
    db.execute(&statement, &[&workspace.0, &name, &max_blocks, &"api"]).await?;
    Ok(())
}

/// Removes a limit; false when there was none.
///
/// # Errors
/// When the statement fails.
pub async fn remove(db: &impl GenericClient, workspace: WorkspaceId, name: &str) -> Result<bool, Error> {
    let statement = db.prepare_cached(include_str!("../sql/block_limit/remove.sql")).await?;
    Ok(db.query_opt(&statement, &[&workspace.0, &name]).await?.is_some())
}

/// Makes the project's limits of a workspace what its file says. Those that were set by the API stay.
///
/// # Errors
/// When the statement fails.
pub async fn set_desired(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    desired: &BTreeMap<String, u32>,
) -> Result<(), Error> {
    let names: Vec<&str> = desired.keys().map(String::as_str).collect();
    let blocks: Vec<i32> = desired.values().map(|blocks| i32::try_from(*blocks).unwrap_or(i32::MAX)).collect();
    let statement = db.prepare_cached(include_str!("../sql/block_limit/set_desired.sql")).await?;
    db.execute(&statement, &[&workspace.0, &names, &blocks]).await?;
    Ok(())
}
