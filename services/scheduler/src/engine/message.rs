//! What the engine is told, and what it answers.

use super::backfills::{ChangeBackfill, CreateBackfill};
use crate::wire::AttemptId;
use domain::{
    ErrorKind,
    executor_type::Backend,
    id::{BackfillId, ExecutorId, PipelineId, RunId, SchedulerId, TriggerId},
    unit::Outcome,
};
use jiff::Timestamp;
use proto::internal::v1 as pb;
use std::time::Duration;
use store::shards::Shard;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

/// Why a command was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The pipeline does not exist or is archived.
    #[error("no pipeline {0}")]
    NoPipeline(PipelineId),
    /// The pipeline's workspace is archived, by name.
    #[error("`{0}` is archived; restore it first")]
    Archived(String),
    /// The trigger was edited, started or paused since the caller saw it.
    #[error("trigger {0} has changed; look at it and try again")]
    Overtaken(TriggerId),
    /// The credential calls too often.
    #[error("this token is used too often; wait {} ms", .0.as_millis().max(1))]
    TooManyCalls(Duration),
    /// The backfill does not exist.
    #[error("no backfill {0}")]
    NoBackfill(BackfillId),
    /// The pipeline has another backfill of this name.
    #[error("the pipeline has another backfill named `{0}`; choose another name")]
    NameTaken(String),
    /// The pipeline has so many backfills that are not over.
    #[error("the pipeline has {0} backfills that are not over, which is the most it may have; wait, or cancel some")]
    TooManyBackfills(usize),
    /// The run does not exist.
    #[error("no run {0}")]
    NoRun(RunId),
    /// What is to run again has not ended.
    #[error("run `{0}` has not ended; cancel it or wait for its end before retrying")]
    NotEnded(RunId),
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
            Self::NoPipeline(_) | Self::NoRun(_) | Self::NoBackfill(_) | Self::NoBlock(_) => ErrorKind::NotFound,
            Self::NameTaken(_) => ErrorKind::AlreadyExists,
            Self::Overtaken(_) => ErrorKind::Conflict,
            Self::TooManyCalls(_) | Self::TooManyBackfills(_) => ErrorKind::ResourceExhausted,
            Self::Archived(_) | Self::NotEnded(_) | Self::Refused(_) | Self::Definition(_) => {
                ErrorKind::FailedPrecondition
            }
            Self::NotOwner | Self::Unavailable => ErrorKind::Unavailable,
        }
    }

    /// A stable name for programs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoPipeline(_) => "PIPELINE_NOT_FOUND",
            Self::Archived(_) => "ARCHIVED",
            Self::NoRun(_) => "RUN_NOT_FOUND",
            Self::NoBackfill(_) => "BACKFILL_NOT_FOUND",
            Self::NameTaken(_) => "BACKFILL_EXISTS",
            Self::TooManyBackfills(_) => "TOO_MANY_BACKFILLS",
            Self::Overtaken(_) => "TRIGGER_CHANGED",
            Self::TooManyCalls(_) => "TOO_MANY_CALLS",
            Self::NoBlock(_) => "BLOCK_NOT_FOUND",
            Self::NotEnded(_) => "RUN_NOT_ENDED",
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
    /// Below the pipeline's manual trigger, or where it comes from.
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
    /// The trigger that fires; the pipeline's manual one when absent.
    pub trigger: Option<FiredTrigger>,
    /// Where it comes from, when it makes the run `parent` again as a whole.
    pub repeats: Option<Repeated>,
}

/// What a run was made by that is made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeated {
    /// The manual trigger or another one; below it the new run's key is.
    pub trigger: TriggerId,
    /// The backfill that it belongs to; the key is below that then.
    pub backfill: Option<BackfillId>,
    /// What a caller or an event told beside the variables, a JSON object.
    pub event_variables: Option<String>,
    /// Beyond its time it ends as cancelled.
    pub timeout_cancels: bool,
}

/// The trigger that a run is asked of.
#[derive(Debug, Clone)]
pub struct FiredTrigger {
    /// Which.
    pub id: TriggerId,
    /// The version that the caller decided by.
    pub version: i64,
    /// What a caller or an event told beside the variables, a JSON object.
    pub event_variables: Option<String>,
    /// Who calls, and how often in a second they may.
    pub rate: Option<(String, u32)>,
}

/// What became of a run that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It is this one, which a former request with the same key may have created.
    Run(RunId),
    /// There is none: `waiting` for others to end, or why there never will be.
    Not(String),
}

impl Created {
    /// The run, if there is one.
    #[must_use]
    pub fn run(&self) -> Option<RunId> {
        match self {
            Self::Run(run) => Some(*run),
            Self::Not(_) => None,
        }
    }
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
    /// What names this retry: asked for again, it is the same one. Empty where a caller of an earlier version has none.
    pub key: String,
}

/// Everything that reaches the engine.
#[derive(Debug)]
pub enum Message {
    /// Creates runs, all or none apart from those that triggers skip; answers in order, known ones included.
    Create(Vec<CreateRun>, Reply<Vec<Created>>),
    /// Stops a run.
    Cancel(CancelRun, Reply<()>),
    /// Runs parts again.
    Retry(RetryRun, Reply<()>),
    /// Creates a backfill; answers its id, or that of the same one.
    CreateBackfill(CreateBackfill, Reply<BackfillId>),
    /// Pauses, resumes or cancels a backfill.
    ChangeBackfill(BackfillId, ChangeBackfill, Reply<()>),
    /// An attempt that waited for a run wants to go on: whether it has its permits again, or is to ask once more.
    Resume(AttemptId, Reply<bool>),
    /// From an executor's session.
    Session(ExecutorId, u64, SessionEvent),
    /// From another scheduler, about executors whose gateway this one is.
    Peer(SchedulerId, PeerEvent),
}

