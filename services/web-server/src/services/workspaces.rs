//! Workspaces: create, get, list. Refuses to know what is deployed into them.

use crate::core::Core;
use crate::fault::Fault;
use crate::idempotent;
use crate::paging::Page;
use domain::{ErrorKind, id::WorkspaceId};
use proto::v1::{
    self, CreateWorkspaceRequest, CreateWorkspaceResponse, GetWorkspaceRequest, GetWorkspaceResponse,
    ListWorkspacesRequest, ListWorkspacesResponse, workspace_service_server::WorkspaceService,
};
use std::sync::Arc;
use store::workspaces::{self, Workspace};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.WorkspaceService`.
pub(crate) struct Workspaces(pub(crate) Arc<Core>);

fn message(workspace: Workspace) -> v1::Workspace {
    v1::Workspace {
        id: workspace.id.to_string(),
        name: workspace.name,
        created_at: Some(rpc::timestamp::to_proto(workspace.created_at)),
        bundle_digest: workspace.bundle_digest.unwrap_or_default(),
    }
}

/// What a page token of this list is for.
const SCOPE: &str = "workspaces";
/// The longest DNS label.
const NAME_CHARS_MAX: usize = 63;

fn check_name(name: &str) -> Result<(), Fault> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let well_formed = !name.is_empty()
        && name.len() <= NAME_CHARS_MAX
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if well_formed {
        return Ok(());
    }
    let rule = "must be a DNS label: 1 to 63 lower-case letters, digits and inner hyphens, such as `sales-eu`";
    Err(Fault::field("name", rule))
}

impl Workspaces {
    async fn create(&self, request: CreateWorkspaceRequest) -> Result<CreateWorkspaceResponse, Fault> {
        check_name(&request.name)?;
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let key = idempotent::Key::of("CreateWorkspace", &request.idempotency_key, &request)?;
        if let Some(answer) = key.answered(&transaction).await? {
            return Ok(answer);
        }
        let id = WorkspaceId(uuid::Uuid::now_v7());
        let Some(workspace) = workspaces::insert(&transaction, id, &request.name).await? else {
            let message = format!("the workspace name `{}` is taken; choose another", request.name);
            return Err(Fault::new(ErrorKind::AlreadyExists, "WORKSPACE_EXISTS", message));
        };
        let answer = CreateWorkspaceResponse { workspace: Some(self::message(workspace)) };
        key.record(&transaction, &answer).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(answer)
    }

    async fn list(&self, request: ListWorkspacesRequest) -> Result<ListWorkspacesResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let after: String = rpc::paging::decode(SCOPE, &request.page_token)?.unwrap_or_default();
        let db = self.0.store.client().await?;
        let mut rows = workspaces::list(&db, &after, page.limit()).await?;
        let next_page_token = page.cut(SCOPE, &mut rows, |w| w.name.clone())?;
        Ok(ListWorkspacesResponse { workspaces: rows.into_iter().map(message).collect(), next_page_token })
    }
}

#[async_trait]
impl WorkspaceService for Workspaces {
    async fn create_workspace(
        &self,
        request: Request<CreateWorkspaceRequest>,
    ) -> Result<Response<CreateWorkspaceResponse>, Status> {
        Ok(Response::new(self.create(request.into_inner()).await?))
    }

    async fn get_workspace(
        &self,
        request: Request<GetWorkspaceRequest>,
    ) -> Result<Response<GetWorkspaceResponse>, Status> {
        let name = request.into_inner().name;
        if name.is_empty() {
            return Err(Fault::field("name", "must name a workspace").into());
        }
        let workspace = self.0.workspace(&name).await?;
        Ok(Response::new(GetWorkspaceResponse { workspace: Some(message(workspace)) }))
    }

    async fn list_workspaces(
        &self,
        request: Request<ListWorkspacesRequest>,
    ) -> Result<Response<ListWorkspacesResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "sales-eu", "0", &"x".repeat(63)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "../a", "ä", &"x".repeat(64)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
