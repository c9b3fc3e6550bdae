//! Groups of people. Refuses to know what they may do: projects say.

use crate::core::Core;
use crate::fault::Fault;
use crate::idempotent;
use crate::identity::Caller;
use crate::paging::Page;
use crate::people;
use domain::ErrorKind;
use domain::id::GroupId;
use domain::role::Role;
use proto::v1::{
    self, AddGroupMemberRequest, AddGroupMemberResponse, CreateGroupRequest, CreateGroupResponse, DeleteGroupRequest,
    DeleteGroupResponse, ListGroupMembersRequest, ListGroupMembersResponse, ListGroupsRequest, ListGroupsResponse,
    RemoveGroupMemberRequest, RemoveGroupMemberResponse, group_service_server::GroupService,
};
use std::sync::Arc;
use store::groups::{self, Group};
use store::users::{self, User};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.GroupService`.
pub(crate) struct Groups(pub(crate) Arc<Core>);

/// What a page token of this list is for.
const SCOPE: &str = "groups";

fn message(group: Group) -> v1::Group {
    v1::Group {
        id: group.id.to_string(),
        name: group.name,
        created_at: Some(rpc::timestamp::to_proto(group.created_at)),
        members: group.members,
    }
}

impl Groups {
    async fn create(&self, caller: &Caller, request: CreateGroupRequest) -> Result<CreateGroupResponse, Fault> {
        let key = idempotent::Key::of(caller, "CreateGroup", &request.idempotency_key, &request)?;
        people::check_label(&request.name, "name")?;
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = key.answered(&transaction).await? {
            return Ok(answer);
        }
        let group = groups::insert(&transaction, GroupId(uuid::Uuid::now_v7()), &request.name).await?;
        let group = group.ok_or_else(|| {
            Fault::new(ErrorKind::AlreadyExists, "GROUP_EXISTS", format!("the group name `{}` is taken", request.name))
        })?;
        let answer = CreateGroupResponse { group: Some(message(group)) };
        key.record(&transaction, &answer).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(answer)
    }

    async fn list(&self, request: ListGroupsRequest) -> Result<ListGroupsResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let after: String = rpc::paging::decode(SCOPE, &request.page_token)?.unwrap_or_default();
        let mut rows = groups::list(&self.0.store.client().await?, &after, page.limit()).await?;
        let next_page_token = page.cut(SCOPE, &mut rows, |group| group.name.clone())?;
        Ok(ListGroupsResponse { groups: rows.into_iter().map(message).collect(), next_page_token })
    }

    async fn group(&self, name: &str) -> Result<Group, Fault> {
        groups::get(&self.0.store.client().await?, name).await?.ok_or_else(|| Fault::no_group(name))
    }

    async fn user(&self, email: &str) -> Result<User, Fault> {
        let email = people::email(email, "email")?;
        users::get(&self.0.store.client().await?, &email).await?.ok_or_else(|| Fault::no_user(&email))
    }

    /// The group of this name, whose members the caller may change: being one gives nobody more than the caller has.
    async fn lower(&self, caller: &Caller, name: &str) -> Result<Group, Fault> {
        let group = self.group(name).await?;
        let (user, role) = (caller.user.id, caller.user.role);
        if groups::gives_more(&self.0.store.client().await?, group.id, user, role).await? {
            caller.check_grant(Some(Role::Owner))?;
        }
        Ok(group)
    }

    async fn delete(&self, caller: &Caller, name: &str) -> Result<(), Fault> {
        let group = self.lower(caller, name).await?;
        if groups::delete(&self.0.store.client().await?, group.id).await? {
            return Ok(());
        }
        let message = format!("the group `{name}` owns a project and stays with it");
        Err(Fault::new(ErrorKind::FailedPrecondition, "GROUP_OWNS_PROJECT", message))
    }

    async fn members(&self, request: ListGroupMembersRequest) -> Result<ListGroupMembersResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let scope = format!("group_members/{}", request.name);
        let after: String = rpc::paging::decode(&scope, &request.page_token)?.unwrap_or_default();
        let group = self.group(&request.name).await?;
        let mut rows = groups::members(&self.0.store.client().await?, group.id, &after, page.limit()).await?;
        let next_page_token = page.cut(&scope, &mut rows, |user| user.email.clone())?;
        Ok(ListGroupMembersResponse { users: rows.into_iter().map(super::users::message).collect(), next_page_token })
    }

    async fn add(&self, caller: &Caller, name: &str, email: &str) -> Result<(), Fault> {
        let (group, user) = (self.lower(caller, name).await?, self.user(email).await?);
        Ok(groups::add(&self.0.store.client().await?, group.id, user.id).await?)
    }

    async fn remove(&self, caller: &Caller, name: &str, email: &str) -> Result<(), Fault> {
        let (group, user) = (self.lower(caller, name).await?, self.user(email).await?);
        if groups::remove(&self.0.store.client().await?, group.id, user.id).await? {
            return Ok(());
        }
        let message = format!("`{}` is no member of the group `{name}`", user.email);
        Err(Fault::new(ErrorKind::NotFound, "MEMBER_NOT_FOUND", message))
    }
}

#[async_trait]
impl GroupService for Groups {
    async fn create_group(
        &self,
        request: Request<CreateGroupRequest>,
    ) -> Result<Response<CreateGroupResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.create(&caller, request.into_inner()).await?))
    }

    async fn list_groups(&self, request: Request<ListGroupsRequest>) -> Result<Response<ListGroupsResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn delete_group(
        &self,
        request: Request<DeleteGroupRequest>,
    ) -> Result<Response<DeleteGroupResponse>, Status> {
        self.delete(&Caller::of(&request)?, &request.get_ref().name).await?;
        Ok(Response::new(DeleteGroupResponse {}))
    }

    async fn list_group_members(
        &self,
        request: Request<ListGroupMembersRequest>,
    ) -> Result<Response<ListGroupMembersResponse>, Status> {
        Ok(Response::new(self.members(request.into_inner()).await?))
    }

    async fn add_group_member(
        &self,
        request: Request<AddGroupMemberRequest>,
    ) -> Result<Response<AddGroupMemberResponse>, Status> {
        self.add(&Caller::of(&request)?, &request.get_ref().name, &request.get_ref().email).await?;
        Ok(Response::new(AddGroupMemberResponse {}))
    }

    async fn remove_group_member(
        &self,
        request: Request<RemoveGroupMemberRequest>,
    ) -> Result<Response<RemoveGroupMemberResponse>, Status> {
        self.remove(&Caller::of(&request)?, &request.get_ref().name, &request.get_ref().email).await?;
        Ok(Response::new(RemoveGroupMemberResponse {}))
    }
}
