//! People who sign in elsewhere: away to the provider, back with a code, and which account that is. Refuses to know how a
//! provider proves anything.

use crate::browser;
use crate::core::Core;
use crate::fault::Fault;
use crate::identity::cookies::{self, Cookie};
use crate::identity::tokens;
use crate::people;
use crate::router::Api;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::ErrorKind;
use domain::id::UserId;
use oidc::{Departure, Error, Person, Provider};
use runtime::exit::chain;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use store::credentials::Origin;
use store::users::{self, NewUser, User};
use store::{Transaction, credentials, members};
use tokio::time::Instant;

/// How long somebody may take at the provider.
const LIFETIME: Duration = Duration::from_secs(600);
/// The bucket of sign-ins that begin: each leaves a row for some minutes, and nobody has shown a credential yet.
const RATE: &str = "oidc-sign-in";
/// The longest code and state that come back.
const PARAMETER_BYTES_MAX: usize = 4_096;
/// Where the page takes over again.
const PAGE: &str = "/#/runs";

/// A provider whose people may sign in here.
pub(crate) struct Elsewhere {
    /// Proves who somebody is.
    pub(crate) provider: Provider,
    /// What the page's button says.
    pub(crate) name: String,
    /// People with addresses of these domains get an account by signing in; in lower case.
    pub(crate) domains: Vec<String>,
}

/// `GET /auth/options`: what the page offers to who is not signed in.
pub(crate) async fn options(State(api): State<Api>) -> Json<Value> {
    let name = api.browsers.elsewhere.as_ref().map(|elsewhere| elsewhere.name.clone());
    Json(json!({ "elsewhere": name }))
}

/// `GET /auth/oidc`: sends a browser to the provider, and notes that it went.
pub(crate) async fn depart(State(api): State<Api>) -> Response {
    match begin(&api).await {
        Ok(Departure { url, state, .. }) => {
            let mut response = redirect(&url);
            browser::set(&mut response, &cookie(&state, LIFETIME, api.browsers.secure));
            response
        }
        Err(fault) => refuse(&fault),
    }
}

async fn begin(api: &Api) -> Result<Departure, Fault> {
    let (core, elsewhere) = (&api.browsers.core, elsewhere(api)?);
    core.rates
        .take(RATE, core.limits.trigger_calls_per_second, Instant::now())
        .map_err(|wait| Fault::busy("TOO_MANY_SIGN_INS", "too many people sign in; try again soon", wait))?;
    let departure = elsewhere.provider.begin().await.map_err(|error| failed(&error))?;
    let db = core.store.client().await?;
    let key = tokens::hash(&departure.state);
    credentials::begin_oidc(&db, &key, &departure.nonce, &departure.verifier, LIFETIME).await?;
    Ok(departure)
}

fn elsewhere(api: &Api) -> Result<&Elsewhere, Fault> {
    api.browsers.elsewhere.as_ref().ok_or_else(|| {
        let message = "this cluster has no provider of sign-ins; sign in with a password, or set `oidc.issuer`";
        Fault::new(ErrorKind::FailedPrecondition, "NO_PROVIDER", message)
    })
}

/// Lax, since it comes back with a page that another site opened.
fn cookie(value: &str, lifetime: Duration, secure: bool) -> Cookie<'_> {
    Cookie { name: cookies::OIDC, value, lifetime, strict: false, script: false, secure }
}

/// What the provider sends back.
#[derive(Deserialize)]
pub(crate) struct Returned {
    #[serde(default)]
    code: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    error: String,
}

/// `GET /auth/oidc/callback`: a code for a session.
pub(crate) async fn arrive(State(api): State<Api>, Query(returned): Query<Returned>, headers: HeaderMap) -> Response {
    let browsers = &api.browsers;
    let mut response = match identify(&api, returned, &headers).await {
        Err(fault) => {
            browsers.authority.record_sign_in("", Err(&fault)).await;
            refuse(&fault)
        }
        Ok(person) => {
            let email = person.verified_email.clone().unwrap_or_default();
            let session = match account(&browsers.core, elsewhere(&api), person).await {
                Ok(user) => {
                    let lifetime = browser::SESSION_LIFETIME;
                    let session = browser::begin(browsers, (user.id, None), lifetime, Origin::Elsewhere).await;
                    session.map(|session| (user, session))
                }
                Err(fault) => Err(fault),
            };
            browsers.authority.record_sign_in(&email, session.as_ref().map(|(user, _)| user)).await;
            session.map_or_else(|fault| refuse(&fault), |(_, session)| home(session))
        }
    };
    // Served its purpose, whatever came of it.
    browser::set(&mut response, &cookie("", Duration::ZERO, browsers.secure));
    response
}

/// The session's cookies, on the way to the page.
fn home(session: Response) -> Response {
    let mut response = redirect(PAGE);
    for cookie in session.headers().get_all(header::SET_COOKIE) {
        response.headers_mut().append(header::SET_COOKIE, cookie.clone());
    }
    response
}

