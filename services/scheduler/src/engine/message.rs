//! What the engine is told, and what it answers.

use crate::wire::AttemptId;
use domain::{
    ErrorKind,
    id::{ExecutorId, PipelineId, RunId},
    unit::Outcome,
};
use jiff::Timestamp;
use proto::internal::v1 as pb;
use tokio::sync::{mpsc, oneshot};

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

/// Why a command was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The pipeline does not exist or is archived.
    #[error("no pipeline {0}")]
    NoPipeline(PipelineId),
    /// The run does not exist.
    #[error("no run {0}")]
    NoRun(RunId),
    /// The pipeline's run has no such block.
    #[error("the pipeline has no block `{0}`")]
    NoBlock(String),
    /// The run is in a state that forbids it.
    #[error("{0}")]
    Refused(String),
    /// The stored definition cannot be run.
    #[error("{0}")]
    Definition(String),
    /// This scheduler does not own the run, or owns nothing at the moment.
    #[error("this scheduler owns no part of the runs at the moment; try again")]
    NotOwner,
    /// The database does not answer.
    #[error("the database does not answer; try again")]
    Unavailable,
}

impl EngineError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoPipeline(_) | Self::NoRun(_) => ErrorKind::NotFound,
            Self::NoBlock(_) => ErrorKind::InvalidArgument,
            Self::Refused(_) | Self::Definition(_) => ErrorKind::FailedPrecondition,
            Self::NotOwner | Self::Unavailable => ErrorKind::Unavailable,
        }
    }

    /// A stable name for programs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoPipeline(_) => "PIPELINE_NOT_FOUND",
            Self::NoRun(_) => "RUN_NOT_FOUND",
            Self::NoBlock(_) => "BLOCK_NOT_FOUND",
            Self::Refused(_) => "RUN_STATE",
            Self::Definition(_) => "DEFINITION_INVALID",
            Self::NotOwner => "NOT_OWNER",
            Self::Unavailable => "DATABASE_UNAVAILABLE",
        }
    }
}

/// A run to be created, unless its key is known.
#[derive(Debug, Clone)]
pub struct CreateRun {
    /// Which pipeline, in its version in force.
    pub pipeline: PipelineId,
    /// Below the pipeline's manual trigger.
    pub logical_key: String,
    /// JSON object.
    pub variables: String,
    /// Now, when absent.
    pub execution_date: Option<Timestamp>,
    /// Seconds.
    pub timeout_s: Option<u32>,
    /// See `domain::run::Options`.
    pub allow_blocks_to_fail: bool,
    /// The run that it retries, or whose code started it.
    pub parent: Option<RunId>,
    /// Of the call that asked for it; empty when nobody traces it.
    pub traceparent: String,
}

/// A run to be stopped.
#[derive(Debug, Clone)]
pub struct CancelRun {
    /// Which.
    pub run: RunId,
    /// Why, in somebody's words.
    pub reason: String,
}

/// A run of which parts shall run again.
#[derive(Debug, Clone)]
pub struct RetryRun {
    /// Which.
    pub run: RunId,
    /// From this block on; otherwise every block that did not complete.
    pub from_block: Option<String>,
}

/// Everything that reaches the engine.
#[derive(Debug)]
pub enum Message {
    /// Creates runs, all or none; answers their ids in order, known ones included.
    Create(Vec<CreateRun>, Reply<Vec<RunId>>),
    /// Stops a run.
    Cancel(CancelRun, Reply<()>),
    /// Runs parts again.
    Retry(RetryRun, Reply<()>),
    /// From an executor's session.
    Session(ExecutorId, u64, SessionEvent),
}

/// What an executor says. The number beside it tells one session of an executor from the next.
#[derive(Debug)]
pub enum SessionEvent {
    /// It is here.
    Hello {
        /// Shown to people.
        name: String,
        /// process, kubernetes, ...
        backend: String,
        /// Its credits.
        slots: u32,
        /// Its build.
        version: String,
        /// What it runs, or holds an unacknowledged result of.
        held: Vec<AttemptId>,
        /// It takes no more work.
        draining: bool,
        /// Where to speak to it.
        outbox: mpsc::Sender<pb::SessionResponse>,
    },
    /// It is still here.
    Heartbeat(i64),
    /// Attempts ended.
    Results(Vec<(AttemptId, Outcome)>),
    /// An attempt gave its slot back while it waits, or took it again.
    SlotChange(AttemptId, bool),
    /// It takes no more work.
    Draining,
    /// It has nothing left and goes.
    Goodbye,
    /// The stream broke; it may come back.
    Closed,
}
