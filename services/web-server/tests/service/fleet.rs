//! Runtimes and devices as far as a web-server sees them: commands that write the rows that a scheduler would.

use crate::cluster::two_keys;
use proto::internal::v1::{
    DescribeNodesRequest, DescribeNodesResponse, PlanRuntimesRequest, PlanRuntimesResponse, ReportActivityRequest,
    ReportActivityResponse, RewrapAccessKeysRequest, RewrapAccessKeysResponse, SeenDevice, SeenNode, SeenStranger,
    SnoozeRuntimeRequest, SnoozeRuntimeResponse, StartRuntimeRequest, StartRuntimeResponse, StopRuntimeRequest,
    StopRuntimeResponse, SwitchQueueRequest, SwitchQueueResponse,
    runtime_command_service_server::{RuntimeCommandService, RuntimeCommandServiceServer},
};
use std::sync::{Arc, Mutex};
use testkit::Database;
use tonic::{Request, Response, Status};
use uuid::Uuid;

#[derive(Clone)]
pub(crate) struct Fleet {
    database: Arc<Database>,
    /// The number of the life that each stop was meant for.
    stops: Arc<Mutex<Vec<i64>>>,
}

/// A place for whoever asks; with every start a new number.
const START: &str = "
    INSERT INTO runtime (workspace_id, project_id, pool, queue_id, plan_id, number, holder, spec_version, spec, state,
                         step, submitted_at, running_at, requested_by)
    SELECT w.id, w.project_id, $2, s.queue_id,
           (SELECT b.plan_id FROM plan_queue b JOIN project_plan g ON g.plan_id = b.plan_id AND g.project_id = w.project_id
             WHERE b.queue_id = s.queue_id LIMIT 1),
           1, gen_random_uuid(), s.version, s.spec, 'running', 'bound', now(), now(), $3
      FROM workspace w JOIN runtime_spec s ON s.workspace_id = w.id
     WHERE w.id = $1 AND s.version = $4
    ON CONFLICT (workspace_id) DO UPDATE
       SET number = runtime.number + 1, spec = excluded.spec, state = 'running', step = 'bound', reason = '',
           queue_id = excluded.queue_id, plan_id = excluded.plan_id
     WHERE runtime.state IN ('stopped', 'error')";
const EVENT: &str = "INSERT INTO runtime_event (workspace_id, number, state, reason, actor)
                     SELECT workspace_id, number, state, reason, $2 FROM runtime WHERE workspace_id = $1";

impl Fleet {
    /// What a scheduler serves, for a pool of one node with an A10 that is divided and a T4 that is not.
    pub(crate) async fn service(
        database: Arc<Database>,
        stops: Arc<Mutex<Vec<i64>>>,
    ) -> RuntimeCommandServiceServer<Self> {
        let setup = "
            INSERT INTO pool (name, shard) VALUES ('default', 0) ON CONFLICT DO NOTHING;
            INSERT INTO node (id, pool, name, cpu_milli, memory_bytes)
            VALUES ('00000000-0000-0000-0000-0000000000aa', 'default', 'node-a', 16000, 68719476736);
            INSERT INTO device (id, node_id, name, class, model, memory_bytes, sharing)
            VALUES ('00000000-0000-0000-0000-0000000000d1', '00000000-0000-0000-0000-0000000000aa', 'gpu-0', 'shares', 'A10',
                    25769803776, '{\"shared\": {\"step_milli\": 10}}'),
                   ('00000000-0000-0000-0000-0000000000d2', '00000000-0000-0000-0000-0000000000aa', 'gpu-1', 'whole', 'T4',
                    17179869184, '\"exclusive\"');";
        database.client().await.batch_execute(setup).await.unwrap();
        RuntimeCommandServiceServer::new(Self { database, stops })
    }

    async fn pin(&self, workspace: Uuid, image: &str) {
        let pin = "UPDATE runtime SET spec = jsonb_set(spec, '{image}', to_jsonb($2::text)) WHERE workspace_id = $1 AND $2 <> ''";
        self.database.client().await.execute(pin, &[&workspace, &image]).await.unwrap();
    }

