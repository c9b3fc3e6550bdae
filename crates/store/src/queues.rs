//! Queues, as administrators set them, with what is held in them. Refuses to know who is served before whom.

use crate::{Error, query};
use deadpool_postgres::GenericClient;
use domain::{id::QueueId, id::UserId, queue::Queue as Definition};
use tokio_postgres::Row;
use uuid::Uuid;

/// The default queue, which is always there and open to every project.
pub const DEFAULT: QueueId = QueueId(Uuid::nil());

/// The name of the default queue.
pub const DEFAULT_NAME: &str = "default";

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// What an administrator set; its recent use is not stored.
    pub definition: Definition,
    /// The devices that it is served from.
    pub pool: String,
    /// Rises with each change.
    pub version: i64,
    /// Nothing new comes into it.
    pub archived: bool,
}

/// What is held in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Effective GPU, milli-GPU.
    pub gpu_milli: u64,
    /// Lives that run or are being stopped.
    pub running: i64,
    /// Lives that have not begun to run.
    pub waiting: i64,
}

fn decode(row: &Row) -> Queue {
    let definition = Definition {
        id: QueueId(row.get(0)),
        name: row.get(1),
        priority: row.get(3),
        preemptible: row.get(4),
        deserved_milli: row.get::<_, i64>(5).unsigned_abs(),
        limit_milli: row.get::<_, Option<i64>>(6).map(i64::unsigned_abs),
        weight: row.get::<_, i32>(7).unsigned_abs(),
        recent_use: 0,
    };
    Queue { definition, pool: row.get(2), version: row.get(8), archived: row.get(9) }
}

/// A page by name, after the name `after`; for `user` only those that are open to her.
///
/// # Errors
/// When the statement fails.
pub async fn list(
    db: &impl GenericClient,
    user: Option<UserId>,
    archived: bool,
    after: &str,
    limit: i64,
) -> Result<Vec<(Queue, Held)>, Error> {
    let sql = include_str!("../sql/queue/list.sql");
    let rows = query::rows(db, sql, &[&after, &limit, &archived, &user.map(|id| id.0)]).await?;
    let held = |row: &Row| Held {
        gpu_milli: row.get::<_, i64>(10).unsigned_abs(),
        running: row.get(11),
        waiting: row.get(12),
    };
    Ok(rows.iter().map(|row| (decode(row), held(row))).collect())
}

/// The queue of this name.
///
/// # Errors
/// When the statement fails.
pub async fn get(db: &impl GenericClient, name: &str) -> Result<Option<Queue>, Error> {
    Ok(query::row(db, include_str!("../sql/queue/get.sql"), &[&name]).await?.as_ref().map(decode))
}

/// As [`get`], and nobody else changes it until the transaction ends.
///
/// # Errors
/// When the statement fails.
pub async fn lock(db: &impl GenericClient, name: &str) -> Result<Option<Queue>, Error> {
    Ok(query::row(db, include_str!("../sql/queue/lock.sql"), &[&name]).await?.as_ref().map(decode))
}

/// Adds a queue; `None` when the name was taken meanwhile. Answers its version.
///
/// # Errors
/// When the statement fails.
pub async fn insert(db: &impl GenericClient, queue: &Definition, pool: &str) -> Result<Option<i64>, Error> {
    let (deserved, limit, weight) = numbers(queue);
    let sql = include_str!("../sql/queue/insert.sql");
    let parameters: query::Parameters<'_> =
        &[&queue.id.0, &queue.name, &pool, &queue.priority, &queue.preemptible, &deserved, &limit, &weight];
    Ok(query::row(db, sql, parameters).await?.map(|row| row.get(0)))
}

/// Changes a queue that is locked, and takes it back into use. Answers its version.
///
/// # Errors
/// When the statement fails.
pub async fn update(db: &impl GenericClient, queue: &Definition, pool: &str) -> Result<i64, Error> {
    let (deserved, limit, weight) = numbers(queue);
    let sql = include_str!("../sql/queue/update.sql");
    let parameters: query::Parameters<'_> =
        &[&queue.id.0, &pool, &queue.priority, &queue.preemptible, &deserved, &limit, &weight];
    Ok(query::one(db, sql, parameters).await?.get(0))
}

/// Takes a locked queue out of use, and out of all plans.
///
/// # Errors
/// When the statement fails.
pub async fn archive(db: &impl GenericClient, id: QueueId) -> Result<(), Error> {
    query::execute(db, include_str!("../sql/queue/archive.sql"), &[&id.0]).await?;
    Ok(())
}

fn numbers(queue: &Definition) -> (i64, Option<i64>, i32) {
    let signed = |milli: u64| i64::try_from(milli).unwrap_or(i64::MAX);
    (signed(queue.deserved_milli), queue.limit_milli.map(signed), i32::try_from(queue.weight).unwrap_or(i32::MAX))
}
