//! JSON over HTTP for every method of the contract: a message is read by its descriptor, handed to the same services as a
//! gRPC call inside the process, and its answer is written as JSON. There is no second implementation of anything.

pub(crate) mod connect;
mod frames;

use crate::authorisation::{self, Guarded};
use crate::fault::Fault;
use crate::identity::Identity;
use axum::body::{Body, Bytes};
use axum::response::Response;
use bytes::BytesMut;
use domain::ErrorKind;
pub(crate) use frames::{Frames, frame};
use futures_util::stream;
use http::header::{CONTENT_TYPE, HeaderValue, TE};
use http::{Extensions, HeaderMap, Method, Request, Version};
use http_body_util::BodyExt;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions};
use rpc::status::Problem;
use std::collections::HashMap;
use tonic::{Code, Status};
use tower::ServiceExt;

/// Headers that a call inside the process takes along.
const FORWARDED: [&str; 4] = ["traceparent", "tracestate", "x-request-id", "grpc-timeout"];

/// Of a body that is too large so much more is read and dropped: many clients look for an answer only when they have sent
/// everything, and would find their connection reset.
const DISCARDED_BYTES_MAX: usize = 64 << 20;

/// The methods of the contract by path, and the services that implement them.
#[derive(Clone)]
pub(crate) struct Transcoder {
    methods: HashMap<String, MethodDescriptor>,
    services: Guarded,
    message_bytes: usize,
}

impl Transcoder {
    /// For the public services among `services`.
    pub(crate) fn new(pool: &DescriptorPool, services: Guarded, message_bytes: usize) -> Self {
        Self { methods: authorisation::methods(pool).collect(), services, message_bytes }
    }

    /// Answers a JSON request for a method.
    pub(crate) async fn call(&self, request: Request<Body>) -> Response {
        let (head, body) = request.into_parts();
        let body = match whole_body(body, self.message_bytes).await {
            Ok(body) => body,
            Err(fault) => return connect::error(&fault.into()),
        };
        let answer = self.answer(head.uri.path(), &head.headers, &head.extensions, &body).await;
        answer.unwrap_or_else(|status| connect::error(&status))
    }

    /// Answers a request whose message is this JSON text; empty text is the empty message.
    /// The extensions say who calls.
    pub(crate) async fn answer(
        &self,
        path: &str,
        headers: &HeaderMap,
        extensions: &Extensions,
        json: &[u8],
    ) -> Result<Response, Status> {
        let method = self.methods.get(path).ok_or_else(|| no_method(path))?;
        if method.is_client_streaming() {
            let message = format!("`{path}` takes a stream, which JSON has no form for; call it by gRPC");
            return Err(Status::unimplemented(message));
        }
        let frames = self.frames(path, headers, extensions, json).await?;
        if method.is_server_streaming() {
            Ok(lines(method.output(), frames))
        } else {
            whole(&method.output(), frames).await
        }
    }

    /// The messages that answer a request whose message is this JSON text.
    pub(crate) async fn frames(
        &self,
        path: &str,
        headers: &HeaderMap,
        extensions: &Extensions,
        json: &[u8],
    ) -> Result<Frames, Status> {
        let method = self.methods.get(path).ok_or_else(|| no_method(path))?;
        let message = read(method.input(), if json.is_empty() { b"{}" } else { json })?;
        let body = tonic::body::Body::new(http_body_util::Full::new(frame(&message.encode_to_vec())));
        self.dispatch(path, headers, extensions, body).await
    }

    /// Answers a request that is a stream of framed messages; the answer is one message.
    pub(crate) async fn answer_stream(
        &self,
        path: &str,
        headers: &HeaderMap,
        extensions: &Extensions,
        body: tonic::body::Body,
    ) -> Result<Response, Status> {
        let method = self.methods.get(path).ok_or_else(|| no_method(path))?;
        whole(&method.output(), self.dispatch(path, headers, extensions, body).await?).await
    }

