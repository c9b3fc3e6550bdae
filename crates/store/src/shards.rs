//! Ownership: which scheduler lives, and which slice of the runs it owns in which epoch.

use crate::{Error, Store};
use domain::id::SchedulerId;
use jiff::Timestamp;
use std::time::Duration;

/// A slice of the runs in the generation of its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// 0 to 255.
    pub id: i16,
    /// Named by every write of the owner.
    pub epoch: i64,
}

/// Says that a scheduler lives for another `ttl`; answers the database's time.
///
/// # Errors
/// When the database does not answer.
pub async fn renew(store: &Store, scheduler: SchedulerId, ttl: Duration) -> Result<Timestamp, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/scheduler/renew.sql")).await?;
    Ok(client.query_one(&statement, &[&scheduler.0, &ttl.as_secs_f64()]).await?.get("now"))
}

/// Gives up membership, and with it every shard.
///
/// # Errors
/// When the database does not answer; the lease then passes by itself.
pub async fn leave(store: &Store, scheduler: SchedulerId) -> Result<(), Error> {
    let client = store.client().await?;
    client.execute(include_str!("../sql/scheduler/leave.sql"), &[&scheduler.0]).await?;
    Ok(())
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

async fn query(store: &Store, sql: &'static str, scheduler: SchedulerId) -> Result<Vec<Shard>, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(sql).await?;
    let rows = client.query(&statement, &[&scheduler.0]).await?;
    Ok(rows.iter().map(|row| Shard { id: row.get("id"), epoch: row.get("epoch") }).collect())
}
