//! Everything that is served on the one port, on one page.

use crate::authorisation::Guarded;
use crate::browser::Browsers;
use crate::fault::Fault;
use crate::gate::{self, Gate};
use crate::models;
use crate::outputs;
use crate::protocol::Protocol;
use crate::proxy::{self, Proxy};
use crate::surface::{Route, Surface};
use crate::transcode::{Transcoder, connect, no_method};
use crate::{browser, mage, oidc_sign_in, rest, ui};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
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

/// Services of others.
const FOREIGN: [&str; 3] = [
    "/grpc.health.v1.Health/{method}",
    "/grpc.reflection.v1.ServerReflection/{method}",
    // The same under its older name, which older tools call.
    "/grpc.reflection.v1alpha.ServerReflection/{method}",
];

/// The whole surface, for these methods of the contract by path.
pub(crate) fn surface<'a>(methods: impl Iterator<Item = &'a str>) -> Surface {
    let mut services: Vec<_> = methods.filter_map(|path| path.rsplit_once('/').map(|(service, _)| service)).collect();
    services.sort_unstable();
    services.dedup();
    let surface = own();
    let surface = FOREIGN.into_iter().fold(surface, |surface, template| surface.any(template, call));
    services.into_iter().fold(surface, |surface, service| surface.service(service, call))
}

/// Every route that is served and is no method of the contract, in the order in which they are put together.
#[must_use]
pub fn routes() -> Vec<Route> {
    surface(std::iter::empty()).routes().to_vec()
}

fn own() -> Surface {
    let surface = Surface::default()
        .get("/", ui::index)
        .get("/ui/{*path}", ui::file)
        .get("/livez", async || "ok\n")
        .get("/readyz", readyz)
        .post("/auth/session", browser::sign_in)
        .get("/auth/options", oidc_sign_in::options)
        .get("/auth/oidc", oidc_sign_in::depart)
        .get("/auth/oidc/callback", oidc_sign_in::arrive);
    let surface = proxy::routes(mage::routes(rest::routes(surface)));
    outputs::bytes::routes(models::bytes::routes(surface))
}

/// The surface behind what every request passes.
pub(crate) fn router(surface: Surface, api: Api, gate: Arc<Gate>) -> Router {
    surface
        .into_router()
        .fallback(nothing)
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
    let (protocol, path) = (Protocol::of(request.headers()), request.uri().path());
    match protocol {
        // By it clients tell a server that is older than they are from a thing that is not there.
        Protocol::Grpc | Protocol::GrpcWeb => protocol.end(no_method(path)),
        Protocol::Json => {
            let message = format!("nothing is served at `{path}`");
            protocol.refuse(Fault::new(ErrorKind::NotFound, "NO_SUCH_PATH", message))
        }
    }
}

fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("of unknown kind"), "a request panicked");
    connect::error(&Status::internal("the server failed on this request; its log has the cause"))
}
