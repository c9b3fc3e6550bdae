//! What schedulers know of executors, for people to see. One thing is decided from it: who said goodbye to some scheduler is
//! lost to none.

use crate::{Error, Store, query};
use deadpool_postgres::GenericClient;
use std::{collections::HashSet, time::Duration};
use uuid::Uuid;

/// One executor.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of executor")]
pub struct ExecutorRow {
    pub id: Uuid,
    pub name: String,
    pub backend: String,
    pub slots: i32,
    pub version: String,
    pub state: &'static str,
    pub running: i32,
}

/// Stores what is known of several executors.
///
/// # Errors
/// When the database does not answer.
pub async fn upsert(store: &Store, rows: &[ExecutorRow]) -> Result<(), Error> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    let backends: Vec<&str> = rows.iter().map(|row| row.backend.as_str()).collect();
    let slots: Vec<i32> = rows.iter().map(|row| row.slots).collect();
    let versions: Vec<&str> = rows.iter().map(|row| row.version.as_str()).collect();
    let states: Vec<&str> = rows.iter().map(|row| row.state).collect();
    let running: Vec<i32> = rows.iter().map(|row| row.running).collect();
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/executor/upsert.sql")).await?;
    client.execute(&statement, &[&ids, &names, &backends, &slots, &versions, &states, &running]).await?;
    Ok(())
}

/// Those of these executors that have said goodbye, to whichever scheduler.
///
/// # Errors
/// When the database does not answer.
pub async fn departed(db: &impl GenericClient, ids: &[Uuid]) -> Result<HashSet<Uuid>, Error> {
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = query::rows(db, include_str!("../sql/executor/select_gone.sql"), &[&ids]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Marks executors that nobody has heard of for so long.
///
/// # Errors
/// When the database does not answer.
pub async fn mark_lost(store: &Store, silence: Duration) -> Result<u64, Error> {
    let client = store.client().await?;
    Ok(client.execute(include_str!("../sql/executor/mark_lost.sql"), &[&silence.as_secs_f64()]).await?)
}
