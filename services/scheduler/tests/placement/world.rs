//! Schedulers that share one database, each with its shards, its server and its placers.

use crate::executor::{Executor, node};
use domain::{
    id::{HolderId, ProjectId, QueueId, SchedulerId, UserId, WorkspaceId},
    runtime::life::Rules,
};
use proto::internal::v1::{
    self as pb, pool_service_server::PoolServiceServer, runtime_command_service_client::RuntimeCommandServiceClient,
    runtime_command_service_server::RuntimeCommandServiceServer,
};
use scheduler::{
    clock::DbClock,
    metrics::Metrics,
    owners::Owners,
    peers::Peers,
    placer::{Parts, Timing},
    pools::{Pools, service::PoolStreams, shard_of},
    runtimes::Runtimes,
};
use serde_json::json;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use store::{Store, shards::Shard};
use testkit::{Database, wait_for};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

pub(crate) const WAIT: Duration = Duration::from_secs(20);
pub(crate) const POOL: &str = "default";

pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) store: Store,
    pub(crate) addresses: Arc<Mutex<Vec<String>>>,
    pub(crate) timing: Timing,
    /// The file of keys of the next scheduler.
    pub(crate) keys: String,
}

/// One scheduler, as far as pools are concerned.
pub(crate) struct Scheduler {
    pub(crate) id: SchedulerId,
    pub(crate) address: String,
    pub(crate) metrics: Arc<Metrics>,