async fn identify(api: &Api, returned: Returned, headers: &HeaderMap) -> Result<Person, Fault> {
    let elsewhere = elsewhere(api)?;
    // Somebody else's browser must not be signed in as whoever began this: it has to show what ours was given.
    let kept = cookies::get(headers, cookies::OIDC).unwrap_or_default();
    let small = returned.code.len() <= PARAMETER_BYTES_MAX && returned.state.len() <= PARAMETER_BYTES_MAX;
    if kept.is_empty() || !small || !tokens::matches(&returned.state, &tokens::hash(kept)) {
        return Err(stale());
    }
    let db = api.browsers.core.store.client().await?;
    let (nonce, verifier) = credentials::take_oidc(&db, &tokens::hash(kept)).await?.ok_or_else(stale)?;
    drop(db);
    if !returned.error.is_empty() || returned.code.is_empty() {
        let message = "the provider did not sign you in; try again, or sign in with a password";
        return Err(Fault::new(ErrorKind::Unauthenticated, "PROVIDER_REFUSED", message));
    }
    elsewhere.provider.finish(returned.code, nonce, verifier).await.map_err(|error| failed(&error))
}

fn stale() -> Fault {
    let message = "this sign-in was not begun in this browser, is over, or took too long; sign in again";
    Fault::new(ErrorKind::Unauthenticated, "SIGN_IN_OVER", message)
}

/// The provider's words are for the log: they may name codes and addresses.
fn failed(error: &Error) -> Fault {
    tracing::warn!(error = chain(error), "a sign-in by the provider failed");
    match error {
        Error::Discovery(_) => {
            let message = "the provider of sign-ins does not answer; try again, or sign in with a password";
            Fault::new(ErrorKind::Unavailable, "PROVIDER_AWAY", message)
        }
        Error::Code(_) | Error::Token(_) => {
            let message = "the provider's answer proves nothing; sign in again";
            Fault::new(ErrorKind::Unauthenticated, "PROVIDER_REFUSED", message)
        }
    }
}

/// The account of a person: the one that is tied to them, else the one of their verified address, else a new one for who
/// was invited or is of one of the domains.
async fn account(core: &Core, elsewhere: Result<&Elsewhere, Fault>, person: Person) -> Result<User, Fault> {
    let domains = &elsewhere?.domains;
    let mut db = core.store.client().await?;
    let transaction = db.transaction().await.map_err(store::Error::from)?;
    let known = users::get_by_oidc(&transaction, &person.issuer, &person.subject).await?;
    let user = match known {
        Some(user) => user,
        None => {
            let user = by_address(&transaction, domains, &person).await?;
            if !users::link_oidc(&transaction, user.id, &person.issuer, &person.subject).await? {
                let message = "the account with your address belongs to somebody else at the provider; ask an admin, who can untie it by `orrery users unlink`";
                return Err(Fault::new(ErrorKind::PermissionDenied, "ACCOUNT_TAKEN", message));
            }
            user
        }
    };
    if user.disabled {
        let message = "your account is disabled; ask an admin";
        return Err(Fault::new(ErrorKind::PermissionDenied, "ACCOUNT_DISABLED", message));
    }
    transaction.commit().await.map_err(store::Error::from)?;
    Ok(user)
}

async fn by_address(db: &Transaction<'_>, domains: &[String], person: &Person) -> Result<User, Fault> {
    let Some(email) = &person.verified_email else {
        let message = "the provider has not verified your e-mail address, by which you would be known here";
        return Err(Fault::new(ErrorKind::PermissionDenied, "ADDRESS_NOT_VERIFIED", message));
    };
    let email = people::email(email, "email")?;
    if let Some(user) = users::get(db, &email).await? {
        return Ok(user);
    }
    let domain = email.rsplit('@').next().unwrap_or_default();
    if !domains.iter().any(|known| known == domain) && !members::is_invited(db, &email).await? {
        let message = "nobody has invited you; ask an owner of a workspace to invite your address";
        return Err(Fault::new(ErrorKind::PermissionDenied, "NOT_INVITED", message));
    }
    let name: String = person.name.chars().filter(|c| !c.is_control()).take(people::NAME_CHARS_MAX).collect();
    let id = UserId(uuid::Uuid::now_v7());
    let new = NewUser { id, email: &email, name: &name, one_time_password_hash: None, role: None };
    let user = users::insert(db, &new).await?.ok_or_else(|| {
        Fault::new(ErrorKind::Conflict, "CHANGED_MEANWHILE", "your account was made this moment; sign in again")
    })?;
    people::settle(db, &user).await?;
    Ok(user)
}

fn redirect(to: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(to) = HeaderValue::try_from(to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

/// Back to the page, which says why. The reason is a word of ours, which needs no escape.
fn refuse(fault: &Fault) -> Response {
    redirect(&format!("/#/sign-in?refused={}", fault.0.reason))
}
