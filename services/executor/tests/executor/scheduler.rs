//! A scheduler that does what a test says: real gRPC, no decisions.

use proto::internal::v1::{
    self as pb,
    executor_session_service_server::{ExecutorSessionService, ExecutorSessionServiceServer},
    output_read_service_server::{OutputReadService, OutputReadServiceServer},
    output_removal_service_server::{OutputRemovalService, OutputRemovalServiceServer},
    pool_service_server::{PoolService, PoolServiceServer},
    result::Outcome,
    serve_reads_request, serve_request, serve_response,
    session_request::Message as Up,
    session_response::Message as Down,
};
use serde_json::json;
use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming};

/// For anything that must happen.
pub(crate) const SOON: Duration = Duration::from_secs(90);
const HEARTBEAT_MS: i32 = 100;

/// What all sessions of the server share.
#[derive(Clone)]
struct Shared {
    sessions: mpsc::Sender<Session>,
    lines: Arc<Mutex<Vec<pb::LogLine>>>,
    silent: Arc<AtomicBool>,
    grants: Arc<AtomicBool>,
    removals: Removals,
    secrets: Secrets,
    reader: Arc<Mutex<Option<Reader>>>,
}

/// An executor that waits for what is to be read.
struct Reader {
    orders: mpsc::Sender<Result<pb::ServeReadsResponse, Status>>,
    answers: mpsc::Receiver<pb::ServeReadsRequest>,
}

/// Names and values that runs may have been given.
pub(crate) type Secrets = Arc<Mutex<Vec<(String, String)>>>;

/// What executors are to remove, and what they said that they have.
#[derive(Clone, Default)]
pub(crate) struct Removals {
    pub(crate) due: Arc<Mutex<Vec<pb::Removal>>>,
    pub(crate) reports: Arc<Mutex<Vec<pb::ReportRemovalsRequest>>>,
}

/// The server; dropping it cuts every connection.
pub(crate) struct FakeScheduler {
    pub(crate) url: String,
    sessions: mpsc::Receiver<Session>,
    lines: Arc<Mutex<Vec<pb::LogLine>>>,
    silent: Arc<AtomicBool>,
    /// Whoever wishes for devices gets some.
    pub(crate) grants: Arc<AtomicBool>,
    pub(crate) removals: Removals,
    pub(crate) secrets: Secrets,
    reader: Arc<Mutex<Option<Reader>>>,
    server: JoinHandle<()>,
}

/// One session of an executor.
pub(crate) struct Session {
    pub(crate) hello: pb::Hello,
    outbox: mpsc::Sender<Result<pb::SessionResponse, Status>>,
    inbound: mpsc::Receiver<Up>,
    results: Vec<pb::Result>,
}

impl FakeScheduler {
    pub(crate) async fn start() -> Self {
        Self::listen("127.0.0.1:0").await
    }

    async fn listen(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, sessions) = mpsc::channel(16);
        let removals = Removals::default();
        let secrets = Secrets::default();
        let shared = Shared {
            sessions: sender,
            lines: Arc::default(),
            silent: Arc::default(),
            grants: Arc::default(),
            removals: removals.clone(),
            secrets: Arc::clone(&secrets),
            reader: Arc::default(),
        };
        let reader = Arc::clone(&shared.reader);
        let (lines, silent, grants) =
            (Arc::clone(&shared.lines), Arc::clone(&shared.silent), Arc::clone(&shared.grants));
        let pool = PoolServiceServer::new(shared.clone());
        let service = ExecutorSessionServiceServer::new(shared.clone());
        let reading = OutputReadServiceServer::new(shared.clone());
        let removing = OutputRemovalServiceServer::new(shared);
        let server = tokio::spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service).add_service(removing);
            let server = server.add_service(reading).add_service(pool);
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { url, sessions, lines, silent, grants, removals, secrets, reader, server }
    }

    /// The next session, not yet welcomed.
    pub(crate) async fn session(&mut self) -> Session {
        timeout(SOON, self.sessions.recv()).await.expect("a session in time").unwrap()
    }

    /// The next session, welcomed.
    pub(crate) async fn welcomed(&mut self, lost_after_ms: i32) -> Session {
        let session = self.session().await;
        session.welcome(lost_after_ms, Vec::new()).await;
        session
    }

    /// From here on heartbeats are not answered.
    pub(crate) fn fall_silent(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    pub(crate) fn speak_again(&self) {
        self.silent.store(false, Ordering::SeqCst);
    }

    /// What the executor answers that has come to read.
    pub(crate) async fn read(&self, order: pb::ServeReadsResponse) -> Option<serve_reads_request::Outcome> {
        let come = testkit::wait_for("an executor that reads", SOON, async || self.reader.lock().unwrap().take());
        let mut reader = come.await;
        reader.orders.send(Ok(order.clone())).await.unwrap();
        let answer = timeout(SOON, reader.answers.recv()).await.expect("an answer in time").unwrap();
        assert_eq!(answer.id, order.id);
        *self.reader.lock().unwrap() = Some(reader);
        answer.outcome
    }

    /// The log lines that arrived.
    pub(crate) fn lines(&self) -> Vec<pb::LogLine> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for a line that satisfies the question.
    pub(crate) async fn line(&self, what: &str, wanted: impl Fn(&pb::LogLine) -> bool) -> pb::LogLine {
        testkit::wait_for(what, SOON, async || self.lines().into_iter().find(|line| wanted(line))).await
    }
}

