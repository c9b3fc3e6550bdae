//! Executors as readers see them. Refuses to change any.

use crate::Error;
use deadpool_postgres::GenericClient;
use domain::id::ExecutorId;
use jiff::Timestamp;

/// One life of an executor process.
#[derive(Debug, Clone)]
pub struct Executor {
    /// Chosen by the process when it started.
    pub id: ExecutorId,
    /// Its host's name, or what its configuration says.
    pub name: String,
    /// `process`, `kubernetes`, ...
    pub backend: String,
    /// As the column says: `online`, `draining`, `lost`, `gone`.
    pub state: String,
    /// The most attempts at once.
    pub slots: i32,
    /// Attempts now.
    pub running: i32,
    /// When its session began.
    pub connected_at: Timestamp,
    /// When it was last heard of.
    pub last_seen_at: Timestamp,
    /// Of its binary.
    pub version: String,
}

/// Where a page begins: after the executor that connected then and has this id.
#[derive(Debug, Clone, Copy)]
pub struct After {
    /// Its `connected_at`.
    pub connected_at: Timestamp,
    /// Its id.
    pub id: ExecutorId,
}

/// The backends of executors that take work now.
///
/// # Errors
/// When the statement fails.
pub async fn backends(db: &impl GenericClient) -> Result<Vec<String>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/executor/list_backends.sql")).await?;
    Ok(db.query(&statement, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// A page of executors, the latest to connect first.
///
/// # Errors
/// When the statement fails.
pub async fn list(db: &impl GenericClient, after: Option<After>, limit: i64) -> Result<Vec<Executor>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/executor/list.sql")).await?;
    // The year 9999 is later than any connection and within what Postgres and the wire can say.
    let far = Timestamp::from_second(253_402_207_200).unwrap_or(Timestamp::MAX);
    let (at, id) = after.map_or((far, uuid::Uuid::max()), |a| (a.connected_at, a.id.0));
    let decode = |r: &tokio_postgres::Row| Executor {
        id: ExecutorId(r.get(0)),
        name: r.get(1),
        backend: r.get(2),
        state: r.get(3),
        slots: r.get(4),
        running: r.get(5),
        connected_at: r.get(6),
        last_seen_at: r.get(7),
        version: r.get(8),
    };
    Ok(db.query(&statement, &[&at, &id, &limit]).await?.iter().map(decode).collect())
}
