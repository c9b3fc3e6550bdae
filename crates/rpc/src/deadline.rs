//! No call lasts for ever: the deadline that a client names (`grpc-timeout`), or one of ours, whichever is earlier.
//!
//! It bounds the time until an answer begins. A stream that has begun is bounded by keepalive and connection age.
//! Refuses to cancel what a handler has spawned.

use crate::status::Problem;
use domain::ErrorKind;
use http::HeaderMap;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tonic::Status;
use tower::{Layer, Service};

/// The transport acts on the same header with a less telling status: ours comes this much earlier.
const MARGIN: Duration = Duration::from_millis(5);

/// When the caller stops waiting; among the extensions of every request behind [`Limit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(pub Instant);

impl Deadline {
    /// The time that is left, to pass on to whom one calls.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// A layer that ends calls at their deadline.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// When the client names none.
    pub default: Duration,
    /// Whatever the client names.
    pub max: Duration,
}

impl<S> Layer<S> for Limit {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner, limit: *self }
    }
}

/// A service behind [`Limit`].
#[derive(Debug, Clone)]
pub struct Limited<S> {
    inner: S,
    limit: Limit,
}

impl<S, B, R> Service<http::Request<B>> for Limited<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send,
    R: Default,
{
    type Response = http::Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let asked = timeout(request.headers());
        let limit = asked.unwrap_or(self.limit.default).min(self.limit.max);
        request.extensions_mut().insert(Deadline(Instant::now() + limit));
        let call = self.inner.call(request);
        Box::pin(async move {
            match tokio::time::timeout(limit.saturating_sub(MARGIN), call).await {
                Ok(response) => response,
                Err(_) => Ok(Status::from(exceeded(limit)).into_http()),
            }
        })
    }
}

fn exceeded(limit: Duration) -> Problem {
    Problem::new(ErrorKind::DeadlineExceeded, "DEADLINE_EXCEEDED", format!("no answer within {limit:?}"))
        .remedy("allow more time, or ask for less at once")
}

/// The span in `grpc-timeout`: up to eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::{ServiceExt as _, service_fn};

    fn asked(text: &'static str) -> Option<Duration> {
        timeout(&HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), text.parse().unwrap())]))
    }

    #[test]
    fn the_header_is_understood() {
        assert_eq!(asked("250m"), Some(Duration::from_millis(250)));
        assert_eq!(asked("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for wrong in ["", "5", "S", "-1S", "123456789S", "5x", "1.5S"] {
            assert_eq!(asked(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_call_without_an_answer_ends_at_the_earlier_limit() {
        const SECOND: Duration = Duration::from_secs(1);
        let limit = Limit { default: SECOND * 300, max: SECOND / 20 };
        let silent = service_fn(async |request: http::Request<()>| {
            assert!(request.extensions().get::<Deadline>().unwrap().remaining() <= SECOND / 20);
            std::future::pending::<Result<http::Response<()>, std::convert::Infallible>>().await
        });
        let request = http::Request::builder().header("grpc-timeout", "1H").body(()).unwrap();
        let call = tokio::time::timeout(SECOND * 10, limit.layer(silent).oneshot(request));
        let status = Status::from_header_map(call.await.unwrap().unwrap().headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    }
}
