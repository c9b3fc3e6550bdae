//! From the headers of a request to a person. Refuses to know what is called.

use super::cookies::{self, CSRF_HEADER};
use super::{Caller, Identity, Via, tokens};
use crate::fault::Fault;
use domain::ErrorKind;
use http::{HeaderMap, Method, header};
use rpc::auth::Token;
use store::Store;
use store::credentials::{self, Origin};
use store::users::User;

/// What credentials are compared with.
pub(crate) struct Credentials {
    /// Where people are.
    pub(crate) store: Store,
    /// The token in the file of this server's settings, and as whom its bearer acts.
    pub(crate) operator: Option<(Token, User)>,
}

impl Credentials {
    /// Who sent these headers. A wrong credential is refused, not passed over.
    pub(crate) async fn identify(&self, method: &Method, headers: &HeaderMap) -> Result<Identity, Fault> {
        let given = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
        if let Some(given) = given {
            let token = given.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer "));
            let token = token.map_or("", |(_, token)| token);
            return self.bearer(token).await?.map(Identity::Person).ok_or_else(wrong);
        }
        match cookies::get(headers, cookies::SESSION) {
            Some(secret) => self.session(secret, method, headers).await.map(Identity::Person),
            None => Ok(Identity::Nobody),
        }
    }

    async fn bearer(&self, token: &str) -> Result<Option<Caller>, Fault> {
        if let Some((known, owner)) = &self.operator
            && known.accepts(token.as_bytes())
        {
            return Ok(Some(Caller { user: owner.clone(), via: Via::Operator, origin: Origin::Operator }));
        }
        let Some((prefix, secret)) = tokens::split(token) else { return Ok(None) };
        let db = self.store.client().await?;
        let Some(candidate) = credentials::token(&db, prefix).await? else { return Ok(None) };
        if !tokens::matches(secret, &candidate.secret_hash) {
            return Ok(None);
        }
        if candidate.touch {
            credentials::touch_token(&db, candidate.token).await?;
        }
        let via = Via::Token { id: candidate.token, prefix: prefix.to_owned() };
        // Of a time when nobody noted it: then it was made to last.
        let origin = candidate.origin.unwrap_or(Origin::Person);
        Ok(Some(Caller { user: candidate.user, via, origin }))
    }

    /// A browser sends its cookie whoever made it ask: what may change something must also show that our page asked.
    async fn session(&self, secret: &str, method: &Method, headers: &HeaderMap) -> Result<Caller, Fault> {
        let hash = tokens::hash(secret);
        let db = self.store.client().await?;
        let Some(session) = credentials::session(&db, &hash).await? else {
            return Err(Fault::unauthenticated("the session is over; sign in again"));
        };
        if !matches!(*method, Method::GET | Method::HEAD) {
            let given = headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
            if !tokens::matches(given, &session.csrf_hash) {
                let message =
                    format!("a request with a session's cookie must send the cookie `orrery_csrf` as `{CSRF_HEADER}`");
                return Err(Fault::new(ErrorKind::PermissionDenied, "FORGED_REQUEST", message));
            }
        }
        // What is not noted is taken for what ends soonest.
        let origin = session.origin.unwrap_or(Origin::Password);
        Ok(Caller { user: session.user, via: Via::Session(hash.to_vec()), origin })
    }
}

fn wrong() -> Fault {
    Fault::unauthenticated("the token is not valid: it is wrong, has expired or was revoked; get one by `orrery login`")
}
