//! The way to the applications of workspaces, through any web-server: who may come, where it leads, and what may pass.
//!
//! There are two ways. Below `/runtimes/<workspace>/` of this server itself, where all applications share one origin with
//! this server; or, with `runtimes_domain`, at an origin for each workspace, `<id>.<domain>`, which a browser enters with
//! a short ticket and then shows one that holds for that workspace and that life only. In both, everything is decided
//! again every few seconds by the database. Refuses to start anything, and to know what applications say.

mod activity;
mod admission;
mod forward;
mod headers;
mod page;
mod route;
mod tunnel;

use crate::core::Core;
use crate::fault::Fault;
use crate::identity::credentials::Credentials;
use crate::protocol::Protocol;
use crate::router::Api;
use crate::standing;
use crate::surface::Surface;
use admission::{Stage, Ticket};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domain::{ErrorKind, id::WorkspaceId};
use forward::{Doors, Upstream};
use http::request::Parts;
use route::{Goes, Routes};
use std::sync::Arc;
use store::runtime_routes::{Named, Opener};

pub(crate) use activity::start as report_activity;

/// Everything below it is an application's.
const PREFIX: &str = "/runtimes/";
/// Where a browser enters the origin of a workspace.
const ENTER: &str = "/.orrery/enter";
/// Bytes of all headers of a request.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// What requests for applications pass.
pub(crate) struct Proxy {
    core: Arc<Core>,
    credentials: Arc<Credentials>,
    /// `host` or `host:port`; empty for the path.
    domain: String,
    /// Where people reach this server itself; may be empty.
    public_url: String,
    secure: bool,
    routes: Routes,
    grants: admission::Grants,
    doors: Doors,
    upstream: Upstream,
    seen: activity::Seen,
}

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Below the path of this server.
    Path,
    /// At an origin of its own.
    Origin,
}

impl Proxy {
    pub(crate) fn new(
        core: Arc<Core>,
        credentials: Arc<Credentials>,
        (domain, public_url): (&str, &str),
        secure: bool,
    ) -> Self {
        Self {
            core,
            credentials,
            domain: domain.trim_matches('.').to_ascii_lowercase(),
            public_url: public_url.trim_end_matches('/').to_owned(),
            secure,
            routes: Routes::default(),
            grants: admission::Grants::default(),
            doors: Doors::default(),
            upstream: Upstream::new(),
            seen: activity::Seen::default(),
        }
    }

