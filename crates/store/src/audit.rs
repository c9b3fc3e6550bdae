//! The trail of who did what. Entries are added, read, and forgotten when they are old; never changed. The schema refuses that
//! too, and the loss of one that is young.

use crate::{Error, query};
use deadpool_postgres::GenericClient;
use domain::id::{ProjectId, UserId, WorkspaceId};
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;

/// The schema lets nobody delete an entry before.
pub const KEPT_MIN: Duration = Duration::from_secs(30 * 24 * 3_600);

/// An entry to be.
#[derive(Debug, Clone)]
pub struct NewEntry {
    /// Who, when somebody was signed in.
    pub user: Option<UserId>,
    /// The e-mail address at this time.
    pub actor: String,
    /// The credential: `token:<prefix>`, `session`, `operator`, `none`.
    pub via: String,
    /// Such as `WorkspaceService/CreateWorkspace`.
    pub method: String,
    /// Where.
    pub project: Option<ProjectId>,
    /// Where.
    pub workspace: Option<WorkspaceId>,
    /// What was addressed.
    pub object: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The reason of what was denied or failed.
    pub reason: String,
    /// Named fields of the request, as a JSON object.
    pub detail: Value,
}

/// How an act ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Ok,
    /// It was not allowed.
    Denied,
    /// It was allowed and did not succeed.
    Failed,
}

impl Outcome {
    /// As the column says.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// An entry as it is read.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Rises with time.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// By which credential.
    pub via: String,
    /// What.
    pub method: String,
    /// On what.
    pub object: String,
    /// As the column says.
    pub outcome: String,
    /// Why it was denied or failed.
    pub reason: String,
    /// Named fields of the request.
    pub detail: Value,
}

/// Adds an entry.
///
/// # Errors
/// When the statement fails.
pub async fn insert(db: &impl GenericClient, entry: &NewEntry) -> Result<(), Error> {
    let (user, project) = (entry.user.map(|id| id.0), entry.project.map(|id| id.0));
    let workspace = entry.workspace.map(|id| id.0);
    let parameters: query::Parameters<'_> = &[
        &user,
        &entry.actor,
        &entry.via,
        &entry.method,
        &project,
        &workspace,
        &entry.object,
        &entry.outcome.word(),
        &entry.reason,
        &entry.detail,
    ];
    query::execute(db, include_str!("../sql/audit_entry/insert.sql"), parameters).await?;
    Ok(())
}

/// A page, newest first: only of `workspace` and of `actor` when these are given (empty is not), before the entry `before`.
///
/// # Errors
/// When the statement fails.
pub async fn list(
    db: &impl GenericClient,
    workspace: Option<WorkspaceId>,
    actor: &str,
    before: i64,
    limit: i64,
) -> Result<Vec<Entry>, Error> {
    let rows = match workspace.map(|id| id.0) {
        workspace if !actor.is_empty() => {
            let sql = include_str!("../sql/audit_entry/list_of_actor.sql");
            query::rows(db, sql, &[&before, &limit, &workspace, &actor]).await?
        }
        Some(workspace) => {
            let sql = include_str!("../sql/audit_entry/list_of_workspace.sql");
            query::rows(db, sql, &[&before, &limit, &workspace]).await?
        }
        None => query::rows(db, include_str!("../sql/audit_entry/list.sql"), &[&before, &limit]).await?,
    };
    let decode = |row: &tokio_postgres::Row| Entry {
        id: row.get(0),
        at: row.get(1),
        actor: row.get(2),
        via: row.get(3),
        method: row.get(4),
        object: row.get(5),
        outcome: row.get(6),
        reason: row.get(7),
        detail: row.get(8),
    };
    Ok(rows.iter().map(decode).collect())
}

/// What was forgotten at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgotten {
    /// How many.
    pub entries: i64,
    /// The last of them, or where it was looked behind.
    pub last: i64,
}

/// Forgets entries that are older than `kept`, of the `limit` first ones behind the entry `after`.
///
/// # Errors
/// When the statement fails, as it does where `kept` is less than [`KEPT_MIN`].
pub async fn forget(db: &impl GenericClient, kept: Duration, after: i64, limit: i64) -> Result<Forgotten, Error> {
    let sql = include_str!("../sql/audit_entry/delete_old.sql");
    let row = query::one(db, sql, &[&kept.as_secs_f64(), &after, &limit]).await?;
    Ok(Forgotten { entries: row.get("entries"), last: row.get("last") })
}
