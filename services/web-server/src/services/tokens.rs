//! One's own tokens. Refuses to show one twice.

use crate::core::Core;
use crate::fault::Fault;
use crate::idempotent;
use crate::identity::Caller;
use crate::identity::tokens::{self, Fresh};
use crate::paging::Page;
use crate::standing;
use domain::ErrorKind;
use domain::id::{TokenId, UserId};
use proto::v1::{
    self, CreateTokenRequest, CreateTokenResponse, CredentialOrigin, ListTokensRequest, ListTokensResponse, MadeToken,
    RevokeTokenRequest, RevokeTokenResponse, token_service_server::TokenService,
};
use rpc::personal_token::hash_from_hex;
use std::sync::Arc;
use std::time::Duration;
use store::credentials::{self, AccessToken, Added, NewToken, Origin, OwnSession, TOKENS_MAX};
use store::{Transaction, users};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.TokenService`.
pub(crate) struct Tokens(pub(crate) Arc<Core>);

/// What a page token of this list is for.
const SCOPE: &str = "tokens";
/// When nobody says.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(90 * 86_400);
/// The longest.
const LIFETIME_MAX: Duration = Duration::from_secs(3 * 366 * 86_400);
/// Before the ids of sessions.
const SESSION: &str = "session:";
/// Sessions that are shown.
const SESSIONS_MAX: i64 = 100;
/// The longest name.
const NAME_CHARS_MAX: usize = 100;

/// Refuses what no token is called.
pub(super) fn check_name(name: &str, field: &'static str) -> Result<(), Fault> {
    if (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Fault::field(field, format!("must have 1 to {NAME_CHARS_MAX} characters, such as `laptop`")))
}

/// Adds a token of a person; answers what may be shown of it later.
pub(super) async fn add(
    db: &Transaction<'_>,
    user: UserId,
    name: &str,
    (lifetime, origin): (Duration, Origin),
    fresh: &Fresh,
) -> Result<AccessToken, Fault> {
    let new = NewToken {
        id: TokenId(uuid::Uuid::now_v7()),
        user,
        name,
        prefix: &fresh.prefix,
        secret_hash: &fresh.secret_hash,
        lifetime: Some(lifetime),
        origin,
    };
    match credentials::insert_token(db, &new).await? {
        Added::Token(token) => Ok(token),
        Added::TooMany => {
            let message = format!("there are {TOKENS_MAX} tokens in force; revoke one by `orrery tokens revoke`");
            Err(Fault::new(ErrorKind::ResourceExhausted, "TOO_MANY_TOKENS", message))
        }
        Added::Taken => {
            let message = "a token that begins so is known already; make another one, as `orrery login` does each time";
            Err(Fault::new(ErrorKind::Conflict, "TOKEN_TAKEN", message))
        }
    }
}

/// A token of which its maker tells no more than we keep.
fn made_elsewhere(made: MadeToken) -> Result<Fresh, Fault> {
    if !tokens::is_prefix(&made.prefix) {
        return Err(Fault::field("made.prefix", "must be `orr_` and twelve hexadecimal digits"));
    }
    let secret_hash = hash_from_hex(&made.secret_sha256)
        .ok_or_else(|| Fault::field("made.secret_sha256", "must be a SHA-256 as 64 hexadecimal digits"))?;
    Ok(Fresh { text: String::new(), prefix: made.prefix, secret_hash })
}

fn message(token: AccessToken) -> v1::AccessToken {
    v1::AccessToken {
        id: token.id.to_string(),
        name: token.name,
        prefix: token.prefix,
        created_at: Some(rpc::timestamp::to_proto(token.created_at)),
        expires_at: token.expires_at.map(rpc::timestamp::to_proto),
        last_used_at: token.last_used_at.map(rpc::timestamp::to_proto),
        revoked_at: token.revoked_at.map(rpc::timestamp::to_proto),
        origin: origin(token.origin).into(),
    }
}

fn origin(origin: Option<Origin>) -> CredentialOrigin {
    match origin {
        None => CredentialOrigin::Unspecified,
        Some(Origin::Person) => CredentialOrigin::Person,
        Some(Origin::Password) => CredentialOrigin::Password,
        Some(Origin::Elsewhere) => CredentialOrigin::Elsewhere,
        Some(Origin::Operator) => CredentialOrigin::Operator,
    }
}

/// A session of the person who calls.
fn session(caller: &Caller, session: OwnSession) -> v1::BrowserSession {
    v1::BrowserSession {
        id: format!("{SESSION}{}", session.id),
        origin: origin(session.origin).into(),
        created_at: Some(rpc::timestamp::to_proto(session.created_at)),
        expires_at: Some(rpc::timestamp::to_proto(session.expires_at)),
        current: caller.shown().session == Some(session.secret_hash.as_slice()),
    }
}

impl Tokens {
    async fn create(&self, caller: &Caller, request: CreateTokenRequest) -> Result<CreateTokenResponse, Fault> {
        let key = idempotent::Key::of(caller, "CreateToken", &request.idempotency_key, &request)?;
        check_name(&request.name, "name")?;
        let lifetime = request.lifetime.map_or(Ok(LIFETIME_DEFAULT), lifetime)?;
        // A program that a person lets in holds what that person's sign-in holds, and ends with the same password.
        let origin = if request.made.is_some() { caller.origin } else { Origin::Person };
        let fresh = request.made.map_or_else(|| Ok(tokens::generate()), made_elsewhere)?;
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = key.answered(&transaction).await? {
            return Ok(answer);
        }
        // What let the caller in may have ended since. Once the person is held, it either has or will find this one.
        let held = users::hold(&transaction, caller.user.id, None).await?;
        if !held || credentials::holder(&transaction, caller.user.id, &caller.shown()).await?.is_none() {
            return Err(standing::ended());
        }
        let row = add(&transaction, caller.user.id, &request.name, (lifetime, origin), &fresh).await?;
        let kept = CreateTokenResponse { token: String::new(), access_token: Some(message(row)) };
        key.record(&transaction, &kept).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(CreateTokenResponse { token: fresh.text, ..kept })
    }

    async fn list(&self, caller: &Caller, request: ListTokensRequest) -> Result<ListTokensResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let before: Option<TokenId> = rpc::paging::decode(SCOPE, &request.page_token)?;
        let db = self.0.store.client().await?;
        let mut rows = credentials::tokens(&db, caller.user.id, before, page.limit()).await?;
        let next_page_token = page.cut(SCOPE, &mut rows, |token| token.id)?;
        let sessions = match before {
            None => credentials::sessions(&db, caller.user.id, SESSIONS_MAX).await?,
            Some(_) => Vec::new(),
        };
        let sessions = sessions.into_iter().map(|of| session(caller, of)).collect();
        Ok(ListTokensResponse { tokens: rows.into_iter().map(message).collect(), next_page_token, sessions })
    }

    async fn revoke(&self, caller: &Caller, token: &str) -> Result<(), Fault> {
        let db = self.0.store.client().await?;
        if let Some(id) = token.strip_prefix(SESSION) {
            if credentials::delete_session_of(&db, caller.user.id, id).await? {
                return Ok(());
            }
            let message = "you have no such session; `orrery tokens` lists yours";
            return Err(Fault::new(ErrorKind::NotFound, "SESSION_NOT_FOUND", message));
        }
        // A whole token names itself as well; only what finds it goes on.
        let token = tokens::split(token).map_or(token, |(prefix, _)| prefix);
        if credentials::revoke_token(&db, caller.user.id, token).await? {
            return Ok(());
        }
        let message = "you have no such token; `orrery tokens` lists yours";
        Err(Fault::new(ErrorKind::NotFound, "TOKEN_NOT_FOUND", message))
    }
}

fn lifetime(given: prost_types::Duration) -> Result<Duration, Fault> {
    let wrong = || Fault::field("lifetime", "must be longer than 0 and at most 3 years");
    let lifetime = Duration::try_from(given).map_err(|_| wrong())?;
    if lifetime.is_zero() || lifetime > LIFETIME_MAX { Err(wrong()) } else { Ok(lifetime) }
}

#[async_trait]
impl TokenService for Tokens {
    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.create(&caller, request.into_inner()).await?))
    }

    async fn list_tokens(&self, request: Request<ListTokensRequest>) -> Result<Response<ListTokensResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.list(&caller, request.into_inner()).await?))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        self.revoke(&Caller::of(&request)?, &request.get_ref().token).await?;
        Ok(Response::new(RevokeTokenResponse {}))
    }
}
