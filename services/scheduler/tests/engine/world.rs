//! A scheduler in this process, with executors that are channels.

use domain::{
    id::{ExecutorId, PipelineId, RunId, SchedulerId},
    unit::{Outcome, Output},
};
use proto::internal::v1 as pb;
use runtime::health::Health;
use scheduler::{
    changes::Changes,
    clock::DbClock,
    engine::{
        CancelRun, CreateRun, Created, Engine, EngineError, Held, Message, Outbox, RetryRun, SessionEvent, Timing,
    },
    loops::keeper::{Keeper, Parts},
    metrics::Metrics,
    owners::Owners,
    peers::Peers,
    wire::AttemptId,
};
use serde_json::{Value, json};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use store::{Store, schedulers::Load};
use testkit::{Database, Ways, wait_for};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const WAIT: Duration = Duration::from_secs(20);

pub(crate) struct Cluster {
    pub(crate) database: Database,
    pub(crate) store: Store,
    pub(crate) engine: mpsc::Sender<Message>,
    pub(crate) stop: CancellationToken,
    /// Of the engine that was started with it.
    pub(crate) metrics: Arc<Metrics>,
}

pub(crate) struct FakeExecutor {
    pub(crate) id: ExecutorId,
    pub(crate) session: u64,
    pub(crate) engine: mpsc::Sender<Message>,
    pub(crate) inbox: mpsc::Receiver<pb::SessionResponse>,
    /// Acknowledgements and assignments that came while the test waited for the other: they are told in any order.
    acks: VecDeque<bool>,
    assignments: VecDeque<Vec<pb::Assignment>>,
    /// Every acknowledgement that came.
    pub(crate) answers: Vec<pb::ResultAck>,
    /// Definitions that came.
    pub(crate) taught: usize,
    pub(crate) held: Vec<AttemptId>,
}

impl Cluster {
    pub(crate) async fn new() -> Self {
        Self::with(Timing::default()).await
    }

    pub(crate) async fn with(timing: Timing) -> Self {
        let database = database().await;
        let store = Store::connect(database.url(), 8).await.unwrap();
        Self::on(database, store, timing).await
    }

    /// One whose ways to the database and back are counted.
    pub(crate) async fn counted() -> (Self, Ways) {
        let database = database().await;
        let ways = database.counted().await;
        let store = Store::connect(ways.url(), 8).await.unwrap();
        (Self::on(database, store, Timing::default()).await, ways)
    }

    async fn on(database: Database, store: Store, timing: Timing) -> Self {
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let (engine, stop) = start_counted(&store, timing, Arc::clone(&metrics)).await;
        let cluster = Self { database, store, engine, stop, metrics };
        // Taking shards asks every executor to come again, so the first one comes afterwards.
        let nothing = PipelineId(Uuid::nil());
        wait_for("the shards", WAIT, || async {
            matches!(cluster.create(nothing, "k").await, Err(EngineError::NoPipeline(_))).then_some(())
        })
        .await;
        cluster
    }

    pub(crate) async fn deploy(&self, blocks: Value) -> PipelineId {
        self.deploy_as(json!({ "name": "p", "kind": "python", "blocks": blocks })).await
    }

    /// A pipeline as its whole definition says.
    pub(crate) async fn deploy_as(&self, spec: Value) -> PipelineId {
        let client = self.database.client().await;
        let pipeline = Uuid::now_v7();
        let workspace = Uuid::now_v7();
        let name = format!("w{}", workspace.simple());
        let digest = format!("sha256:{}", "0".repeat(64));
        client
            .execute(
                "INSERT INTO bundle (digest, project_name, file_count, size_bytes) VALUES ($1, 'x', 0, 0) ON CONFLICT DO NOTHING",
                &[&digest],
            )
            .await
            .unwrap();
        client.execute("INSERT INTO workspace (id, name) VALUES ($1, $2)", &[&workspace, &name]).await.unwrap();
        client
            .execute(
                "INSERT INTO pipeline (id, workspace_id, name, version) VALUES ($1, $2, 'p', 1)",
                &[&pipeline, &workspace],
            )
            .await
            .unwrap();
        client
            .execute(
                "INSERT INTO pipeline_version (pipeline_id, version, bundle_digest, spec) VALUES ($1, 1, $2, $3)",
                &[&pipeline, &digest, &spec],
            )
            .await
            .unwrap();
        client
            .execute(
                "INSERT INTO trigger (id, pipeline_id, name, kind, active, source) VALUES ($1, $2, 'manual', 'manual', true, 'built-in')",
                &[&Uuid::now_v7(), &pipeline],
            )
            .await
            .unwrap();
        PipelineId(pipeline)
    }

    pub(crate) async fn create(&self, pipeline: PipelineId, key: &str) -> Result<RunId, EngineError> {
        self.create_with(pipeline, key, "{}").await
    }

