//! Errors on the wire: one table to gRPC, one to HTTP, and the way back. Refuses to know why anything failed.
//!
//! Every status carries a `google.rpc.ErrorInfo` (domain `orrery`, a reason in UPPER_SNAKE), a `BadRequest` when fields are
//! to blame, and a `RetryInfo` when it is known that waiting helps, so that a client never parses a message.

use domain::ErrorKind;
use http::StatusCode;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::{BadRequest, ErrorDetail, ErrorInfo, FieldViolation, RetryInfo, StatusExt as _};

/// Whose reasons these are.
pub const DOMAIN: &str = "orrery";
/// The longest message, in bytes: a status travels in headers, which peers limit.
pub const MESSAGE_BYTES_MAX: usize = 1024;
/// The most violations that one status tells.
pub const VIOLATIONS_MAX: usize = 16;
/// The longest single detail, in bytes.
pub const DETAIL_BYTES_MAX: usize = 200;

const REMEDY: &str = "remedy";
/// The reason of a request that is larger than its receiver takes. gRPC has one code for it and for what will pass.
const TOO_LARGE: &str = "MESSAGE_TOO_LARGE";

/// Every kind, for tables and tests.
pub const KINDS: [ErrorKind; 11] = [
    ErrorKind::InvalidArgument,
    ErrorKind::NotFound,
    ErrorKind::AlreadyExists,
    ErrorKind::FailedPrecondition,
    ErrorKind::Unauthenticated,
    ErrorKind::PermissionDenied,
    ErrorKind::ResourceExhausted,
    ErrorKind::Conflict,
    ErrorKind::Unavailable,
    ErrorKind::DeadlineExceeded,
    ErrorKind::Internal,
];

/// The gRPC code of a kind.
#[must_use]
pub const fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::Conflict => Code::Aborted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Internal => Code::Internal,
    }
}

/// The HTTP status of a kind.
#[must_use]
pub const fn http_status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::AlreadyExists | ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::FailedPrecondition => StatusCode::PRECONDITION_FAILED,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorKind::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The kind of a gRPC code, also of codes that we never send but a proxy or a library may.
#[must_use]
pub const fn kind(code: Code) -> ErrorKind {
    match code {
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidArgument,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        // A method that a peer of another version lacks: no repetition helps.
        Code::FailedPrecondition | Code::Unimplemented => ErrorKind::FailedPrecondition,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::PermissionDenied => ErrorKind::PermissionDenied,
        Code::ResourceExhausted => ErrorKind::ResourceExhausted,
        Code::Aborted => ErrorKind::Conflict,
        // A cancelled call was cut by the peer or the network, or else nobody reads the answer.
        Code::Unavailable | Code::Cancelled => ErrorKind::Unavailable,
        Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => ErrorKind::Internal,
    }
}

/// Whether a call failed because its peer is gone, does not answer, or lost the connection, a balancer in between
/// included: it may have been carried out or not, and another peer may be asked by those who may ask twice.
#[must_use]
pub fn is_away(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled) || is_cut(status)
}

/// A connection that is accepted and then ends has no code of its own; what a peer says has no such source.
fn is_cut(status: &Status) -> bool {
    status.code() == Code::Unknown
        && std::error::Error::source(status).is_some_and(<dyn std::error::Error>::is::<tonic::transport::Error>)
}

/// The reason when nobody gave a better one.
const fn default_reason(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidArgument => "INVALID_ARGUMENT",
        ErrorKind::NotFound => "NOT_FOUND",
        ErrorKind::AlreadyExists => "ALREADY_EXISTS",
        ErrorKind::FailedPrecondition => "FAILED_PRECONDITION",
        ErrorKind::Unauthenticated => "UNAUTHENTICATED",
        ErrorKind::PermissionDenied => "PERMISSION_DENIED",
        ErrorKind::ResourceExhausted => "RESOURCE_EXHAUSTED",
        ErrorKind::Conflict => "CONFLICT",
        ErrorKind::Unavailable => "UNAVAILABLE",
        ErrorKind::DeadlineExceeded => "DEADLINE_EXCEEDED",
        ErrorKind::Internal => "INTERNAL",
    }
}

