//! In which protocol a request came, and how a refusal looks in it. Refuses to know why it is refused.

use crate::fault::Fault;
use crate::transcode::connect;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use tonic::Status;

/// How a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Native gRPC, over HTTP/2.
    Grpc,
    /// gRPC-Web, from a browser.
    GrpcWeb,
    /// JSON: the Connect protocol, the REST paths, and every path that is no method.
    Json,
}

impl Protocol {
    /// From the content type.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if kind.starts_with("application/grpc-web") {
            Self::GrpcWeb
        } else if kind.starts_with("application/grpc") {
            Self::Grpc
        } else {
            Self::Json
        }
    }

    /// The answer that says no.
    pub(crate) fn refuse(self, fault: Fault) -> Response {
        self.end(Status::from(fault))
    }

    /// The answer that is a status and nothing else.
    pub(crate) fn end(self, status: Status) -> Response {
        match self {
            Self::Grpc => status.into_http::<Body>(),
            Self::GrpcWeb => {
                // A gRPC-Web client reads a status from the headers when there is no body.
                let mut response = status.into_http::<Body>();
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc-web+proto"));
                response
            }
            Self::Json => connect::error(&status),
        }
    }
}