    peers: Peers,
    owners: Owners,
    stop: CancellationToken,
    addresses: Arc<Mutex<Vec<String>>>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let migrations = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations"));
        let database = Database::migrated(migrations, |url| async move { Store::migrate(&url).await }).await;
        let store = Store::connect(database.url(), 24).await.unwrap();
        let rules = Rules {
            min_running: jiff::SignedDuration::ZERO,
            preemption_notice: jiff::SignedDuration::ZERO,
            ..Rules::default()
        };
        let timing = Timing { heartbeat: Duration::from_millis(500), rules, ..Timing::default() };
        let keys = format!("one:{}\n", "07".repeat(32));
        Self { database, store, addresses: Arc::default(), timing, keys }
    }

    /// A scheduler that owns nothing yet.
    pub(crate) async fn scheduler(&self) -> Scheduler {
        let id = SchedulerId(Uuid::now_v7());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let load = store::schedulers::Load::default();
        let now = store::schedulers::renew(&self.store, id, Duration::from_secs(600), &address, load).await.unwrap();
        let owners = Owners::new(self.store.clone(), id, None);
        let peers = Peers::new(owners.clone());
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let parts = Parts {
            store: self.store.clone(),
            clock: DbClock::new(now),
            metrics: Arc::clone(&metrics),
            keyring: Some(Arc::new(secrets::Keyring::parse(&self.keys).unwrap())),
            timing: self.timing,
            watchdog: runtime::watchdog::Watchdog::start().unwrap(),
        };
        let stop = CancellationToken::new();
        let pools = Pools::new(parts, stop.clone());
        tokio::spawn(pools.clone().follow(peers.clone()));
        let streams = PoolServiceServer::new(PoolStreams::new(pools.clone(), owners.clone(), stop.clone()));
        let commands = RuntimeCommandServiceServer::new(Runtimes::new(pools, owners.clone()));
        let server = rpc::server::Builder::new(rpc::server::Limits::default())
            .add_service(streams)
            .add_service(commands)
            .serve(listener, stop.clone().cancelled_owned());
        tokio::spawn(server);
        self.addresses.lock().unwrap().push(address.clone());
        Scheduler { id, address, metrics, peers, owners, stop, addresses: Arc::clone(&self.addresses) }
    }

    /// `scheduler` takes all shards, whoever had them; the others hear of it by their own look.
    pub(crate) async fn give_all(&self, scheduler: &Scheduler) {
        self.give(scheduler, 0..256).await;
    }

    pub(crate) async fn give(&self, scheduler: &Scheduler, shards: std::ops::Range<i16>) {
        let client = self.database.client().await;
        let take = "UPDATE shard SET epoch = epoch + 1, owner = $1 WHERE id >= $2 AND id < $3 RETURNING id, epoch";
        let rows = client.query(take, &[&scheduler.id.0, &shards.start, &shards.end]).await.unwrap();
        let owned: Vec<Shard> = rows.iter().map(|row| Shard { id: row.get(0), epoch: row.get(1) }).collect();
        scheduler.owners.refresh().await.unwrap();
        scheduler.peers.own(&owned);
    }

    /// One scheduler that owns everything, and an executor with nodes of so many GPUs.
    pub(crate) async fn simple(gpus: &[usize]) -> (Self, Scheduler, Executor) {
        Self::with_timing(gpus, |_| {}).await
    }

    /// The same, where the cluster's times are changed.
    pub(crate) async fn with_timing(gpus: &[usize], change: impl FnOnce(&mut Timing)) -> (Self, Scheduler, Executor) {
        let mut world = Self::new().await;
        change(&mut world.timing);
        let scheduler = world.scheduler().await;
        world.give_all(&scheduler).await;
        let executor = world.executor(POOL, gpus);
        let devices = i64::try_from(gpus.iter().sum::<usize>()).unwrap();
        wait_for("the devices to be known", WAIT, || async {
            (world.count("SELECT count(*) FROM device").await == devices).then_some(())
        })
        .await;
        (world, scheduler, executor)
    }

    pub(crate) fn executor(&self, pool: &str, gpus: &[usize]) -> Executor {
        self.executor_that_tells(pool, gpus, |_| {})
    }

    /// One whose nodes are so from its first word.
    pub(crate) fn executor_that_tells(
        &self,
        pool: &str,
        gpus: &[usize],
        edit: impl FnOnce(&mut [pb::Node]),
    ) -> Executor {
        let mut nodes: Vec<_> = gpus.iter().enumerate().map(|(n, gpus)| node(&format!("node-{n}"), *gpus)).collect();
        edit(&mut nodes);
        Executor::start(pool, "declared", nodes, Arc::clone(&self.addresses))
    }

    /// One of this backend with these nodes.
    pub(crate) fn executor_of(&self, backend: &'static str, nodes: Vec<pb::Node>) -> Executor {
        Executor::start(POOL, backend, nodes, Arc::clone(&self.addresses))
    }

    pub(crate) async fn project(&self, name: &str, gpu_milli: Option<i64>) -> ProjectId {
        let id = Uuid::now_v7();
        let client = self.database.client().await;
        client.execute("INSERT INTO project (id, name) VALUES ($1, $2)", &[&id, &name]).await.unwrap();
        if gpu_milli.is_some() {
            let policy = "INSERT INTO project_policy (project_id, gpu_milli) VALUES ($1, $2)";
            client.execute(policy, &[&id, &gpu_milli]).await.unwrap();
        }
        ProjectId(id)
    }

    pub(crate) async fn queue(&self, name: &str, pool: &str, priority: i32, preemptible: bool) -> QueueId {
        let id = Uuid::now_v7();
        let insert = "INSERT INTO queue (id, name, pool, priority, preemptible) VALUES ($1, $2, $3, $4, $5)";
        let client = self.database.client().await;
        client.execute(insert, &[&id, &name, &pool, &priority, &preemptible]).await.unwrap();
        QueueId(id)
    }

    /// The project may use the queue, at any time or until it closes.
    pub(crate) async fn open(&self, project: ProjectId, queue: QueueId, closes_in_s: Option<i32>) {
        let client = self.database.client().await;
        let plan = Uuid::now_v7();
        let name = format!("plan-{plan}");
        client.execute("INSERT INTO plan (id, name) VALUES ($1, $2)", &[&plan, &name]).await.unwrap();
        let opens = "INSERT INTO plan_queue (plan_id, queue_id) VALUES ($1, $2)";
        client.execute(opens, &[&plan, &queue.0]).await.unwrap();
        let has = "INSERT INTO project_plan (project_id, plan_id) VALUES ($1, $2)";
        client.execute(has, &[&project.0, &plan]).await.unwrap();
        if let Some(seconds) = closes_in_s {
            let window = "INSERT INTO plan_window (id, plan_id, starts_at, ends_at)
                          VALUES ($1, $2, now() - interval '1 hour', now() + make_interval(secs => $3))";
            client.execute(window, &[&Uuid::now_v7(), &plan, &f64::from(seconds)]).await.unwrap();
        }
    }

    /// A workspace whose runtime asks for GPUs of so many milli each, and whatever else `spec` says.
    pub(crate) async fn workspace(
        &self,
        name: &str,
        project: ProjectId,
        queue: QueueId,
        (gpus, gpu_milli): (u32, u32),
        spec: serde_json::Value,
    ) -> WorkspaceId {
        let id = Uuid::now_v7();
        let client = self.database.client().await;
        let insert = "INSERT INTO workspace (id, name, project_id) VALUES ($1, $2, $3)";
        client.execute(insert, &[&id, &name, &project.0]).await.unwrap();
        let mut whole = json!({
            "app": "jupyter",
            "ask": { "gpus": gpus, "gpu_milli": gpu_milli, "gpu_memory_bytes": null, "models": [], "models_ordered": false,
                     "link": "any", "cpu_milli": 1000, "memory_bytes": 1 << 30 },
        });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let insert = "INSERT INTO runtime_spec (workspace_id, spec, queue_id) VALUES ($1, $2, $3)";
        client.execute(insert, &[&id, &whole, &queue.0]).await.unwrap();
        WorkspaceId(id)
    }

    /// `state`, or `starting/step`.
    pub(crate) async fn stage(&self, workspace: WorkspaceId) -> String {
        let sql =
            "SELECT CASE WHEN step = '' THEN state ELSE state || '/' || step END FROM runtime WHERE workspace_id = $1";
        let row = self.database.client().await.query_opt(sql, &[&workspace.0]).await.unwrap();
        row.map_or_else(|| "none".to_owned(), |row| row.get(0))
    }

    pub(crate) async fn reason(&self, workspace: WorkspaceId) -> String {
        let sql = "SELECT reason FROM runtime WHERE workspace_id = $1";
        self.database.client().await.query_one(sql, &[&workspace.0]).await.unwrap().get(0)
    }

    pub(crate) async fn until(&self, workspace: WorkspaceId, stage: &str) {
        let seen = Mutex::new(String::new());
        let what = format!("workspace {workspace} to be {stage}");
        wait_for(&what, WAIT, || async {
            let now = self.stage(workspace).await;
            let there = now == stage;
            *seen.lock().unwrap() = now;
            there.then_some(())
        })
        .await;
    }

    pub(crate) async fn holder(&self, workspace: WorkspaceId) -> HolderId {
        let sql = "SELECT holder FROM runtime WHERE workspace_id = $1";
        HolderId(self.database.client().await.query_one(sql, &[&workspace.0]).await.unwrap().get(0))
    }

    /// One number from the database.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        self.database.client().await.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// The reasons of a timeline, in order, without repetitions.
    pub(crate) async fn timeline(&self, workspace: WorkspaceId) -> Vec<String> {
        let sql = "SELECT state || CASE WHEN step = '' THEN '' ELSE '/' || step END
                          || CASE WHEN reason = '' THEN '' ELSE ' ' || reason END
                   FROM runtime_event WHERE workspace_id = $1 ORDER BY id";
        let rows = self.database.client().await.query(sql, &[&workspace.0]).await.unwrap();
        let mut lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        lines.dedup();
        lines
    }

    /// Every sum is what its parts are, and within bounds; with `empty`, nothing is held.
    pub(crate) async fn audit(&self, empty: bool) {
        let wrong = "
            SELECT (SELECT count(*) FROM device d WHERE d.used_milli <> coalesce((SELECT sum(milli) FROM grant_of_device g
                        WHERE g.device_id = d.id AND g.state = 'held'), 0))
                 + (SELECT count(*) FROM node n WHERE n.cpu_used <> coalesce((SELECT sum(cpu_milli) FROM placement p
                        WHERE p.node_id = n.id AND p.state <> 'nominated'), 0))
                 + (SELECT count(*) FROM project_usage u WHERE u.gpu_milli <> coalesce((SELECT sum(effective_milli)
                        FROM placement p WHERE p.project_id = u.project_id), 0))
                 + (SELECT count(*) FROM project_usage u JOIN project_policy l USING (project_id) WHERE u.gpu_milli > l.gpu_milli)
                 + (SELECT count(*) FROM grant_of_device g WHERE NOT EXISTS (SELECT FROM placement p WHERE p.holder = g.holder))
                 + (SELECT count(*) FROM placement p WHERE NOT EXISTS (SELECT FROM runtime r WHERE r.holder = p.holder)
                        -- Those of blocks have names for ids.
                        AND substr(p.holder::text, 15, 1) <> '5')
                 -- No moment counts twice.
                 + (SELECT count(*) FROM gpu_usage a JOIN gpu_usage b USING (holder) WHERE a.held_at < b.held_at AND a.freed_at > b.held_at)
                 + (SELECT count(*) FROM gpu_usage u JOIN gpu_held h USING (holder) WHERE u.freed_at > h.held_at)";
        assert_eq!(self.count(wrong).await, 0, "sums are not what their parts are");
        if empty {
            let held = "SELECT (SELECT count(*) FROM placement) + (SELECT count(*) FROM grant_of_device)
                             + (SELECT coalesce(sum(gpu_milli + runtimes), 0) FROM project_usage)::bigint";
            assert_eq!(self.count(held).await, 0, "something is still held");
            let uncounted = "SELECT count(*) FROM runtime r WHERE r.placed_at IS NOT NULL AND (r.spec -> 'ask' ->> 'gpus')::integer > 0
                                AND NOT EXISTS (SELECT FROM gpu_usage u WHERE u.holder = r.holder)";
            assert_eq!(self.count(uncounted).await, 0, "something that was held is not in the account");
        }
    }
}

