//! Passes one request on and its answer back, both as they come, and hands connections over that become something else.
//! Refuses to judge who may.

use super::headers::{self, Addresses, Visit};
use super::route::Goes;
use super::tunnel::{self, Tunnel};
use super::{PREFIX, Proxy, Way, host, page, wire};
use crate::fault::Fault;
use crate::standing::{self, Lost, Standing};
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::Response;
use domain::{ErrorKind, id::WorkspaceId};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use store::runtime_routes::Opener;
use tonic::Status;

/// An application that does not accept within this time is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Connections that nobody uses are kept for so long, and so many of one application.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_MAX: usize = 8;
/// The head of an answer comes within this time, or never.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Requests and upgraded connections of one workspace through this server at once.
const OPEN_MAX: usize = 256;

/// What speaks with applications.
pub(super) struct Upstream(Client<HttpConnector, Body>);

impl Upstream {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let mut client = Client::builder(TokioExecutor::new());
        // A request that meets a connection which was just closed may have been taken: it is not sent again.
        client.pool_idle_timeout(IDLE_TIMEOUT).pool_max_idle_per_host(IDLE_MAX).retry_canceled_requests(false);
        Self(client.build(connector))
    }
}

/// How much is open, by workspace.
#[derive(Clone, Default)]
pub(super) struct Doors(Arc<Mutex<HashMap<WorkspaceId, usize>>>);

/// One place; given back when dropped.
pub(super) struct Door {
    doors: Doors,
    workspace: WorkspaceId,
}

impl Doors {
    fn open(&self, workspace: WorkspaceId) -> Option<Door> {
        let mut doors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = doors.entry(workspace).or_default();
        if *count >= OPEN_MAX {
            return None;
        }
        *count += 1;
        Some(Door { doors: self.clone(), workspace })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let mut doors = self.doors.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = doors.get_mut(&self.workspace) {
            *count -= 1;
            if *count == 0 {
                doors.remove(&self.workspace);
            }
        }
    }
}

impl Proxy {
    /// Ends when whoever opened something may have it open no more.
    pub(super) fn until_lost(self: &Arc<Self>, opener: Opener, workspace: WorkspaceId) -> Lost {
        let proxy = Arc::clone(self);
        Box::pin(standing::lost(move || {
            let (proxy, opener) = (Arc::clone(&proxy), opener.clone());
            async move { proxy.still(&opener, workspace).await }
        }))
    }

    pub(super) async fn forward(
        self: &Arc<Self>,
        way: Way,
        goes: Arc<Goes>,
        opener: Opener,
        mut request: Request,
    ) -> Result<Response, Fault> {
        let route = &goes.route;
        let door = self.doors.open(route.workspace).ok_or_else(|| {
            let message = format!(
                "`{}` has its limit of {OPEN_MAX} requests through this server; close some windows",
                route.name
            );
            Fault::busy("TOO_MANY_CONNECTIONS", message, Fault::SOON)
        })?;
        let upgrade = headers::is_upgrade(request.headers());
        if is_use(&request) {
            self.seen.saw(route);
        }
        let browser = upgrade.then(|| hyper::upgrade::on(&mut request));
        let public = host(&request).unwrap_or_default().to_owned();
        let html = page::wants_html(request.headers());
        let base = domain::runtime::base_path(&route.name);
        let (head, body) = request.into_parts();
        let opens = (route.app.as_ref(), goes.key.as_deref().unwrap_or_default());
        let mut onward = Request::new(body);
        *onward.method_mut() = head.method;
        *onward.uri_mut() = target(&goes, &head.uri)?;
        let peer = head.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
        let visit = Visit { peer, host: &public, scheme: self.scheme(), base: &base };
        *onward.headers_mut() = headers::towards(&head.headers, visit, opens);
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, self.upstream.0.request(onward)).await;
        let mut answer = match answered {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                self.routes.forget(&goes);
                tracing::warn!(
                    workspace = route.name,
                    error = runtime::exit::chain(&error),
                    "an application does not answer"
                );
                return Ok(page::away(route, html));
            }
            Err(_) => return Ok(page::away(route, html)),
        };
        let at = Addresses { host: &public, endpoint: &route.endpoint, base: &base, stripped: goes.is_stripped(), way };
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(browser) = browser else { return Ok(page::away(route, html)) };
            let application = hyper::upgrade::on(&mut answer);
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            *response.headers_mut() = headers::back(answer.headers(), &at);
            for name in [header::CONNECTION, header::UPGRADE] {
                if let Some(value) = answer.headers().get(&name) {
                    response.headers_mut().insert(name, value.clone());
                }
            }
            let frames = wire(answer.headers(), &header::UPGRADE).eq_ignore_ascii_case("websocket");
            let lost = self.until_lost(opener, route.workspace);
            let tunnel = Tunnel { proxy: Arc::clone(self), goes: Arc::clone(&goes), lost, frames, door };
            tokio::spawn(tunnel::run(tunnel, browser, application));
            return Ok(response);
        }
        let (head, body) = answer.into_parts();
        // Some answers go on for hours: events of a kernel, a download.
        let lost = keeping(door, self.until_lost(opener, route.workspace));
        let body = Standing::new(Body::new(body), lost, |fault| Err(axum::Error::new(Status::from(fault))));
        let mut response = Response::new(Body::new(body));
        *response.status_mut() = head.status;
        *response.headers_mut() = headers::back(&head.headers, &at);
        Ok(response)
    }
}

/// The end of a right, and a place until the answer is over: those that go on count as well.
fn keeping(door: Door, lost: Lost) -> Lost {
    Box::pin(async move {
        let fault = lost.await;
        drop(door);
        fault
    })
}

/// Somebody does something: changes a thing, or opens a page. What pages ask for by themselves is not that.
fn is_use(request: &Request) -> bool {
    let navigates = wire(request.headers(), &header::HeaderName::from_static("sec-fetch-mode")) == "navigate";
    navigates || !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Where a request goes: the path as it came, letter for letter, less what an application does not know of.
fn target(goes: &Goes, uri: &Uri) -> Result<Uri, Fault> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if goes.is_stripped() {
        path.strip_prefix(PREFIX).and_then(|path| path.strip_prefix(goes.route.name.as_str())).unwrap_or("/")
    } else {
        path
    };
    format!("http://{}{path}", goes.route.endpoint).parse().map_err(|_| {
        Fault::new(ErrorKind::InvalidArgument, "MALFORMED_REQUEST", "the path of the request cannot be passed on")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn an_answer_that_goes_on_keeps_its_place() {
        let (doors, workspace) = (Doors::default(), WorkspaceId(Uuid::nil()));
        let lost = keeping(doors.open(workspace).unwrap(), Box::pin(std::future::pending()));
        let answer = Standing::new(Body::empty(), lost, |fault| Err(axum::Error::new(Status::from(fault))));
        let others: Vec<Door> = (1..OPEN_MAX).filter_map(|_| doors.open(workspace)).collect();
        assert_eq!(others.len(), OPEN_MAX - 1);
        assert!(doors.open(workspace).is_none(), "the answer has the last one");
        drop(answer);
        assert!(doors.open(workspace).is_some());
    }
}
