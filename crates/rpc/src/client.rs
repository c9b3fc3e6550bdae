//! Channels to other services: lazy, balanced over several endpoints, and carrying token and trace. Refuses to retry;
//! only the caller knows what may be done twice.

use crate::{
    auth::{AuthError, Token},
    trace,
};
use std::time::Duration;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{self, ClientTlsConfig, Endpoint, Uri},
};

/// The most endpoints of one channel.
pub const ENDPOINTS_MAX: usize = 64;
/// A peer that does not accept within this time is away.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A silent connection is asked this often whether it lives.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// A connection that does not answer the question is closed.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A channel that presents the token and continues the trace of the current span. Cheap to clone; give it to any
/// generated client.
pub type Channel = InterceptedService<transport::Channel, Caller>;

/// A channel over `uris`. Nothing is connected yet: that happens with the first call, and again after a loss.
///
/// A call may meet an endpoint that is away and fails with `UNAVAILABLE`; the caller tries again with a backoff, and the
/// balancer prefers endpoints that answer. Must be called inside a tokio runtime.
///
/// # Errors
/// No or too many endpoints, a URI without host or of another scheme than `http` and `https`, a machine without certificates to
/// verify a server's by, or a token that is no token.
pub fn connect(uris: &[Uri], token: Option<&Token>) -> Result<Channel, ConnectError> {
    Dialer::new(uris, token).map(|dialer| dialer.balanced())
}

/// A way to several endpoints, for streams that last: each has a connection of its own.
///
/// Behind one address there may be several peers, and what stands between (a balancer, a service of Kubernetes) gives a peer
/// to each connection, not to each call. A stream that is opened anew on the connection of the one before comes back to the
/// same peer, however many there are by now.
#[derive(Debug, Clone)]
pub struct Dialer {
    /// At least one.
    endpoints: Vec<Endpoint>,
    caller: Caller,
    next: usize,
}

impl Dialer {
    /// Over `uris`, beginning anywhere among them.
    ///
    /// # Errors
    /// As [`connect`].
    pub fn new(uris: &[Uri], token: Option<&Token>) -> Result<Self, ConnectError> {
        if uris.is_empty() || uris.len() > ENDPOINTS_MAX {
            return Err(ConnectError::Endpoints(uris.len()));
        }
        let endpoints: Vec<Endpoint> = uris.iter().map(endpoint).collect::<Result<_, _>>()?;
        let next = rand::random_range(0..endpoints.len());
        Ok(Self { endpoints, caller: Caller::new(token)?, next })
    }

    /// A channel over all of them, which keeps its connections: for single calls. Must be called inside a tokio runtime.
    #[must_use]
    pub fn balanced(&self) -> Channel {
        let channel = match self.endpoints.as_slice() {
            [one] => one.connect_lazy(),
            several => transport::Channel::balance_list(several.iter().cloned()),
        };
        InterceptedService::new(channel, self.caller.clone())
    }

    /// A channel to the next of them, over a connection of its own, for which its name is resolved anew. It connects with the
    /// first call and ends with the last clone. Must be called inside a tokio runtime.
    pub fn dial(&mut self) -> Channel {
        // Never all at once, as a balancer would: the first to answer would be one that refuses.
        self.next = (self.next + 1) % self.endpoints.len();
        InterceptedService::new(self.endpoints[self.next].connect_lazy(), self.caller.clone())
    }
}

/// A request that fails with `DEADLINE_EXCEEDED` when it is not answered in time, on both sides of the wire.
pub fn within<T>(timeout: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

fn endpoint(uri: &Uri) -> Result<Endpoint, ConnectError> {
    let mut endpoint = Endpoint::from(uri.clone());
    match (uri.host(), uri.scheme_str()) {
        (Some(_), Some("http")) => {}
        (Some(_), Some("https")) => endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots())?,
        _ => return Err(ConnectError::Uri(uri.to_string())),
    }
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// Adds to every call what proves and connects it: the token and the trace.
#[derive(Debug, Clone)]
pub struct Caller {
    authorization: Option<MetadataValue<Ascii>>,
}

impl Caller {
    /// Presents `token`.
    ///
    /// # Errors
    /// As [`Token::header`].
    pub fn new(token: Option<&Token>) -> Result<Self, AuthError> {
        let header = token.map(Token::header).transpose()?;
        let value = header.map(|header| {
            let value = MetadataValue::try_from(header.as_bytes()).map_err(|_| AuthError::Weak);
            value.map(|mut value| {
                value.set_sensitive(true);
                value
            })
        });
        Ok(Self { authorization: value.transpose()? })
    }
}

impl Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.authorization {
            request.metadata_mut().insert("authorization", value.clone());
        }
        trace::inject(request.metadata_mut());
        Ok(request)
    }
}

/// A channel cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// None, or too many.
    #[error("{0} endpoints are given; give 1 to {ENDPOINTS_MAX}")]
    Endpoints(usize),
    /// Not a URI of a peer.
    #[error("`{0}` is not the URI of a service; write http://host:port or https://host")]
    Uri(String),
    /// There is nothing to verify the server's certificate by.
    #[error("no TLS with a service: {0}; install `ca-certificates`, or name a file of certificates by SSL_CERT_FILE")]
    Tls(#[from] transport::Error),
    /// The token is no token.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

impl ConnectError {
    /// What a caller can do about it: correct the configuration.
    #[must_use]
    pub const fn kind(&self) -> domain::ErrorKind {
        domain::ErrorKind::InvalidArgument
    }
}