/// A status with its kind, reason, message and metadata. [`Problem`] says the same in steps.
#[must_use]
pub fn to_status(kind: ErrorKind, reason: &str, message: String, metadata: &[(&str, &str)]) -> Status {
    metadata.iter().fold(Problem::new(kind, reason, message), |problem, &(key, value)| problem.with(key, value)).into()
}

/// One field of a request and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field: `run.variables`.
    pub field: String,
    /// What it must be.
    pub description: String,
}

/// A failure as a caller sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default())]
pub struct Problem {
    /// What a caller can do about it.
    pub kind: ErrorKind,
    /// A stable word in UPPER_SNAKE for programs.
    pub reason: String,
    /// For people.
    pub message: String,
    /// What to do, for people.
    pub remedy: Option<Box<str>>,
    /// The fields to blame.
    pub violations: Vec<Violation>,
    /// Further facts for programs.
    pub metadata: BTreeMap<String, String>,
    /// Milliseconds after which a repetition may do better; 0 where nobody knows.
    pub retry_ms: u32,
}

impl Problem {
    /// A failure; `reason` in UPPER_SNAKE.
    #[must_use]
    pub fn new(kind: ErrorKind, reason: impl Into<String>, message: impl Into<String>) -> Self {
        let (reason, message) = (reason.into(), message.into());
        Self { kind, reason, message, remedy: None, violations: Vec::new(), metadata: BTreeMap::new(), retry_ms: 0 }
    }

    /// A request that is larger than what is taken at once.
    #[must_use]
    pub fn too_large(bytes_max: usize) -> Self {
        let message = format!("the request is larger than {bytes_max} bytes; send less at once");
        Self::new(ErrorKind::ResourceExhausted, TOO_LARGE, message)
    }

    /// A request with one wrong field.
    #[must_use]
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        let (field, description) = (field.into(), description.into());
        let message = format!("{field} {description}");
        Self::new(ErrorKind::InvalidArgument, "INVALID_FIELD", message).field(field, description)
    }

    /// Adds a field to blame.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, description: impl Into<String>) -> Self {
        self.violations.push(Violation { field: field.into(), description: description.into() });
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into().into());
        self
    }

    /// Says that waiting so long helps.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.retry_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1);
        self
    }

    /// The same in whole seconds, as HTTP's `Retry-After` has it.
    #[must_use]
    pub const fn retry_after_s(&self) -> Option<u32> {
        if self.retry_ms == 0 { None } else { Some(self.retry_ms.div_ceil(1_000)) }
    }

    /// The HTTP status: that of the kind, or of what is too large.
    #[must_use]
    pub fn http_status(&self) -> StatusCode {
        if self.is_too_large() { StatusCode::PAYLOAD_TOO_LARGE } else { http_status(self.kind) }
    }

    /// No repetition helps: the request itself is too large.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.reason == TOO_LARGE
    }

    /// Adds a fact for programs.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// The failure that a status tells of, whoever sent it.
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let kind = if is_cut(status) { ErrorKind::Unavailable } else { kind(status.code()) };
        let info = details.error_info().filter(|info| info.domain == DOMAIN);
        let mut metadata: BTreeMap<_, _> =
            info.map(|info| info.metadata.clone().into_iter().collect()).unwrap_or_default();
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        Self {
            kind,
            reason: info.map_or_else(|| default_reason(kind).to_owned(), |info| info.reason.clone()),
            message: status.message().to_owned(),
            remedy: metadata.remove(REMEDY).map(Into::into),
            violations: violations
                .iter()
                .map(|v| Violation { field: v.field.clone(), description: v.description.clone() })
                .collect(),
            metadata,
            retry_ms: details
                .retry_info()
                .and_then(|info| info.retry_delay)
                .map_or(0, |delay| u32::try_from(delay.as_millis()).unwrap_or(u32::MAX)),
        }
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let mut metadata: HashMap<String, String> =
            problem.metadata.into_iter().map(|(key, value)| (key, cut(value, DETAIL_BYTES_MAX))).collect();
        if let Some(remedy) = problem.remedy {
            metadata.insert(REMEDY.to_owned(), cut(remedy.into(), DETAIL_BYTES_MAX));
        }
        // What it is comes first, for clients that look no further.
        let mut details = vec![ErrorDetail::from(ErrorInfo::new(problem.reason, DOMAIN, metadata))];
        if !problem.violations.is_empty() {
            let violation = |v: Violation| {
                FieldViolation::new(cut(v.field, DETAIL_BYTES_MAX), cut(v.description, DETAIL_BYTES_MAX))
            };
            let violations = problem.violations.into_iter().take(VIOLATIONS_MAX).map(violation);
            details.push(BadRequest::new(violations.collect::<Vec<_>>()).into());
        }
        if problem.retry_ms > 0 {
            details.push(RetryInfo::new(Some(Duration::from_millis(problem.retry_ms.into()))).into());
        }
        Self::with_error_details_vec(code(problem.kind), cut(problem.message, MESSAGE_BYTES_MAX), details)
    }
}

