//! Browsers that sign in: a session in a cookie that no script reads, and a second cookie that only our page can read
//! and shows with every request. Refuses to judge passwords and tokens.

use crate::authorisation::Authority;
use crate::core::Core;
use crate::fault::Fault;
use crate::identity::cookies::{self, Cookie};
use crate::identity::credentials::Credentials;
use crate::identity::{Caller, Identity, Via, tokens};
use crate::oidc_sign_in::Elsewhere;
use crate::router::Api;
use crate::sign_in;
use crate::transcode::connect;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::{ErrorKind, id::UserId};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use store::credentials::{self, Origin};
use store::users::User;
use tonic::Status;

/// How long a browser stays signed in.
pub(crate) const SESSION_LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// A browser that came with the operator's token has the address to come with again, so its session is a working day's.
const OPERATOR_SESSION_LIFETIME: Duration = Duration::from_secs(12 * 3_600);

/// What browsers need beside the methods.
pub(crate) struct Browsers {
    pub(crate) core: Arc<Core>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) authority: Arc<Authority>,
    /// People reach us by TLS, so cookies go nowhere else.
    pub(crate) secure: bool,
    /// Where people may sign in elsewhere.
    pub(crate) elsewhere: Option<Elsewhere>,
}

/// What the page's form sends; `Debug` is left out on purpose.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Form {
    email: String,
    password: String,
    #[serde(default)]
    new_password: String,
}

/// `POST /auth/session`: an address and a password for two cookies; or, without a body, the operator's token as a bearer's,
/// for the cookies of the person as whom it acts. `SignInService/SignOut` ends the session.
pub(crate) async fn sign_in(State(api): State<Api>, headers: HeaderMap, form: Option<Json<Form>>) -> Response {
    // A form of another page can send neither JSON nor a bearer's token unasked, and the gate checked the origin.
    let browsers = &api.browsers;
    let (email, (lifetime, origin), outcome) = match form {
        Some(Json(form)) if form.email.contains('\0') => {
            return connect::error(&Fault::field("email", rpc::json::NUL).into());
        }
        Some(Json(form)) => {
            let attempt = sign_in::Attempt {
                email: form.email.clone(),
                password: form.password,
                new_password: form.new_password,
            };
            let outcome = sign_in::by_password(&browsers.core, attempt).await;
            let outcome = outcome.map(|(user, compared)| (user, Some(compared)));
            (form.email, (SESSION_LIFETIME, Origin::Password), outcome)
        }
        None => {
            let outcome = by_operator(&browsers.credentials, &headers).await;
            let email = outcome.as_ref().map(|user| user.email.clone()).unwrap_or_default();
            (email, (OPERATOR_SESSION_LIFETIME, Origin::Operator), outcome.map(|user| (user, None)))
        }
    };
    let session = match outcome {
        Ok((user, compared)) => {
            let session = begin(browsers, (user.id, compared.as_deref()), lifetime, origin).await;
            session.map(|session| (user, session))
        }
        Err(fault) => Err(fault),
    };
    browsers.authority.record_sign_in(&email, session.as_ref().map(|(user, _)| user)).await;
    session.map_or_else(|fault| connect::error(&Status::from(fault)), |(_, session)| session)
}

/// The person as whom the operator's token acts. Tokens of people are for programs: a session would outlive the token
/// that it came from.
async fn by_operator(credentials: &Credentials, headers: &HeaderMap) -> Result<User, Fault> {
    if !headers.contains_key(header::AUTHORIZATION) {
        return Err(Fault::unauthenticated("send an address and a password as JSON"));
    }
    match credentials.identify(&Method::POST, headers).await? {
        Identity::Person(Caller { user, via: Via::Operator, .. }) => Ok(user),
        _ => {
            let message =
                "a personal token begins no session; sign in with the password, or send the token with each call";
            Err(Fault::new(ErrorKind::PermissionDenied, "TOKEN_BEGINS_NO_SESSION", message))
        }
    }
}

/// Begins a session of a person, by the hash of the password that was compared, if any was; and sets its cookies.
pub(crate) async fn begin(
    browsers: &Browsers,
    (user, compared): (UserId, Option<&str>),
    lifetime: Duration,
    origin: Origin,
) -> Result<Response, Fault> {
    let (secret, csrf) = (tokens::secret(), tokens::secret());
    let (secret_hash, csrf_hash) = (tokens::hash(&secret), tokens::hash(&csrf));
    let mut db = browsers.core.store.client().await?;
    let transaction = db.transaction().await.map_err(store::Error::from)?;
    sign_in::hold(&transaction, user, compared).await?;
    credentials::insert_session(&transaction, &secret_hash, &csrf_hash, user, (lifetime, origin)).await?;
    transaction.commit().await.map_err(store::Error::from)?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    for cookie in pair(&secret, &csrf, lifetime, browsers.secure) {
        set(&mut response, &cookie);
    }
    Ok(response)
}

fn pair<'a>(secret: &'a str, csrf: &'a str, lifetime: Duration, secure: bool) -> [Cookie<'a>; 2] {
    let session = Cookie { name: cookies::SESSION, value: secret, lifetime, strict: true, script: false, secure };
    [session, Cookie { name: cookies::CSRF, value: csrf, lifetime, strict: true, script: true, secure }]
}

/// Adds a cookie to an answer.
pub(crate) fn set(response: &mut Response, cookie: &Cookie<'_>) {
    if let Some(value) = cookie.header() {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}
