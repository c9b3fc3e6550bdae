//! Errors of this service as callers see them: a kind, a reason that programs match on, and a sentence that names the
//! thing and the remedy. Refuses to show the inside of the cluster: those errors are logged here, once, with their chain.

use domain::ErrorKind;
use rpc::status::Problem;
use runtime::exit::chain;
use std::time::Duration;
use tonic::Status;

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault(pub(crate) Problem);

impl Fault {
    /// When to ask again, where nobody knows when a place becomes free.
    pub(crate) const SOON: Duration = Duration::from_secs(1);

    /// A refusal with its reason in `UPPER_SNAKE` and one sentence for a person.
    pub(crate) fn new(kind: ErrorKind, reason: &'static str, message: impl Into<String>) -> Self {
        Self(Problem::new(kind, reason, message))
    }

    /// A field of the request is not what it must be.
    pub(crate) fn field(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self(Problem::invalid(field, why))
    }

    /// As many do this at once as can, or somebody too often: it passes.
    pub(crate) fn busy(reason: &'static str, message: impl Into<String>, wait: Duration) -> Self {
        Self(Problem::new(ErrorKind::ResourceExhausted, reason, message).after(wait))
    }

    /// Nobody is signed in, or not with what was shown.
    pub(crate) fn unauthenticated(message: &'static str) -> Self {
        Self::new(ErrorKind::Unauthenticated, "UNAUTHENTICATED", message)
    }

    /// There is no row that allows this.
    pub(crate) fn not_allowed() -> Self {
        Self::new(
            ErrorKind::PermissionDenied,
            "NOT_ALLOWED",
            "nobody may call this; the contract is served by reflection",
        )
    }

    /// There is no such project, or it is not the caller's to see: the two look alike.
    pub(crate) fn no_project(name: &str) -> Self {
        let message = format!("there is no project `{name}` that you may see; `orrery projects` lists those");
        Self::new(ErrorKind::NotFound, "PROJECT_NOT_FOUND", message)
    }

    /// There is no such person.
    pub(crate) fn no_user(email: &str) -> Self {
        let message = format!("there is no user `{email}`; `orrery users` lists them");
        Self::new(ErrorKind::NotFound, "USER_NOT_FOUND", message)
    }

    /// There is no such group.
    pub(crate) fn no_group(name: &str) -> Self {
        let message = format!("there is no group `{name}`; `orrery groups` lists them");
        Self::new(ErrorKind::NotFound, "GROUP_NOT_FOUND", message)
    }

    /// The workspace does not exist.
    pub(crate) fn no_workspace(name: &str) -> Self {
        let message = format!("there is no workspace `{name}`; `orrery workspaces --create {name}` makes it");
        Self::new(ErrorKind::NotFound, "WORKSPACE_NOT_FOUND", message)
    }

    /// The workspace or project is out of use.
    pub(crate) fn archived(name: &str) -> Self {
        let message = format!("`{name}` is archived; restore it first");
        Self::new(ErrorKind::FailedPrecondition, "ARCHIVED", message)
    }

    /// The pipeline does not exist.
    pub(crate) fn no_pipeline(workspace: &str, name: &str) -> Self {
        let message =
            format!("workspace `{workspace}` has no pipeline `{name}`; `orrery pipelines` lists those that it has");
        Self::new(ErrorKind::NotFound, "PIPELINE_NOT_FOUND", message)
    }

    /// The run does not exist.
    pub(crate) fn no_run(id: impl std::fmt::Display) -> Self {
        let message = format!("there is no run `{id}`; list the runs of its workspace to find it");
        Self::new(ErrorKind::NotFound, "RUN_NOT_FOUND", message)
    }

    /// This replica is going down.
    pub(crate) fn draining() -> Self {
        Self::new(ErrorKind::Unavailable, "DRAINING", "this server is going down; open the stream again")
    }

    /// A fault of ours; the chain goes to the log and only there.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = chain(error), "a request failed");
        Self::new(ErrorKind::Internal, "INTERNAL", "the server failed on this request; its log has the cause")
    }
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        fault.0.into()
    }
}

impl From<store::Error> for Fault {
    fn from(error: store::Error) -> Self {
        match error.kind() {
            ErrorKind::Internal => Self::internal(&error),
            ErrorKind::InvalidArgument => {
                Self::new(ErrorKind::InvalidArgument, "INVALID_TEXT", "a text of the request holds a NUL; leave it out")
            }
            kind => {
                tracing::warn!(error = chain(&error), "the database refused a request");
                Self::new(kind, "DATABASE", "the database did not answer in time; try again")
            }
        }
    }
}
