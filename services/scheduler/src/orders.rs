//! Commands on their way to the owner of the shard that they concern: this engine, or another scheduler. One hop, no
//! more; between two owners it waits a moment. Refuses to know what a command does.

use crate::{
    engine::{CancelRun, ChangeBackfill, CreateBackfill, CreateRun, Created, EngineError, Message, Reply, RetryRun},
    owners::{NotHere, Owners},
    wire::AttemptId,
};
use domain::id::{BackfillId, RunId};
use jiff::Timestamp;
use proto::internal::v1::{self as pb, command_service_client::CommandServiceClient};
use rpc::{client::Channel, status::Problem};
use std::{collections::BTreeMap, future::Future, time::Duration};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

/// The owner's time to answer; one that is frozen is asked again, or its successor.
const PEER_TIMEOUT: Duration = Duration::from_secs(2);

/// Client of another scheduler's commands.
type Peer = CommandServiceClient<Channel>;

/// Whether a command may be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// It came from a client of the schedulers.
    First,
    /// Another scheduler has passed it on: it ends here.
    Last,
}

impl Hop {
    /// Reads the mark of a request.
    #[must_use]
    pub fn of(forwarded: bool) -> Self {
        if forwarded { Self::Last } else { Self::First }
    }
}

/// Takes commands to their owners. Cheap to clone.
#[derive(Clone)]
pub struct Orders {
    engine: mpsc::Sender<Message>,
    owners: Owners,
}

/// The status of a refusal.
#[must_use]
pub fn status(error: &EngineError) -> Status {
    let problem = Problem::new(error.kind(), error.reason(), error.to_string());
    match error {
        EngineError::TooManyCalls(wait) => problem.after(*wait).into(),
        _ => problem.into(),
    }
}

impl Orders {
    /// Between this engine and the others.
    #[must_use]
    pub fn new(engine: mpsc::Sender<Message>, owners: Owners) -> Self {
        Self { engine, owners }
    }

    /// Creates runs; answers their ids in order. All or none of those that belong to one shard.
    ///
    /// # Errors
    /// The refusal of the engine, or of the owner.
    pub async fn create(&self, runs: Vec<CreateRun>, hop: Hop) -> Result<Vec<Created>, Status> {
        let mut shards: BTreeMap<u8, Vec<(usize, CreateRun)>> = BTreeMap::new();
        let count = runs.len();
        for (at, run) in runs.into_iter().enumerate() {
            shards.entry(run.pipeline.shard()).or_default().push((at, run));
        }
        let mut ids = vec![None; count];
        for (shard, runs) in shards {
            let (places, runs): (Vec<usize>, Vec<CreateRun>) = runs.into_iter().unzip();
            let created = self.create_in(shard, runs, hop).await?;
            for (at, id) in places.into_iter().zip(created) {
                ids[at] = Some(id);
            }
        }
        ids.into_iter().collect::<Option<_>>().ok_or_else(|| Status::internal("the owner answered too few runs"))
    }

    async fn create_in(&self, shard: u8, runs: Vec<CreateRun>, hop: Hop) -> Result<Vec<Created>, Status> {
        let here = || {
            let runs = runs.clone();
            self.ask(|reply| Message::Create(runs, reply))
        };
        let there = |mut peer: Peer| {
            let runs = runs.iter().map(new_run).collect();
            let request = rpc::client::within(PEER_TIMEOUT, pb::CreateRunsRequest { runs, forwarded: true });
            async move {
                let answer = peer.create_runs(request).await?.into_inner();
                let reasons = answer.skipped.into_iter().chain(std::iter::repeat(String::new()));
                let read = |(id, reason): (&Vec<u8>, String)| match reason.as_str() {
                    "" => RunId::from_slice(id).map(Created::Run),
                    _ => Some(Created::Not(reason)),
                };
                let created = answer.run_ids.iter().zip(reasons).map(read).collect::<Option<_>>();
                created.ok_or_else(|| Status::internal("a run id has 16 bytes"))
            }
        };
        self.at_owner(shard, hop, here, there).await
    }

    /// Creates a backfill; answers its id.
    ///
    /// # Errors
    /// The refusal of the engine, or of the owner.
    pub async fn create_backfill(
        &self,
        (command, request): (CreateBackfill, pb::CreateBackfillRequest),
        hop: Hop,
    ) -> Result<BackfillId, Status> {
        let here = || self.ask(|reply| Message::CreateBackfill(command.clone(), reply));
        let there = |mut peer: Peer| {
            let message = pb::CreateBackfillRequest { forwarded: true, ..request.clone() };
            async move {
                let id =
                    peer.create_backfill(rpc::client::within(PEER_TIMEOUT, message)).await?.into_inner().backfill_id;
                BackfillId::from_slice(&id).ok_or_else(|| Status::internal("a backfill id has 16 bytes"))
            }
        };
        self.at_owner(command.pipeline.shard(), hop, here, there).await
    }

    /// Pauses, resumes or cancels a backfill.
    ///
    /// # Errors
    /// The refusal of the engine, or of the owner.
    pub async fn change_backfill(
        &self,
        (id, change, request): (BackfillId, ChangeBackfill, pb::ChangeBackfillRequest),
        hop: Hop,
    ) -> Result<(), Status> {
        let here = || self.ask(|reply| Message::ChangeBackfill(id, change, reply));
        let there = |mut peer: Peer| {
            let message = pb::ChangeBackfillRequest { forwarded: true, ..request.clone() };
            async move { peer.change_backfill(rpc::client::within(PEER_TIMEOUT, message)).await.map(drop) }
        };
        self.at_owner(id.shard(), hop, here, there).await
    }

