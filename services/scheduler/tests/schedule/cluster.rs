//! Engines that share one database, each with its shards, and an executor that does what it is told.

use domain::{
    id::{BackfillId, ExecutorId, PipelineId, RunId, SchedulerId, TriggerId, WorkspaceId},
    trigger::Spec,
    unit::{Failure, Outcome, Output},
};
use jiff::SignedDuration;
use proto::internal::v1 as pb;
use scheduler::{
    changes::Changes,
    clock::DbClock,
    engine::{
        CancelRun, ChangeBackfill, CreateBackfill, CreateRun, Created, Engine, EngineError, FiredTrigger, Held,
        Message, Outbox, Ownership, RetryRun, SessionEvent, Timing,
    },
    metrics::Metrics,
    owners::Owners,
    peers::Peers,
    wire::AttemptId,
};
use serde_json::{Value, json};
use std::{ops::Range, sync::Arc, time::Duration};
use store::{
    Store,
    shards::Shard,
    triggers::{Act, Definition},
};
use testkit::{Database, wait_for};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const WAIT: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) store: Store,
    pub(crate) workspace: WorkspaceId,
}

/// One engine with its shards, and one executor that it alone uses.
pub(crate) struct Node {
    pub(crate) engine: mpsc::Sender<Message>,
    inbox: mpsc::Receiver<pb::SessionResponse>,
    executor: ExecutorId,
    stop: CancellationToken,
    pub(crate) metrics: Arc<Metrics>,
    /// Assigned and not ended.
    pub(crate) running: Vec<pb::Assignment>,
    /// What it was told to stop.
    pub(crate) stops: Vec<pb::Cancel>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let migrations = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations"));
        let database = Database::migrated(migrations, |url| async move { Store::migrate(&url).await }).await;
        let store = Store::connect(database.url(), 16).await.unwrap();
        let workspace = WorkspaceId(Uuid::now_v7());
        let client = database.client().await;
        let digest = format!("sha256:{}", "0".repeat(64));
        let bundle = "INSERT INTO bundle (digest, project_name, file_count, size_bytes) VALUES ($1, 'x', 0, 0)";
        client.execute(bundle, &[&digest]).await.unwrap();
        client.execute("INSERT INTO workspace (id, name) VALUES ($1, 'w')", &[&workspace.0]).await.unwrap();
        Self { database, store, workspace }
    }

    /// An engine that takes these shards, whoever had them.
    pub(crate) async fn node(&self, shards: Range<i16>, slots: u32) -> Node {
        self.node_ahead(SignedDuration::ZERO, shards, slots).await
    }

    /// The same, whose clock is ahead of the database's by so much.
    pub(crate) async fn node_ahead(&self, ahead: SignedDuration, shards: Range<i16>, slots: u32) -> Node {
        let scheduler = SchedulerId(Uuid::now_v7());
        let now = store::schedulers::renew(
            &self.store,
            scheduler,
            Duration::from_secs(600),
            "",
            store::schedulers::Load::default(),
        )
        .await
        .unwrap();
        let client = self.database.client().await;
        let take = "UPDATE shard SET epoch = epoch + 1, owner = $1 WHERE id >= $2 AND id < $3 RETURNING id, epoch";
        let rows = client.query(take, &[&scheduler.0, &shards.start, &shards.end]).await.unwrap();
        let owned: Vec<Shard> = rows.iter().map(|row| Shard { id: row.get(0), epoch: row.get(1) }).collect();
        let (engine, inbox) = mpsc::channel(1024);
        let (ownership, taken) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let timing = Timing { lost_after: Duration::from_secs(600), ..Timing::default() };
        let clock = DbClock::new(now + ahead);
        let peers = Peers::new(Owners::new(self.store.clone(), scheduler, None));
        let core = Engine::new(
            self.store.clone(),
            scheduler,
            clock,
            Changes::default(),
            Arc::clone(&metrics),
            timing,
            peers,
            stop.clone(),
        );
        tokio::spawn(core.run(inbox, taken));
        ownership.send(Ownership { shards: owned, done: None }).await.unwrap();
        // The channel's end would be taken for the engine's.
        std::mem::forget(ownership);
        let executor = ExecutorId(Uuid::now_v7());
        let inbox = welcome(&engine, executor, slots, Vec::new()).await;
        Node { engine, inbox, executor, stop, metrics, running: Vec::new(), stops: Vec::new() }
    }

    /// A pipeline in this shard.
    pub(crate) async fn deploy(&self, name: &str, shard: u8, spec: Value) -> PipelineId {
        let client = self.database.client().await;
        let pipeline = RunId::new_in(shard).0;
        let digest = format!("sha256:{}", "0".repeat(64));
        let mut whole = json!({ "name": name, "kind": "python", "blocks": [] });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let insert = "INSERT INTO pipeline (id, workspace_id, name, version) VALUES ($1, $2, $3, 1)";
        client.execute(insert, &[&pipeline, &self.workspace.0, &name]).await.unwrap();
        let version = "INSERT INTO pipeline_version (pipeline_id, version, bundle_digest, spec) VALUES ($1, 1, $2, $3)";
        client.execute(version, &[&pipeline, &digest, &whole]).await.unwrap();
        let manual = "INSERT INTO trigger (id, pipeline_id, name, kind, active, source)
                      VALUES ($1, $2, 'manual', 'manual', true, 'built-in')";
        client.execute(manual, &[&Uuid::now_v7(), &pipeline]).await.unwrap();
        PipelineId(pipeline)
    }

    /// An active trigger.
    pub(crate) async fn trigger(&self, pipeline: PipelineId, name: &str, spec: &Spec) -> TriggerId {
        let client = self.store.client().await.unwrap();
        let document = serde_json::to_value(spec).unwrap();
        let definition = Definition { spec, document: &document };
        store::triggers::insert(&client, pipeline, name, true, definition).await.unwrap().unwrap()
    }

    /// Does something to a trigger as a whole; answers whether there was one.
    pub(crate) async fn act(&self, trigger: TriggerId, act: Act) -> bool {
        let mut client = self.store.client().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        let is_done = store::triggers::act(&transaction, trigger, act).await.unwrap();
        transaction.commit().await.unwrap();
        is_done
    }

    /// Gives a trigger another definition in place of this version.
    pub(crate) async fn edit(&self, trigger: TriggerId, version: i64, spec: &Spec) {
        let mut client = self.store.client().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        let document = serde_json::to_value(spec).unwrap();
        let definition = Definition { spec, document: &document };
        assert!(store::triggers::update(&transaction, trigger, version, definition).await.unwrap());
        transaction.commit().await.unwrap();
    }

    /// Takes the workspace out of use, or back into it.
    pub(crate) async fn archive(&self, archived: bool) {
        let mut client = self.store.client().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        store::workspaces::set_archived(&transaction, self.workspace, archived).await.unwrap();
        transaction.commit().await.unwrap();
    }

    pub(crate) async fn limit(&self, name: &str, blocks: u32) {
        store::limits::set(&self.store.client().await.unwrap(), self.workspace, name, blocks).await.unwrap();
    }

    pub(crate) async fn status(&self, run: RunId) -> String {
        store::runs::one(&self.store, run).await.unwrap().unwrap().row.status.as_str().to_owned()
    }

    pub(crate) async fn until(&self, run: RunId, status: &str) {
        wait_for(&format!("run to be {status}"), WAIT, || async { (self.status(run).await == status).then_some(()) })
            .await;
    }

    /// One number from the database.
    pub(crate) async fn execute(&self, sql: &str) {
        self.database.client().await.batch_execute(sql).await.unwrap();
    }

    pub(crate) async fn count(&self, sql: &str) -> i64 {
        self.database.client().await.query_one(sql, &[]).await.unwrap().get(0)
    }
}