    async fn event(&self, workspace: Uuid, actor: Uuid) {
        self.database.client().await.execute(EVENT, &[&workspace, &actor]).await.unwrap();
    }
}

fn json_move(holder: Uuid, node: &str, to: &serde_json::Value) -> serde_json::Value {
    serde_json::json!({ "holder": holder, "node": node, "device": "00000000-0000-0000-0000-0000000000d2", "to": to })
}

fn uuid(bytes: &[u8]) -> Uuid {
    Uuid::from_slice(bytes).unwrap()
}

#[tonic::async_trait]
impl RuntimeCommandService for Fleet {
    async fn start_runtime(
        &self,
        request: Request<StartRuntimeRequest>,
    ) -> Result<Response<StartRuntimeResponse>, Status> {
        let request = request.into_inner();
        let (workspace, by) = (uuid(&request.workspace_id), uuid(&request.requested_by));
        let db = self.database.client().await;
        let begun = db.execute(START, &[&workspace, &request.pool, &by, &request.spec_version]).await.unwrap();
        if begun == 0 {
            return Err(Status::already_exists("it has not stopped"));
        }
        self.pin(workspace, &request.image).await;
        self.event(workspace, by).await;
        Ok(Response::new(StartRuntimeResponse { number: 1 }))
    }

    async fn stop_runtime(
        &self,
        request: Request<StopRuntimeRequest>,
    ) -> Result<Response<StopRuntimeResponse>, Status> {
        let request = request.into_inner();
        let workspace = uuid(&request.workspace_id);
        self.stops.lock().unwrap().push(request.number);
        let stop = "UPDATE runtime SET state = $3, reason = $2, number = number + $4
                     WHERE workspace_id = $1 AND $5::bigint IN (0, number)";
        let (state, more) = if request.start_again { ("running", 1_i64) } else { ("stopped", 0) };
        let client = self.database.client().await;
        let stopped = client.execute(stop, &[&workspace, &request.reason, &state, &more, &request.number]).await;
        if stopped.unwrap() > 0 {
            self.pin(workspace, &request.image).await;
            self.event(workspace, uuid(&request.requested_by)).await;
        }
        Ok(Response::new(StopRuntimeResponse {}))
    }

    async fn switch_queue(
        &self,
        request: Request<SwitchQueueRequest>,
    ) -> Result<Response<SwitchQueueResponse>, Status> {
        let request = request.into_inner();
        let switch = "UPDATE runtime SET queue_id = $2, plan_id = NULL
                       WHERE workspace_id = $1 AND state NOT IN ('stopped', 'error')";
        let ids = (uuid(&request.workspace_id), uuid(&request.queue_id));
        match self.database.client().await.execute(switch, &[&ids.0, &ids.1]).await.unwrap() {
            0 => Err(Status::not_found("the workspace has no runtime that waits or runs")),
            _ => Ok(Response::new(SwitchQueueResponse {})),
        }
    }

    async fn snooze_runtime(
        &self,
        request: Request<SnoozeRuntimeRequest>,
    ) -> Result<Response<SnoozeRuntimeResponse>, Status> {
        let request = request.into_inner();
        let snooze = "UPDATE runtime SET protected_until = to_timestamp($2::bigint / 1e6) WHERE workspace_id = $1";
        let workspace = uuid(&request.workspace_id);
        self.database.client().await.execute(snooze, &[&workspace, &request.until_us]).await.unwrap();
        Ok(Response::new(SnoozeRuntimeResponse {}))
    }

    async fn report_activity(
        &self,
        _: Request<ReportActivityRequest>,
    ) -> Result<Response<ReportActivityResponse>, Status> {
        Ok(Response::new(ReportActivityResponse {}))
    }

