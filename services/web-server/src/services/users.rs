//! People, for those who administer them. Refuses to hand out more than the caller has.

use crate::changed::Changed;
use crate::core::Core;
use crate::encode;
use crate::fault::Fault;
use crate::idempotent;
use crate::identity::{Caller, passwords, tokens};
use crate::paging::Page;
use crate::people;
use domain::ErrorKind;
use domain::id::UserId;
use domain::role::Role;
use proto::v1::{
    self, CreateUserRequest, CreateUserResponse, DisableUserRequest, DisableUserResponse, EnableUserRequest,
    EnableUserResponse, ListUsersRequest, ListUsersResponse, ResetPasswordRequest, ResetPasswordResponse,
    SetUserRoleRequest, SetUserRoleResponse, UnlinkUserRequest, UnlinkUserResponse, user_service_server::UserService,
};
use std::sync::Arc;
use store::Transaction;
use store::credentials::{self, Shown};
use store::users::{self, NewUser, PasswordState, User};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.UserService`.
pub(crate) struct Users(pub(crate) Arc<Core>);

/// What a page token of this list is for.
const SCOPE: &str = "users";

/// A person of the contract.
pub(crate) fn message(user: User) -> v1::User {
    v1::User {
        id: user.id.to_string(),
        email: user.email,
        name: user.name,
        role: encode::role(user.role).into(),
        created_at: Some(rpc::timestamp::to_proto(user.created_at)),
        disabled: user.disabled,
        password_is_one_time: user.password == PasswordState::OneTime,
    }
}

impl Users {
    async fn create(&self, caller: &Caller, request: CreateUserRequest) -> Result<CreateUserResponse, Fault> {
        let key = idempotent::Key::of(caller, "CreateUser", &request.idempotency_key, &request)?;
        let email = people::email(&request.email, "email")?;
        let role = encode::role_of(request.role, "role")?;
        caller.check_grant(role)?;
        if request.name.chars().count() > people::NAME_CHARS_MAX {
            return Err(Fault::field("name", format!("must have at most {} characters", people::NAME_CHARS_MAX)));
        }
        let password = tokens::one_time_password();
        let hash = passwords::hash(password.clone()).await?;
        let new = NewUser {
            id: UserId(uuid::Uuid::now_v7()),
            email: &email,
            name: &request.name,
            one_time_password_hash: Some(&hash),
            role,
        };
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = key.answered(&transaction).await? {
            return Ok(answer);
        }
        let Some(user) = users::insert(&transaction, &new).await? else {
            let message = format!("there is a user `{email}` already");
            return Err(Fault::new(ErrorKind::AlreadyExists, "USER_EXISTS", message));
        };
        people::settle(&transaction, &user).await?;
        let kept = CreateUserResponse { user: Some(message(user)), one_time_password: String::new() };
        key.record(&transaction, &kept).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(CreateUserResponse { one_time_password: password, ..kept })
    }

    async fn list(&self, request: ListUsersRequest) -> Result<ListUsersResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let after: String = rpc::paging::decode(SCOPE, &request.page_token)?.unwrap_or_default();
        let mut rows = users::list(&self.0.store.client().await?, &after, page.limit()).await?;
        let next_page_token = page.cut(SCOPE, &mut rows, |user| user.email.clone())?;
        Ok(ListUsersResponse { users: rows.into_iter().map(message).collect(), next_page_token })
    }

    async fn set_role(
        &self,
        caller: &Caller,
        request: SetUserRoleRequest,
    ) -> Result<Response<SetUserRoleResponse>, Fault> {
        let role = encode::role_of(request.role, "role")?;
        caller.check_grant(role)?;
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let user = lower(&transaction, caller, &request.email).await?;
        if role != Some(Role::Owner) {
            keep_an_owner(&transaction, user.id).await?;
        }
        let changed = Changed::of_role("role", user.role, role);
        let user = users::set_role(&transaction, user.id, role).await?.unwrap_or(user);
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(changed.told_with(SetUserRoleResponse { user: Some(message(user)) }))
    }

    async fn set_disabled(&self, caller: &Caller, email: &str, disabled: bool) -> Result<(), Fault> {
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let user = lower(&transaction, caller, email).await?;
        if disabled {
            keep_an_owner(&transaction, user.id).await?;
        }
        // First, so that what somebody adds at this moment has been added before the rest looks, or never is.
        users::set_disabled(&transaction, user.id, disabled).await?;
        if disabled {
            credentials::revoke_tokens(&transaction, user.id).await?;
            credentials::delete_sessions(&transaction, user.id, None).await?;
        }
        Ok(transaction.commit().await.map_err(store::Error::from)?)
    }

    async fn reset_password(&self, caller: &Caller, email: &str) -> Result<ResetPasswordResponse, Fault> {
        let password = tokens::one_time_password();
        let hash = passwords::hash(password.clone()).await?;
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let user = lower(&transaction, caller, email).await?;
        users::set_password(&transaction, user.id, &hash, PasswordState::OneTime, None).await?;
        credentials::end_of_password(&transaction, user.id, &Shown::default()).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(ResetPasswordResponse { one_time_password: password })
    }

    async fn unlink(&self, caller: &Caller, email: &str) -> Result<(), Fault> {
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let user = lower(&transaction, caller, email).await?;
        users::unlink_oidc(&transaction, user.id).await?;
        credentials::end_of_elsewhere(&transaction, user.id).await?;
        Ok(transaction.commit().await.map_err(store::Error::from)?)
    }
}

/// The person of an address, whom the caller may change: nobody changes one who stands above.
async fn lower(db: &Transaction<'_>, caller: &Caller, email: &str) -> Result<User, Fault> {
    let email = people::email(email, "email")?;
    let user = users::get(db, &email).await?.ok_or_else(|| Fault::no_user(&email))?;
    caller.check_grant(user.role)?;
    Ok(user)
}

/// Refuses to leave the cluster without an owner.
async fn keep_an_owner(db: &Transaction<'_>, user: UserId) -> Result<(), Fault> {
    if users::lock_owners(db).await? == [user] {
        let message = "this is the last owner of the cluster; make somebody else one first";
        return Err(Fault::new(ErrorKind::FailedPrecondition, "LAST_OWNER", message));
    }
    Ok(())
}

#[async_trait]
impl UserService for Users {
    async fn create_user(&self, request: Request<CreateUserRequest>) -> Result<Response<CreateUserResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.create(&caller, request.into_inner()).await?))
    }

    async fn list_users(&self, request: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn set_user_role(
        &self,
        request: Request<SetUserRoleRequest>,
    ) -> Result<Response<SetUserRoleResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(self.set_role(&caller, request.into_inner()).await?)
    }

    async fn disable_user(
        &self,
        request: Request<DisableUserRequest>,
    ) -> Result<Response<DisableUserResponse>, Status> {
        self.set_disabled(&Caller::of(&request)?, &request.get_ref().email, true).await?;
        Ok(Response::new(DisableUserResponse {}))
    }

    async fn enable_user(&self, request: Request<EnableUserRequest>) -> Result<Response<EnableUserResponse>, Status> {
        self.set_disabled(&Caller::of(&request)?, &request.get_ref().email, false).await?;
        Ok(Response::new(EnableUserResponse {}))
    }

    async fn reset_password(
        &self,
        request: Request<ResetPasswordRequest>,
    ) -> Result<Response<ResetPasswordResponse>, Status> {
        Ok(Response::new(self.reset_password(&Caller::of(&request)?, &request.get_ref().email).await?))
    }

    async fn unlink_user(&self, request: Request<UnlinkUserRequest>) -> Result<Response<UnlinkUserResponse>, Status> {
        self.unlink(&Caller::of(&request)?, &request.get_ref().email).await?;
        Ok(Response::new(UnlinkUserResponse {}))
    }
}