/// What this scheduler owns from now on.
#[derive(Debug)]
pub struct Ownership {
    /// All of it.
    pub shards: Vec<Shard>,
    /// Told when nothing of the rest is touched any more. Dropped when nobody waits for it.
    pub done: Option<oneshot::Sender<()>>,
}

/// Units by the backend that they need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Units {
    /// Those that run as processes, or anywhere.
    pub process: u32,
    /// Those that run on Kubernetes only.
    pub kubernetes: u32,
}

impl Units {
    /// Those of one backend.
    #[must_use]
    pub fn on(self, backend: Backend) -> u32 {
        match backend {
            Backend::Process => self.process,
            Backend::Kubernetes => self.kubernetes,
        }
    }

    /// The same, to be changed.
    pub(super) fn on_mut(&mut self, backend: Backend) -> &mut u32 {
        match backend {
            Backend::Process => &mut self.process,
            Backend::Kubernetes => &mut self.kubernetes,
        }
    }

    /// None at all.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// What a scheduler that borrows slots says to the gateway of the executors.
#[derive(Debug)]
pub enum PeerEvent {
    /// It could use so many more of each kind, and needs some of these executors.
    Demand(Units, Vec<ExecutorId>),
    /// It gives back so many of an executor.
    Returned(ExecutorId, u32),
    /// So many more are in use than it was lent.
    Claimed(ExecutorId, u32),
    /// Permits went back that somebody waits for.
    PermitsFreed,
    /// The stream to it broke.
    Down,
}

/// Where to speak to an executor.
#[derive(Debug, Clone)]
pub enum Outbox {
    /// On its own session.
    Local(mpsc::Sender<pb::SessionResponse>),
    /// Through its gateway.
    Relayed {
        /// Which.
        executor: ExecutorId,
        /// The gateway's stream.
        link: mpsc::Sender<pb::LinkResponse>,
        /// Ends that stream.
        broken: CancellationToken,
    },
}

impl Outbox {
    /// Says something to the executor; false when its stream is gone or too full.
    pub(super) fn send(&self, message: pb::session_response::Message) -> bool {
        let response = pb::SessionResponse { message: Some(message) };
        match self {
            Self::Local(sender) => sender.try_send(response).is_ok(),
            Self::Relayed { executor, .. } => {
                self.tell_gateway(pb::link_response::Message::Executor(pb::ExecutorResponse {
                    executor_id: executor.to_vec(),
                    response: Some(response),
                }))
            }
        }
    }

    /// Says something to the gateway; nothing on a session of this scheduler's own.
    pub(super) fn tell_gateway(&self, message: pb::link_response::Message) -> bool {
        let Self::Relayed { link, broken, .. } = self else { return true };
        let sent = link.try_send(pb::LinkResponse { message: Some(message) }).is_ok();
        if !sent {
            // Something is missing on it now: it is opened again, and everything is said anew.
            broken.cancel();
        }
        sent
    }
}

/// What an executor has of runs.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// What it runs, or holds an unacknowledged result of.
    pub running: Vec<AttemptId>,
    /// What was leased to it ahead and has not begun: it takes no slot.
    pub ahead: Vec<AttemptId>,
}

/// What an executor says. The number beside it tells one session of an executor from the next.
#[derive(Debug)]
pub enum SessionEvent {
    /// It is here.
    Hello {
        /// Rises with every session of the executor.
        number: i64,
        /// Shown to people.
        name: String,
        /// process, kubernetes, ...
        backend: String,
        /// Its credits.
        slots: u32,
        /// Its build.
        version: String,
        /// What it has.
        held: Held,
        /// It takes no more work.
        draining: bool,
        /// It begins what it was given ahead by itself.
        goes_on: bool,
        /// Where to speak to it.
        outbox: Outbox,
        /// The scheduler that lends it, when it is connected with another one; `held` then comes as `Inventory`.
        gateway: Option<SchedulerId>,
    },
    /// It is still here.
    Heartbeat {
        /// To be echoed.
        sequence: i64,
        /// Attempts that run now, whoever gave them.
        running: u32,
    },
    /// What it has: the answer to a question.
    Inventory(Held),
    /// Its gateway lends so many more of its slots.
    Lent(u32),
    /// Its gateway wants so many of them back.
    Recalled(u32),
    /// Attempts ended, after they had run for so long.
    Results(Vec<(AttemptId, Outcome, Duration)>),
    /// An attempt gave its slot back while it waits, or took it again.
    SlotChange(AttemptId, bool),
    /// It takes no more work.
    Draining,
    /// It has nothing left and goes.
    Goodbye,
    /// The stream broke; it may come back.
    Closed,
}

impl SessionEvent {
    /// Whether the executor itself said it. What its gateway says of slots, it also says of an executor that it has not
    /// heard of for a while.
    pub(super) fn is_sign_of_life(&self) -> bool {
        !matches!(self, Self::Lent(_) | Self::Recalled(_) | Self::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_names_and_is_not_there_is_not_found() {
        let run = RunId::new_in(0);
        for error in [EngineError::NoRun(run), EngineError::NoBlock("b".to_owned())] {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
    }
}