/// Calls one scheduler.
#[derive(Clone)]
pub(crate) struct Caller(String);

impl Scheduler {
    /// Reads who owns what.
    pub(crate) async fn refresh(&self) {
        self.owners.refresh().await.unwrap();
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller(self.address.clone())
    }

    pub(crate) async fn start(&self, workspace: WorkspaceId) -> Result<i64, Status> {
        self.caller().start(workspace).await
    }

    pub(crate) async fn start_in(&self, pool: &str, workspace: WorkspaceId, key: &str) -> Result<i64, Status> {
        self.caller().start_in(pool, workspace, key).await
    }

    pub(crate) async fn stop(&self, workspace: WorkspaceId, reason: &str) -> Result<(), Status> {
        self.caller().stop_in(POOL, workspace, reason).await
    }

    pub(crate) async fn stop_in(&self, pool: &str, workspace: WorkspaceId, reason: &str) -> Result<(), Status> {
        self.caller().stop_in(pool, workspace, reason).await
    }

    pub(crate) async fn switch(&self, workspace: WorkspaceId, queue: QueueId) -> Result<(), Status> {
        self.caller().switch(workspace, queue).await
    }

    /// It is not there any more, from one moment to the next.
    pub(crate) fn kill(&self) {
        self.addresses.lock().unwrap().retain(|address| *address != self.address);
        self.stop.cancel();
    }
}

