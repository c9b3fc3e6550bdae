//! What a caller can do about a failure, whatever crate it came from.

/// Every error of the workspace answers `kind()` with one of these; gRPC and HTTP statuses are derived from it in one
/// place each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is malformed; repeating it changes nothing.
    InvalidArgument,
    /// The named thing does not exist, or is not the caller's to see.
    NotFound,
    /// The name or key is taken.
    AlreadyExists,
    /// The thing exists but is in a state that forbids this.
    FailedPrecondition,
    /// No valid credential.
    Unauthenticated,
    /// A valid credential that does not allow this.
    PermissionDenied,
    /// A named limit is reached; try later.
    ResourceExhausted,
    /// Somebody else's act came first (a lease, a version, an epoch): read again.
    Conflict,
    /// A dependency is away; try again.
    Unavailable,
    /// It took longer than it may.
    DeadlineExceeded,
    /// A fault of ours.
    Internal,
}
