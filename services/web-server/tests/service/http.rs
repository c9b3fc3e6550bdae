//! A plain HTTP client, so that tests see what is on the wire.

use ::http::{HeaderMap, Method, Request, StatusCode};
use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// An answer that was read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}

pub(crate) async fn send(request: Request<Body>) -> Answer {
    open(request).await.whole().await
}

/// An answer whose head has come.
pub(crate) struct Opened(::http::Response<hyper::body::Incoming>);

pub(crate) async fn open(request: Request<Body>) -> Opened {
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    Opened(client.request(request).await.unwrap())
}

/// Sends one message of a stream by gRPC; the status and the reason of what is refused.
pub(crate) async fn stream(url: &str, token: &str, message: &[u8]) -> Result<(), rpc::status::Problem> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let body = [&[0], length.as_slice(), message].concat();
    let authorization = format!("Bearer {token}");
    let headers = [("content-type", "application/grpc"), ("te", "trailers"), ("authorization", &authorization)];
    let headers = if token.is_empty() { &headers[..2] } else { &headers[..] };
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Body>();
    let answer = client.request(request(Method::POST, url, headers, body)).await.unwrap();
    match tonic::Status::from_header_map(answer.headers()) {
        Some(status) if status.code() != tonic::Code::Ok => Err(rpc::status::Problem::from_status(&status)),
        _ => Ok(()),
    }
}

impl Opened {
    /// All of it.
    pub(crate) async fn whole(self) -> Answer {
        let (head, body) = self.0.into_parts();
        Answer { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
    }
}

pub(crate) fn request(method: Method, url: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}
