//! What workspaces' runtimes shall be, and what they are judged by. Refuses to know any life of them.

use crate::{Error, plans, policies, query, queues};
use deadpool_postgres::GenericClient;
use domain::{
    device::{DeviceModel, Enforcement},
    id::{ProjectId, QueueId, WorkspaceId},
    runtime::{
        Spec,
        rules::{Offer, Terms},
    },
};
use tokio_postgres::Row;

/// A saved spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Rises with each change.
    pub version: i64,
    /// What it shall be.
    pub spec: Spec,
    /// Where it waits for devices.
    pub queue: QueueId,
    /// The queue's name.
    pub queue_name: String,
    /// The devices that the queue is served from.
    pub pool: String,
    /// The queue is out of use.
    pub queue_archived: bool,
}

/// The spec of a workspace's runtime.
///
/// # Errors
/// When the statement fails, or the stored spec cannot be read.
pub async fn get(db: &impl GenericClient, workspace: WorkspaceId) -> Result<Option<Saved>, Error> {
    let row = query::row(db, include_str!("../sql/runtime_spec/get.sql"), &[&workspace.0]).await?;
    let saved = |row: Row| {
        Ok(Saved {
            version: row.get(0),
            spec: read(row.get(1), workspace)?,
            queue: QueueId(row.get(2)),
            queue_name: row.get(3),
            pool: row.get(4),
            queue_archived: row.get(5),
        })
    };
    row.map(saved).transpose()
}

/// A stored spec.
///
/// # Errors
/// [`Error::Corrupt`] for what this version does not understand.
pub(crate) fn read(value: serde_json::Value, workspace: WorkspaceId) -> Result<Spec, Error> {
    let corrupt = |source| Error::Corrupt { what: "runtime's spec", id: workspace.to_string(), source };
    serde_json::from_value(value).map_err(corrupt)
}

/// Saves a spec over the version `edited`, 0 for whatever there is. Answers the new version; `None` when another one is in
/// force.
///
/// # Errors
/// When the statement fails.
pub async fn set(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    spec: &Spec,
    queue: QueueId,
    edited: i64,
) -> Result<Option<i64>, Error> {
    let corrupt = |source| Error::Corrupt { what: "runtime's spec", id: workspace.to_string(), source };
    let value = serde_json::to_value(spec).map_err(corrupt)?;
    let sql = match edited {
        0 => include_str!("../sql/runtime_spec/upsert.sql"),
        _ => include_str!("../sql/runtime_spec/update.sql"),
    };
    let row = query::row(db, sql, &[&workspace.0, &value, &queue.0, &edited]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// Its next start waits in this queue; false when there is no spec.
///
/// # Errors
/// When the statement fails.
pub async fn set_queue(db: &impl GenericClient, workspace: WorkspaceId, queue: QueueId) -> Result<bool, Error> {
    let sql = include_str!("../sql/runtime_spec/set_queue.sql");
    Ok(query::execute(db, sql, &[&workspace.0, &queue.0]).await? > 0)
}

/// Forgets a spec; false while a life of it has not stopped, and when there is none.
///
/// # Errors
/// When the statement fails.
pub async fn delete(db: &impl GenericClient, workspace: WorkspaceId) -> Result<bool, Error> {
    Ok(query::row(db, include_str!("../sql/runtime_spec/delete.sql"), &[&workspace.0]).await?.is_some())
}

/// Names of workspaces whose next start would wait in a queue.
///
/// # Errors
/// When the statement fails.
pub async fn of_queue(db: &impl GenericClient, queue: QueueId, limit: i64) -> Result<Vec<String>, Error> {
    let rows = query::rows(db, include_str!("../sql/runtime_spec/of_queue.sql"), &[&queue.0, &limit]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What a project's runtimes in a queue are judged by.
///
/// # Errors
/// When a statement fails.
pub async fn terms(db: &impl GenericClient, project: ProjectId, queue: &queues::Queue) -> Result<Terms, Error> {
    let id = queue.definition.id;
    Ok(Terms {
        policy: policies::get(db, project).await?.unwrap_or_default().rules,
        queue: queue.definition.name.clone(),
        queue_limit_milli: queue.definition.limit_milli,
        is_default_queue: id == queues::DEFAULT,
        plans: if id == queues::DEFAULT { Vec::new() } else { plans::of_project(db, project, id).await? },
        offers: offers(db, &queue.pool).await?,
    })
}

/// The kinds of devices of a pool. One whose division cannot be read is left out.
///
/// # Errors
/// When the statement fails.
pub async fn offers(db: &impl GenericClient, pool: &str) -> Result<Vec<Offer>, Error> {
    let rows = query::rows(db, include_str!("../sql/device/offers.sql"), &[&pool]).await?;
    let offer = |row: &Row| {
        Some(Offer {
            model: DeviceModel::new(row.get(0)),
            sharing: serde_json::from_value(row.get(1)).ok()?,
            memory_bytes: row.get::<_, i64>(2).unsigned_abs(),
            enforcement: enforcement(row.get(3)),
        })
    };
    Ok(rows.iter().filter_map(offer).collect())
}

/// The word of a column; an unknown one promises nothing.
fn enforcement(word: &str) -> Enforcement {
    match word {
        "hard" => Enforcement::Hard,
        "soft" => Enforcement::Soft,
        _ => Enforcement::AccountingOnly,
    }
}
