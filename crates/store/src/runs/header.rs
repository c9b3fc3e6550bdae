//! What is asked about runs while they run, without reading all that is stored of them. Refuses to know units.

use crate::{Error, Store, query, secrets::Asker};
use domain::{
    id::{RunId, TriggerId, WorkspaceId},
    run::RunStatus,
    trigger::key,
};
use jiff::Timestamp;
use uuid::Uuid;

/// Runs above one that are looked at, those too that were made again and do not count.
const ANCESTORS_MAX: i32 = 1_000;

/// Whose a run is, and how it stands.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of run")]
pub struct RunHeader {
    pub id: RunId,
    pub workspace_id: WorkspaceId,
    pub workspace: String,
    pub status: RunStatus,
    pub reason: Option<String>,
    pub execution_date: Timestamp,
}

/// The header of a run; `None` where there is no such run.
///
/// # Errors
/// When the database does not answer or holds what this version cannot read.
pub async fn header(store: &Store, run: RunId) -> Result<Option<RunHeader>, Error> {
    let row = query::row(&store.client().await?, include_str!("../../sql/run/select_header.sql"), &[&run.0]).await?;
    let header = |row: tokio_postgres::Row| {
        let status = row.get::<_, &str>("status").parse().map_err(|e| super::load::unreadable("status", run.0, e))?;
        Ok(RunHeader {
            id: RunId(row.get("id")),
            workspace_id: WorkspaceId(row.get("workspace_id")),
            workspace: row.get("workspace"),
            status,
            reason: row.get("reason"),
            execution_date: row.get("execution_date"),
        })
    };
    row.map(header).transpose()
}

/// Of the runs that took each other's place, from `first` on, the last one, and whether `asker` may have another in its place;
/// see [`key::of_successor`].
///
/// # Errors
/// When the database does not answer.
pub async fn last_in_place(
    store: &Store,
    trigger: TriggerId,
    first: RunId,
    asker: &Asker<'_>,
) -> Result<(RunId, bool), Error> {
    let parameters: query::Parameters<'_> =
        &[&trigger.0, &first.0, &key::SUCCESSOR, &asker.run.0, &asker.block, &asker.child, &asker.lease];
    let sql = include_str!("../../sql/firing/last_in_place.sql");
    let row = query::one(&store.client().await?, sql, parameters).await?;
    Ok((RunId(row.get::<_, Uuid>("run_id")), row.get("is_over")))
}

/// How many runs lie above this one, each of which started the next by its code, counted up to `most`.
///
/// # Errors
/// When the database does not answer.
pub async fn depth(store: &Store, run: RunId, most: i32) -> Result<i32, Error> {
    let parameters: query::Parameters<'_> = &[&run.0, &most, &ANCESTORS_MAX, &key::REPETITION];
    let row = query::one(&store.client().await?, include_str!("../../sql/run/depth.sql"), parameters).await?;
    Ok(row.get("depth"))
}