    pub(crate) async fn create_with(
        &self,
        pipeline: PipelineId,
        key: &str,
        variables: &str,
    ) -> Result<RunId, EngineError> {
        let answer = self.ask(pipeline, key, variables).await;
        answer.await.unwrap().map(|runs| runs[0].run().unwrap())
    }

    /// Asks for a run; the answer comes when it is there.
    pub(crate) async fn ask(
        &self,
        pipeline: PipelineId,
        key: &str,
        variables: &str,
    ) -> oneshot::Receiver<Result<Vec<Created>, EngineError>> {
        let command = creation(pipeline, key, variables);
        let (reply, answer) = oneshot::channel();
        self.engine.send(Message::Create(vec![command], reply)).await.unwrap();
        answer
    }

    /// Asks for runs that are made in one turn.
    pub(crate) async fn create_all(&self, commands: Vec<CreateRun>) {
        let (reply, answer) = oneshot::channel();
        self.engine.send(Message::Create(commands, reply)).await.unwrap();
        answer.await.unwrap().unwrap();
    }

    /// So many copies of a pipeline.
    pub(crate) async fn copies(&self, pipeline: PipelineId, count: i32) -> Vec<PipelineId> {
        let copy = "
            WITH copied AS (INSERT INTO pipeline (id, workspace_id, name, version)
                            SELECT gen_random_uuid(), workspace_id, 'copy' || n, 1
                              FROM pipeline, generate_series(1, $2) n WHERE id = $1 RETURNING id),
                 version AS (INSERT INTO pipeline_version (pipeline_id, version, bundle_digest, spec)
                             SELECT copied.id, 1, bundle_digest, spec FROM copied, pipeline_version WHERE pipeline_id = $1),
                 manual AS (INSERT INTO trigger (id, pipeline_id, name, kind, active, source)
                            SELECT gen_random_uuid(), id, 'manual', 'manual', true, 'built-in' FROM copied)
            SELECT id FROM copied";
        let rows = self.database.client().await.query(copy, &[&pipeline.0, &count]).await.unwrap();
        rows.iter().map(|row| PipelineId(row.get(0))).collect()
    }

    /// Retries what a run has not completed.
    pub(crate) async fn retry(&self, run: RunId, key: &str) -> Result<(), EngineError> {
        let (reply, answer) = oneshot::channel();
        let command = RetryRun { run, from_block: None, key: key.to_owned() };
        self.engine.send(Message::Retry(command, reply)).await.unwrap();
        answer.await.unwrap()
    }

    pub(crate) async fn cancel(&self, run: RunId) -> Result<(), EngineError> {
        let (reply, answer) = oneshot::channel();
        let command = CancelRun { run, reason: "enough".into() };
        self.engine.send(Message::Cancel(command, reply)).await.unwrap();
        answer.await.unwrap()
    }

    pub(crate) async fn executor(&self, slots: u32) -> FakeExecutor {
        FakeExecutor::connect(ExecutorId(Uuid::now_v7()), 1, &self.engine, slots, Vec::new()).await
    }

    pub(crate) async fn status(&self, run: RunId) -> String {
        store::runs::one(&self.store, run).await.unwrap().unwrap().row.status.as_str().to_owned()
    }

    pub(crate) async fn until(&self, run: RunId, status: &str) {
        wait_for(&format!("run to be {status}"), WAIT, || async { (self.status(run).await == status).then_some(()) })
            .await;
    }
}

pub(crate) fn creation(pipeline: PipelineId, key: &str, variables: &str) -> CreateRun {
    CreateRun {
        pipeline,
        logical_key: key.to_owned(),
        variables: variables.to_owned(),
        execution_date: None,
        timeout_s: None,
        allow_blocks_to_fail: false,
        parent: None,
        trigger: None,
        repeats: None,
        traceparent: String::new(),
    }
}

async fn database() -> Database {
    let migrations = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations"));
    Database::migrated(migrations, |url| async move { Store::migrate(&url).await }).await
}

pub(crate) async fn start(store: &Store, timing: Timing) -> (mpsc::Sender<Message>, CancellationToken) {
    start_counted(store, timing, Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap())).await
}

