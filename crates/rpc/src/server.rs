//! One internal gRPC server: the services given to it, with health, reflection, and every layer in its one right order.
//! Refuses to know what it serves, and when the process ends.

use crate::{
    auth::{self, AuthError, RequireToken, Token},
    deadline, incoming,
    panics::CatchPanic,
    trace::TraceCalls,
};
use std::{convert::Infallible, net::SocketAddr, time::Duration};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::{
    body::Body,
    codegen::Service,
    server::NamedService,
    service::{Routes, RoutesBuilder},
    transport::Server,
};
use tonic_health::{ServingStatus, server::HealthReporter};

/// The longest message of the internal protocol: give it to `max_decoding_message_size` of each service and client.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The longest message that a scheduler sends to an executor, by itself or through a gateway. An assignment names every
/// attempt that it reads, in 16 bytes at most: this holds `domain::run::INPUTS_MAX` of them, and as much again.
pub const SESSION_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The bounds of a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Calls at once on one connection.
    pub streams_max: u32,
    /// Bytes of the headers of one call.
    pub header_bytes_max: u32,
    /// Time for an answer to begin when the client names none.
    pub request_timeout: Duration,
    /// Time for an answer to begin, whatever the client names.
    pub request_timeout_max: Duration,
    /// A silent connection is asked this often whether it lives.
    pub keepalive_interval: Duration,
    /// A connection that does not answer the question is closed.
    pub keepalive_timeout: Duration,
    /// A connection takes no new calls after about this time, so that its client connects again and load spreads over new
    /// replicas. What runs on it then runs on, however long that takes: a stream that must end does so by itself. A call that
    /// has not been sent at that moment fails in its client, as one to a peer that is away.
    pub connection_age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams_max: 1024,
            header_bytes_max: 16 * 1024,
            request_timeout: Duration::from_secs(30),
            request_timeout_max: Duration::from_secs(300),
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            connection_age: Duration::from_secs(30 * 60),
        }
    }
}

/// A server that is being put together.
#[derive(Debug)]
pub struct Builder {
    limits: Limits,
    token: Option<Token>,
    authenticates: bool,
    ready: Option<watch::Receiver<bool>>,
    routes: RoutesBuilder,
    names: Vec<&'static str>,
}

impl Builder {
    /// A server without services.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            token: None,
            authenticates: false,
            ready: None,
            routes: RoutesBuilder::default(),
            names: Vec::new(),
        }
    }

    /// Every method but health and reflection needs this token. Without one, `serve` refuses addresses beyond loopback.
    #[must_use]
    pub fn token(mut self, token: Option<Token>) -> Self {
        self.token = token;
        self
    }

    /// Every service asks its callers by itself who they are, as one does whose callers have different tokens.
    #[must_use]
    pub fn authenticating(mut self) -> Self {
        self.authenticates = true;
        self
    }

    /// The level that the health service tells; without it the server is always serving.
    #[must_use]
    pub fn ready(mut self, ready: watch::Receiver<bool>) -> Self {
        self.ready = Some(ready);
        self
    }

    /// Adds a service.
    #[must_use]
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: Service<http::Request<Body>, Response: axum::response::IntoResponse, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.names.push(S::NAME);
        self.routes.add_service(service);
        self
    }

    /// Serves on `listener` until `drained`, then refuses new connections and calls, and waits for those that run.
    ///
    /// The caller bounds the wait: a stream may last, so its handler must watch the drain too. Dropping the future
    /// closes everything.
    ///
    /// # Errors
    /// An address that needs a token without one, an unusable descriptor, or a listener that fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        drained: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        let addr = listener.local_addr()?;
        auth::require_auth_beyond_loopback(addr, self.authenticates || self.token.is_some())?;
        let (limits, token, names) = (self.limits, self.token.clone(), self.names.clone());
        let (routes, reporter, ready) = self.into_routes()?;
        let draining = CancellationToken::new();
        let incoming = incoming::connections(listener, draining.clone());
        let drained = async move {
            drained.await;
            draining.cancel();
        };
        let server = transport(limits)
            // The first is the outermost: a refusal and a panic are traced, and no stranger reaches the deadline.
            .layer(TraceCalls)
            .layer(CatchPanic)
            .layer(RequireToken::new(token))
            .layer(deadline::Limit { default: limits.request_timeout, max: limits.request_timeout_max })
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, drained);
        tracing::info!(%addr, services = ?names, "serving gRPC");
        tokio::select! {
            end = server => end.map_err(ServeError::from),
            never = tell_health(reporter, ready, names) => match never {},
        }
    }

    fn into_routes(mut self) -> Result<(Routes, HealthReporter, Option<watch::Receiver<bool>>), ServeError> {
        let (reporter, health) = tonic_health::server::health_reporter();
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        self.routes.add_service(health).add_service(reflection);
        Ok((self.routes.routes(), reporter, self.ready))
    }
}

/// Without `max_connection_age_grace`: with it, nobody is asked to go, and the connection is cut when both have passed.
fn transport(limits: Limits) -> Server {
    Server::builder()
        .max_concurrent_streams(limits.streams_max)
        .http2_max_header_list_size(limits.header_bytes_max)
        .http2_keepalive_interval(Some(limits.keepalive_interval))
        .http2_keepalive_timeout(Some(limits.keepalive_timeout))
        .max_connection_age(jittered(limits.connection_age, rand::random()))
}

/// Within a tenth of `age`, so that replicas that started together do not send their clients away together. Connections of
/// one replica differ by when they began.
fn jittered(age: Duration, random: f64) -> Duration {
    age.mul_f64(0.9 + 0.2 * random.clamp(0.0, 1.0))
}

async fn tell_health(
    reporter: HealthReporter,
    ready: Option<watch::Receiver<bool>>,
    names: Vec<&'static str>,
) -> Infallible {
    let mut ready = ready.unwrap_or_else(|| watch::channel(true).1);
    loop {
        let status = if *ready.borrow_and_update() { ServingStatus::Serving } else { ServingStatus::NotServing };
        // The empty name stands for the whole server.
        for name in std::iter::once("").chain(names.iter().copied()) {
            reporter.set_service_status(name, status).await;
        }
        if ready.changed().await.is_err() {
            // Nobody can change it any more: it stays as it is.
            std::future::pending::<()>().await;
        }
    }
}

/// A server cannot be started, or has failed.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Authentication is missing.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The listener fails.
    #[error("failed to listen")]
    Listen(#[from] std::io::Error),
    /// The contract cannot be described.
    #[error("failed to describe the services")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport fails.
    #[error("failed to serve")]
    Transport(#[from] tonic::transport::Error),
}

impl ServeError {
    /// What a caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> domain::ErrorKind {
        match self {
            Self::Auth(error) => error.kind(),
            Self::Listen(_) | Self::Transport(_) => domain::ErrorKind::Unavailable,
            Self::Reflection(_) => domain::ErrorKind::Internal,
        }
    }
}

/// Listens on `addr`; names the address when it cannot.
///
/// # Errors
/// When the address is taken or not ours.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, std::io::Error> {
    let named = |e: std::io::Error| std::io::Error::new(e.kind(), format!("{addr}: {e}"));
    TcpListener::bind(addr).await.map_err(named)
}
