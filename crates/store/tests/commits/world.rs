//! What all tests of commits begin with.

use domain::{
    admission::Source,
    graph::Graph,
    id::{ExecutorId, PipelineId, RunId, SchedulerId, TriggerId, WorkspaceId},
    run::{RunRow, RunStatus, Transition},
    trigger::State,
    unit::{BlockStatus, Output, Step, UnitKey, UnitRow},
};
use jiff::Timestamp;
use std::{path::Path, sync::Arc, time::Duration};
use store::{
    Store,
    journal::Journal,
    runs::{Batch, Decision, NewRun},
    schedulers::{self, Load},
    shards::{self, Shard},
};
use testkit::{Database, Ways};
use tokio_postgres::Client;
use uuid::Uuid;

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) journal: Journal,
    pub(crate) shard: Shard,
    pub(crate) workspace: WorkspaceId,
    pub(crate) pipeline: PipelineId,
    /// In version 1.
    pub(crate) triggers: [TriggerId; 2],
    pub(crate) ways: Ways,
    pub(crate) database: Database,
}

pub(crate) fn decision(trigger: TriggerId, version: i64, waiting: Option<&str>) -> Decision {
    Decision {
        trigger,
        version,
        skips: Vec::new(),
        state: State::default(),
        waiting: waiting.map(str::to_owned),
        history: serde_json::json!({}),
        next_due: None,
        latest: None,
    }
}

/// Of one block.
pub(crate) fn graph() -> Graph {
    let pipeline = serde_json::json!({ "name": "p", "kind": "python", "blocks": [
        { "uuid": "a", "name": "a", "kind": "custom", "language": "python", "upstream": [] }
    ] });
    Graph::new(Arc::new(serde_json::from_value(pipeline).unwrap())).unwrap()
}

/// What a run and its one block come to.
pub(crate) fn reached(completed: bool) -> [Transition; 2] {
    let (now, executor) = (Timestamp::now(), Some(ExecutorId(Uuid::now_v7())));
    let (status, block) = match completed {
        true => (RunStatus::Completed, BlockStatus::Completed),
        false => (RunStatus::Running, BlockStatus::Running),
    };
    let completed_at = completed.then_some(now);
    let run = RunRow { status, started_at: Some(now), completed_at, reason: None, cancel_reason: None };
    let unit = UnitRow {
        key: UnitKey { step: Step::Block(0), child: None },
        status: block,
        lease: 1,
        attempts: 1,
        deaths: 0,
        executor,
        not_before: None,
        started_at: Some(now),
        attempt_started_at: Some(now),
        completed_at,
        output: completed.then(Output::default),
        error: None,
        children: None,
    };
    [Transition::Run(run), Transition::Unit(Box::new(unit))]
}

impl World {
    pub(crate) async fn new() -> Self {
        let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
        let database = Database::migrated(&migrations, |url| async move { Store::migrate(&url).await }).await;
        let ways = database.counted().await;
        let store = Store::connect(ways.url(), 2).await.unwrap();
        let scheduler = SchedulerId(Uuid::now_v7());
        schedulers::renew(&store, scheduler, Duration::from_secs(60), "", Load::default()).await.unwrap();
        let shard = shards::take(&store, scheduler, &[7], false).await.unwrap()[0];
        let client = database.client().await;
        let [workspace, pipeline, first, second] = [(); 4].map(|()| Uuid::now_v7());
        client.execute("INSERT INTO workspace (id, name) VALUES ($1, 'w')", &[&workspace]).await.unwrap();
        let insert = "INSERT INTO pipeline (id, workspace_id, name, version) VALUES ($1, $2, 'p', 1)";
        client.execute(insert, &[&pipeline, &workspace]).await.unwrap();
        for trigger in [first, second] {
            let insert = "INSERT INTO trigger (id, pipeline_id, name, kind, active, source, version)
                          VALUES ($1, $2, $1::uuid::text, 'time', true, 'api', 1)";
            client.execute(insert, &[&trigger, &pipeline]).await.unwrap();
        }
        Self {
            client,
            journal: Journal::open(&store).await.unwrap(),
            shard,
            workspace: WorkspaceId(workspace),
            pipeline: PipelineId(pipeline),
            triggers: [TriggerId(first), TriggerId(second)],
            ways,
            database,
        }
    }

    /// A run that a trigger of this version starts.
    pub(crate) fn run(&self, trigger: TriggerId, version: i64, variables: &str) -> NewRun {
        NewRun {
            id: RunId(Uuid::now_v7()),
            workspace_id: self.workspace,
            pipeline_id: self.pipeline,
            pipeline_version: 1,
            if_current: false,
            trigger_id: trigger,
            source: Source(trigger.0),
            trigger_version: Some(version),
            logical_key: "k".to_owned(),
            variables: variables.to_owned(),
            execution_date: Timestamp::now(),
            timeout_s: None,
            timeout_cancels: false,
            allow_blocks_to_fail: false,
            parent_run_id: None,
            backfill_id: None,
            event_variables: None,
            sla_at: None,
        }
    }

    pub(crate) fn create(&self, batch: &mut Batch, trigger: TriggerId, version: i64, variables: &str) -> RunId {
        let run = self.run(trigger, version, variables);
        let id = run.id;
        batch.create(run, self.shard);
        id
    }

    /// A trigger decided in this version, and starts a run.
    pub(crate) fn fire(&self, batch: &mut Batch, trigger: TriggerId, version: i64, variables: &str) -> RunId {
        let id = self.create(batch, trigger, version, variables);
        batch.decide(decision(trigger, version, Some("{}")), self.shard);
        batch.miss_sla(id, Timestamp::now(), self.shard);
        id
    }

    /// Rows of firings, runs, and states of triggers.
    pub(crate) async fn rows(&self) -> [i64; 3] {
        let count =
            "SELECT (SELECT count(*) FROM firing), (SELECT count(*) FROM run), (SELECT count(*) FROM trigger_state)";
        let row = self.client.query_one(count, &[]).await.unwrap();
        [0, 1, 2].map(|at| row.get(at))
    }
}
