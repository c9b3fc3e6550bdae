//! Who held how much of GPUs, and for how long: added up from what the ledger wrote when it freed them and from what is held
//! still. Refuses to write any of it, and to know prices.

use crate::{Error, Store, query};
use deadpool_postgres::GenericClient;
use domain::id::{ProjectId, UserId};
use jiff::Timestamp;
use tokio_postgres::Row;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// From then on.
    pub since: Timestamp,
    /// Until then, or until now.
    pub until: Option<Timestamp>,
    /// What is told apart; other words of a key are empty.
    pub by: &'a [&'a str],
    /// Only of this project.
    pub project: Option<ProjectId>,
    /// What this person may see; `None` sees all.
    pub user: Option<UserId>,
}

/// A line of the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// Project, queue, person, workspace, model and day, as far as they are told apart.
    pub key: Vec<String>,
    /// Milli-GPU times seconds.
    pub milli_seconds: i64,
    /// Of so many lives and blocks.
    pub lives: i64,
    /// What they hold now, milli-GPU; 0 where the time asked for is over.
    pub held_milli: i64,
}

/// A page by key after `after`, which is empty for the first one.
///
/// # Errors
/// When the statement fails.
pub async fn list(
    db: &impl GenericClient,
    asked: &Asked<'_>,
    after: &[String],
    limit: i64,
) -> Result<Vec<Used>, Error> {
    let Asked { since, until, by, .. } = asked;
    let (project, user) = (asked.project.map(|id| id.0), asked.user.map(|id| id.0));
    let sql = include_str!("../sql/gpu_usage/list.sql");
    let rows = query::rows(db, sql, &[since, until, by, &project, &user, &after, &limit]).await?;
    let used =
        |row: &Row| Used { key: row.get(0), milli_seconds: row.get(1), lives: row.get(2), held_milli: row.get(3) };
    Ok(rows.iter().map(used).collect())
}

/// Forgets up to `limit` lines of what was free again at `before`. Answers how many.
///
/// # Errors
/// When the database does not answer.
pub async fn forget(store: &Store, before: Timestamp, limit: i64) -> Result<u64, Error> {
    let client = store.client().await?;
    query::execute(&client, include_str!("../sql/gpu_usage/delete_before.sql"), &[&before, &limit]).await
}
