//! Triggers as the owner of their shard knows them: definitions that changed, and what was decided so far.

use super::{Listed, decode};
use crate::Error;
use deadpool_postgres::GenericClient;
use domain::{id::TriggerId, trigger::State};
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

/// What was decided about a trigger so far.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Whose.
    pub trigger: TriggerId,
    /// The version that `next_due` was computed with.
    pub version: i64,
    /// Up to where everything is decided.
    pub state: State,
    /// What starts that wait are to be told, by their key.
    pub waiting: Value,
    /// Of runs that have ended.
    pub history: Value,
    /// When it is to be looked at again.
    pub next_due: Option<Timestamp>,
}

/// What was decided about these triggers; nothing for those that were never looked at.
///
/// # Errors
/// When the statement fails, or a state is not one that this version reads.
pub async fn states(db: &impl GenericClient, triggers: &[TriggerId]) -> Result<Vec<Stored>, Error> {
    if triggers.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = triggers.iter().map(|id| id.0).collect();
    let statement = db.prepare_cached(include_str!("../../sql/trigger_state/select.sql")).await?;
    let stored = |row: &tokio_postgres::Row| {
        let id: Uuid = row.get("trigger_id");
        let corrupt = |source| Error::Corrupt { what: "state", id: format!("trigger {id}"), source };
        Ok(Stored {
            trigger: TriggerId(id),
            version: row.get("version"),
            state: serde_json::from_value(row.get("state")).map_err(corrupt)?,
            waiting: row.get("waiting"),
            history: row.get("history"),
            next_due: row.get("next_due"),
        })
    };
    db.query(&statement, &[&ids]).await?.iter().map(stored).collect()
}

/// Triggers by their ids, whatever they are now; one that is archived, or whose workspace is, is not active.
///
/// # Errors
/// When the statement fails.
pub async fn of_ids(db: &impl GenericClient, triggers: &[TriggerId]) -> Result<Vec<Result<Listed, Error>>, Error> {
    if triggers.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = triggers.iter().map(|id| id.0).collect();
    let statement = db.prepare_cached(include_str!("../../sql/trigger/list_of_ids.sql")).await?;
    Ok(db.query(&statement, &[&ids]).await?.iter().map(decode).collect())
}

/// An edit of a trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edited {
    /// Whose.
    pub trigger: TriggerId,
    /// The version that it left in force.
    pub version: i64,
    /// When.
    pub at: Timestamp,
}

/// A page of the triggers of these shards that were edited within so long a time, by time and id after those of `after`.
///
/// # Errors
/// When the statement fails.
pub async fn changed(
    db: &impl GenericClient,
    shards: &[i32],
    within: Duration,
    after: Option<Edited>,
    limit: i64,
) -> Result<Vec<Edited>, Error> {
    let statement = db.prepare_cached(include_str!("../../sql/trigger/changed.sql")).await?;
    let (at, id) = after.map_or((domain::trigger::FIRST, Uuid::nil()), |edited| (edited.at, edited.trigger.0));
    let rows = db.query(&statement, &[&shards, &within.as_secs_f64(), &limit, &at, &id]).await?;
    let edited = |row: &tokio_postgres::Row| Edited {
        trigger: TriggerId(row.get("id")),
        version: row.get("version"),
        at: row.get("updated_at"),
    };
    Ok(rows.iter().map(edited).collect())
}