async fn start_counted(
    store: &Store,
    timing: Timing,
    metrics: Arc<Metrics>,
) -> (mpsc::Sender<Message>, CancellationToken) {
    let scheduler = SchedulerId(Uuid::now_v7());
    let now = store::schedulers::renew(store, scheduler, Duration::from_secs(4), "", Load::default()).await.unwrap();
    let clock = DbClock::new(now);
    let stop = CancellationToken::new();
    let (sender, inbox) = mpsc::channel(1024);
    let (owned, shards) = mpsc::channel(4);
    let peers = Peers::new(Owners::new(store.clone(), scheduler, None));
    let engine = Engine::new(
        store.clone(),
        scheduler,
        clock.clone(),
        Changes::default(),
        Arc::clone(&metrics),
        timing,
        peers.clone(),
        stop.clone(),
    );
    tokio::spawn(engine.run(inbox, shards));
    let keeper = Keeper::new(Parts {
        store: store.clone(),
        scheduler,
        address: String::new(),
        clock,
        health: Health::new(),
        metrics,
        load: Arc::default(),
        peers,
        leases: lease::Leases::in_postgres(lease::Postgres::new(store.clone())),
        owned,
    });
    tokio::spawn(keeper.run(stop.clone()));
    (sender, stop)
}

impl FakeExecutor {
    pub(crate) async fn connect(
        id: ExecutorId,
        session: u64,
        engine: &mpsc::Sender<Message>,
        slots: u32,
        held: Vec<AttemptId>,
    ) -> Self {
        Self::connect_on("fake", id, session, engine, slots, held).await
    }

    /// One that begins by itself what was leased to it ahead.
    pub(crate) async fn that_goes_on(id: ExecutorId, engine: &mpsc::Sender<Message>, slots: u32) -> Self {
        Self::said(("process", true), id, 1, engine, slots, Vec::new()).await
    }

    pub(crate) async fn connect_on(
        backend: &str,
        id: ExecutorId,
        session: u64,
        engine: &mpsc::Sender<Message>,
        slots: u32,
        held: Vec<AttemptId>,
    ) -> Self {
        Self::said((backend, false), id, session, engine, slots, held).await
    }

    async fn said(
        (backend, goes_on): (&str, bool),
        id: ExecutorId,
        session: u64,
        engine: &mpsc::Sender<Message>,
        slots: u32,
        held: Vec<AttemptId>,
    ) -> Self {
        let (outbox, inbox) = mpsc::channel(64);
        let hello = SessionEvent::Hello {
            number: i64::try_from(session).unwrap(),
            name: "fake".into(),
            backend: backend.into(),
            slots,
            version: "0".into(),
            held: Held { running: held.clone(), ahead: Vec::new() },
            draining: false,
            goes_on,
            outbox: Outbox::Local(outbox),
            gateway: None,
        };
        engine.send(Message::Session(id, session, hello)).await.unwrap();
        let (acks, assignments, answers) = (VecDeque::new(), VecDeque::new(), Vec::new());
        Self { id, session, engine: engine.clone(), inbox, acks, assignments, answers, taught: 0, held }
    }

    pub(crate) async fn tell(&self, event: SessionEvent) {
        self.engine.send(Message::Session(self.id, self.session, event)).await.unwrap();
    }

    /// The next message, after every question for what it runs was answered.
    pub(crate) async fn next(&mut self) -> pb::session_response::Message {
        loop {
            let message = tokio::time::timeout(WAIT, self.inbox.recv()).await.expect("a message in time");
            match message.unwrap().message.unwrap() {
                pb::session_response::Message::InventoryRequest(_) => {
                    self.tell(SessionEvent::Inventory(Held { running: self.held.clone(), ahead: Vec::new() })).await;
                }
                message => return message,
            }
        }
    }

    /// The next assignments, whatever else is said before.
    pub(crate) async fn assigned(&mut self) -> Vec<pb::Assignment> {
        while self.assignments.is_empty() {
            self.sort().await;
        }
        self.assignments.pop_front().unwrap()
    }

    pub(crate) async fn acked(&mut self) -> bool {
        while self.acks.is_empty() {
            self.sort().await;
        }
        self.acks.pop_front().unwrap()
    }

    pub(crate) async fn sort(&mut self) {
        match self.next().await {
            pb::session_response::Message::ResultAcks(acks) => {
                self.acks.push_back(acks.acks[0].accepted);
                self.answers.extend(acks.acks);
            }
            pb::session_response::Message::Definition(_) => self.taught += 1,
            pb::session_response::Message::Assignments(assigned) => self.assignments.push_back(assigned.assignments),
            _ => {}
        }
    }

    /// What is said of the result of an attempt: whether it counts.
    pub(crate) async fn answered(&mut self, assignment: &pb::Assignment) -> bool {
        loop {
            if let Some(answer) = self.answers.iter().find(|answer| answer.attempt == assignment.attempt) {
                return answer.accepted;
            }
            self.sort().await;
        }
    }

    pub(crate) async fn end(&self, assignment: &pb::Assignment, outcome: Outcome) {
        let attempt = AttemptId::from_proto(assignment.attempt.clone().unwrap()).unwrap();
        self.tell(SessionEvent::Results(vec![(attempt, outcome, Duration::ZERO)])).await;
    }

    pub(crate) async fn complete(&self, assignment: &pb::Assignment) {
        self.end(assignment, Outcome::Completed(Output::default())).await;
    }
}
