//! Executor sessions: streams on one side, the engine's queue on the other.

use crate::{
    calls::{Calls, Waits},
    engine::{Held, Message, Outbox, SessionEvent},
    logs::LogSink,
    peers::{Local, Peers},
    wire::{self, AttemptId},
};
use domain::{
    id::{ExecutorId, SchedulerId},
    unit::Outcome,
};
use prometheus::IntCounter;
use proto::internal::v1::{self as pb, executor_session_service_server::ExecutorSessionService};
use runtime::backoff;
use std::{
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Messages to one executor that it has not read; a slower one is asked to come again.
const OUTBOX_MAX: usize = 1_024;
/// Batches of log lines that one stream may have under way.
const LOG_ACKS_MAX: usize = 64;

/// A session lives this part longer or shorter than it should.
const AGE_JITTER: f64 = 0.2;

static SESSIONS: AtomicU64 = AtomicU64::new(1);

/// How long sessions stay.
#[derive(Debug, Clone)]
pub struct Ageing {
    /// One older than about this is asked to connect again, and a stream of log lines ends.
    pub max: Duration,
    /// Counts the sessions that were asked.
    pub moved: IntCounter,
}

/// Serves executors.
#[derive(Clone)]
pub struct Sessions {
    engine: mpsc::Sender<Message>,
    calls: Calls,
    logs: LogSink,
    peers: Peers,
    ageing: Ageing,
    stop: CancellationToken,
}

impl Sessions {
    /// Speaks to the engine, the other schedulers, the runner calls and the log sink. Sessions and streams of log lines age, so
    /// that executors spread over schedulers that came later. Streams of log lines end with `stop`, or they would keep the
    /// server.
    #[must_use]
    pub fn new(
        engine: mpsc::Sender<Message>,
        calls: Calls,
        logs: LogSink,
        peers: Peers,
        ageing: Ageing,
        stop: CancellationToken,
    ) -> Self {
        Self { engine, calls, logs, peers, ageing, stop }
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
        let session = next_session();
        let over = CancellationToken::new();
        let introduced = pb::Hello { running: Vec::new(), ahead: Vec::new(), ..hello.clone() };
        let local = Local { session, hello: introduced, outbox: outbox.clone(), over: over.clone() };
        let held = pb::Inventory { running: hello.running.clone(), ahead: hello.ahead.clone() };
        let waits = Waits::on(u32::try_from(hello.slots).unwrap_or(0));
        // The engine first: it welcomes. Then the peers, whose answers come behind that.
        self.tell(executor, session, greeting(hello, Outbox::Local(outbox.clone()), None)).await?;
        let opened = self.peers.opened(executor, local, held);
        let this = self.clone();
        let ended = over.clone();
        tokio::spawn(async move {
            let age = tokio::time::sleep(this.age());
            tokio::pin!(age);
            loop {
                let message = tokio::select! {
                    () = ended.cancelled() => break,
                    () = &mut age => {
                        if this.peers.owners().others().is_empty() {
                            // Nobody to share executors with.
                            age.as_mut().reset(Instant::now() + this.age());
                            continue;
                        }
                        this.ageing.moved.inc();
                        let message = Some(pb::session_response::Message::Reconnect(pb::Reconnect {}));
                        // One that is too full to hear it ends with its stream.
                        let _ = outbox.try_send(pb::SessionResponse { message });
                        break;
                    }
                    message = inbound.try_next() => message,
                };
                let Ok(Some(message)) = message else { break };
                let Some(message) = message.message else { continue };
                if this.hear(executor, session, message, (&outbox, &waits)).await.is_err() {
                    break;
                }
            }
            drop(opened);
            let _ = this.tell(executor, session, SessionEvent::Closed).await;
        });
        let outgoing =
            futures_util::StreamExt::take_until(ReceiverStream::new(outgoing).map(Ok), over.cancelled_owned());
        Ok(Response::new(Box::pin(outgoing)))
    }

    async fn push_logs(
        &self,
        request: Request<Streaming<pb::PushLogsRequest>>,
    ) -> Result<Response<Self::PushLogsStream>, Status> {
        let mut inbound = request.into_inner();
        let (acks, outgoing) = mpsc::channel(LOG_ACKS_MAX);
        let logs = self.logs.clone();
        let (age, stop) = (tokio::time::sleep(self.age()), self.stop.clone());
        tokio::spawn(async move {
            tokio::pin!(age);
            loop {
                let batch = tokio::select! {
                    // A batch that is not read is not acknowledged, and comes again on the next stream.
                    () = &mut age => break,
                    () = stop.cancelled() => break,
                    batch = inbound.try_next() => batch,
                };
                let Ok(Some(batch)) = batch else { break };
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

/// A number that no other session of this process has.
pub(crate) fn next_session() -> u64 {
    SESSIONS.fetch_add(1, Ordering::Relaxed)
}

/// Reads Hello. `gateway` is the scheduler that the executor is connected with, when that is another one.
pub(crate) fn greeting(hello: pb::Hello, outbox: Outbox, gateway: Option<SchedulerId>) -> SessionEvent {
    SessionEvent::Hello {
        number: hello.session_number,
        name: hello.name,
        backend: hello.backend,
        slots: u32::try_from(hello.slots).unwrap_or(0),
        version: hello.version,
        held: held(hello.running, hello.ahead),
        draining: hello.draining,
        goes_on: hello.goes_on,
        outbox,
        gateway,
    }
}

fn result(result: pb::Result) -> Option<(AttemptId, Outcome, Duration)> {
    let took = Duration::from_micros(u64::try_from(result.duration_us).unwrap_or(0));
    Some((AttemptId::from_proto(result.attempt?)?, wire::outcome(result.outcome?), took))
}

fn held(running: Vec<pb::AttemptRef>, ahead: Vec<pb::AttemptRef>) -> Held {
    let read = |refs: Vec<pb::AttemptRef>| refs.into_iter().filter_map(AttemptId::from_proto).collect();
    Held { running: read(running), ahead: read(ahead) }
}

/// Reads what an executor says to the owner of its runs; `None` for what is not for the engine, or makes no sense.
pub(crate) fn read_event(message: pb::session_request::Message) -> Option<SessionEvent> {
    use pb::session_request::Message as M;
    match message {
        // A second Hello in one stream is the executor's mistake; its first one stands.
        M::Hello(_) | M::RunnerCall(_) => None,
        M::Heartbeat(beat) => {
            Some(SessionEvent::Heartbeat { sequence: beat.sequence, running: u32::try_from(beat.running).unwrap_or(0) })
        }
        M::Results(results) => Some(SessionEvent::Results(results.results.into_iter().filter_map(result).collect())),
        M::SlotChange(change) => {
            let attempt = change.attempt.and_then(AttemptId::from_proto)?;
            Some(SessionEvent::SlotChange(attempt, change.holds_slot))
        }
        M::Inventory(inventory) => Some(SessionEvent::Inventory(held(inventory.running, inventory.ahead))),
        M::Draining(_) => Some(SessionEvent::Draining),
        M::Goodbye(_) => Some(SessionEvent::Goodbye),
    }
}

impl Sessions {
    /// Until a session or a stream is asked to go elsewhere: those that began together do not end together.
    fn age(&self) -> Duration {
        self.ageing.max.mul_f64(1.0 - AGE_JITTER + 2.0 * AGE_JITTER * backoff::random())
    }

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
        (outbox, waits): (&mpsc::Sender<pb::SessionResponse>, &Waits),
    ) -> Result<(), Status> {
        if let pb::session_request::Message::RunnerCall(call) = message {
            self.calls.answer(call, outbox.clone(), waits);
            return Ok(());
        }
        match self.peers.passed_on(executor, message).and_then(read_event) {
            Some(event) => self.tell(executor, session, event).await,
            None => Ok(()),
        }
    }
}