    /// The first gets the A10; the second waits, unless somebody is gone. Asked for nobody, it would move one from the T4 to the A10.
    async fn plan_runtimes(
        &self,
        request: Request<PlanRuntimesRequest>,
    ) -> Result<Response<PlanRuntimesResponse>, Status> {
        let requests: serde_json::Value = serde_json::from_str(&request.get_ref().requests).unwrap();
        let holder = |at: usize| requests[at]["holder"].clone();
        let device = "00000000-0000-0000-0000-0000000000d1";
        let grant = serde_json::json!({ "device": device, "milli": 400, "memory_bytes": 1, "slots": 0 });
        let node = "00000000-0000-0000-0000-0000000000aa";
        let place = serde_json::json!({ "node": node, "grants": [grant], "cpu_milli": 1, "memory_bytes": 1 });
        let mut plan = serde_json::json!({
            "assignments": [{ "holder": holder(0), "place": place, "stopped_at": null }],
            "preemptions": [], "refusals": [], "reservations": [], "problems": [],
        });
        if requests.as_array().unwrap().is_empty() {
            let sql = "SELECT holder FROM runtime LIMIT 1";
            let holder: Option<Uuid> =
                self.database.client().await.query_opt(sql, &[]).await.unwrap().map(|row| row.get(0));
            plan["assignments"] = serde_json::json!([]);
            plan["moves"] = holder.iter().map(|h| json_move(*h, node, &place)).collect();
        }
        if requests.as_array().unwrap().len() > 1 && !request.get_ref().gone.is_empty() {
            let second = serde_json::json!({ "holder": holder(1), "place": place, "stopped_at": null });
            plan["assignments"].as_array_mut().unwrap().push(second);
        } else if requests.as_array().unwrap().len() > 1 {
            let hints =
                serde_json::json!([{ "share": { "gpu_milli": 300 } }, { "turn": { "position": 1, "at": null } }]);
            plan["refusals"] = serde_json::json!([{
                "holder": holder(1), "code": "NO_CAPACITY", "sentence": "every place is taken", "hints": hints,
            }]);
        }
        if requests[0]["nodes"].as_array().is_some_and(|nodes| !nodes.contains(&node.into())) {
            plan["assignments"] = serde_json::json!([]);
            plan["refusals"] = serde_json::json!([{
                "holder": holder(0), "code": "NO_CAPACITY", "sentence": "every place is taken", "hints": [],
            }]);
        }
        Ok(Response::new(PlanRuntimesResponse { plan: plan.to_string() }))
    }

    /// A stranger has a part of the A10. Of a node that is `spot` nobody gets anything.
    async fn describe_nodes(
        &self,
        request: Request<DescribeNodesRequest>,
    ) -> Result<Response<DescribeNodesResponse>, Status> {
        let stranger = SeenStranger { name: "others/train".into(), milli: 300, memory_bytes: 1 << 30 };
        let device = SeenDevice { name: "gpu-0".into(), code: String::new(), strangers: vec![stranger] };
        let node = |name: String| SeenNode {
            code: if name == "spot" { "NODE_TAINTED".into() } else { String::new() },
            message: if name == "spot" { "spot (NoSchedule)".into() } else { String::new() },
            name,
            cpu_milli: 500,
            memory_bytes: 7,
            devices: vec![device.clone()],
        };
        let nodes = request.into_inner().nodes.into_iter().map(node).collect();
        Ok(Response::new(DescribeNodesResponse { nodes }))
    }

    /// As a scheduler with both keys does it.
    async fn rewrap_access_keys(
        &self,
        request: Request<RewrapAccessKeysRequest>,
    ) -> Result<Response<RewrapAccessKeysResponse>, Status> {
        let request = request.into_inner();
        let keyring = secrets::Keyring::parse(&two_keys()).unwrap();
        assert_eq!(request.key_id, keyring.current());
        let db = store::Store::connect(self.database.url(), 1).await.unwrap().client().await.unwrap();
        let begins = secrets::Sealed::begins(&request.key_id);
        let stale = store::access_keys::stale(&db, &begins, i64::from(request.limit)).await.unwrap();
        let anew = |key: store::access_keys::Key| {
            let workspace = key.workspace.to_string();
            let sealed = secrets::Sealed::from_bytes(&key.sealed).unwrap();
            let sealed = keyring.rewrap(&secrets::access_key(&workspace, key.number), &sealed).unwrap().to_bytes();
            (key, sealed)
        };
        let keys: Vec<_> = stale.into_iter().map(anew).collect();
        let rewrapped = store::access_keys::rewrap(&db, &keys).await.unwrap();
        Ok(Response::new(RewrapAccessKeysResponse { rewrapped: i64::try_from(rewrapped).unwrap() }))
    }
}
