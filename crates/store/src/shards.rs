//! Ownership: which slice of the runs which scheduler owns in which epoch.

use crate::{Error, Store};
use domain::id::SchedulerId;

/// A slice of the runs in the generation of its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// 0 to 255.
    pub id: i16,
    /// Named by every write of the owner.
    pub epoch: i64,
}

/// Takes every shard that no living scheduler owns.
///
/// # Errors
/// When the database does not answer.
pub async fn take(store: &Store, scheduler: SchedulerId) -> Result<Vec<Shard>, Error> {
    query(store, include_str!("../sql/shard/take.sql"), scheduler).await
}

/// Raises the epoch of everything that a scheduler owns.
///
/// # Errors
/// When the database does not answer.
pub async fn retake(store: &Store, scheduler: SchedulerId) -> Result<Vec<Shard>, Error> {
    query(store, include_str!("../sql/shard/retake.sql"), scheduler).await
}

/// What a scheduler owns.
///
/// # Errors
/// When the database does not answer.
pub async fn owned(store: &Store, scheduler: SchedulerId) -> Result<Vec<Shard>, Error> {
    query(store, include_str!("../sql/shard/owned.sql"), scheduler).await
}

/// The living owner of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// 0 to 255.
    pub shard: i16,
    /// Who owns it.
    pub scheduler: SchedulerId,
    /// Where other schedulers reach it, as `host:port`; empty when it does not say.
    pub address: String,
}

/// Who owns which shard; a shard whose owner does not live is left out.
///
/// # Errors
/// When the database does not answer.
pub async fn owners(store: &Store) -> Result<Vec<Owner>, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/shard/owners.sql")).await?;
    let rows = client.query(&statement, &[]).await?;
    let owner = |row: &tokio_postgres::Row| Owner {
        shard: row.get("id"),
        scheduler: SchedulerId(row.get("owner")),
        address: row.get("address"),
    };
    Ok(rows.iter().map(owner).collect())
}

async fn query(store: &Store, sql: &'static str, scheduler: SchedulerId) -> Result<Vec<Shard>, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(sql).await?;
    let rows = client.query(&statement, &[&scheduler.0]).await?;
    Ok(rows.iter().map(|row| Shard { id: row.get("id"), epoch: row.get("epoch") }).collect())
}
