//! Errors in the Connect protocol's form: an HTTP status and `{code, message, details}`. One of the two tables that map
//! errors to a protocol.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use prost::Message;
use rpc::status::Problem;
use serde_json::{Value, json};
use tonic::metadata::{Binary, MetadataValue};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The name and the HTTP status of a code.
fn names(code: Code) -> (&'static str, u16) {
    match code {
        Code::Ok => ("ok", 200),
        Code::Cancelled => ("canceled", 499),
        Code::Unknown => ("unknown", 500),
        Code::InvalidArgument => ("invalid_argument", 400),
        Code::DeadlineExceeded => ("deadline_exceeded", 504),
        Code::NotFound => ("not_found", 404),
        Code::AlreadyExists => ("already_exists", 409),
        Code::PermissionDenied => ("permission_denied", 403),
        Code::ResourceExhausted => ("resource_exhausted", 429),
        Code::FailedPrecondition => ("failed_precondition", 400),
        Code::Aborted => ("aborted", 409),
        Code::OutOfRange => ("out_of_range", 400),
        Code::Unimplemented => ("unimplemented", 501),
        Code::Internal => ("internal", 500),
        Code::Unavailable => ("unavailable", 503),
        Code::DataLoss => ("data_loss", 500),
        Code::Unauthenticated => ("unauthenticated", 401),
    }
}

/// An error as a whole answer.
pub(crate) fn error(status: &Status) -> Response {
    let problem = Problem::from_status(status);
    // The code that stands for it stands for what passes too.
    let number = if problem.is_too_large() { 413 } else { names(status.code()).1 };
    let mut response = Response::new(Body::from(document(status).to_string()));
    *response.status_mut() = StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.extensions_mut().insert(status.code());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status.code() == Code::Unauthenticated {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = problem.retry_after_s() {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// An error as the last line of a stream.
pub(crate) fn error_line(status: &Status) -> Vec<u8> {
    json!({ "error": document(status) }).to_string().into_bytes()
}

fn document(status: &Status) -> Value {
    let (name, _) = names(status.code());
    let mut document = json!({ "code": name, "message": status.message() });
    let details = details(status);
    if !details.is_empty() {
        document["details"] = details.into();
    }
    document
}

/// Each detail as the protocol wants it (name and bytes), and readable beside it.
fn details(status: &Status) -> Vec<Value> {
    let Ok(inner) = tonic_types::Status::decode(status.details()) else { return Vec::new() };
    let known = status.get_error_details();
    let detail = |any: prost_types::Any| {
        let name = any.type_url.rsplit('/').next().unwrap_or_default().to_owned();
        let value = MetadataValue::<Binary>::from_bytes(&any.value);
        // The header form of bytes is base64 without padding, which is the protocol's form too.
        let value = String::from_utf8_lossy(value.as_encoded_bytes()).into_owned();
        let debug = readable(&name, &known);
        json!({ "type": name, "value": value, "debug": debug })
    };
    inner.details.into_iter().map(detail).collect()
}

fn readable(name: &str, known: &tonic_types::ErrorDetails) -> Value {
    match name {
        "google.rpc.ErrorInfo" => known.error_info().map_or(
            Value::Null,
            |info| json!({ "reason": info.reason, "domain": info.domain, "metadata": info.metadata }),
        ),
        "google.rpc.BadRequest" => known.bad_request().map_or(Value::Null, |bad| {
            let violation = |v: &tonic_types::FieldViolation| json!({ "field": v.field, "description": v.description });
            json!({ "fieldViolations": bad.field_violations.iter().map(violation).collect::<Vec<_>>() })
        }),
        "google.rpc.RetryInfo" => known.retry_info().and_then(|info| info.retry_delay).map_or(
            Value::Null,
            |delay| json!({ "retryDelay": format!("{}.{:03}s", delay.as_secs(), delay.subsec_millis()) }),
        ),
        _ => Value::Null,
    }
}
