//! Who may call: a bearer token shared by the services of one cluster. Refuses to know users; that is the public API's.

use crate::status::Problem;
use domain::ErrorKind;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use std::{
    fmt, fs,
    future::{Ready, ready},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    task::{Context, Poll},
};
use subtle::{Choice, ConstantTimeEq as _};
use tonic::Status;
use tower::{Layer, Service};

/// A token is at least this long.
pub const TOKEN_BYTES_MIN: usize = 16;
/// A token file is at most this long.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// What needs no token: whoever probes a process has none, and reflection tells nothing that is not published.
pub const OPEN_METHODS: [&str; 4] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// A secret that proves membership of the cluster; `Debug` hides it. Copies share it.
///
/// It may hold several secrets: the first one is sent, all are accepted. So a token is rotated without a pause: add the
/// new one below, restart all; move it to the top, restart all; remove the old one, restart all.
#[derive(Clone)]
pub struct Token(Arc<[String]>);

impl Token {
    /// A token from memory.
    ///
    /// # Errors
    /// When it is too short or holds more than visible ASCII.
    pub fn new(secret: &str) -> Result<Self, AuthError> {
        let secrets: Vec<String> = secret.lines().map(|line| line.trim().to_owned()).collect();
        let secrets: Vec<String> = secrets.into_iter().filter(|line| !line.is_empty()).collect();
        let fits = |one: &String| one.len() >= TOKEN_BYTES_MIN && one.bytes().all(|b| b.is_ascii_graphic());
        if secrets.is_empty() || !secrets.iter().all(fits) {
            return Err(AuthError::Weak);
        }
        Ok(Self(secrets.into()))
    }

    /// The token in a file, one secret a line.
    ///
    /// # Errors
    /// When the file cannot be read, or as `new`.
    pub fn from_file(path: &Path) -> Result<Self, AuthError> {
        let fail = |source| AuthError::File { path: path.to_owned(), source };
        if fs::metadata(path).map_err(fail)?.len() > FILE_BYTES_MAX {
            return Err(fail(io::Error::other(format!("longer than {FILE_BYTES_MAX} bytes"))));
        }
        Self::new(&fs::read_to_string(path).map_err(fail)?)
    }

    /// Whether `presented` is one of the secrets, in a time that does not tell how much of it was right.
    #[must_use]
    pub fn accepts(&self, presented: &[u8]) -> bool {
        self.0.iter().fold(Choice::from(0), |found, own| found | own.as_bytes().ct_eq(presented)).into()
    }

    /// The value of the `authorization` header that presents this token.
    ///
    /// # Errors
    /// Never for a token that `new` made; the type of headers does not know that.
    pub fn header(&self) -> Result<HeaderValue, AuthError> {
        let first = self.0.first().ok_or(AuthError::Weak)?;
        let mut value = HeaderValue::try_from(format!("Bearer {first}")).map_err(|_| AuthError::Weak)?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn permits(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let (scheme, presented) = match value.and_then(|value| value.split_at_checked(7)) {
            Some(parts) => parts,
            None => return false,
        };
        scheme.eq_ignore_ascii_case(b"bearer ") && self.accepts(presented)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// Refuses an address that others can reach, when nothing asks them who they are.
///
/// # Errors
/// When `addr` is not loopback and there is no token.
pub fn require_auth_beyond_loopback(addr: SocketAddr, has_token: bool) -> Result<(), AuthError> {
    if has_token || addr.ip().to_canonical().is_loopback() { Ok(()) } else { Err(AuthError::Open(addr)) }
}

/// Authentication cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The token file cannot be read.
    #[error("failed to read the token file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The token is no token.
    #[error(
        "a token must be at least {TOKEN_BYTES_MIN} visible ASCII characters a line; make one with `openssl rand -hex 32`"
    )]
    Weak,
    /// An address beyond loopback without authentication.
    #[error("{0} can be reached from other machines: set a token file, or listen on 127.0.0.1")]
    Open(SocketAddr),
}

impl AuthError {
    /// What a caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::File { .. } | Self::Weak => ErrorKind::InvalidArgument,
            Self::Open(_) => ErrorKind::FailedPrecondition,
        }
    }
}

