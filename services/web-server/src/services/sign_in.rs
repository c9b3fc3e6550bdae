//! Signing in and out, and one's own password. Refuses to know cookies: browsers come by `sign_in`.

use crate::core::Core;
use crate::fault::Fault;
use crate::identity::{Caller, Via, tokens};
use crate::sign_in;
use proto::v1::{
    self, ChangePasswordRequest, ChangePasswordResponse, SignInRequest, SignInResponse, SignOutRequest,
    SignOutResponse, WhoAmIRequest, WhoAmIResponse, sign_in_service_server::SignInService,
};
use std::sync::Arc;
use std::time::Duration;
use store::credentials::{self, Origin};
use store::{projects, users};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.SignInService`.
pub(crate) struct SignIns(pub(crate) Arc<Core>);

/// How long a token lasts that came from a password.
const TOKEN_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

impl SignIns {
    async fn sign_in(&self, request: SignInRequest) -> Result<SignInResponse, Fault> {
        let name = if request.token_name.is_empty() { "sign-in" } else { &request.token_name };
        super::tokens::check_name(name, "token_name")?;
        let attempt =
            sign_in::Attempt { email: request.email, password: request.password, new_password: request.new_password };
        let (user, compared) = sign_in::by_password(&self.0, attempt).await?;
        let fresh = tokens::generate();
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        sign_in::hold(&transaction, user.id, Some(&compared)).await?;
        let token = super::tokens::add(&transaction, user.id, name, (TOKEN_LIFETIME, Origin::Password), &fresh).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        let expires_at = token.expires_at.map(rpc::timestamp::to_proto);
        Ok(SignInResponse { token: fresh.text, expires_at, user: Some(super::users::message(user)) })
    }

    async fn who_am_i(&self, caller: Caller) -> Result<WhoAmIResponse, Fault> {
        let db = self.0.store.client().await?;
        // The operator's person was read at the start; everything else is read anew each time.
        let user = users::get_by_id(&db, caller.user.id).await?.unwrap_or(caller.user);
        let personal = projects::personal(&db, user.id).await?;
        Ok(WhoAmIResponse {
            via: caller.via.to_string(),
            personal_project: personal.map(|project| project.name).unwrap_or_default(),
            user: Some(super::users::message(user)),
        })
    }

    async fn sign_out(&self, caller: Caller) -> Result<SignOutResponse, Fault> {
        let db = self.0.store.client().await?;
        match caller.via {
            Via::Token { prefix, .. } => drop(credentials::revoke_token(&db, caller.user.id, &prefix).await?),
            Via::Session(secret_hash) => credentials::delete_session(&db, &secret_hash).await?,
            Via::Operator => {
                let message = "the operator's token ends when it is taken out of this server's `token_file`";
                return Err(Fault::new(domain::ErrorKind::FailedPrecondition, "OPERATOR_TOKEN", message));
            }
        }
        Ok(v1::SignOutResponse {})
    }

    async fn change_password(&self, caller: Caller, request: ChangePasswordRequest) -> Result<(), Fault> {
        let attempt = sign_in::Attempt {
            email: caller.user.email.clone(),
            password: request.password,
            new_password: request.new_password,
        };
        sign_in::change_password(&self.0, attempt, &caller.shown()).await
    }
}

#[async_trait]
impl SignInService for SignIns {
    async fn sign_in(&self, request: Request<SignInRequest>) -> Result<Response<SignInResponse>, Status> {
        Ok(Response::new(self.sign_in(request.into_inner()).await?))
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        Ok(Response::new(self.who_am_i(Caller::of(&request)?).await?))
    }

    async fn sign_out(&self, request: Request<SignOutRequest>) -> Result<Response<SignOutResponse>, Status> {
        Ok(Response::new(self.sign_out(Caller::of(&request)?).await?))
    }

    async fn change_password(
        &self,
        request: Request<ChangePasswordRequest>,
    ) -> Result<Response<ChangePasswordResponse>, Status> {
        let caller = Caller::of(&request)?;
        self.change_password(caller, request.into_inner()).await?;
        Ok(Response::new(ChangePasswordResponse {}))
    }
}