async fn welcome(
    engine: &mpsc::Sender<Message>,
    executor: ExecutorId,
    slots: u32,
    held: Vec<AttemptId>,
) -> mpsc::Receiver<pb::SessionResponse> {
    wait_for("a session", WAIT, || async {
        let (outbox, mut inbox) = mpsc::channel(1024);
        let hello = SessionEvent::Hello {
            number: 1,
            name: "fake".into(),
            backend: "fake".into(),
            slots,
            version: "0".into(),
            held: Held { running: held.clone(), ahead: Vec::new() },
            draining: false,
            goes_on: false,
            outbox: Outbox::Local(outbox),
            gateway: None,
        };
        engine.send(Message::Session(executor, 1, hello)).await.unwrap();
        let first = inbox.recv().await?.message?;
        matches!(first, pb::session_response::Message::Welcome(_)).then_some(inbox)
    })
    .await
}

impl Node {
    pub(crate) async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<T, EngineError>>) -> Message,
    ) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.engine.send(message(reply)).await.unwrap();
        answer.await.unwrap()
    }

    pub(crate) async fn create(&self, pipeline: PipelineId, key: &str) -> RunId {
        self.create_with(pipeline, key, json!({})).await
    }

    pub(crate) async fn create_with(&self, pipeline: PipelineId, key: &str, variables: Value) -> RunId {
        self.try_create_of(pipeline, key, variables, None).await.unwrap()[0].run().unwrap()
    }

    /// A run that another one asks for.
    pub(crate) async fn create_child(&self, pipeline: PipelineId, key: &str, parent: RunId) -> RunId {
        self.try_create_of(pipeline, key, json!({}), Some(parent)).await.unwrap()[0].run().unwrap()
    }

    /// As `create`, where it may be refused.
    pub(crate) async fn try_create(&self, pipeline: PipelineId, key: &str) -> Result<Vec<Created>, EngineError> {
        self.try_create_of(pipeline, key, json!({}), None).await
    }

    async fn try_create_of(
        &self,
        pipeline: PipelineId,
        key: &str,
        variables: Value,
        parent: Option<RunId>,
    ) -> Result<Vec<Created>, EngineError> {
        let command = CreateRun { parent, ..Self::creation(pipeline, key, &variables) };
        self.create_all(vec![command]).await
    }

    /// All in one turn.
    pub(crate) async fn create_all(&self, commands: Vec<CreateRun>) -> Result<Vec<Created>, EngineError> {
        self.ask(|reply| Message::Create(commands, reply)).await
    }

    pub(crate) fn creation(pipeline: PipelineId, key: &str, variables: &Value) -> CreateRun {
        CreateRun {
            pipeline,
            logical_key: key.to_owned(),
            variables: variables.to_string(),
            execution_date: None,
            timeout_s: None,
            allow_blocks_to_fail: false,
            parent: None,
            traceparent: String::new(),
            trigger: None,
            repeats: None,
        }
    }

    pub(crate) async fn cancel(&self, run: RunId) {
        let command = CancelRun { run, reason: "enough".into() };
        self.ask(|reply| Message::Cancel(command, reply)).await.unwrap();
    }

    pub(crate) async fn retry(&self, run: RunId) {
        self.ask(|reply| Message::Retry(RetryRun { run, from_block: None, key: String::new() }, reply)).await.unwrap();
    }

    /// Asks for a start of a trigger, in the version that the caller saw.
    pub(crate) async fn offer(
        &self,
        pipeline: PipelineId,
        (id, version): (TriggerId, i64),
        key: &str,
        variables: Value,
    ) -> Result<Created, EngineError> {
        let command = CreateRun {
            pipeline,
            logical_key: key.to_owned(),
            variables: variables.to_string(),
            execution_date: None,
            timeout_s: None,
            allow_blocks_to_fail: false,
            parent: None,
            trigger: Some(FiredTrigger { id, version, event_variables: None, rate: None }),
            traceparent: String::new(),
            repeats: None,
        };
        Ok(self.ask(|reply| Message::Create(vec![command], reply)).await?.remove(0))
    }

    pub(crate) async fn backfill(&self, command: CreateBackfill) -> Result<BackfillId, EngineError> {
        self.ask(|reply| Message::CreateBackfill(command, reply)).await
    }

    pub(crate) async fn change(&self, id: BackfillId, change: ChangeBackfill) -> Result<(), EngineError> {
        self.ask(|reply| Message::ChangeBackfill(id, change, reply)).await
    }

    /// Takes what has been assigned so far.
    pub(crate) async fn look(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            self.hear(message).await;
        }
    }

    async fn hear(&mut self, response: pb::SessionResponse) {
        match response.message {
            Some(pb::session_response::Message::Assignments(assignments)) => {
                self.running.extend(assignments.assignments);
            }
            Some(pb::session_response::Message::Cancel(cancel)) => self.stops.push(cancel),
            Some(pb::session_response::Message::InventoryRequest(_)) => {
                let inventory = SessionEvent::Inventory(Held { running: self.held(), ahead: Vec::new() });
                self.engine.send(Message::Session(self.executor, 1, inventory)).await.unwrap();
            }
            _ => {}
        }
    }

    fn held(&self) -> Vec<AttemptId> {
        self.running.iter().map(|a| AttemptId::from_proto(a.attempt.clone().unwrap()).unwrap()).collect()
    }

    /// Waits until so many attempts run here, no more.
    pub(crate) async fn until_running(&mut self, count: usize) {
        let deadline = tokio::time::Instant::now() + WAIT;
        self.look().await;
        while self.running.len() < count {
            let next = tokio::time::timeout_at(deadline, self.inbox.recv()).await;
            let message = next.unwrap_or_else(|_| panic!("{} of {count} run", self.running.len())).unwrap();
            self.hear(message).await;
        }
        assert_eq!(self.running.len(), count);
    }

    pub(crate) async fn end(&mut self, at: usize, outcome: Outcome) {
        let assignment = self.running.remove(at);
        let attempt = AttemptId::from_proto(assignment.attempt.unwrap()).unwrap();
        let event = SessionEvent::Results(vec![(attempt, outcome, Duration::ZERO)]);
        self.engine.send(Message::Session(self.executor, 1, event)).await.unwrap();
    }

    /// The attempt that runs at this place.
    pub(crate) fn attempt(&self, at: usize) -> AttemptId {
        AttemptId::from_proto(self.running[at].attempt.clone().unwrap()).unwrap()
    }

    /// Whether an attempt runs, or waits for a run.
    pub(crate) async fn hold(&self, attempt: &AttemptId, runs: bool) {
        let event = SessionEvent::SlotChange(attempt.clone(), runs);
        self.engine.send(Message::Session(self.executor, 1, event)).await.unwrap();
    }

    pub(crate) async fn complete(&mut self, at: usize) {
        self.end(at, Outcome::Completed(Output::default())).await;
    }

    pub(crate) async fn fail(&mut self, at: usize) {
        self.end(at, Outcome::Failed(Failure::new("USER_CODE", "no"))).await;
    }

    /// Everything that was said to the engine before this has been decided.
    pub(crate) async fn settle(&self) {
        let nothing = CreateRun {
            pipeline: PipelineId(Uuid::nil()),
            logical_key: "k".into(),
            variables: "{}".into(),
            execution_date: None,
            timeout_s: None,
            allow_blocks_to_fail: false,
            parent: None,
            traceparent: String::new(),
            trigger: None,
            repeats: None,
        };
        // It is refused in the middle of a turn, so the second answer tells that the first turn is over.
        for _ in 0..2 {
            let nothing = vec![nothing.clone()];
            assert!(self.ask(|reply| Message::Create(nothing, reply)).await.is_err());
        }
    }

    /// Ends the engine as a crash does: nothing is handed back. Its executor's attempts go on.
    pub(crate) fn kill(&self) {
        self.stop.cancel();
    }

    /// Takes over the executor of a killed node, with what it runs, in place of its own, which runs nothing.
    pub(crate) async fn adopt(&mut self, mut other: Self, slots: u32) {
        other.look().await;
        let held = other.held();
        self.engine.send(Message::Session(self.executor, 1, SessionEvent::Goodbye)).await.unwrap();
        self.inbox = welcome(&self.engine, other.executor, slots, held).await;
        self.executor = other.executor;
        self.running = other.running;
    }
}

pub(crate) fn block(uuid: &str, upstream: &[&str]) -> Value {
    json!({ "uuid": uuid, "name": uuid, "kind": "custom", "language": "python", "upstream": upstream })
}
