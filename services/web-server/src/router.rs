//! Everything that is served on the one port, on one page.

use crate::authorisation::Guarded;
use crate::browser::Browsers;
use crate::fault::Fault;
use crate::gate::{self, Gate};
use crate::models::bytes;
use crate::protocol::Protocol;
use crate::proxy::{self, Proxy};
use crate::transcode::{Transcoder, connect};
use crate::{browser, mage, oidc_sign_in, rest, ui};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use domain::ErrorKind;
use runtime::health::Health;
use std::any::Any;
use std::sync::Arc;
use tonic::Status;
use tonic_web::GrpcWebLayer;
use tower::{Layer, ServiceExt};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

/// What the paths lead to.
#[derive(Clone)]
pub(crate) struct Api {
    /// The services, as gRPC, behind the authorisation.
    pub(crate) services: Guarded,
    /// The services, as JSON.
    pub(crate) transcoder: Arc<Transcoder>,
    /// People who come by a browser.
    pub(crate) browsers: Arc<Browsers>,
    /// What Mage's clients call.
    pub(crate) mage: mage::Mage,
    /// Whether this replica should get work.
    pub(crate) health: Health,
    /// The way to applications of workspaces.
    pub(crate) proxy: Arc<Proxy>,
}

/// Routes that are no methods.
const OWN: [&str; 8] =
    ["/", "/ui/{*path}", "/livez", "/readyz", "/auth/session", "/auth/options", "/auth/oidc", "/auth/oidc/callback"];
/// Services of others.
const FOREIGN: [&str; 2] = ["/grpc.health.v1.Health/{method}", "/grpc.reflection.v1.ServerReflection/{method}"];

/// The template of every route that is not one of the contract's services: each has a row in the authorisation table.
pub(crate) fn templates() -> Vec<&'static str> {
    OWN.into_iter()
        .chain(FOREIGN)
        .chain(mage::TEMPLATES)
        .chain(bytes::TEMPLATES)
        .chain(rest::templates())
        .chain(proxy::TEMPLATES)
        .collect()
}

/// The whole surface.
pub(crate) fn router(api: Api, gate: Arc<Gate>) -> Router {
    let [index, files, livez, ready, session, options, depart, arrive] = OWN;
    let mut router = Router::new()
        .route(index, get(ui::index))
        .route(files, get(ui::file))
        .route(livez, get(async || "ok\n"))
        .route(ready, get(readyz))
        .route(session, post(browser::sign_in))
        .route(options, get(oidc_sign_in::options))
        .route(depart, get(oidc_sign_in::depart))
        .route(arrive, get(oidc_sign_in::arrive))
        .merge(rest::routes())
        .merge(mage::routes())
        .merge(proxy::routes())
        .merge(bytes::routes())
        .fallback(nothing);
    let mut services: Vec<_> =
        api.transcoder.paths().filter_map(|path| path.rsplit_once('/').map(|(s, _)| s)).collect();
    services.sort_unstable();
    services.dedup();
    for service in services {
        router = router.route(&format!("{service}/{{method}}"), any(call));
    }
    for service in FOREIGN {
        router = router.route(service, any(call));
    }
    router
        .with_state(api.clone())
        .layer(axum::middleware::from_fn_with_state(gate, gate::admit))
        .layer(axum::middleware::from_fn_with_state(api.proxy, proxy::by_origin))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
}

/// A call of a method, in the protocol that its content type names.
async fn call(State(api): State<Api>, request: Request) -> Response {
    let protocol = Protocol::of(request.headers());
    match protocol {
        Protocol::Grpc => answer(api.services.oneshot(request).await.map(|r| r.map(Body::new))),
        Protocol::GrpcWeb => {
            answer(GrpcWebLayer::new().layer(api.services).oneshot(request).await.map(|r| r.map(Body::new)))
        }
        Protocol::Json if request.method() == Method::POST && is_json(&request) => api.transcoder.call(request).await,
        Protocol::Json => {
            let message = "call methods by POST with content-type application/json, or by gRPC or gRPC-Web";
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("{message}\n")).into_response()
        }
    }
}

fn answer<E: std::fmt::Display>(outcome: Result<Response, E>) -> Response {
    outcome.unwrap_or_else(|error| {
        tracing::error!(%error, "a service failed to answer");
        connect::error(&Status::internal("the server failed on this request; its log has the cause"))
    })
}

/// The type is checked so that a page of another origin, which cannot send it unasked, cannot call.
fn is_json(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

async fn readyz(State(api): State<Api>) -> Response {
    if api.health.is_ready() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
}

async fn nothing(request: Request) -> Response {
    let message = format!("nothing is served at `{}`", request.uri().path());
    Protocol::of(request.headers()).refuse(Fault::new(ErrorKind::NotFound, "NO_SUCH_PATH", message))
}

fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("of unknown kind"), "a request panicked");
    connect::error(&Status::internal("the server failed on this request; its log has the cause"))
}
