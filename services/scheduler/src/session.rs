//! Executor sessions: streams on one side, the engine's queue on the other.

use crate::{
    calls::Calls,
    engine::{Message, SessionEvent},
    logs::LogSink,
    wire::{self, AttemptId},
};
use domain::id::ExecutorId;
use proto::internal::v1::{self as pb, executor_session_service_server::ExecutorSessionService};
use std::{
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// Messages to one executor that it has not read; a slower one is asked to come again.
const OUTBOX_MAX: usize = 1_024;
/// Batches of log lines that one stream may have under way.
const LOG_ACKS_MAX: usize = 64;

static SESSIONS: AtomicU64 = AtomicU64::new(1);

/// Serves executors.
#[derive(Clone)]
pub struct Sessions {
    engine: mpsc::Sender<Message>,
    calls: Calls,
    logs: LogSink,
}

impl Sessions {
    /// Speaks to the engine, the runner calls and the log sink.
    #[must_use]
    pub fn new(engine: mpsc::Sender<Message>, calls: Calls, logs: LogSink) -> Self {
        Self { engine, calls, logs }
    }
}

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ExecutorSessionService for Sessions {
    type SessionStream = Outgoing<pb::SessionResponse>;
    type PushLogsStream = Outgoing<pb::PushLogsResponse>;

    async fn session(
        &self,
        request: Request<Streaming<pb::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut inbound = request.into_inner();
        let (outbox, outgoing) = mpsc::channel(OUTBOX_MAX);
        let first = inbound.next().await.transpose()?.and_then(|m| m.message);
        let Some(pb::session_request::Message::Hello(hello)) = first else {
            return Err(Status::invalid_argument("the first message of a session must be Hello"));
        };
        let executor = ExecutorId::from_slice(&hello.executor_id)
            .ok_or_else(|| Status::invalid_argument("Hello.executor_id must be 16 bytes"))?;
        let session = SESSIONS.fetch_add(1, Ordering::Relaxed);
        self.tell(executor, session, greeting(hello, outbox.clone())).await?;
        let this = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.try_next().await {
                let Some(message) = message.message else { continue };
                if this.hear(executor, session, message, &outbox).await.is_err() {
                    break;
                }
            }
            let _ = this.tell(executor, session, SessionEvent::Closed).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing).map(Ok))))
    }

    async fn push_logs(
        &self,
        request: Request<Streaming<pb::PushLogsRequest>>,
    ) -> Result<Response<Self::PushLogsStream>, Status> {
        let mut inbound = request.into_inner();
        let (acks, outgoing) = mpsc::channel(LOG_ACKS_MAX);
        let logs = self.logs.clone();
        tokio::spawn(async move {
            while let Ok(Some(batch)) = inbound.try_next().await {
                let answer = logs.store(batch.lines).await.map(|()| pb::PushLogsResponse { sequence: batch.sequence });
                let failed = answer.is_err();
                let answer = answer.map_err(Status::unavailable);
                if acks.send(answer).await.is_err() || failed {
                    break;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

fn greeting(hello: pb::Hello, outbox: mpsc::Sender<pb::SessionResponse>) -> SessionEvent {
    SessionEvent::Hello {
        name: hello.name,
        backend: hello.backend,
        slots: u32::try_from(hello.slots).unwrap_or(0),
        version: hello.version,
        held: hello.running.into_iter().filter_map(AttemptId::from_proto).collect(),
        draining: hello.draining,
        outbox,
    }
}

impl Sessions {
    async fn tell(&self, executor: ExecutorId, session: u64, event: SessionEvent) -> Result<(), Status> {
        self.engine
            .send(Message::Session(executor, session, event))
            .await
            .map_err(|_| Status::unavailable("this scheduler is stopping"))
    }

    async fn hear(
        &self,
        executor: ExecutorId,
        session: u64,
        message: pb::session_request::Message,
        outbox: &mpsc::Sender<pb::SessionResponse>,
    ) -> Result<(), Status> {
        use pb::session_request::Message as M;
        let event = match message {
            // A second Hello in one stream is the executor's mistake; its first one stands.
            M::Hello(_) => return Ok(()),
            M::Heartbeat(beat) => SessionEvent::Heartbeat(beat.sequence),
            M::Results(results) => SessionEvent::Results(
                results
                    .results
                    .into_iter()
                    .filter_map(|r| Some((AttemptId::from_proto(r.attempt?)?, wire::outcome(r.outcome?))))
                    .collect(),
            ),
            M::SlotChange(change) => match change.attempt.and_then(AttemptId::from_proto) {
                Some(attempt) => SessionEvent::SlotChange(attempt, change.holds_slot),
                None => return Ok(()),
            },
            M::RunnerCall(call) => {
                self.calls.answer(call, outbox.clone());
                return Ok(());
            }
            M::Draining(_) => SessionEvent::Draining,
            M::Goodbye(_) => SessionEvent::Goodbye,
        };
        self.tell(executor, session, event).await
    }
}
