//! Who works in a workspace. Refuses to leave one without an owner.

use crate::changed::Changed;
use crate::core::Core;
use crate::encode;
use crate::fault::Fault;
use crate::identity::Caller;
use crate::paging::Page;
use crate::people;
use domain::ErrorKind;
use domain::id::WorkspaceId;
use domain::role::WorkspaceRole;
use proto::v1::{
    self, InviteMemberRequest, InviteMemberResponse, ListMembersRequest, ListMembersResponse, RemoveMemberRequest,
    RemoveMemberResponse, SetMemberRoleRequest, SetMemberRoleResponse, member_service_server::MemberService,
};
use std::sync::Arc;
use store::members::{self, Member};
use store::{Transaction, users, workspaces};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.MemberService`.
pub(crate) struct Members(pub(crate) Arc<Core>);

/// The most members and invitations of one workspace.
const MEMBERS_MAX: i64 = 1_000;

fn message(member: Member) -> v1::Member {
    v1::Member {
        email: member.email,
        name: member.name,
        role: encode::workspace_role(member.role).into(),
        invited: member.invited,
        since: Some(rpc::timestamp::to_proto(member.since)),
    }
}

fn role(number: i32) -> Result<Option<WorkspaceRole>, Fault> {
    match v1::WorkspaceRole::try_from(number) {
        Ok(v1::WorkspaceRole::Unspecified) => Ok(None),
        Ok(v1::WorkspaceRole::Collaborator) => Ok(Some(WorkspaceRole::Collaborator)),
        Ok(v1::WorkspaceRole::Owner) => Ok(Some(WorkspaceRole::Owner)),
        Err(_) => Err(Fault::field("role", "must be WORKSPACE_ROLE_COLLABORATOR or WORKSPACE_ROLE_OWNER")),
    }
}

async fn locked(db: &Transaction<'_>, name: &str) -> Result<WorkspaceId, Fault> {
    Ok(workspaces::lock(db, name).await?.ok_or_else(|| Fault::no_workspace(name))?.id)
}

async fn keep_an_owner(db: &Transaction<'_>, workspace: WorkspaceId, was: WorkspaceRole) -> Result<(), Fault> {
    if was != WorkspaceRole::Owner || members::count_owners(db, workspace).await? > 0 {
        return Ok(());
    }
    let message = "this is the last owner of the workspace who can sign in; make somebody else one first";
    Err(Fault::new(ErrorKind::FailedPrecondition, "LAST_OWNER", message))
}

fn no_member(email: &str) -> Fault {
    Fault::new(ErrorKind::NotFound, "MEMBER_NOT_FOUND", format!("`{email}` is no member; `orrery members` lists them"))
}

impl Members {
    async fn list(&self, request: ListMembersRequest) -> Result<ListMembersResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let scope = format!("members/{}", request.workspace);
        let after: String = rpc::paging::decode(&scope, &request.page_token)?.unwrap_or_default();
        let workspace = self.0.workspace(&request.workspace).await?;
        let mut rows = members::list(&self.0.store.client().await?, workspace.id, &after, page.limit()).await?;
        let next_page_token = page.cut(&scope, &mut rows, |member| member.email.clone())?;
        Ok(ListMembersResponse { members: rows.into_iter().map(message).collect(), next_page_token })
    }

    async fn invite(&self, caller: &Caller, request: InviteMemberRequest) -> Result<v1::Member, Fault> {
        let email = people::email(&request.email, "email")?;
        let role = role(request.role)?.unwrap_or(WorkspaceRole::Collaborator);
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let workspace = locked(&transaction, &request.workspace).await?;
        if members::count(&transaction, workspace).await? >= MEMBERS_MAX {
            let message = format!("a workspace has at most {MEMBERS_MAX} members; give a group a role in its project");
            return Err(Fault::new(ErrorKind::ResourceExhausted, "TOO_MANY_MEMBERS", message));
        }
        let user = users::get(&transaction, &email).await?;
        match &user {
            Some(user) => {
                if members::get(&transaction, workspace, user.id).await?.is_some() {
                    let message = format!("`{email}` is a member already; change the role by `orrery members set`");
                    return Err(Fault::new(ErrorKind::AlreadyExists, "MEMBER_EXISTS", message));
                }
                members::set(&transaction, workspace, user.id, role).await?;
            }
            None => members::invite(&transaction, workspace, &email, role, caller.user.id).await?,
        }
        transaction.commit().await.map_err(store::Error::from)?;
        let member = Member {
            email,
            invited: user.is_none(),
            name: user.map(|user| user.name).unwrap_or_default(),
            role: Some(role),
            since: jiff::Timestamp::now(),
        };
        Ok(message(member))
    }

    async fn set_role(&self, caller: &Caller, request: SetMemberRoleRequest) -> Result<Changed, Fault> {
        let email = people::email(&request.email, "email")?;
        let role = role(request.role)?.ok_or_else(|| Fault::field("role", "must be a role"))?;
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let workspace = locked(&transaction, &request.workspace).await?;
        let Some(user) = users::get(&transaction, &email).await? else {
            let was = members::uninvite(&transaction, workspace, &email).await?.ok_or_else(|| no_member(&email))?;
            members::invite(&transaction, workspace, &email, role, caller.user.id).await?;
            transaction.commit().await.map_err(store::Error::from)?;
            return Ok(Changed::of_member(Some(was), Some(role)));
        };
        let was = members::get(&transaction, workspace, user.id).await?.ok_or_else(|| no_member(&email))?;
        members::set(&transaction, workspace, user.id, role).await?;
        keep_an_owner(&transaction, workspace, was).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(Changed::of_member(Some(was), Some(role)))
    }

    async fn remove(&self, request: RemoveMemberRequest) -> Result<Changed, Fault> {
        let email = people::email(&request.email, "email")?;
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let workspace = locked(&transaction, &request.workspace).await?;
        let user = users::get(&transaction, &email).await?;
        let was = match &user {
            Some(user) => members::get(&transaction, workspace, user.id).await?,
            None => None,
        };
        let was = match (user, was) {
            (Some(user), Some(was)) => {
                members::remove(&transaction, workspace, user.id).await?;
                keep_an_owner(&transaction, workspace, was).await?;
                was
            }
            _ => members::uninvite(&transaction, workspace, &email).await?.ok_or_else(|| no_member(&email))?,
        };
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(Changed::of_member(Some(was), None))
    }
}

#[async_trait]
impl MemberService for Members {
    async fn list_members(
        &self,
        request: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn invite_member(
        &self,
        request: Request<InviteMemberRequest>,
    ) -> Result<Response<InviteMemberResponse>, Status> {
        let caller = Caller::of(&request)?;
        let member = self.invite(&caller, request.into_inner()).await?;
        Ok(Response::new(InviteMemberResponse { member: Some(member) }))
    }

    async fn set_member_role(
        &self,
        request: Request<SetMemberRoleRequest>,
    ) -> Result<Response<SetMemberRoleResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(self.set_role(&caller, request.into_inner()).await?.told_with(SetMemberRoleResponse {}))
    }

    async fn remove_member(
        &self,
        request: Request<RemoveMemberRequest>,
    ) -> Result<Response<RemoveMemberResponse>, Status> {
        Ok(self.remove(request.into_inner()).await?.told_with(RemoveMemberResponse {}))
    }
}
