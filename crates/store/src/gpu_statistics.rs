//! GPUs by model and queues by name, added up as they are now. Refuses to know single runtimes.

use crate::{Error, query};
use deadpool_postgres::GenericClient;
use tokio_postgres::Row;

/// Devices of one model in one pool, in milli-GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The pool.
    pub pool: String,
    /// The model.
    pub model: String,
    /// How many devices.
    pub devices: i64,
    /// Of healthy devices on nodes that are ready and not drained.
    pub usable_milli: i64,
    /// Held.
    pub held_milli: i64,
    /// Kept for those whose victims are leaving.
    pub nominated_milli: i64,
    /// Idle on devices of which a part is held.
    pub broken_milli: i64,
}

/// How a queue stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// The pool that serves it.
    pub pool: String,
    /// Its name.
    pub name: String,
    /// Held and kept, milli-GPU.
    pub held_milli: i64,
    /// What it gets when it wants it, milli-GPU.
    pub deserved_milli: i64,
    /// What it never exceeds, milli-GPU.
    pub limit_milli: Option<i64>,
    /// Lives that run.
    pub running: i64,
    /// Lives that wait.
    pub waiting: i64,
    /// What these ask for, milli-GPU.
    pub waiting_milli: i64,
    /// How long the first of these has waited, seconds.
    pub oldest_wait_s: f64,
    /// Waits that have ended.
    pub waits: Waits,
}

/// From asking to a place, seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Waits {
    /// How many.
    pub count: i64,
    /// On average.
    pub mean_s: f64,
    /// Half of them were shorter.
    pub p50_s: f64,
    /// One in twenty was longer.
    pub p95_s: f64,
    /// The longest.
    pub longest_s: f64,
}

/// Devices by pool and model; of all pools when `pool` is empty.
///
/// # Errors
/// When the statement fails.
pub async fn models(db: &impl GenericClient, pool: &str) -> Result<Vec<Model>, Error> {
    let model = |row: &Row| Model {
        pool: row.get(0),
        model: row.get(1),
        devices: row.get(2),
        usable_milli: row.get(3),
        held_milli: row.get(4),
        nominated_milli: row.get(5),
        broken_milli: row.get(6),
    };
    Ok(query::rows(db, include_str!("../sql/device/by_model.sql"), &[&pool]).await?.iter().map(model).collect())
}

/// Queues in use, with the waits that ended within the last `hours`; of all pools when `pool` is empty.
///
/// # Errors
/// When the statement fails.
pub async fn queues(db: &impl GenericClient, pool: &str, hours: i32) -> Result<Vec<Queue>, Error> {
    let queue = |row: &Row| Queue {
        pool: row.get(0),
        name: row.get(1),
        held_milli: row.get(2),
        deserved_milli: row.get(3),
        limit_milli: row.get(4),
        running: row.get(5),
        waiting: row.get(6),
        waiting_milli: row.get(7),
        oldest_wait_s: row.get(8),
        waits: Waits {
            count: row.get(9),
            mean_s: row.get(10),
            p50_s: row.get(11),
            p95_s: row.get(12),
            longest_s: row.get(13),
        },
    };
    let sql = include_str!("../sql/queue/statistics.sql");
    Ok(query::rows(db, sql, &[&pool, &hours]).await?.iter().map(queue).collect())
}
