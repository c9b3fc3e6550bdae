//! A panic in one handler is one failed call, not a dead connection with every other call on it. Refuses to tell the
//! caller what the panic said.

use crate::status::Problem;
use domain::ErrorKind;
use futures_util::FutureExt as _;
use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
};
use tonic::Status;
use tower::{Layer, Service};

/// A layer that answers a panic with an internal error.
#[derive(Debug, Clone, Copy, Default)]
pub struct CatchPanic;

impl<S> Layer<S> for CatchPanic {
    type Service = Caught<S>;

    fn layer(&self, inner: S) -> Caught<S> {
        Caught(inner)
    }
}

/// A service behind [`CatchPanic`].
#[derive(Debug, Clone)]
pub struct Caught<S>(S);

impl<S, B, R> Service<http::Request<B>> for Caught<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
    R: Default,
{
    type Response = http::Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let method = request.uri().path().to_owned();
        // Nothing of the handler is used again after a panic: its future is dropped, its state is its own.
        let call = AssertUnwindSafe(self.0.call(request)).catch_unwind();
        Box::pin(async move {
            call.await.unwrap_or_else(|panic| {
                tracing::error!(method, panic = said(panic.as_ref()), "a handler panicked");
                let problem = Problem::new(ErrorKind::Internal, "PANIC", "a fault of the server; its log says more");
                Ok(Status::from(problem).into_http())
            })
        })
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("(no message)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::{ServiceExt as _, service_fn};

    #[tokio::test]
    async fn a_panic_is_an_internal_error_without_its_words() {
        let broken = service_fn(async |request: http::Request<()>| {
            assert!(request.uri().path() != "/a/B", "the secret cause");
            Ok::<_, std::convert::Infallible>(http::Response::new(()))
        });
        let request = http::Request::builder().uri("/a/B").body(()).unwrap();
        let response = CatchPanic.layer(broken).oneshot(request).await.unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::Internal);
        assert!(!status.message().contains("secret"));
    }
}
