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

/// Takes those of `shards` that are free, and raises their epochs. With `even_owned` a living owner does not stand in the
/// way: only a lock that lies asks for that, and the epochs then decide. A shard with a commit under way is left out;
/// the next call gets it.
///
/// # Errors
/// When the database does not answer.
pub async fn take(
    store: &Store,
    scheduler: SchedulerId,
    shards: &[i16],
    even_owned: bool,
) -> Result<Vec<Shard>, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/shard/take.sql")).await?;
    let rows = client.query(&statement, &[&scheduler.0, &shards, &even_owned]).await?;
    Ok(rows.iter().map(|row| Shard { id: row.get("id"), epoch: row.get("epoch") }).collect())
}

/// Gives shards back; whoever they are meant for takes them.
///
/// # Errors
/// When the database does not answer.
pub async fn release(store: &Store, scheduler: SchedulerId, shards: &[i16]) -> Result<(), Error> {
    let client = store.client().await?;
    client.execute(include_str!("../sql/shard/release.sql"), &[&scheduler.0, &shards]).await?;
    Ok(())
}

/// Raises the epoch of everything that a scheduler owns.
///
/// # Errors
/// When the database does not answer.
pub async fn retake(store: &Store, scheduler: SchedulerId) -> Result<Vec<Shard>, Error> {
    query(store, include_str!("../sql/shard/retake.sql"), scheduler).await
}

/// A shard as it stands in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// 0 to 255.
    pub id: i16,
    /// The generation of its owner.
    pub epoch: i64,
    /// Who owns it; a scheduler that does not live any more may still be named.
    pub owner: Option<SchedulerId>,
}

/// Every shard.
///
/// # Errors
/// When the database does not answer.
pub async fn all(store: &Store) -> Result<Vec<Ownership>, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/shard/all.sql")).await?;
    let rows = client.query(&statement, &[]).await?;
    let read = |row: &tokio_postgres::Row| Ownership {
        id: row.get("id"),
        epoch: row.get("epoch"),
        owner: row.get::<_, Option<uuid::Uuid>>("owner").map(SchedulerId),
    };
    Ok(rows.iter().map(read).collect())
}

async fn query(store: &Store, sql: &'static str, scheduler: SchedulerId) -> Result<Vec<Shard>, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(sql).await?;
    let rows = client.query(&statement, &[&scheduler.0]).await?;
    Ok(rows.iter().map(|row| Shard { id: row.get("id"), epoch: row.get("epoch") }).collect())
}
