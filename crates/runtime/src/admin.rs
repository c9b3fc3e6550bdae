//! The small HTTP server beside a service: `/livez`, `/readyz` and `/metrics`. Refuses to change anything.
//!
//! Beyond loopback, metrics need a token; liveness and readiness say nothing that needs one.

use crate::{health::Health, secret::Secret, shutdown::Shutdown, telemetry::Telemetry};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use std::{io, net::SocketAddr};
use subtle::{Choice, ConstantTimeEq as _};
use tokio::{net::TcpListener, task::JoinHandle};

/// The running server.
#[derive(Debug)]
pub struct Admin {
    addr: SocketAddr,
    task: JoinHandle<io::Result<()>>,
}

impl Admin {
    /// Where it listens; the port that was chosen when 0 was asked for.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits for its end, which comes when the process must stop: it still answers while others drain.
    pub async fn join(self) {
        match self.task.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the admin server failed"),
            Err(error) => tracing::warn!(%error, "the admin server failed"),
        }
    }
}

#[derive(Debug, Clone)]
struct Pages {
    health: Health,
    telemetry: Telemetry,
    /// Metrics are open to whoever reaches a loopback address.
    loopback: bool,
}

/// Listens on `addr` and serves until `shutdown` stops.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(addr: SocketAddr, health: Health, telemetry: Telemetry, shutdown: Shutdown) -> io::Result<Admin> {
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    let pages = Pages { health, telemetry, loopback: addr.ip().is_loopback() };
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(pages);
    let stopped = shutdown.stopped();
    let task = tokio::spawn(async move {
        // Dropping the server closes what is still open: an idle scraper must not hold the process.
        tokio::select! {
            end = async { axum::serve(listener, router).await } => end,
            () = stopped => Ok(()),
        }
    });
    tracing::info!(%addr, "serving health and metrics");
    Ok(Admin { addr, task })
}

async fn readyz(State(pages): State<Pages>) -> Response {
    let lines = |list: Vec<(&'static str, String)>| -> String {
        list.iter().map(|(name, reason)| format!("{name}: {reason}\n")).collect()
    };
    let notes = lines(pages.health.notes());
    if pages.health.is_ready() {
        return format!("ok\n{notes}").into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, lines(pages.health.missing()) + &notes).into_response()
}

async fn metrics(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    let refusal = match pages.telemetry.metrics_token() {
        Some(token) if !presents(&headers, token) => Some((StatusCode::UNAUTHORIZED, "a bearer token is needed\n")),
        None if !pages.loopback => {
            Some((StatusCode::FORBIDDEN, "metrics are served beyond loopback only with metrics_token_file set\n"))
        }
        _ => None,
    };
    if let Some(refusal) = refusal {
        return refusal.into_response();
    }
    match pages.telemetry.metrics_text() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Whether a line of the token's file is presented; the time it takes does not tell how much of one was right.
fn presents(headers: &HeaderMap, token: &Secret) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let lines = token.expose().lines().map(str::trim).filter(|line| !line.is_empty());
    given.is_some_and(|given| lines.fold(Choice::from(0), |found, line| found | line.as_bytes().ct_eq(given)).into())
}