impl Caller {
    fn client(&self) -> RuntimeCommandServiceClient<rpc::client::Channel> {
        let uri = format!("http://{}", self.0).parse().unwrap();
        RuntimeCommandServiceClient::new(rpc::client::connect(&[uri], None).unwrap())
    }

    pub(crate) async fn start(&self, workspace: WorkspaceId) -> Result<i64, Status> {
        self.start_in(POOL, workspace, "").await
    }

    pub(crate) async fn start_in(&self, pool: &str, workspace: WorkspaceId, key: &str) -> Result<i64, Status> {
        let request = pb::StartRuntimeRequest {
            workspace_id: workspace.to_vec(),
            pool: pool.to_owned(),
            spec_version: 1,
            idempotency_key: key.to_owned(),
            ..pb::StartRuntimeRequest::default()
        };
        Ok(self.client().start_runtime(request).await?.into_inner().number)
    }

    /// Started by somebody.
    pub(crate) async fn start_by(&self, pool: &str, workspace: WorkspaceId, person: UserId) -> Result<i64, Status> {
        let request = pb::StartRuntimeRequest {
            workspace_id: workspace.to_vec(),
            pool: pool.to_owned(),
            spec_version: 1,
            requested_by: person.to_vec(),
            ..pb::StartRuntimeRequest::default()
        };
        Ok(self.client().start_runtime(request).await?.into_inner().number)
    }

    /// One of so many that start together.
    pub(crate) async fn start_with(&self, workspace: WorkspaceId, gang: &pb::Gang) -> Result<i64, Status> {
        let request = pb::StartRuntimeRequest {
            workspace_id: workspace.to_vec(),
            pool: POOL.to_owned(),
            spec_version: 1,
            gang: Some(gang.clone()),
            ..pb::StartRuntimeRequest::default()
        };
        Ok(self.client().start_runtime(request).await?.into_inner().number)
    }

    pub(crate) async fn stop(&self, workspace: WorkspaceId, reason: &str) -> Result<(), Status> {
        self.stop_in(POOL, workspace, reason).await
    }