    /// Whether whoever opened something of a workspace may still have it open.
    async fn still(&self, opener: &Opener, workspace: WorkspaceId) -> Result<(), Fault> {
        if self.grants.allow(&self.core, opener, workspace).await? { Ok(()) } else { Err(standing::ended()) }
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The workspace whose origin this is.
    fn owner_of(&self, host: &str) -> Option<WorkspaceId> {
        if self.domain.is_empty() {
            return None;
        }
        let id = host.to_ascii_lowercase().strip_suffix(&self.domain)?.strip_suffix('.')?.to_owned();
        let plain = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        if plain { id.parse().ok() } else { None }
    }

    async fn by_path(self: &Arc<Self>, request: Request) -> Result<Response, Fault> {
        let (head, body) = request.into_parts();
        check_form(&head)?;
        let name = workspace_of(head.uri.path()).ok_or_else(|| Fault::no_workspace(""))?.to_owned();
        // Whoever shows a token says who he is with each request; a browser's page is held to its own origin below.
        let opener = admission::opener(&self.credentials, &head.headers).await?;
        check_origin(&head, opener.session.is_none())?;
        let Some(goes) = self.routes.find(&self.core, Named::Name(&name)).await? else {
            return Err(Fault::no_workspace(&name));
        };
        if !self.grants.allow(&self.core, &opener, goes.route.workspace).await? {
            return Err(Fault::no_workspace(&name));
        }
        if head.uri.path().len() < PREFIX.len() + name.len() + 1 {
            let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            return Ok(redirect(StatusCode::PERMANENT_REDIRECT, &format!("{PREFIX}{name}/{query}")));
        }
        if goes.route.state != "running" || goes.route.archived {
            return Ok(page::not_running(&goes.route, &head.headers, true));
        }
        if self.domain.is_empty() || opener.token.is_some() || opener.session.is_none() {
            return self.forward(Way::Path, goes, opener, Request::from_parts(head, body)).await;
        }
        let ticket = Ticket::new(Stage::Enter, &opener, &goes.route).seal(&self.core)?;
        let id = goes.route.workspace.0.simple();
        let to = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let url = format!("{}://{id}.{}{ENTER}?ticket={ticket}&to={}", self.scheme(), self.domain, encoded(to));
        Ok(redirect(StatusCode::SEE_OTHER, &url))
    }

    async fn by_origin(self: &Arc<Self>, workspace: WorkspaceId, request: Request) -> Result<Response, Fault> {
        let (head, body) = request.into_parts();
        check_form(&head)?;
        let Some(goes) = self.routes.find(&self.core, Named::Id(workspace)).await? else {
            return Err(Fault::no_workspace(""));
        };
        if head.uri.path() == ENTER {
            return self.enter(&goes, &head.uri).await;
        }
        let ticket = admission::shown(&self.core, &head.headers, &goes.route);
        let allowed = match &ticket {
            Some(ticket) => self.grants.allow(&self.core, &ticket.opener(), workspace).await?,
            None => false,
        };
        let Some(ticket) = ticket.filter(|_| allowed) else {
            return self.outside(&goes, &head);
        };
        check_origin(&head, false)?;
        let base = domain::runtime::base_path(&goes.route.name);
        if goes.route.state != "running" {
            return Ok(page::not_running(&goes.route, &head.headers, false));
        }
        if !head.uri.path().starts_with(&base) {
            return match head.uri.path() {
                "/" => Ok(redirect(StatusCode::SEE_OTHER, &base)),
                path => Err(nothing(path)),
            };
        }
        self.forward(Way::Origin, goes, ticket.opener(), Request::from_parts(head, body)).await
    }

    /// Takes a ticket from the address and gives one as a cookie of this origin alone.
    async fn enter(&self, goes: &Goes, uri: &Uri) -> Result<Response, Fault> {
        let value = |name: &str| {
            let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let ticket = value("ticket").and_then(|text| Ticket::open(&self.core, text));
        let refused = |code, what: &str| {
            let message = format!("this way in {what}; open the workspace again from Orrery");
            Fault::new(ErrorKind::Unauthenticated, code, message)
        };
        let ticket = ticket
            .filter(|ticket| ticket.is_for(Stage::Enter, &goes.route))
            .ok_or_else(|| refused("TICKET_INVALID", "is not one into this workspace as it runs now"))?;
        if ticket.is_late() {
            return Err(refused("TICKET_EXPIRED", "has expired"));
        }
        if !ticket.take(&self.core).await? {
            return Err(refused("TICKET_USED", "has been used already"));
        }
        let base = domain::runtime::base_path(&goes.route.name);
        // Only back to the application itself: nothing else can stand there.
        let to = value("to").map(decoded).filter(|to| to.starts_with(&base) && is_local(to)).unwrap_or(base);
        let stay = Ticket::new(Stage::Stay, &ticket.opener(), &goes.route).seal(&self.core)?;
        let mut response = redirect(StatusCode::SEE_OTHER, &to);
        if let Ok(cookie) = HeaderValue::try_from(admission::cookie(&stay)) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        Ok(response)
    }

    /// Nobody whom this origin knows: a person is sent to where people sign in, and comes back with a ticket.
    fn outside(&self, goes: &Goes, head: &Parts) -> Result<Response, Fault> {
        let base = domain::runtime::base_path(&goes.route.name);
        let page = matches!(head.method, Method::GET | Method::HEAD) && page::wants_html(&head.headers);
        if self.public_url.is_empty() || !page {
            return Err(Fault::unauthenticated("open this workspace from Orrery; this address alone opens nothing"));
        }
        let path = head.uri.path_and_query().map_or("", |path| path.as_str());
        let path = if path.starts_with(&base) { path } else { base.as_str() };
        Ok(redirect(StatusCode::SEE_OTHER, &format!("{}{path}", self.public_url)))
    }
}

/// What is served below the path.
pub(crate) fn routes(surface: Surface) -> Surface {
    surface
        .any("/runtimes/{workspace}", by_path)
        .any("/runtimes/{workspace}/", by_path)
        .any("/runtimes/{workspace}/{*path}", by_path)
}

/// Requests below the path.
async fn by_path(State(api): State<Api>, request: Request) -> Response {
    if request.method() == Method::CONNECT {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let (protocol, html) = (Protocol::of(request.headers()), page::wants_html(request.headers()));
    match api.proxy.by_path(request).await {
        Ok(response) => response,
        Err(fault) if html => page::refused(&fault),
        Err(fault) => protocol.refuse(fault),
    }
}

/// Takes requests for the origins of workspaces out before anything else looks at them: nothing of this server is served
/// there.
pub(crate) async fn by_origin(State(proxy): State<Arc<Proxy>>, request: Request, next: Next) -> Response {
    let Some(workspace) = host(&request).and_then(|host| proxy.owner_of(host)) else {
        return next.run(request).await;
    };
    if request.method() == Method::CONNECT {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let (protocol, html) = (Protocol::of(request.headers()), page::wants_html(request.headers()));
    match proxy.by_origin(workspace, request).await {
        Ok(response) => response,
        Err(fault) if html => page::refused(&fault),
        Err(fault) => protocol.refuse(fault),
    }
}

fn host(request: &Request) -> Option<&str> {
    let header = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    request.uri().authority().map(|authority| authority.as_str()).or(header)
}

/// Refuses what could be read in two ways, or is too much.
fn check_form(head: &Parts) -> Result<(), Fault> {
    let headers = &head.headers;
    let refuse = |message: &str| Err(Fault::new(ErrorKind::InvalidArgument, "MALFORMED_REQUEST", message));
    if headers.get_all(header::HOST).iter().count() > 1 {
        return refuse("the request names two hosts");
    }
    if headers.contains_key(header::CONTENT_LENGTH) && headers.contains_key(header::TRANSFER_ENCODING) {
        return refuse("the request tells its length in two ways");
    }
    let dots = |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    if head.uri.path().split(['/', '\\']).any(dots) {
        return refuse("the path leads out of itself");
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > HEADER_BYTES_MAX {
        return refuse("the headers of the request are too long");
    }
    Ok(())
}

/// Pages of other origins, those of other workspaces too, may link here and do nothing else. A program that shows a token
/// is no page.
fn check_origin(head: &Parts, shows_token: bool) -> Result<(), Fault> {
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let host = head.uri.authority().map(|authority| authority.as_str()).or_else(|| text("host")).unwrap_or_default();
    let own = match text("origin") {
        Some(origin) => origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host)),
        None => shows_token || !headers::is_upgrade(&head.headers) && is_safe(&head.method),
    };
    let link = text("sec-fetch-mode") == Some("navigate")
        && text("sec-fetch-dest") == Some("document")
        && matches!(head.method, Method::GET | Method::HEAD);
    let from_elsewhere = matches!(text("sec-fetch-site"), Some("cross-site" | "same-site"));
    if own && (link || !from_elsewhere) {
        return Ok(());
    }
    let message = "pages of another origin may not call this application";
    Err(Fault::new(ErrorKind::PermissionDenied, "CROSS_ORIGIN", message))
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The workspace that a path names: letters as they are, so that two texts never mean one.
fn workspace_of(path: &str) -> Option<&str> {
    let name = path.strip_prefix(PREFIX)?.split('/').next()?;
    let label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (!name.is_empty() && name.len() <= 63 && name.bytes().all(label)).then_some(name)
}

/// Cannot lead to another host: one slash, and nothing that a browser would read as one.
fn is_local(to: &str) -> bool {
    to.starts_with('/') && !to.starts_with("//") && !to.contains('\\') && !to.bytes().any(|b| b.is_ascii_control())
}

fn redirect(status: StatusCode, to: &str) -> Response {
    match HeaderValue::try_from(to) {
        Ok(location) => (status, [(header::LOCATION, location)]).into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

fn nothing(path: &str) -> Fault {
    Fault::new(ErrorKind::NotFound, "NO_SUCH_PATH", format!("nothing is served at `{path}`"))
}

/// For a value in a query.
fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b'/');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let hex = more.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &more[2..];
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What is shown with a request, without what is shown to us alone.
fn wire(headers: &HeaderMap, name: &header::HeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_names_one_workspace() {
        assert_eq!(workspace_of("/runtimes/lab/x"), Some("lab"));
        assert_eq!(workspace_of("/runtimes/lab"), Some("lab"));
        for bad in ["/runtimes/", "/runtimes//x", "/runtimes/%6cab/", "/runtimes/Lab/", "/runtimes/l.b/", "/other/lab/"]
        {
            assert_eq!(workspace_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn nothing_leads_elsewhere() {
        for (to, local) in
            [("/a?b=//c", true), ("//evil", false), ("/\\evil", false), ("http://e", false), ("/a\n", false)]
        {
            assert_eq!(is_local(to), local, "{to}");
        }
        assert_eq!(decoded(&encoded("/runtimes/lab/a?b=c&d=%2F")), "/runtimes/lab/a?b=c&d=%2F");
    }

    fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> Parts {
        let request =
            headers.iter().fold(http::Request::builder().method(method).uri(path), |r, (n, v)| r.header(*n, *v));
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        for (path, headers) in [
            ("/runtimes/a/../b/", vec![]),
            ("/runtimes/a/%2e%2E/b/", vec![]),
            ("/", vec![("host", "a"), ("host", "b")]),
            ("/", vec![("content-length", "3"), ("transfer-encoding", "chunked")]),
            ("/", vec![("x", "y".repeat(70_000).leak())]),
        ] {
            assert!(check_form(&head("GET", path, &headers)).is_err(), "{path} {headers:?}");
        }
        assert!(check_form(&head("GET", "/runtimes/a/..b/c...", &[("host", "a")])).is_ok());
    }

    #[test]
    fn pages_of_others_may_link_and_nothing_else() {
        let (host, own) = (("host", "lab.example"), ("origin", "http://lab.example"));
        let check = |method, headers: &[(&str, &str)]| check_origin(&head(method, "/", headers), false).is_ok();
        assert!(check("GET", &[host]) && check("POST", &[host, own]));
        assert!(!check("POST", &[host]), "a page says where it is from");
        assert!(!check("POST", &[host, ("origin", "http://other.example")]));
        assert!(!check("POST", &[host, ("origin", "null")]));
        let upgrade = [host, ("connection", "Upgrade"), ("upgrade", "websocket")];
        assert!(!check("GET", &upgrade) && check("GET", &[upgrade.as_slice(), &[own]].concat()));
        assert!(!check("GET", &[host, ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")]));
        let link =
            [host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        assert!(check("GET", &link) && !check("POST", &[link.as_slice(), &[own]].concat()));
        assert!(check_origin(&head("POST", "/", &[host]), true).is_ok(), "a program with a token is no page");
    }
}
