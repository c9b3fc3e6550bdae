//! Waiting until the cluster is of use: the web-server answers, and every executor has a session with a scheduler.

use crate::{
    connection::Connection,
    failure::{Code, Failure, Result},
    render::time,
};
use jiff::Timestamp;
use proto::v1::{
    CreateWorkspaceRequest, Executor, ExecutorState, GetWorkspaceRequest, ListExecutorsRequest, ListWorkspacesRequest,
};
use rpc::client;
use std::time::{Duration, Instant};
use tonic::Status;

/// The longest start of a service.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Until the web-server answers from its database.
pub(super) async fn server(connection: &Connection) -> Result<()> {
    until("the web-server", async || {
        let request = client::within(LOOK_TIMEOUT, ListWorkspacesRequest { page_size: 1, ..Default::default() });
        connection.workspaces().list_workspaces(request).await.map(|_| true)
    })
    .await
}

/// Until so many executors that connected after `since` are online.
pub(super) async fn executors(connection: &Connection, count: usize, since: Timestamp) -> Result<()> {
    until("the executors", async || {
        let request = client::within(LOOK_TIMEOUT, ListExecutorsRequest { page_size: 500, ..Default::default() });
        let executors = connection.executors().list_executors(request).await?.into_inner().executors;
        Ok(executors.iter().filter(|e| is_online(e, since)).count() >= count)
    })
    .await
}

/// Makes the workspace unless it is there.
pub(super) async fn workspace(connection: &Connection) -> Result<()> {
    let name = connection.workspace.clone();
    let get = client::within(LOOK_TIMEOUT, GetWorkspaceRequest { name: name.clone() });
    match connection.workspaces().get_workspace(get).await {
        Ok(_) => return Ok(()),
        Err(status) if status.code() == tonic::Code::NotFound => {}
        Err(status) => return Err(status.into()),
    }
    let create = CreateWorkspaceRequest { name, ..CreateWorkspaceRequest::default() };
    connection.workspaces().create_workspace(client::within(LOOK_TIMEOUT, create)).await?;
    Ok(())
}

/// An executor of an earlier life may still be taken for online for some seconds.
fn is_online(executor: &Executor, since: Timestamp) -> bool {
    let connected = time::instant(executor.connected_at.as_ref());
    executor.state() == ExecutorState::Online && connected.is_some_and(|at| at >= since)
}

async fn until(what: &str, look: impl AsyncFn() -> std::result::Result<bool, Status>) -> Result<()> {
    let begun = Instant::now();
    loop {
        let last = match look().await {
            Ok(true) => return Ok(()),
            Ok(false) => None,
            // Waiting does not mend these.
            Err(status) if is_final(&status) => return Err(status.into()),
            Err(status) => Some(status),
        };
        if begun.elapsed() > START_TIMEOUT {
            let why = last.map(|s| format!(": {}", s.message())).unwrap_or_default();
            let what = format!("{what} did not become ready within {} s{why}", START_TIMEOUT.as_secs());
            return Err(Failure::new(Code::Unavailable, what, "look at the logs in the data folder"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn is_final(status: &Status) -> bool {
    matches!(status.code(), tonic::Code::Unauthenticated | tonic::Code::PermissionDenied | tonic::Code::Unimplemented)
}
