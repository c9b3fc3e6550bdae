//! Which call belongs to which: request ids, W3C trace context, and one span and one measurement per call. Refuses to
//! know what a call does.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    KeyValue, global,
    metrics::Histogram,
    propagation::{Extractor, Injector},
};
use std::{
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
    time::Instant,
};
use tonic::{Code, Status, metadata::MetadataMap};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use uuid::Uuid;

/// The header that carries a request id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A request id of a client is at most this long; another one is replaced.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// The id of a request; among its extensions behind [`TraceCalls`], and in the answer's headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub String);

impl RequestId {
    fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok());
        let fits = |id: &&str| {
            (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        Self(given.filter(fits).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned))
    }
}

/// Puts the trace of the current span into the metadata of a call.
pub fn inject(metadata: &mut MetadataMap) {
    let context = Span::current().context();
    global::get_text_map_propagator(|propagator| propagator.inject_context(&context, &mut Outgoing(metadata)));
}

/// The trace of the current span, in the form of the W3C header `traceparent`; empty when nobody traces.
#[must_use]
pub fn current() -> String {
    let mut metadata = MetadataMap::new();
    inject(&mut metadata);
    metadata.get("traceparent").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// Makes `span` a child of a trace that [`current`] gave; of none, when the text is empty or malformed.
pub fn continue_from(span: &Span, traceparent: &str) {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(traceparent) {
        headers.insert("traceparent", value);
        continue_trace(span, &headers);
    }
}

/// Makes `span` a child of the trace in the headers of a call.
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    let context = global::get_text_map_propagator(|propagator| propagator.extract(&Incoming(headers)));
    // Fails only where no trace layer is installed, and then there is nothing to continue.
    let _ = span.set_parent(context);
}

struct Outgoing<'a>(&'a mut MetadataMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (tonic::metadata::MetadataKey::from_bytes(key.as_bytes()), value.parse()) {
            self.0.insert(key, value);
        }
    }
}

struct Incoming<'a>(&'a HeaderMap);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

/// How long calls took until their answer began.
static DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    global::meter("rpc")
        .f64_histogram("rpc.server.duration")
        .with_unit("s")
        .with_description("Time until the answer of a call began")
        .with_boundaries(vec![0.001, 0.002, 0.004, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0])
        .build()
});

/// A layer that gives every call an id, a span that continues the caller's trace, and a measurement.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceCalls;

impl<S> Layer<S> for TraceCalls {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced(inner)
    }
}

/// A service behind [`TraceCalls`].
#[derive(Debug, Clone)]
pub struct Traced<S>(S);

impl<S, B, R> Service<http::Request<B>> for Traced<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
{
    type Response = http::Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let started = Instant::now();
        let id = RequestId::of(request.headers());
        let method = request.uri().path().to_owned();
        let span = tracing::info_span!("rpc", method, request_id = id.0, code = tracing::field::Empty);
        continue_trace(&span, request.headers());
        request.extensions_mut().insert(id.clone());
        // The span covers the call itself too: a service may start work before its future is polled.
        let call = span.in_scope(|| self.0.call(request));
        let finish = async move {
            let mut response = call.await?;
            let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
            measure(&method, code, started);
            Span::current().record("code", tracing::field::debug(code));
            tracing::debug!(elapsed = ?started.elapsed(), "answered");
            if let Ok(value) = HeaderValue::try_from(id.0) {
                response.headers_mut().insert(REQUEST_ID, value);
            }
            Ok(response)
        };
        Box::pin(finish.instrument(span))
    }
}

fn measure(method: &str, code: Code, started: Instant) {
    // Whatever a stranger calls must not become a label: methods that nobody serves share one.
    let refused = matches!(code, Code::Unimplemented | Code::Unauthenticated);
    let method = if refused { "unknown" } else { method };
    let labels = [KeyValue::new("method", method.to_owned()), KeyValue::new("code", i64::from(code as i32))];
    DURATION.record(started.elapsed().as_secs_f64(), &labels);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::{ServiceExt as _, service_fn};

    async fn id_of(given: Option<&str>) -> (String, String) {
        let inner = service_fn(async |request: http::Request<()>| {
            let seen = request.extensions().get::<RequestId>().unwrap().0.clone();
            Ok::<_, std::convert::Infallible>(http::Response::new(seen))
        });
        let mut request = http::Request::builder().uri("/a.B/C");
        if let Some(given) = given {
            request = request.header(REQUEST_ID, given);
        }
        let response = TraceCalls.layer(inner).oneshot(request.body(()).unwrap()).await.unwrap();
        let answered = response.headers()[REQUEST_ID].to_str().unwrap().to_owned();
        (response.into_body(), answered)
    }

    #[tokio::test]
    async fn a_request_id_is_kept_or_made() {
        assert_eq!(id_of(Some("abc-1")).await, ("abc-1".to_owned(), "abc-1".to_owned()));
        for bad in [None, Some(""), Some("a b"), Some(&*"x".repeat(65))] {
            let (seen, answered) = id_of(bad).await;
            assert_eq!(seen, answered);
            assert!(Uuid::parse_str(&seen).is_ok(), "{bad:?}");
        }
    }
}