    /// Stops a run.
    ///
    /// # Errors
    /// The refusal of the engine, or of the owner.
    pub async fn cancel(&self, command: CancelRun, hop: Hop) -> Result<(), Status> {
        let here = || self.ask(|reply| Message::Cancel(command.clone(), reply));
        let there = |mut peer: Peer| {
            let (run_id, reason) = (command.run.to_vec(), command.reason.clone());
            let message = pb::CancelRunRequest { run_id, reason, forwarded: true };
            async move { peer.cancel_run(rpc::client::within(PEER_TIMEOUT, message)).await.map(drop) }
        };
        self.at_owner(command.run.shard(), hop, here, there).await
    }

    /// Whether an attempt that waited for a run has its permits again; otherwise it is to ask once more.
    ///
    /// # Errors
    /// That the owner is away.
    pub async fn resume(&self, attempt: &AttemptId, hop: Hop) -> Result<bool, Status> {
        let here = || self.ask(|reply| Message::Resume(attempt.clone(), reply));
        let there = |mut peer: Peer| {
            let message = pb::ResumeAttemptRequest { attempt: Some(attempt.to_proto()), forwarded: true };
            async move { Ok(peer.resume_attempt(rpc::client::within(PEER_TIMEOUT, message)).await?.into_inner().resumed) }
        };
        self.at_owner(attempt.run.shard(), hop, here, there).await
    }

    /// Runs parts of a run again.
    ///
    /// # Errors
    /// The refusal of the engine, or of the owner.
    pub async fn retry(&self, command: RetryRun, hop: Hop) -> Result<(), Status> {
        let here = || self.ask(|reply| Message::Retry(command.clone(), reply));
        let there = |mut peer: Peer| {
            let mode = match &command.from_block {
                None => proto::v1::RetryMode::Incomplete,
                Some(_) => proto::v1::RetryMode::FromBlock,
            };
            let message = pb::RetryRunRequest {
                run_id: command.run.to_vec(),
                mode: mode.into(),
                from_block: command.from_block.clone().unwrap_or_default(),
                logical_key: command.key.clone(),
                forwarded: true,
            };
            async move { peer.retry_run(rpc::client::within(PEER_TIMEOUT, message)).await.map(drop) }
        };
        self.at_owner(command.run.shard(), hop, here, there).await
    }

    /// Asks the owner of `shard`, wherever it is; repeats while it has none, or is away. Every command may be repeated.
    async fn at_owner<T, H, P>(
        &self,
        shard: u8,
        hop: Hop,
        here: impl Fn() -> H,
        there: impl Fn(Peer) -> P,
    ) -> Result<T, Status>
    where
        H: Future<Output = Result<T, EngineError>>,
        P: Future<Output = Result<T, Status>>,
    {
        let here = || async {
            here().await.map_err(|refused| match refused {
                EngineError::NotOwner if !self.engine.is_closed() => NotHere::NotOwner(status(&refused)),
                refused => NotHere::Refused(status(&refused)),
            })
        };
        self.owners.at_owner(shard, hop, here, |channel| there(peer(channel))).await
    }

    async fn ask<T>(&self, message: impl FnOnce(Reply<T>) -> Message) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.engine.send(message(reply)).await.map_err(|_| EngineError::NotOwner)?;
        answer.await.map_err(|_| EngineError::NotOwner)?
    }
}

fn peer(channel: Channel) -> Peer {
    CommandServiceClient::new(channel).max_decoding_message_size(rpc::server::MESSAGE_BYTES_MAX)
}

/// A run to be created, on the wire.
pub(crate) fn new_run(run: &CreateRun) -> pb::NewRun {
    let (called_by, calls_per_second) =
        run.trigger.as_ref().and_then(|trigger| trigger.rate.clone()).unwrap_or_default();
    let repeated = run.repeats.as_ref();
    let told = run.trigger.as_ref().and_then(|trigger| trigger.event_variables.clone());
    pb::NewRun {
        called_by,
        calls_per_second,
        pipeline_id: run.pipeline.to_vec(),
        logical_key: run.logical_key.clone(),
        variables: run.variables.clone(),
        execution_date_us: run.execution_date.map(Timestamp::as_microsecond),
        timeout_s: run.timeout_s.and_then(|s| i32::try_from(s).ok()).unwrap_or(0),
        allow_blocks_to_fail: run.allow_blocks_to_fail,
        parent_run_id: run.parent.map(RunId::to_vec).unwrap_or_default(),
        trigger_id: run.trigger.as_ref().map(|trigger| trigger.id.to_vec()).unwrap_or_default(),
        trigger_version: run.trigger.as_ref().map_or(0, |trigger| trigger.version),
        event_variables: told.or_else(|| repeated?.event_variables.clone()).unwrap_or_default(),
        repeated_trigger_id: repeated.map(|repeated| repeated.trigger.to_vec()).unwrap_or_default(),
        repeated_backfill_id: repeated
            .and_then(|repeated| repeated.backfill)
            .map(BackfillId::to_vec)
            .unwrap_or_default(),
        timeout_cancels: repeated.is_some_and(|repeated| repeated.timeout_cancels),
    }
}
