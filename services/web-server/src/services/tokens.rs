//! One's own tokens. Refuses to show one twice.

use crate::core::Core;
use crate::fault::Fault;
use crate::identity::Caller;
use crate::identity::tokens::{self, Fresh};
use crate::paging::Page;
use domain::ErrorKind;
use domain::id::{TokenId, UserId};
use proto::v1::{
    self, CreateTokenRequest, CreateTokenResponse, ListTokensRequest, ListTokensResponse, MadeToken,
    RevokeTokenRequest, RevokeTokenResponse, token_service_server::TokenService,
};
use rpc::personal_token::hash_from_hex;
use std::sync::Arc;
use std::time::Duration;
use store::credentials::{self, AccessToken, Added, NewToken, TOKENS_MAX};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.TokenService`.
pub(crate) struct Tokens(pub(crate) Arc<Core>);

/// What a page token of this list is for.
const SCOPE: &str = "tokens";
/// When nobody says.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(90 * 86_400);
/// The longest.
const LIFETIME_MAX: Duration = Duration::from_secs(3 * 366 * 86_400);
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
    core: &Core,
    user: UserId,
    name: &str,
    lifetime: Duration,
    fresh: &Fresh,
) -> Result<AccessToken, Fault> {
    let new = NewToken {
        id: TokenId(uuid::Uuid::now_v7()),
        user,
        name,
        prefix: &fresh.prefix,
        secret_hash: &fresh.secret_hash,
        lifetime: Some(lifetime),
    };
    match credentials::insert_token(&core.store.client().await?, &new).await? {
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
    }
}

impl Tokens {
    async fn create(&self, caller: &Caller, request: CreateTokenRequest) -> Result<CreateTokenResponse, Fault> {
        check_name(&request.name, "name")?;
        let lifetime = request.lifetime.map_or(Ok(LIFETIME_DEFAULT), lifetime)?;
        let fresh = request.made.map_or_else(|| Ok(tokens::generate()), made_elsewhere)?;
        let row = add(&self.0, caller.user.id, &request.name, lifetime, &fresh).await?;
        Ok(CreateTokenResponse { token: fresh.text, access_token: Some(message(row)) })
    }

    async fn list(&self, caller: &Caller, request: ListTokensRequest) -> Result<ListTokensResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let before: Option<TokenId> = rpc::paging::decode(SCOPE, &request.page_token)?;
        let db = self.0.store.client().await?;
        let mut rows = credentials::tokens(&db, caller.user.id, before, page.limit()).await?;
        let next_page_token = page.cut(SCOPE, &mut rows, |token| token.id)?;
        Ok(ListTokensResponse { tokens: rows.into_iter().map(message).collect(), next_page_token })
    }

    async fn revoke(&self, caller: &Caller, token: &str) -> Result<(), Fault> {
        // A whole token names itself as well; only what finds it goes on.
        let token = tokens::split(token).map_or(token, |(prefix, _)| prefix);
        if credentials::revoke_token(&self.0.store.client().await?, caller.user.id, token).await? {
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