    pub(crate) async fn stop_in(&self, pool: &str, workspace: WorkspaceId, reason: &str) -> Result<(), Status> {
        let request = pb::StopRuntimeRequest {
            workspace_id: workspace.to_vec(),
            pool: pool.to_owned(),
            reason: reason.to_owned(),
            ..pb::StopRuntimeRequest::default()
        };
        self.client().stop_runtime(request).await.map(drop)
    }

    /// Why one GPU of so many milli would not be had now; `None` where it would.
    pub(crate) async fn would_wait(&self, project: ProjectId, milli: u32) -> Option<placement::Code> {
        let plan = self.imagine(vec![imagined(project, milli)], &[]).await;
        plan.refusals.iter().map(|refusal| refusal.code).next_back().filter(|_| plan.assignments.is_empty())
    }

    /// What would be planned with these besides those that wait, if those who are gone had ended.
    pub(crate) async fn imagine(&self, requests: Vec<placement::Request>, gone: &[HolderId]) -> placement::Plan {
        let request = pb::PlanRuntimesRequest {
            pool: POOL.to_owned(),
            requests: serde_json::to_string(&requests).unwrap(),
            gone: gone.iter().map(|holder| holder.to_vec()).collect(),
            forwarded: false,
        };
        let answer = self.client().plan_runtimes(request).await.unwrap().into_inner();
        serde_json::from_str(&answer.plan).unwrap()
    }

    /// What is known of the nodes of these names.
    pub(crate) async fn describe(&self, nodes: &[&str]) -> Vec<pb::SeenNode> {
        let nodes = nodes.iter().map(|name| (*name).to_owned()).collect();
        let request = pb::DescribeNodesRequest { pool: POOL.to_owned(), nodes, forwarded: false };
        self.client().describe_nodes(request).await.unwrap().into_inner().nodes
    }

    /// Restarts the life of this number, if it is still there, with an image that was checked.
    pub(crate) async fn restart_only(&self, workspace: WorkspaceId, number: i64, image: &str) -> Result<(), Status> {
        self.stop_only(workspace, number, "RESTART", image).await
    }

    /// Stops the life of this number, if it is still there.
    pub(crate) async fn stop_only(
        &self,
        workspace: WorkspaceId,
        number: i64,
        reason: &str,
        image: &str,
    ) -> Result<(), Status> {
        let request = pb::StopRuntimeRequest {
            workspace_id: workspace.to_vec(),
            pool: POOL.to_owned(),
            reason: reason.to_owned(),
            number,
            image: image.to_owned(),
            ..pb::StopRuntimeRequest::default()
        };
        self.client().stop_runtime(request).await.map(drop)
    }

    pub(crate) async fn rewrap(&self, key_id: &str, limit: i32) -> Result<i64, Status> {
        let request = pb::RewrapAccessKeysRequest { key_id: key_id.to_owned(), limit };
        Ok(self.client().rewrap_access_keys(request).await?.into_inner().rewrapped)
    }

    pub(crate) async fn switch(&self, workspace: WorkspaceId, queue: QueueId) -> Result<(), Status> {
        let request = pb::SwitchQueueRequest {
            workspace_id: workspace.to_vec(),
            pool: POOL.to_owned(),
            queue_id: queue.to_vec(),
            ..pb::SwitchQueueRequest::default()
        };
        self.client().switch_queue(request).await.map(drop)
    }
}

/// Somebody who would like one GPU of so many milli, in the default queue.
pub(crate) fn imagined(project: ProjectId, milli: u32) -> placement::Request {
    let ask = json!({ "gpus": 1, "gpu_milli": milli, "gpu_memory_bytes": null, "models": [], "models_ordered": false,
        "link": "any", "cpu_milli": 1, "memory_bytes": 1 });
    placement::Request {
        holder: HolderId(Uuid::now_v7()),
        project,
        person: None,
        queue: QueueId(Uuid::nil()),
        priority: 0,
        submitted_at: jiff::Timestamp::now(),
        ask: serde_json::from_value(ask).unwrap(),
        storage_bytes: 0,
        nodes: None,
        gang: None,
        runtime_s: None,
        access: placement::Access::Always,
        permitted: Vec::new(),
        class: None,
        alternatives: Vec::new(),
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The shard of a pool, as a range.
pub(crate) fn shard(pool: &str) -> std::ops::Range<i16> {
    let shard = i16::from(shard_of(pool));
    shard..shard + 1
}
