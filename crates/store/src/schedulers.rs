//! Membership: which schedulers live, by the database's clock.

use crate::{Error, Store};
use domain::id::SchedulerId;
use jiff::Timestamp;
use std::time::Duration;

/// Says that a scheduler lives for another `ttl` and is reached at `address` (`host:port`); answers the database's time.
///
/// # Errors
/// When the database does not answer.
pub async fn renew(store: &Store, scheduler: SchedulerId, ttl: Duration, address: &str) -> Result<Timestamp, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/scheduler/renew.sql")).await?;
    Ok(client.query_one(&statement, &[&scheduler.0, &ttl.as_secs_f64(), &address]).await?.get("now"))
}

/// A scheduler that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// One life of a process.
    pub id: SchedulerId,
    /// Where other services reach it, as `host:port`; empty when it does not say.
    pub address: String,
}

/// Which schedulers live, in the order of their ids.
///
/// # Errors
/// When the database does not answer.
pub async fn living(store: &Store) -> Result<Vec<Member>, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/scheduler/living.sql")).await?;
    let rows = client.query(&statement, &[]).await?;
    Ok(rows.iter().map(|row| Member { id: SchedulerId(row.get("id")), address: row.get("address") }).collect())
}

/// Gives up membership, and with it every shard. What is left of schedulers that died long ago goes as well.
///
/// # Errors
/// When the database does not answer; the lease then passes by itself.
pub async fn leave(store: &Store, scheduler: SchedulerId) -> Result<(), Error> {
    let client = store.client().await?;
    client.execute(include_str!("../sql/scheduler/leave.sql"), &[&scheduler.0]).await?;
    Ok(())
}
