//! What every request passes before anything looks at it: host, origin, credential, deadline; and what is measured of
//! it. Refuses to know any method but by its path.

use crate::authorisation::Authority;
use crate::fault::Fault;
use crate::identity::Identity;
use crate::identity::credentials::Credentials;
use crate::mage;
use crate::metrics::Metrics;
use crate::models::bytes;
use crate::protocol::Protocol;
use crate::settings::Limits;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use domain::ErrorKind;
use http::request::Parts;
use http::{HeaderMap, header};
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

/// What takes as long as its files are large.
const LONG: [&str; 2] = ["/orrery.v1.DeploymentService/UploadFiles", "/orrery.v1.DeploymentService/CreateDeployment"];
/// Under these names a server on the loopback is reached; any other name in `Host` is a page that was rebound to it.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The rules of this server.
pub(crate) struct Gate {
    /// What callers present.
    pub(crate) credentials: Arc<Credentials>,
    /// What needs no credential.
    pub(crate) authority: Arc<Authority>,
    /// Names in `Host` that are ours; empty allows all.
    pub(crate) hosts: Vec<String>,
    /// Time limits.
    pub(crate) limits: Limits,
    /// What is measured.
    pub(crate) metrics: Metrics,
    /// What most requests wait for.
    pub(crate) store: Store,
}

/// The names under which a server at this address may be called.
pub(crate) fn hosts(loopback: bool, allowed: &[String]) -> Vec<String> {
    let own = LOOPBACK_NAMES.iter().filter(|_| loopback || !allowed.is_empty()).map(|name| (*name).to_owned());
    own.chain(allowed.iter().map(|name| name.to_ascii_lowercase())).collect()
}

/// Lets a request through, or answers it.
pub(crate) async fn admit(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let protocol = Protocol::of(request.headers());
    let path = request.uri().path().to_owned();
    let began = Instant::now();
    let span = tracing::info_span!("request", path = mage::without_token(&path));
    rpc::trace::continue_trace(&span, request.headers());
    let (mut head, body) = request.into_parts();
    let response = match gate.check(&head).await {
        Err(fault) => protocol.refuse(fault),
        Ok((limit, identity)) => {
            head.extensions.insert(identity);
            let request = Request::from_parts(head, body);
            match timeout(limit, gate.store.watched(next.run(request)).instrument(span)).await {
                Ok(response) => response,
                Err(_) => protocol.refuse(late(limit)),
            }
        }
    };
    gate.metrics.answered(&path, &response, began.elapsed());
    response
}

fn late(limit: Duration) -> Fault {
    let message = format!("the request took longer than {limit:?}; ask for less, or try again");
    Fault::new(ErrorKind::DeadlineExceeded, "REQUEST_TIMEOUT", message)
}

impl Gate {
    async fn check(&self, request: &Parts) -> Result<(Duration, Identity), Fault> {
        let path = request.uri.path();
        let host = request.uri.authority().map(|a| a.as_str()).or_else(|| text(&request.headers, header::HOST));
        let host = host.unwrap_or_default().to_ascii_lowercase();
        self.check_host(&host)?;
        check_origin(&request.headers, &host)?;
        let limit = self.limits.request_timeout;
        let identified = timeout(limit, self.store.watched(self.identify(request))).await;
        let identity = identified.unwrap_or_else(|_| Err(late(limit)))?;
        let longest = if LONG.contains(&path) || bytes::is_upload(path) || path.starts_with("/runtimes/") {
            self.limits.upload_timeout
        } else {
            self.limits.request_timeout
        };
        let asked = text(&request.headers, header::HeaderName::from_static("grpc-timeout")).and_then(grpc_timeout);
        Ok((asked.map_or(longest, |asked| asked.min(longest)), identity))
    }

    fn check_host(&self, host: &str) -> Result<(), Fault> {
        if self.hosts.is_empty() || self.hosts.iter().any(|name| name == without_port(host)) {
            return Ok(());
        }
        let message = "this server is not known under the name in Host; add it to `allowed_hosts`";
        Err(Fault::new(ErrorKind::PermissionDenied, "UNKNOWN_HOST", message))
    }

    /// Nobody is let in without a credential, but to what is open to everybody: there it is not even looked at.
    async fn identify(&self, request: &Parts) -> Result<Identity, Fault> {
        let template = request.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
        if self.authority.is_open(request.uri.path(), template) {
            return Ok(Identity::Nobody);
        }
        match self.credentials.identify(&request.method, &request.headers).await? {
            Identity::Nobody => Err(Fault::unauthenticated(
                "a credential is needed; send the header `Authorization: Bearer <token>`, or sign in by `orrery login`",
            )),
            person => Ok(person),
        }
    }
}

/// Pages of other origins may not call, whatever they send.
fn check_origin(headers: &HeaderMap, host: &str) -> Result<(), Fault> {
    let Some(origin) = text(headers, header::ORIGIN) else { return Ok(()) };
    let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
    if authority.eq_ignore_ascii_case(host) {
        return Ok(());
    }
    let message = "pages of another origin may not call this server";
    Err(Fault::new(ErrorKind::PermissionDenied, "CROSS_ORIGIN", message))
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn without_port(host: &str) -> &str {
    let end = match host.rfind(':') {
        // The colons inside an IPv6 literal begin no port.
        Some(at) if at > host.rfind(']').unwrap_or(0) => at,
        _ => host.len(),
    };
    &host[..end]
}

/// The client's own deadline, as gRPC writes it: up to eight digits and a unit.
fn grpc_timeout(value: &str) -> Option<Duration> {
    let (number, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok().filter(|_| number.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_cut_and_addresses_are_not() {
        for (host, name) in [("localhost:7070", "localhost"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("a", "a")] {
            assert_eq!(without_port(host), name);
        }
    }

    #[test]
    fn deadlines_of_clients_are_understood() {
        assert_eq!(grpc_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(grpc_timeout("1H"), Some(Duration::from_secs(3600)));
        for bad in ["", "m", "1", "123456789S", "1x", "-1S", "1ä"] {
            assert_eq!(grpc_timeout(bad), None, "{bad}");
        }
    }
}
