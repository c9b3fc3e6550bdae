//! Membership: which schedulers live, by the database's clock.

use crate::{Error, Store};
use domain::id::SchedulerId;
use jiff::Timestamp;
use std::time::Duration;

/// What one scheduler has to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Units that could start if there were slots.
    pub ready_units: i32,
    /// Units that executors run for it.
    pub running_units: i32,
    /// Of the ready ones, those that only Kubernetes can run.
    pub ready_units_kubernetes: i32,
    /// Of the running ones, those that run on Kubernetes.
    pub running_units_kubernetes: i32,
    /// The part of the last second in which its engine worked, in thousandths.
    pub busy_permille: i32,
}

/// Says that a scheduler lives for another `ttl`, is reached at `address` (`host:port`) and has that much to do; answers
/// the database's time.
///
/// # Errors
/// When the database does not answer.
pub async fn renew(
    store: &Store,
    scheduler: SchedulerId,
    ttl: Duration,
    address: &str,
    load: Load,
) -> Result<Timestamp, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/scheduler/renew.sql")).await?;
    let Load { ready_units, running_units, ready_units_kubernetes, running_units_kubernetes, busy_permille } = load;
    let row = client
        .query_one(
            &statement,
            &[
                &scheduler.0,
                &ttl.as_secs_f64(),
                &address,
                &ready_units,
                &running_units,
                &busy_permille,
                &ready_units_kubernetes,
                &running_units_kubernetes,
            ],
        )
        .await?;
    Ok(row.get("now"))
}

/// What the whole cluster has to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "sums of Load, and counts of what is online")]
pub struct ClusterLoad {
    pub schedulers: i64,
    pub ready_units: i64,
    pub running_units: i64,
    pub ready_units_kubernetes: i64,
    pub running_units_kubernetes: i64,
    pub busy_permille: i64,
    pub executors: i64,
    pub slots: i64,
}

/// Adds up what living schedulers said last. Reads one row for each, however many runs there are.
///
/// # Errors
/// When the database does not answer.
pub async fn sum_load(store: &Store) -> Result<ClusterLoad, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/scheduler/sum_load.sql")).await?;
    let row = client.query_one(&statement, &[]).await?;
    Ok(ClusterLoad {
        schedulers: row.get("schedulers"),
        ready_units: row.get("ready_units"),
        running_units: row.get("running_units"),
        ready_units_kubernetes: row.get("ready_units_kubernetes"),
        running_units_kubernetes: row.get("running_units_kubernetes"),
        busy_permille: row.get("busy_permille"),
        executors: row.get("executors"),
        slots: row.get("slots"),
    })
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