/// A layer that lets nobody pass without the token, except to [`OPEN_METHODS`]. Without a token everybody passes.
#[derive(Debug, Clone)]
pub struct RequireToken(Option<Token>);

impl RequireToken {
    /// Requires `token`.
    #[must_use]
    pub const fn new(token: Option<Token>) -> Self {
        Self(token)
    }
}

impl<S> Layer<S> for RequireToken {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, token: self.0.clone() }
    }
}

/// A service behind [`RequireToken`].
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    inner: S,
    token: Option<Token>,
}

impl<S, B, R> Service<http::Request<B>> for Guarded<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    R: Default,
{
    type Response = http::Response<R>;
    type Error = S::Error;
    type Future = futures_util::future::Either<S::Future, Ready<Result<Self::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let open = OPEN_METHODS.contains(&request.uri().path());
        if open || self.token.as_ref().is_none_or(|token| token.permits(request.headers())) {
            return futures_util::future::Either::Left(self.inner.call(request));
        }
        let refusal =
            Problem::new(ErrorKind::Unauthenticated, "TOKEN_REQUIRED", "this method needs the cluster's token")
                .remedy("send `authorization: Bearer <token>`, with the token that this server was given");
        futures_util::future::Either::Right(ready(Ok(Status::from(refusal).into_http())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use tower::{ServiceExt as _, service_fn};

    const SECRET: &str = "0123456789abcdef";

    async fn call(token: Option<Token>, path: &str, header: Option<&str>) -> Option<tonic::Code> {
        let inner = service_fn(async |_: Request<()>| Ok::<_, std::convert::Infallible>(Response::new(())));
        let mut request = Request::builder().uri(path);
        if let Some(header) = header {
            request = request.header(AUTHORIZATION, header);
        }
        let response = RequireToken::new(token).layer(inner).oneshot(request.body(()).unwrap()).await.unwrap();
        Status::from_header_map(response.headers()).map(|status| status.code())
    }

    #[tokio::test]
    async fn only_the_token_opens_a_method() {
        let token = Some(Token::new(SECRET).unwrap());
        let method = "/orrery.internal.v1.X/Y";
        let refused = Some(tonic::Code::Unauthenticated);
        assert_eq!(call(token.clone(), method, Some("Bearer 0123456789abcdef")).await, None);
        assert_eq!(call(token.clone(), method, Some("bearer 0123456789abcdef")).await, None);
        for wrong in
            [None, Some(""), Some("Bearer "), Some(SECRET), Some("Bearer 0123456789abcdeF"), Some("Bearer 01234")]
        {
            assert_eq!(call(token.clone(), method, wrong).await, refused, "{wrong:?}");
        }
        assert_eq!(call(None, method, None).await, None);
    }

    #[tokio::test]
    async fn open_methods_are_matched_whole() {
        let token = Some(Token::new(SECRET).unwrap());
        for open in OPEN_METHODS {
            assert_eq!(call(token.clone(), open, None).await, None, "{open}");
        }
        for near in ["/grpc.health.v1.Health/", "/grpc.health.v1.Health/Check/x", "/x/grpc.health.v1.Health/Check"] {
            assert!(call(token.clone(), near, None).await.is_some(), "{near}");
        }
    }

    #[test]
    fn tokens_are_checked_hidden_and_rotated() {
        for weak in ["", "short", "0123456789 abcdef", "0123456789abcdef\nshort"] {
            assert!(Token::new(weak).is_err(), "{weak}");
        }
        let token = Token::new("first-0123456789\nsecond-0123456789\n").unwrap();
        assert!(token.accepts(b"first-0123456789") && token.accepts(b"second-0123456789") && !token.accepts(b""));
        assert_eq!(token.header().unwrap(), "Bearer first-0123456789");
        assert!(token.header().unwrap().is_sensitive() && !format!("{token:?}").contains("0123"));
    }

    #[test]
    fn beyond_loopback_needs_a_token() {
        let check = |addr: &str, token| require_auth_beyond_loopback(addr.parse().unwrap(), token).is_ok();
        assert!(check("127.0.0.1:1", false) && check("[::1]:1", false) && check("[::ffff:127.0.0.1]:1", false));
        assert!(!check("0.0.0.0:1", false) && !check("[::]:1", false) && !check("10.0.0.1:1", false));
        assert!(check("0.0.0.0:1", true));
    }
}
