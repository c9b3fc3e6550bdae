//! Sealed secrets. Refuses to open any: what is here is as it lies in the table.

use crate::{Error, query};
use deadpool_postgres::GenericClient;
use domain::id::{PipelineId, ProjectId, RunId, SecretId, UserId, WorkspaceId};
use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

/// Whose a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Always.
    pub project: ProjectId,
    /// `None` for a secret of the whole project.
    pub workspace: Option<WorkspaceId>,
    /// By name; empty for a secret of the whole workspace.
    pub pipeline: String,
}

impl Scope {
    /// As seals are bound to it: does not change when anything is renamed that can be renamed.
    #[must_use]
    pub fn text(&self) -> String {
        match (self.workspace, self.pipeline.as_str()) {
            (None, _) => format!("project:{}", self.project),
            (Some(workspace), "") => format!("workspace:{workspace}"),
            (Some(workspace), pipeline) => format!("pipeline:{workspace}/{pipeline}"),
        }
    }
}

/// A value as it lies in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The cluster's key that seals `wrapped_key`.
    pub key_id: String,
    /// The value's own key.
    pub wrapped_key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// A secret with its sealed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Stable over its values.
    pub id: SecretId,
    /// Whose.
    pub scope: Scope,
    /// As runs ask for it.
    pub name: String,
    /// Which of its values.
    pub version: i64,
    /// The value.
    pub sealed: Sealed,
}

/// What may be shown of a secret.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Empty for a secret of the whole workspace or project.
    pub pipeline: String,
    /// As runs ask for it.
    pub name: String,
    /// Rises with each new value.
    pub version: i64,
    /// When it was first set.
    pub created_at: Timestamp,
    /// When it was last set.
    pub updated_at: Timestamp,
    /// By whom; empty when unknown.
    pub updated_by: String,
    /// The cluster's key that seals it.
    pub key_id: String,
}

/// An attempt that asks.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// Its run.
    pub run: RunId,
    /// Its block.
    pub block: &'a str,
    /// -1 for the block itself.
    pub child: i32,
    /// Its lease.
    pub lease: i64,
}

fn decode(row: &Row) -> Secret {
    Secret {
        id: SecretId(row.get(0)),
        scope: Scope {
            project: ProjectId(row.get(1)),
            workspace: row.get::<_, Option<Uuid>>(2).map(WorkspaceId),
            pipeline: row.get(3),
        },
        name: row.get(4),
        version: row.get(5),
        sealed: Sealed { key_id: row.get(6), wrapped_key: row.get(7), value: row.get(8) },
    }
}

fn workspace(scope: &Scope) -> Option<Uuid> {
    scope.workspace.map(|id| id.0)
}

/// The version of a secret's value, locked until the transaction ends, and when the first one was set; `None` when there is no such
/// secret.
///
/// # Errors
/// When the statement fails.
pub async fn lock_version(
    db: &impl GenericClient,
    scope: &Scope,
    name: &str,
) -> Result<Option<(i64, Timestamp)>, Error> {
    let sql = include_str!("../sql/secret/lock_version.sql");
    let parameters: query::Parameters<'_> = &[&scope.project.0, &workspace(scope), &scope.pipeline, &name];
    Ok(query::row(db, sql, parameters).await?.map(|row| (row.get(0), row.get(1))))
}

/// Adds a secret.
///
/// # Errors
/// When the statement fails, as when somebody else added it meanwhile.
pub async fn insert(db: &impl GenericClient, secret: &Secret, by: UserId) -> Result<(), Error> {
    let Secret { id, scope, name, version, sealed } = secret;
    let parameters: query::Parameters<'_> = &[
        &id.0,
        &scope.project.0,
        &workspace(scope),
        &scope.pipeline,
        name,
        version,
        &sealed.key_id,
        &sealed.wrapped_key,
        &sealed.value,
        &by.0,
    ];
    query::execute(db, include_str!("../sql/secret/insert.sql"), parameters).await?;
    Ok(())
}

/// Gives a secret its next value; false when the version before it is not in force any more.
///
/// # Errors
/// When the statement fails.
pub async fn update(db: &impl GenericClient, secret: &Secret, by: UserId) -> Result<bool, Error> {
    let Secret { scope, name, version, sealed, .. } = secret;
    let parameters: query::Parameters<'_> = &[
        &scope.project.0,
        &workspace(scope),
        &scope.pipeline,
        name,
        version,
        &sealed.key_id,
        &sealed.wrapped_key,
        &sealed.value,
        &by.0,
    ];
    Ok(query::execute(db, include_str!("../sql/secret/update.sql"), parameters).await? > 0)
}

/// Forgets a secret; false when there is none.
///
/// # Errors
/// When the statement fails.
pub async fn delete(db: &impl GenericClient, scope: &Scope, name: &str) -> Result<bool, Error> {
    let parameters: query::Parameters<'_> = &[&scope.project.0, &workspace(scope), &scope.pipeline, &name];
    Ok(query::execute(db, include_str!("../sql/secret/delete.sql"), parameters).await? > 0)
}

/// How many secrets a project has, in all its scopes.
///
/// # Errors
/// When the statement fails.
pub async fn count(db: &impl GenericClient, project: ProjectId) -> Result<i64, Error> {
    Ok(query::one(db, include_str!("../sql/secret/count.sql"), &[&project.0]).await?.get(0))
}