/// The beginning of a text, with a sign that there was more.
fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max - '…'.len_utf8()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_from_the_wire() {
        for kind in KINDS {
            let status = to_status(kind, "SOME_REASON", "it went wrong".into(), &[("run", "7")]);
            assert_eq!(status.code(), code(kind));
            let problem = Problem::from_status(&status);
            assert_eq!(problem, Problem::new(kind, "SOME_REASON", "it went wrong").with("run", "7"));
            assert!(http_status(kind).is_client_error() || http_status(kind).is_server_error());
            assert_eq!(default_reason(kind), default_reason(super::kind(code(kind))));
        }
        let distinct: std::collections::HashSet<_> = KINDS.into_iter().collect();
        assert_eq!(distinct.len(), KINDS.len());
    }

    #[test]
    fn every_code_has_a_kind() {
        let kinds: Vec<_> = (1..=16).map(|number| kind(Code::from_i32(number))).collect();
        assert!(KINDS.iter().all(|kind| kinds.contains(kind)));
    }

    #[test]
    fn fields_and_remedy_travel() {
        let sent = Problem::invalid("page_size", "must not be negative").field("x", "y").remedy("leave it out");
        let came = Problem::from_status(&sent.clone().into());
        assert_eq!(came, sent);
        assert_eq!(came.to_string(), "page_size must not be negative; leave it out");
    }

    #[test]
    fn how_long_to_wait_travels_and_what_is_too_large_does_not_pass() {
        let sent =
            Problem::new(ErrorKind::ResourceExhausted, "BUSY", "too many").after(Duration::from_micros(1_200_001));
        let came = Problem::from_status(&sent.clone().into());
        assert_eq!((&came, came.retry_after_s()), (&sent, Some(2)));
        assert_eq!(came.http_status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(sent.after(Duration::ZERO).retry_after_s(), Some(1));
        let large = Problem::from_status(&Problem::too_large(7).into());
        assert_eq!((large.http_status(), large.retry_after_s()), (StatusCode::PAYLOAD_TOO_LARGE, None));
        assert!(large.message.contains("7 bytes"));
    }

    #[test]
    fn a_foreign_status_has_a_reason_too() {
        let problem = Problem::from_status(&Status::unavailable("tcp connect error"));
        assert_eq!((problem.kind, problem.reason.as_str()), (ErrorKind::Unavailable, "UNAVAILABLE"));
    }

    #[test]
    fn a_status_stays_small_enough_for_headers() {
        let many = (0..1000)
            .fold(Problem::invalid("f", "é".repeat(5000)), |p, i| p.field(format!("field{i}"), "x".repeat(1000)));
        let status = Status::from(many.remedy("z".repeat(5000)));
        assert!(status.message().len() <= MESSAGE_BYTES_MAX && status.message().ends_with('…'));
        assert!(status.details().len() < 8 * 1024, "{}", status.details().len());
        assert_eq!(Problem::from_status(&status).violations.len(), VIOLATIONS_MAX);
    }
}
