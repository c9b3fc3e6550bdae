//! What became of the logical times of a trigger. Refuses to decide about any.

use crate::{Error, query};
use deadpool_postgres::GenericClient;
use domain::id::{RunId, TriggerId};
use jiff::Timestamp;
use uuid::Uuid;

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// Names it among the firings of the trigger.
    pub logical_key: String,
    /// `fired` or `skipped`.
    pub decided: String,
    /// Why it was skipped.
    pub reason: Option<String>,
    /// The run that it created.
    pub run: Option<RunId>,
    /// When it was decided.
    pub created_at: Timestamp,
    /// The logical time; of skipped ones in a row the first. `None` for what an older version wrote.
    pub at: Option<Timestamp>,
    /// Of skipped ones in a row the last.
    pub last: Option<Timestamp>,
    /// How many logical times it decides.
    pub times: i32,
    /// The version that decided; 0 where nobody noted it.
    pub trigger_version: i64,
}

/// A page of the firings of a trigger, newest first, before those of `before`.
///
/// # Errors
/// When the statement fails.
pub async fn list(
    db: &impl GenericClient,
    trigger: TriggerId,
    before: Option<(Timestamp, &str)>,
    limit: i64,
) -> Result<Vec<Firing>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/firing/list.sql")).await?;
    // Nothing is as new as this, and no key is below the empty one.
    let (at, key) = before.unwrap_or((domain::trigger::LAST, ""));
    let rows = db.query(&statement, &[&trigger.0, &at, &key, &limit]).await?;
    let firing = |row: &tokio_postgres::Row| Firing {
        logical_key: row.get(0),
        decided: row.get(1),
        reason: row.get(2),
        run: row.get::<_, Option<uuid::Uuid>>(3).map(RunId),
        created_at: row.get(4),
        at: row.get(5),
        last: row.get(6),
        times: row.get(7),
        trigger_version: row.get(8),
    };
    Ok(rows.iter().map(firing).collect())
}

/// What was decided about one logical time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It is this run.
    Run(RunId),
    /// It never starts, for this reason.
    Skipped(String),
}

/// What logical keys of triggers became, `None` for keys that nobody decided about, in request order.
///
/// # Errors
/// When the statement fails.
pub async fn known(db: &impl GenericClient, keys: &[(TriggerId, String)]) -> Result<Vec<Option<Known>>, Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let triggers: Vec<Uuid> = keys.iter().map(|(trigger, _)| trigger.0).collect();
    let names: Vec<&str> = keys.iter().map(|(_, key)| key.as_str()).collect();
    let known = |row: &tokio_postgres::Row| match (row.get::<_, Option<Uuid>>("run_id"), row.get("is_known")) {
        (Some(run), _) => Some(Known::Run(RunId(run))),
        (None, true) => Some(Known::Skipped(row.get::<_, Option<String>>("reason").unwrap_or_default())),
        (None, false) => None,
    };
    let sql = include_str!("../sql/firing/select_known.sql");
    Ok(query::rows(db, sql, &[&triggers, &names]).await?.iter().map(known).collect())
}
