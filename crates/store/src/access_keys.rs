//! The sealed keys of applications, as far as the keys that seal them change. Refuses to seal, to open, and to know where
//! an application is.

use crate::{Error, query};
use deadpool_postgres::GenericClient;
use domain::id::WorkspaceId;

/// The key of one life, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Whose runtime.
    pub workspace: WorkspaceId,
    /// Which life.
    pub number: i64,
    /// Sealed, as one column.
    pub sealed: Vec<u8>,
}

/// At most `limit` keys that do not begin so: those that another of the cluster's keys seals.
///
/// # Errors
/// When the statement fails.
pub async fn stale(db: &impl GenericClient, begins: &[u8], limit: i64) -> Result<Vec<Key>, Error> {
    let rows = query::rows(db, include_str!("../sql/runtime/stale_keys.sql"), &[&begins, &limit]).await?;
    let key = |row: &tokio_postgres::Row| Key {
        workspace: WorkspaceId(row.get("workspace_id")),
        number: row.get("number"),
        sealed: row.get("access_key"),
    };
    Ok(rows.iter().map(key).collect())
}

/// How many of them there are.
///
/// # Errors
/// When the statement fails.
pub async fn count_stale(db: &impl GenericClient, begins: &[u8]) -> Result<i64, Error> {
    Ok(query::one(db, include_str!("../sql/runtime/count_stale_keys.sql"), &[&begins]).await?.get(0))
}

/// Writes each key's new seal where the old one is still in force; answers how many that were.
///
/// # Errors
/// When the statement fails.
pub async fn rewrap(db: &impl GenericClient, keys: &[(Key, Vec<u8>)]) -> Result<u64, Error> {
    let workspaces: Vec<uuid::Uuid> = keys.iter().map(|(key, _)| key.workspace.0).collect();
    let numbers: Vec<i64> = keys.iter().map(|(key, _)| key.number).collect();
    let before: Vec<&[u8]> = keys.iter().map(|(key, _)| key.sealed.as_slice()).collect();
    let after: Vec<&[u8]> = keys.iter().map(|(_, sealed)| sealed.as_slice()).collect();
    let sql = include_str!("../sql/runtime/rewrap_keys.sql");
    query::execute(db, sql, &[&workspaces, &numbers, &before, &after]).await
}