impl Drop for FakeScheduler {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Session {
    pub(crate) async fn say(&self, message: Down) {
        self.outbox.send(Ok(pb::SessionResponse { message: Some(message) })).await.unwrap();
    }

    pub(crate) async fn welcome(&self, lost_after_ms: i32, unknown: Vec<pb::AttemptRef>) {
        self.say(Down::Welcome(pb::Welcome { heartbeat_interval_ms: HEARTBEAT_MS, lost_after_ms, unknown })).await;
    }

    pub(crate) async fn assign(&self, assignments: Vec<pb::Assignment>) {
        self.say(Down::Assignments(pb::Assignments { assignments })).await;
    }

    pub(crate) async fn cancel(&self, attempt: &pb::AttemptRef, grace_ms: i32) {
        self.say(Down::Cancel(pb::Cancel { attempts: vec![attempt.clone()], grace_ms })).await;
    }

    pub(crate) async fn acknowledge(&self, attempt: &pb::AttemptRef, accepted: bool) {
        let acks = vec![pb::ResultAck { attempt: Some(attempt.clone()), accepted }];
        self.say(Down::ResultAcks(pb::ResultAcks { acks })).await;
    }

    /// The next message that is no heartbeat; `None` at the end of the session.
    pub(crate) async fn next(&mut self) -> Option<Up> {
        timeout(SOON, self.inbound.recv()).await.expect("a message in time")
    }

    /// The next result; of several in one message the others wait.
    pub(crate) async fn result(&mut self) -> pb::Result {
        while self.results.is_empty() {
            match self.next().await.expect("a result before the end of the session") {
                Up::Results(results) => self.results.extend(results.results),
                other => panic!("{other:?} instead of a result"),
            }
        }
        self.results.remove(0)
    }

    /// The next result's outcome, acknowledged.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        let result = self.result().await;
        self.acknowledge(&result.attempt.unwrap(), true).await;
        result.outcome.unwrap()
    }
}

