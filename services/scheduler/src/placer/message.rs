//! What a placer is told, and what it answers.

use domain::{
    ErrorKind,
    id::{ExecutorId, HolderId, QueueId, UserId, WorkspaceId},
    runtime::{gang::Gang, reason::Reason},
};
use jiff::Timestamp;
use proto::internal::v1 as pb;
use std::collections::BTreeSet;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, PlacerError>>;

/// Why a command was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacerError {
    /// The workspace does not exist.
    #[error("there is no such workspace")]
    NoWorkspace(WorkspaceId),
    /// It has no runtime that could be meant.
    #[error("the workspace has no runtime that waits or runs")]
    NoRuntime(WorkspaceId),
    /// A life of it has not ended.
    #[error("the workspace's runtime has not ended; stop it first, or wait until it has")]
    Alive,
    /// What the caller saw is not in force any more.
    #[error("{0}; look again")]
    Overtaken(String),
    /// A rule forbids it.
    #[error("{sentence}")]
    Denied {
        /// A code for programs.
        code: &'static str,
        /// Why, and what would help.
        sentence: String,
    },
    /// The pool has as many as it takes.
    #[error("the pool has {LIVES} runtimes that have not ended, and takes no more; stop some, or use another pool", LIVES = super::LIVES_MAX)]
    Full,
    /// This scheduler does not own the pool.
    #[error("this scheduler does not own the pool; try again")]
    NotOwner,
    /// The database does not answer.
    #[error("the database does not answer; try again")]
    Unavailable,
}

impl PlacerError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoWorkspace(_) | Self::NoRuntime(_) => ErrorKind::NotFound,
            Self::Alive => ErrorKind::AlreadyExists,
            Self::Overtaken(_) => ErrorKind::Conflict,
            Self::Denied { .. } => ErrorKind::FailedPrecondition,
            Self::Full => ErrorKind::ResourceExhausted,
            Self::NotOwner | Self::Unavailable => ErrorKind::Unavailable,
        }
    }

    /// A stable name for programs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoWorkspace(_) => "WORKSPACE_NOT_FOUND",
            Self::NoRuntime(_) => "RUNTIME_NOT_FOUND",
            Self::Alive => "RUNTIME_ALIVE",
            Self::Overtaken(_) => "RUNTIME_CHANGED",
            Self::Denied { code, .. } => code,
            Self::Full => "POOL_FULL",
            Self::NotOwner => "NOT_OWNER",
            Self::Unavailable => "DATABASE_UNAVAILABLE",
        }
    }

    pub(crate) fn denied(code: &'static str, sentence: impl Into<String>) -> Self {
        Self::Denied { code, sentence: sentence.into() }
    }
}

/// Something for a placer.
#[derive(Debug)]
pub enum Message {
    /// A runtime is to start; answers the life's number.
    Start(StartRuntime, Reply<i64>),
    /// A runtime is to stop.
    Stop(StopRuntime, Reply<()>),
    /// A life goes to another queue.
    Switch(SwitchQueue, Reply<()>),
    /// Nobody stops it for idleness before then.
    Snooze(WorkspaceId, Timestamp, Option<UserId>, Reply<()>),
    /// What proxies saw.
    Seen(Vec<SeenActivity>, Reply<()>),
    /// What the planner would answer if that were so.
    Imagine(Imagined, Reply<placement::Plan>),
    /// What is known of the nodes of these names.
    Look(Vec<String>, Reply<Vec<pb::SeenNode>>),
    /// An executor speaks, on a stream of this number.
    Session(u64, SessionEvent),
}

/// What is not so, and thought of.
#[derive(Debug, Clone, Default)]
pub struct Imagined {
    /// They wait, besides those that do.
    pub requests: Vec<placement::Request>,
    /// They hold nothing, and want nothing.
    pub gone: BTreeSet<HolderId>,
}

/// A runtime is to start.
#[derive(Debug, Clone)]
pub struct StartRuntime {
    /// Whose.
    pub workspace: WorkspaceId,
    /// The version of the spec that was checked.
    pub spec_version: i64,
    /// Who asked.
    pub requested_by: Option<UserId>,
    /// The same key is the same start; may be empty.
    pub key: String,
    /// It starts with others or not at all.
    pub gang: Option<Gang>,
    /// The spec's image with its digest; empty for the spec's own.
    pub image: String,
}

/// A runtime is to stop.
#[derive(Debug, Clone)]
pub struct StopRuntime {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Why; `None` is an administrator's word that its node is off for good.
    pub reason: Option<Reason>,
    /// Who asked.
    pub requested_by: Option<UserId>,
    /// It starts again afterwards.
    pub start_again: bool,
    /// Only the life of this number, which may have ended.
    pub only: Option<i64>,
    /// The image that was checked for the life that follows, with its digest; may be empty.
    pub image: String,
}

/// A life goes to another queue.
#[derive(Debug, Clone)]
pub struct SwitchQueue {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Which queue.
    pub queue: QueueId,
    /// Who asked.
    pub requested_by: Option<UserId>,
}

/// What a proxy saw.
#[derive(Debug, Clone)]
pub struct SeenActivity {
    /// Whose.
    pub workspace: WorkspaceId,
    /// In which life.
    pub number: i64,
    /// How long ago, milliseconds.
    pub ago_ms: i64,
}

/// What an executor says.
#[derive(Debug)]
pub enum SessionEvent {
    /// It is there.
    Hello {
        /// Which life of it: a second stream of one takes the place of the first.
        executor: ExecutorId,
        /// As people call it.
        name: String,
        /// A node of its cluster that it does not tell of is no more, whoever told of it before.
        sees_cluster: bool,
        /// Where orders go.
        outbox: Outbox,
    },
    /// What nodes there are.
    Nodes(pb::Nodes),
    /// What runs.
    Runtimes(pb::Runtimes),
    /// What its attempts of blocks want.
    Wishes(pb::Wishes),
    /// What it has of the pool's volumes.
    Volumes(pb::VolumeReports),
    /// It lives.
    Heartbeat,
    /// Its stream has ended.
    Closed,
}

/// One direction of an executor's stream.
#[derive(Debug, Clone)]
pub struct Outbox {
    /// Takes what it is told.
    pub sender: mpsc::Sender<Result<pb::ServeResponse, Status>>,
    /// Ends the stream.
    pub over: CancellationToken,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_code_and_a_kind() {
        let nobody = WorkspaceId(uuid::Uuid::nil());
        for (error, code, kind) in [
            (PlacerError::NoWorkspace(nobody), "WORKSPACE_NOT_FOUND", ErrorKind::NotFound),
            (PlacerError::NoRuntime(nobody), "RUNTIME_NOT_FOUND", ErrorKind::NotFound),
            (PlacerError::Alive, "RUNTIME_ALIVE", ErrorKind::AlreadyExists),
            (PlacerError::Overtaken(String::new()), "RUNTIME_CHANGED", ErrorKind::Conflict),
            (PlacerError::denied("STOPPING", ""), "STOPPING", ErrorKind::FailedPrecondition),
            (PlacerError::Full, "POOL_FULL", ErrorKind::ResourceExhausted),
            (PlacerError::NotOwner, "NOT_OWNER", ErrorKind::Unavailable),
            (PlacerError::Unavailable, "DATABASE_UNAVAILABLE", ErrorKind::Unavailable),
        ] {
            assert_eq!((error.reason(), error.kind()), (code, kind));
        }
    }
}
