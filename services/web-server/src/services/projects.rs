//! Projects and their members. Refuses to know what is in their workspaces.

use crate::changed::Changed;
use crate::core::Core;
use crate::encode;
use crate::fault::Fault;
use crate::idempotent;
use crate::identity::Caller;
use crate::paging::Page;
use crate::people;
use domain::ErrorKind;
use domain::id::ProjectId;
use domain::role::Role;
use proto::v1::{
    self, ArchiveProjectRequest, ArchiveProjectResponse, CreateProjectRequest, CreateProjectResponse,
    GetProjectRequest, GetProjectResponse, ListProjectMembersRequest, ListProjectMembersResponse, ListProjectsRequest,
    ListProjectsResponse, RemoveProjectMemberRequest, RemoveProjectMemberResponse, SetProjectMemberRequest,
    SetProjectMemberResponse, project_service_server::ProjectService,
};
use std::sync::Arc;
use store::projects::{self, Member, Project, Who};
use store::targets::{self, Thing};
use store::{Transaction, groups, users};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.ProjectService`.
pub(crate) struct Projects(pub(crate) Arc<Core>);

/// What a page token of this list is for.
const SCOPE: &str = "projects";

fn message(project: Project) -> v1::Project {
    v1::Project {
        id: project.id.to_string(),
        name: project.name,
        created_at: Some(rpc::timestamp::to_proto(project.created_at)),
        owner_email: project.owner_email,
        owner_group: project.owner_group,
        archived: project.archived,
    }
}

fn member(member: Member) -> v1::ProjectMember {
    v1::ProjectMember { email: member.email, group: member.group, role: encode::role(member.role).into() }
}

impl Projects {
    async fn create(&self, caller: &Caller, request: CreateProjectRequest) -> Result<CreateProjectResponse, Fault> {
        let key = idempotent::Key::of(caller, "CreateProject", &request.idempotency_key, &request)?;
        people::check_label(&request.name, "name")?;
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = key.answered(&transaction).await? {
            return Ok(answer);
        }
        let owner = match request.owner_group.as_str() {
            "" => None,
            name => Some(own_group(&transaction, caller, name).await?),
        };
        let id = ProjectId(uuid::Uuid::now_v7());
        if !projects::insert(&transaction, id, &request.name, owner).await? {
            let message = format!("the project name `{}` is taken; choose another", request.name);
            return Err(Fault::new(ErrorKind::AlreadyExists, "PROJECT_EXISTS", message));
        }
        projects::set_member(&transaction, id, Who::User(caller.user.id), Role::Owner).await?;
        let project = projects::get(&transaction, &request.name).await?;
        let answer = CreateProjectResponse { project: project.map(message) };
        key.record(&transaction, &answer).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(answer)
    }

    async fn get(&self, name: &str) -> Result<v1::Project, Fault> {
        let project = projects::get(&self.0.store.client().await?, name).await?;
        project.map(message).ok_or_else(|| Fault::no_project(name))
    }

    async fn list(&self, caller: &Caller, request: ListProjectsRequest) -> Result<ListProjectsResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let after: String = rpc::paging::decode(SCOPE, &request.page_token)?.unwrap_or_default();
        let db = self.0.store.client().await?;
        let mut rows = projects::list(&db, caller.sees(), &after, page.limit()).await?;
        let next_page_token = page.cut(SCOPE, &mut rows, |project| project.name.clone())?;
        Ok(ListProjectsResponse { projects: rows.into_iter().map(message).collect(), next_page_token })
    }

    async fn archive(&self, name: &str) -> Result<(), Fault> {
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let project = locked(&transaction, name).await?;
        if !projects::archive(&transaction, project).await? {
            let message = format!("`{name}` is a personal project, or has workspaces in use; archive those first");
            return Err(Fault::new(ErrorKind::FailedPrecondition, "PROJECT_IN_USE", message));
        }
        Ok(transaction.commit().await.map_err(store::Error::from)?)
    }

    async fn members(&self, request: ListProjectMembersRequest) -> Result<ListProjectMembersResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let scope = format!("project_members/{}", request.project);
        let after: String = rpc::paging::decode(&scope, &request.page_token)?.unwrap_or_default();
        let db = self.0.store.client().await?;
        let project = projects::get(&db, &request.project).await?;
        let project = project.ok_or_else(|| Fault::no_project(&request.project))?;
        let mut rows = projects::members(&db, project.id, &after, page.limit()).await?;
        let next_page_token = page.cut(&scope, &mut rows, |member| member.key.clone())?;
        Ok(ListProjectMembersResponse { members: rows.into_iter().map(member).collect(), next_page_token })
    }

    async fn set_member(
        &self,
        caller: &Caller,
        request: SetProjectMemberRequest,
    ) -> Result<Response<SetProjectMemberResponse>, Fault> {
        let member = request.member.ok_or_else(|| Fault::field("member", "must name a person or a group"))?;
        let role = encode::role_of(member.role, "member.role")?;
        let role =
            role.ok_or_else(|| Fault::field("member.role", "must be a role; to take it away, remove the member"))?;
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let project = locked(&transaction, &request.project).await?;
        check_grant(&transaction, caller, &request.project, role).await?;
        let who = who(&transaction, &member.email, &member.group).await?;
        let was = self.refuse_above(&transaction, caller, &request.project, project, who).await?;
        let owners = projects::count_owners(&transaction, project).await?;
        projects::set_member(&transaction, project, who, role).await?;
        keep_an_owner(&transaction, project, owners).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(Changed::of_role("member.role", was, Some(role)).told_with(SetProjectMemberResponse {}))
    }

    async fn remove_member(
        &self,
        caller: &Caller,
        request: RemoveProjectMemberRequest,
    ) -> Result<Response<RemoveProjectMemberResponse>, Fault> {
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let project = locked(&transaction, &request.project).await?;
        let who = who(&transaction, &request.email, &request.group).await?;
        let was = self.refuse_above(&transaction, caller, &request.project, project, who).await?;
        let owners = projects::count_owners(&transaction, project).await?;
        if !projects::remove_member(&transaction, project, who).await? {
            let message = format!("`{}{}` is no member of `{}`", request.email, request.group, request.project);
            return Err(Fault::new(ErrorKind::NotFound, "MEMBER_NOT_FOUND", message));
        }
        keep_an_owner(&transaction, project, owners).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(Changed::of_role("role", was, None).told_with(RemoveProjectMemberResponse {}))
    }

    /// Nobody takes a role away that is above the own one. Answers the role that there is.
    async fn refuse_above(
        &self,
        db: &Transaction<'_>,
        caller: &Caller,
        name: &str,
        project: ProjectId,
        who: Who,
    ) -> Result<Option<Role>, Fault> {
        let role = projects::role(db, project, who).await?;
        if let Some(role) = role {
            check_grant(db, caller, name, role).await?;
        }
        Ok(role)
    }
}

async fn locked(db: &Transaction<'_>, name: &str) -> Result<ProjectId, Fault> {
    let project = projects::get(db, name).await?.ok_or_else(|| Fault::no_project(name))?;
    if projects::lock(db, project.id).await? {
        return Ok(project.id);
    }
    let message = format!("the project `{name}` is archived");
    Err(Fault::new(ErrorKind::FailedPrecondition, "ARCHIVED", message))
}

/// Nobody grants more than the own role there.
async fn check_grant(db: &Transaction<'_>, caller: &Caller, project: &str, role: Role) -> Result<(), Fault> {
    let there = targets::find(db, Thing::Project(project), Some(caller.user.id)).await?.and_then(|target| target.role);
    if caller.user.role.max(there) >= Some(role) { Ok(()) } else { caller.check_grant(Some(role)) }
}

async fn own_group(db: &Transaction<'_>, caller: &Caller, name: &str) -> Result<Who, Fault> {
    let group = groups::get(db, name).await?.ok_or_else(|| Fault::no_group(name))?;
    if caller.user.role >= Some(Role::Admin) || groups::has(db, group.id, caller.user.id).await? {
        return Ok(Who::Group(group.id));
    }
    Err(Fault::no_group(name))
}

async fn who(db: &Transaction<'_>, email: &str, group: &str) -> Result<Who, Fault> {
    if email.is_empty() == group.is_empty() {
        return Err(Fault::field("member", "must name either an e-mail address or a group"));
    }
    if !group.is_empty() {
        return Ok(Who::Group(groups::get(db, group).await?.ok_or_else(|| Fault::no_group(group))?.id));
    }
    let email = people::email(email, "email")?;
    Ok(Who::User(users::get(db, &email).await?.ok_or_else(|| Fault::no_user(&email))?.id))
}

/// Refuses to take a project's last owner away, which `before` the change it had; the project's lock is held. That of a new
/// cluster has none, and whoever administers the cluster grants in it.
async fn keep_an_owner(db: &Transaction<'_>, project: ProjectId, before: i64) -> Result<(), Fault> {
    if before == 0 || projects::count_owners(db, project).await? > 0 {
        return Ok(());
    }
    let message = "this is the last owner of the project; make somebody else one first";
    Err(Fault::new(ErrorKind::FailedPrecondition, "LAST_OWNER", message))
}

#[async_trait]
impl ProjectService for Projects {
    async fn create_project(
        &self,
        request: Request<CreateProjectRequest>,
    ) -> Result<Response<CreateProjectResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.create(&caller, request.into_inner()).await?))
    }

    async fn get_project(&self, request: Request<GetProjectRequest>) -> Result<Response<GetProjectResponse>, Status> {
        let project = self.get(&request.get_ref().project).await?;
        Ok(Response::new(GetProjectResponse { project: Some(project) }))
    }

    async fn list_projects(
        &self,
        request: Request<ListProjectsRequest>,
    ) -> Result<Response<ListProjectsResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.list(&caller, request.into_inner()).await?))
    }

    async fn archive_project(
        &self,
        request: Request<ArchiveProjectRequest>,
    ) -> Result<Response<ArchiveProjectResponse>, Status> {
        self.archive(&request.get_ref().project).await?;
        Ok(Response::new(ArchiveProjectResponse {}))
    }

    async fn list_project_members(
        &self,
        request: Request<ListProjectMembersRequest>,
    ) -> Result<Response<ListProjectMembersResponse>, Status> {
        Ok(Response::new(self.members(request.into_inner()).await?))
    }

    async fn set_project_member(
        &self,
        request: Request<SetProjectMemberRequest>,
    ) -> Result<Response<SetProjectMemberResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(self.set_member(&caller, request.into_inner()).await?)
    }

    async fn remove_project_member(
        &self,
        request: Request<RemoveProjectMemberRequest>,
    ) -> Result<Response<RemoveProjectMemberResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(self.remove_member(&caller, request.into_inner()).await?)
    }
}