#[tonic::async_trait]
impl ExecutorSessionService for Shared {
    type SessionStream = ReceiverStream<Result<pb::SessionResponse, Status>>;
    type PushLogsStream = Pin<Box<dyn Stream<Item = Result<pb::PushLogsResponse, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.next().await.transpose()?.and_then(|first| first.message);
        let Some(Up::Hello(hello)) = first else { return Err(Status::invalid_argument("Hello comes first")) };
        let (outbox, outgoing) = mpsc::channel(64);
        let (sender, inbound) = mpsc::channel(4_096);
        let session = Session { hello, outbox: outbox.clone(), inbound, results: Vec::new() };
        self.sessions.send(session).await.map_err(|_| Status::unavailable("the test is over"))?;
        let (silent, secrets) = (Arc::clone(&self.silent), Arc::clone(&self.secrets));
        // Weak, so that the session ends when the test drops its end.
        let outbox = { outbox }.downgrade();
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let Some(message) = request.message else { continue };
                let beat = match message {
                    Up::Heartbeat(beat) => beat,
                    // Every attempt asks first of all.
                    Up::RunnerCall(pb::RunnerCall { call_id, attempt, method, .. }) if method == "get_secrets" => {
                        let result = json!({ "secrets": *secrets.lock().unwrap() }).to_string();
                        let reply = pb::RunnerReply { call_id, attempt, result, error: String::new() };
                        let Some(outbox) = outbox.upgrade() else { break };
                        let _ = outbox.send(Ok(pb::SessionResponse { message: Some(Down::RunnerReply(reply)) })).await;
                        continue;
                    }
                    message => {
                        if sender.send(message).await.is_err() {
                            break;
                        }
                        continue;
                    }
                };
                if !silent.load(Ordering::SeqCst) {
                    let reply = pb::HeartbeatReply { sequence: beat.sequence, cancelled: Vec::new() };
                    let message = Some(Down::HeartbeatReply(reply));
                    let Some(outbox) = outbox.upgrade() else { break };
                    let _ = outbox.send(Ok(pb::SessionResponse { message })).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn push_logs(
        &self,
        request: Request<Streaming<pb::PushLogsRequest>>,
    ) -> Result<Response<Self::PushLogsStream>, Status> {
        let lines = Arc::clone(&self.lines);
        let answers = request.into_inner().map(move |batch| {
            let batch = batch?;
            lines.lock().unwrap().extend(batch.lines);
            Ok(pb::PushLogsResponse { sequence: batch.sequence })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

#[tonic::async_trait]
impl PoolService for Shared {
    type ServeStream = ReceiverStream<Result<pb::ServeResponse, Status>>;

    async fn serve(
        &self,
        request: Request<Streaming<pb::ServeRequest>>,
    ) -> Result<Response<Self::ServeStream>, Status> {
        let mut requests = request.into_inner();
        let (outbox, outgoing) = mpsc::channel(16);
        let grants = Arc::clone(&self.grants);
        tokio::spawn(async move {
            let say = async |message| outbox.send(Ok(pb::ServeResponse { message: Some(message) })).await.is_ok();
            let welcome = pb::PoolWelcome { heartbeat_ms: HEARTBEAT_MS, lost_after_ms: 60_000 };
            say(serve_response::Message::Welcome(welcome)).await;
            let mut wishes = Vec::new();
            // At least with every heartbeat there is another look.
            while let Some(Ok(request)) = requests.next().await {
                if let Some(serve_request::Message::Wishes(stated)) = request.message {
                    wishes = stated.wishes;
                }
                let grant = pb::DeviceGrant { device: "gpu-0".to_owned(), milli: 1_000, ..Default::default() };
                let device = pb::PinnedDevice { grant: Some(grant), ..Default::default() };
                let place = |wish: &pb::Wish| pb::Place {
                    claim: wish.claim.clone(),
                    node: "there".to_owned(),
                    devices: vec![device.clone()],
                    ..pb::Place::default()
                };
                let places = pb::Places { places: wishes.iter().map(place).collect() };
                if grants.load(Ordering::SeqCst) && !say(serve_response::Message::Places(places)).await {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

#[tonic::async_trait]
impl OutputReadService for Shared {
    type ServeReadsStream = ReceiverStream<Result<pb::ServeReadsResponse, Status>>;

    async fn serve_reads(
        &self,
        request: Request<Streaming<pb::ServeReadsRequest>>,
    ) -> Result<Response<Self::ServeReadsStream>, Status> {
        let (orders, outgoing) = mpsc::channel(1);
        let (sender, answers) = mpsc::channel(1);
        let mut inbound = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(answer)) = inbound.next().await {
                if sender.send(answer).await.is_err() {
                    break;
                }
            }
        });
        *self.reader.lock().unwrap() = Some(Reader { orders, answers });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn read_output(&self, _: Request<pb::ReadOutputRequest>) -> Result<Response<pb::ReadOutputResponse>, Status> {
        Err(Status::unimplemented("executors ask for nothing of this kind"))
    }
}

#[tonic::async_trait]
impl OutputRemovalService for Shared {
    async fn claim_removals(
        &self,
        _: Request<pb::ClaimRemovalsRequest>,
    ) -> Result<Response<pb::ClaimRemovalsResponse>, Status> {
        let removals = std::mem::take(&mut *self.removals.due.lock().unwrap());
        Ok(Response::new(pb::ClaimRemovalsResponse { removals }))
    }

    async fn report_removals(
        &self,
        request: Request<pb::ReportRemovalsRequest>,
    ) -> Result<Response<pb::ReportRemovalsResponse>, Status> {
        self.removals.reports.lock().unwrap().push(request.into_inner());
        Ok(Response::new(pb::ReportRemovalsResponse {}))
    }
}