/// A page of names, after the pipeline and name `after`.
///
/// # Errors
/// When the statement fails.
pub async fn list(
    db: &impl GenericClient,
    scope: &Scope,
    after: (&str, &str),
    limit: i64,
) -> Result<Vec<Summary>, Error> {
    let parameters: query::Parameters<'_> =
        &[&scope.project.0, &workspace(scope), &scope.pipeline, &after.0, &after.1, &limit];
    let decode = |row: &Row| Summary {
        pipeline: row.get(0),
        name: row.get(1),
        version: row.get(2),
        created_at: row.get(3),
        updated_at: row.get(4),
        updated_by: row.get(5),
        key_id: row.get(6),
    };
    Ok(query::rows(db, include_str!("../sql/secret/list.sql"), parameters).await?.iter().map(decode).collect())
}

/// The secret of this name that a running attempt sees.
///
/// # Errors
/// When the statement fails.
pub async fn get_for_run(
    db: &impl GenericClient,
    asker: &Asker<'_>,
    name: &str,
    unnamed: bool,
) -> Result<Option<Secret>, Error> {
    let parameters: query::Parameters<'_> = &[&asker.run.0, &asker.block, &asker.child, &asker.lease, &name, &unnamed];
    Ok(query::row(db, include_str!("../sql/secret/get_for_run.sql"), parameters).await?.as_ref().map(decode))
}

/// All secrets that a run may be given, asked for by a running attempt; `None` when that runs no more.
///
/// # Errors
/// When the statement fails.
pub async fn list_for_run(
    db: &impl GenericClient,
    asker: &Asker<'_>,
    run: RunId,
    unnamed: bool,
) -> Result<Option<Vec<Secret>>, Error> {
    let parameters: query::Parameters<'_> = &[&asker.run.0, &asker.block, &asker.child, &asker.lease, &unnamed, &run.0];
    let rows = query::rows(db, include_str!("../sql/secret/list_for_run.sql"), parameters).await?;
    let known = rows.iter().filter(|row| row.get::<_, Option<Uuid>>(0).is_some()).map(decode).collect();
    Ok((!rows.is_empty()).then_some(known))
}

/// Whether this attempt is the one that runs: who held its unit before has no right to any secret any more.
///
/// # Errors
/// When the statement fails.
pub async fn holds(db: &impl GenericClient, asker: &Asker<'_>) -> Result<bool, Error> {
    let parameters: query::Parameters<'_> = &[&asker.run.0, &asker.block, &asker.child, &asker.lease];
    Ok(query::one(db, include_str!("../sql/block_run/holds.sql"), parameters).await?.get("holds"))
}

/// The secrets that say where the outputs of these runs are, with the run of each. A run whose metadata names none has none.
///
/// # Errors
/// When the statement fails.
pub async fn list_for_place(db: &impl GenericClient, runs: &[RunId]) -> Result<Vec<(RunId, Secret)>, Error> {
    let runs: Vec<Uuid> = runs.iter().map(|run| run.0).collect();
    let rows = query::rows(db, include_str!("../sql/secret/list_for_place.sql"), &[&runs]).await?;
    Ok(rows.iter().map(|row| (RunId(row.get("run_id")), decode(row))).collect())
}

/// The secret of this name that a version of a pipeline sees.
///
/// # Errors
/// When the statement fails.
pub async fn get_for_version(
    db: &impl GenericClient,
    pipeline: PipelineId,
    version: i64,
    name: &str,
    unnamed: bool,
) -> Result<Option<Secret>, Error> {
    let parameters: query::Parameters<'_> = &[&pipeline.0, &version, &name, &unnamed];
    Ok(query::row(db, include_str!("../sql/secret/get_for_version.sql"), parameters).await?.as_ref().map(decode))
}

/// Up to `limit` secrets that one of these keys seals, locked until the transaction ends.
///
/// # Errors
/// When the statement fails.
pub async fn lock_stale(db: &impl GenericClient, keys: &[&str], limit: i64) -> Result<Vec<Secret>, Error> {
    let rows = query::rows(db, include_str!("../sql/secret/lock_stale.sql"), &[&keys, &limit]).await?;
    Ok(rows.iter().map(decode).collect())
}

/// Up to `limit` ids of keys but these that seal a secret or a configuration of notifications.
///
/// # Errors
/// When the statement fails.
pub async fn other_keys(db: &impl GenericClient, keys: &[&str], limit: i64) -> Result<Vec<String>, Error> {
    let rows = query::rows(db, include_str!("../sql/secret/list_keys.sql"), &[&keys, &limit]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Stores the same value under another key.
///
/// # Errors
/// When the statement fails.
pub async fn rewrap(db: &impl GenericClient, secret: &Secret) -> Result<(), Error> {
    let Secret { id, version, sealed, .. } = secret;
    let parameters: query::Parameters<'_> = &[&id.0, version, &sealed.key_id, &sealed.wrapped_key];
    query::execute(db, include_str!("../sql/secret/rewrap.sql"), parameters).await?;
    Ok(())
}

/// How many secrets another key than this one seals.
///
/// # Errors
/// When the statement fails.
pub async fn count_stale(db: &impl GenericClient, key_id: &str) -> Result<i64, Error> {
    Ok(query::one(db, include_str!("../sql/secret/count_stale.sql"), &[&key_id]).await?.get(0))
}
