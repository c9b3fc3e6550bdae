//! Workspaces: create, get, list, archive. Refuses to know what is deployed into them.

use crate::core::Core;
use crate::disturbed;
use crate::fault::Fault;
use crate::idempotent;
use crate::identity::Caller;
use crate::paging::Page;
use crate::people;
use crate::runtimes::act;
use domain::id::{ProjectId, WorkspaceId};
use domain::{ErrorKind, role::WorkspaceRole};
use proto::v1::{
    self, ArchiveWorkspaceRequest, ArchiveWorkspaceResponse, CreateWorkspaceRequest, CreateWorkspaceResponse,
    GetWorkspaceRequest, GetWorkspaceResponse, ListWorkspacesRequest, ListWorkspacesResponse, RestoreWorkspaceRequest,
    RestoreWorkspaceResponse, workspace_service_server::WorkspaceService,
};
use std::sync::Arc;
use store::runtime_views::{self, Concerned};
use store::workspaces::{self, Filter, Workspace};
use store::{Transaction, members, projects};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.WorkspaceService`.
pub(crate) struct Workspaces(pub(crate) Arc<Core>);

fn message(workspace: Workspace) -> v1::Workspace {
    v1::Workspace {
        id: workspace.id.to_string(),
        name: workspace.name,
        created_at: Some(rpc::timestamp::to_proto(workspace.created_at)),
        bundle_digest: workspace.bundle_digest.unwrap_or_default(),
        project: workspace.project,
        archived: workspace.archived,
    }
}

/// What a page token of this list is for.
const SCOPE: &str = "workspaces";
impl Workspaces {
    async fn create(&self, caller: &Caller, request: CreateWorkspaceRequest) -> Result<CreateWorkspaceResponse, Fault> {
        people::check_label(&request.name, "name")?;
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let key = idempotent::Key::of(caller, "CreateWorkspace", &request.idempotency_key, &request)?;
        if let Some(answer) = key.answered(&transaction).await? {
            return Ok(answer);
        }
        let project = project(&transaction, caller, &request.project).await?;
        let id = WorkspaceId(uuid::Uuid::now_v7());
        if !workspaces::insert(&transaction, id, &request.name, project).await? {
            // Said of every name that is taken, also of workspaces that the caller may not see: names are the cluster's.
            let message = format!("the workspace name `{}` is taken; choose another", request.name);
            return Err(Fault::new(ErrorKind::AlreadyExists, "WORKSPACE_EXISTS", message));
        }
        members::set(&transaction, id, caller.user.id, WorkspaceRole::Owner).await?;
        let workspace = workspaces::get(&transaction, &request.name).await?;
        let answer = CreateWorkspaceResponse { workspace: workspace.map(self::message) };
        key.record(&transaction, &answer).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(answer)
    }

    async fn list(&self, caller: &Caller, request: ListWorkspacesRequest) -> Result<ListWorkspacesResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let scope = format!("{SCOPE}/{}/{}", request.project, request.with_archived);
        let after: String = rpc::paging::decode(&scope, &request.page_token)?.unwrap_or_default();
        let filter = Filter { user: caller.sees(), archived: request.with_archived, project: &request.project };
        let db = self.0.store.client().await?;
        let mut rows = workspaces::list(&db, &filter, &after, page.limit()).await?;
        let next_page_token = page.cut(&scope, &mut rows, |w| w.name.clone())?;
        Ok(ListWorkspacesResponse { workspaces: rows.into_iter().map(message).collect(), next_page_token })
    }

    /// With its runtime, which has to end: nothing of it starts any more, and what was under way when this began is stopped.
    async fn archive(
        &self,
        caller: &Caller,
        request: &ArchiveWorkspaceRequest,
    ) -> Result<ArchiveWorkspaceResponse, Fault> {
        let workspace = self.0.workspace(&request.name).await?;
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let concerned = Concerned { workspace: Some(workspace.id), ..Concerned::default() };
        let alive = runtime_views::alive(&transaction, &concerned).await?;
        let affected = disturbed::affected(&alive, |life| {
            (life.state != "stopping").then(|| "would be stopped, and not start again".to_owned())
        });
        // One that is put away already may have been left running when nobody could be told to stop it.
        disturbed::unless_forced(&affected, request.force || workspace.archived)?;
        workspaces::set_archived(&transaction, workspace.id, true).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        drop(db);
        act::stop(&self.0, caller, &request.name).await?;
        Ok(ArchiveWorkspaceResponse { affected })
    }

    async fn restore(&self, name: &str) -> Result<(), Fault> {
        let workspace = self.0.workspace(name).await?;
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        workspaces::set_archived(&transaction, workspace.id, false).await?;
        Ok(transaction.commit().await.map_err(store::Error::from)?)
    }
}

/// The project of a new workspace, locked against being archived meanwhile.
async fn project(db: &Transaction<'_>, caller: &Caller, name: &str) -> Result<ProjectId, Fault> {
    let project = match name {
        "" => projects::personal(db, caller.user.id).await?,
        name => projects::get(db, name).await?,
    };
    let project = project.ok_or_else(|| Fault::no_project(name))?;
    if projects::lock(db, project.id).await? {
        return Ok(project.id);
    }
    let message = format!("the project `{}` is archived", project.name);
    Err(Fault::new(ErrorKind::FailedPrecondition, "ARCHIVED", message))
}

#[async_trait]
impl WorkspaceService for Workspaces {
    async fn create_workspace(
        &self,
        request: Request<CreateWorkspaceRequest>,
    ) -> Result<Response<CreateWorkspaceResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.create(&caller, request.into_inner()).await?))
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
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.list(&caller, request.into_inner()).await?))
    }

    async fn archive_workspace(
        &self,
        request: Request<ArchiveWorkspaceRequest>,
    ) -> Result<Response<ArchiveWorkspaceResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.archive(&caller, request.get_ref()).await?))
    }

    async fn restore_workspace(
        &self,
        request: Request<RestoreWorkspaceRequest>,
    ) -> Result<Response<RestoreWorkspaceResponse>, Status> {
        self.restore(&request.get_ref().name).await?;
        Ok(Response::new(RestoreWorkspaceResponse {}))
    }
}
