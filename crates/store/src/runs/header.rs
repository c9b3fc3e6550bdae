//! What is asked about runs while they run, without reading all that is stored of them. Refuses to know units.

use crate::{Error, Store, query};
use domain::{
    id::{RunId, WorkspaceId},
    run::RunStatus,
};
use jiff::Timestamp;

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
