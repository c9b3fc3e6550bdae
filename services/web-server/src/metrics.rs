//! What is measured of requests and watchers. Refuses labels that a caller could make up.

use crate::changes::Changes;
use axum::response::Response;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};
use std::collections::HashSet;
use std::time::Duration;
use tonic::Code;

/// Seconds; from a cached read to the request time-out.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// The instruments of this server.
pub(crate) struct Metrics {
    requests: Counter<u64>,
    seconds: Histogram<f64>,
    methods: HashSet<String>,
}

impl Metrics {
    /// For these methods, as paths; every other path is `other`.
    pub(crate) fn new(meter: &Meter, methods: HashSet<String>, changes: &Changes) -> Self {
        let changes = changes.clone();
        meter
            .u64_observable_gauge("orrery_web_watchers")
            .with_description("Open streams that follow runs and logs.")
            .with_callback(move |gauge| gauge.observe(u64::try_from(changes.count()).unwrap_or(u64::MAX), &[]))
            .build();
        Self {
            requests: meter.u64_counter("orrery_web_requests").with_description("Answers by method and code.").build(),
            seconds: meter
                .f64_histogram("orrery_web_request_seconds")
                .with_description("Time to the head of the answer.")
                .with_boundaries(BUCKETS.to_vec())
                .build(),
            methods,
        }
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, path: &str, response: &Response, took: Duration) {
        let method = self.methods.get(path).cloned().unwrap_or_else(|| "other".to_owned());
        let code = code(response);
        tracing::debug!(method, code, ?took, "answered");
        let method = KeyValue::new("method", method);
        self.requests.add(1, &[method.clone(), KeyValue::new("code", code)]);
        self.seconds.record(took.as_secs_f64(), &[method]);
    }
}

/// The gRPC code of an answer in any protocol. What a stream ends with is not known yet.
fn code(response: &Response) -> String {
    let told = response.headers().get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()));
    match told.or_else(|| response.extensions().get::<Code>().copied()) {
        Some(code) => format!("{code:?}"),
        None if response.status().is_success() => "Ok".to_owned(),
        None => response.status().as_u16().to_string(),
    }
}