    async fn dispatch(
        &self,
        path: &str,
        headers: &HeaderMap,
        extensions: &Extensions,
        body: tonic::body::Body,
    ) -> Result<Frames, Status> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        // Only paths of the table come here: they are well-formed.
        *request.uri_mut() = path.parse().unwrap_or_default();
        if let Some(identity) = extensions.get::<Identity>() {
            request.extensions_mut().insert(identity.clone());
        }
        for name in FORWARDED {
            if let Some(value) = headers.get(name) {
                request.headers_mut().insert(name, value.clone());
            }
        }
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
        let Ok(response) = self.services.clone().oneshot(request).await;
        match Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok) {
            Some(status) => Err(status),
            None => Ok(Frames::new(response.into_body())),
        }
    }
}

/// The bytes of a body that is no larger than this.
///
/// # Errors
/// It is larger, or breaks off.
pub(crate) async fn whole_body(mut body: Body, bytes_max: usize) -> Result<Bytes, Fault> {
    let (mut whole, mut sent) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let broken = |_| Fault::new(ErrorKind::InvalidArgument, "INVALID_MESSAGE", "the body broke off");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        sent += data.len();
        if sent <= bytes_max {
            whole.extend_from_slice(&data);
        } else if sent > bytes_max + DISCARDED_BYTES_MAX {
            break;
        }
    }
    if sent > bytes_max { Err(Problem::too_large(bytes_max).into()) } else { Ok(whole.freeze()) }
}

/// What is said to who calls it.
pub(crate) fn no_method(path: &str) -> Status {
    Status::unimplemented(format!("`{path}` is no method; the contract is served by reflection"))
}

fn read(kind: MessageDescriptor, json: &[u8]) -> Result<DynamicMessage, Status> {
    let name = kind.name().to_owned();
    let invalid = |why: String| {
        let message = format!("the body is no {name}: {why}");
        Status::from(Fault::new(ErrorKind::InvalidArgument, "INVALID_JSON", message))
    };
    if let Some(number) = rpc::json::oversized_integer(json) {
        return Err(invalid(rpc::json::beyond(number)));
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let message = DynamicMessage::deserialize(kind, &mut reader).map_err(|e| invalid(e.to_string()))?;
    reader.end().map_err(|e| invalid(e.to_string()))?;
    Ok(message)
}

fn write(kind: &MessageDescriptor, bytes: Bytes) -> Result<Vec<u8>, Status> {
    let broken = |error: &dyn std::error::Error| Status::from(Fault::internal(error));
    let message = DynamicMessage::decode(kind.clone(), bytes).map_err(|e| broken(&e))?;
    let mut json = serde_json::Serializer::new(Vec::new());
    let options = SerializeOptions::new().skip_default_fields(false);
    message.serialize_with_options(&mut json, &options).map_err(|e| broken(&e))?;
    Ok(json.into_inner())
}

async fn whole(kind: &MessageDescriptor, mut frames: Frames) -> Result<Response, Status> {
    let message = frames.next().await?.ok_or_else(|| Status::internal("the server gave no answer"))?;
    // The status comes after the message.
    while frames.next().await?.is_some() {}
    let mut response = Response::new(Body::from(write(kind, message)?));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// One line per message; a failure is the last line, `{"error": …}`.
fn lines(kind: MessageDescriptor, frames: Frames) -> Response {
    let lines = stream::unfold(Some((kind, frames)), |state| async {
        let (kind, mut frames) = state?;
        let line = match frames.next().await {
            Ok(None) => return None,
            Ok(Some(message)) => write(&kind, message),
            Err(status) => Err(status),
        };
        let (mut line, rest) = match line {
            Ok(line) => (line, Some((kind, frames))),
            Err(status) => (connect::error_line(&status), None),
        };
        line.push(b'\n');
        Some((Ok::<_, std::convert::Infallible>(line), rest))
    });
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}
