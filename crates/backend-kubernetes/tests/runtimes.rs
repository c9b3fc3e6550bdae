//! Lives of runtimes on a real control plane: from an order to a bound pod that answers, and to nothing.
//!
//! Each test has a namespace and a pool of its own, and devices that no other test uses: node `shared-0` GPU 0 and 1 belong
//! to the first, 2 and 3 and `shared-1` to the others as they say.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is the report of a test")]

use backend_kubernetes::{
    Access, Backend, Classes, Cluster, Goal, Grant, Life, Order, Sink, names,
    render::{Place, app::Images},
};
use domain::id::{HolderId, WorkspaceId};
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Pod, Secret, Service},
    networking::v1::NetworkPolicy,
    resource::v1::ResourceClaim,
};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use proto::internal::v1::{self as pb, RuntimePhase};
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{Arc, Mutex},
    time::Duration,
};
use testkit::wait_for;
use uuid::Uuid;

/// For one step, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const GIB: u64 = 1 << 30;
const SHARED: &str = "hami-core-gpu.project-hami.io";

/// Waits until something holds.
async fn until<F: Future<Output = bool>>(what: &str, timeout: Duration, mut look: impl FnMut() -> F) {
    wait_for(what, timeout, || {
        let holds = look();
        async { holds.await.then_some(()) }
    })
    .await;
}

/// What the backend says, kept as levels.
#[derive(Default)]
struct Board {
    nodes: Mutex<Vec<pb::Node>>,
    reports: Mutex<BTreeMap<HolderId, pb::RuntimeReport>>,
}

impl Sink for Board {
    fn nodes(&self, nodes: Vec<pb::Node>) {
        *self.nodes.lock().unwrap() = nodes;
    }

    fn report(&self, report: pb::RuntimeReport) {
        self.reports.lock().unwrap().insert(HolderId::from_slice(&report.holder).unwrap(), report);
    }

    fn forget(&self, holder: HolderId) {
        self.reports.lock().unwrap().remove(&holder);
    }
}

struct Lab {
    client: Client,
    place: Place,
    access: Access,
    board: Arc<Board>,
    backend: Backend,
}

impl Lab {
    /// `None` where tests on Kubernetes are skipped.
    async fn new(name: &str) -> Option<Self> {
        let lab = tokio::task::spawn_blocking(testkit::kubernetes::lab).await.unwrap()?;
        let namespace = format!("{name}-{}", &Uuid::new_v4().to_string()[..8]);
        let place = Place {
            pool: namespace.clone(),
            namespace,
            images: Images { jupyter: "jupyter".into(), vs_code: "code".into() },
            classes: Classes::known(),
        };
        let access = Access { kubeconfig: Some(lab.kubeconfig.clone()) };
        // The namespace is not there yet; whoever connects first makes it.
        let cluster = Cluster::connect(&access, place.clone()).await.unwrap();
        let config = Kubeconfig::read_from(&lab.kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let board = Arc::new(Board::default());
        let backend = Backend::new(cluster, Arc::clone(&board) as Arc<dyn Sink>);
        Some(Self { client, place, access, board, backend })
    }

    /// Another life of the process: nothing is known but what is in the cluster.
    async fn restart(&mut self) -> Vec<Order> {
        self.board = Arc::new(Board::default());
        let cluster = Cluster::connect(&self.access, self.place.clone()).await.unwrap();
        self.backend = Backend::new(cluster, Arc::clone(&self.board) as Arc<dyn Sink>);
        self.backend.recover().await.unwrap()
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.place.namespace)
    }

    fn report(&self, holder: HolderId) -> pb::RuntimeReport {
        self.board.reports.lock().unwrap().get(&holder).cloned().unwrap_or_default()
    }

    async fn until(&self, holder: HolderId, phase: RuntimePhase, code: &str) -> pb::RuntimeReport {
        wait_for(format!("{phase:?} {code}"), PATIENCE, || async {
            Some(self.report(holder)).filter(|report| report.phase() == phase && report.code == code)
        })
        .await
    }

    fn node(&self, name: &str) -> pb::Node {
        self.board.nodes.lock().unwrap().iter().find(|node| node.name == name).cloned().unwrap_or_default()
    }

    fn run(&self, life: &Life, fence: i64) {
        self.backend.apply(Order { holder: life.holder, fence, goal: Goal::Run(Arc::new(life.clone())) });
    }

    async fn end(&self, life: &Life, fence: i64) {
        let goal = Goal::Stop { grace: Duration::from_secs(2) };
        self.backend.apply(Order { holder: life.holder, fence, goal });
        self.until(life.holder, RuntimePhase::Gone, "").await;
        self.backend.apply(Order { holder: life.holder, fence, goal: Goal::Forget });
        let name = names::object(&life.workspace, life.number);
        until("the record's end", PATIENCE, || async { self.api::<Secret>().get_opt(&name).await.unwrap().is_none() })
            .await;
    }

    async fn annotate<K>(&self, api: Api<K>, name: &str, annotation: &str, value: Option<&str>)
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let patch = json!({ "metadata": { "annotations": { annotation: value } } });
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // With the namespace goes whatever a test that failed has left.
        let (client, name) = (self.client.clone(), self.place.namespace.clone());
        tokio::spawn(async move { Api::<Namespace>::all(client).delete(&name, &DeleteParams::default()).await });
    }
}

/// A life whose application is a plain HTTP server, on these devices of a node.
fn life(workspace: &str, node: &str, grants: &[(&str, u32)]) -> Life {
    let ask = json!({ "gpus": grants.len(), "gpu_milli": 400, "gpu_memory_bytes": null, "models": [],
                      "models_ordered": false, "link": "any", "cpu_milli": 100, "memory_bytes": 1 << 28 });
    let server = ["python3", "-m", "http.server", "--bind", "$(POD_IP)", "8000"];
    let spec = json!({ "app": { "custom": { "port": 8000, "command": server } }, "ask": ask, "image": "none",
                       "env": { "PRICE": "$(POD_IP)" }, "post_start": { "script": "touch started; exit 3" } });
    Life {
        holder: HolderId(Uuid::new_v4()),
        workspace_id: WorkspaceId(Uuid::new_v4()),
        workspace: workspace.to_owned(),
        project: "Ökonomie".to_owned(),
        queue: "default".to_owned(),
        queue_priority: 10,
        preemptible: true,
        number: 1,
        node: node.to_owned(),
        grants: grants
            .iter()
            .map(|(device, milli)| Grant {
                device: (*device).to_owned(),
                milli: *milli,
                memory_bytes: 16 * GIB,
                profile: String::new(),
                slots: 0,
            })
            .collect(),
        spec: serde_json::from_value(spec).unwrap(),
        access_key: "k3y".to_owned(),
        base_path: "/runtimes/lab/".to_owned(),
    }
}

fn chip(node: &str, index: u32) -> String {
    format!("{SHARED}/{node}/hami-gpu-{index}")
}

fn get(endpoint: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(endpoint).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_from_its_order_to_nothing() {
    let Some(mut lab) = Lab::new("life").await else { return };
    assert!(lab.backend.recover().await.unwrap().is_empty());
    let device = lab.node("shared-0").devices.into_iter().find(|d| d.name == chip("shared-0", 0)).unwrap();
    assert_eq!((device.class.as_str(), device.memory_bytes), (SHARED, 96 << 30));
    assert_eq!((device.healthy, device.sharing.as_str()), (true, r#"{"shared":{"step_milli":10}}"#));
    let whole = lab.node("whole-0");
    assert_eq!((whole.devices.len(), whole.devices[0].sharing.as_str()), (8, r#""exclusive""#));
    let partitioned = lab.node("partitioned-0").devices;
    assert_eq!(partitioned.len(), 2, "a chip and its partitions are one: {partitioned:?}");
    assert!(partitioned[0].sharing.contains(r#""name":"3g.40gb","milli":428"#), "{}", partitioned[0].sharing);

    let (a, b) = (chip("shared-0", 0), chip("shared-0", 1));
    let life = life("lab", "shared-0", &[(&a, 400), (&b, 400)]);
    lab.run(&life, 1);
    let ready = lab.until(life.holder, RuntimePhase::Ready, "").await;
    assert!(ready.bound && ready.fence == 1 && ready.node == "shared-0", "{ready:?}");
    assert!(get(&ready.endpoint, "/").contains(" 200 "), "the application answers at {}", ready.endpoint);
    assert!(get(&ready.endpoint, "/started").contains(" 200 "), "the script ran before it, and its failure is none");

    let claim = lab.api::<ResourceClaim>().get("ws-lab-r1").await.unwrap();
    let results = claim.status.unwrap().allocation.unwrap().devices.unwrap().results.unwrap();
    let got: Vec<_> = results
        .iter()
        .map(|r| (r.device.as_str(), r.consumed_capacity.as_ref().unwrap()["cores"].0.as_str()))
        .collect();
    assert_eq!(got, [("hami-gpu-0", "40"), ("hami-gpu-1", "40")]);
    let pod = lab.api::<Pod>().get("ws-lab-r1").await.unwrap();
    let spec = pod.spec.clone().unwrap();
    assert_eq!((spec.automount_service_account_token, spec.host_network), (Some(false), None));
    assert_eq!((spec.priority, spec.preemption_policy.as_deref()), (Some(10), Some("Never")));
    let security = spec.containers[0].security_context.clone().unwrap();
    assert_eq!((security.privileged, security.allow_privilege_escalation), (Some(false), Some(false)));
    assert_eq!(spec.security_context.unwrap().run_as_non_root, Some(true));
    assert_eq!(names::label(&pod.metadata, names::GPU_MILLI), Some("800"));

    // A restart adopts it: nothing is made anew, and nothing ends.
    let orders = lab.restart().await;
    assert_eq!(orders, [Order { holder: life.holder, fence: 1, goal: Goal::Run(Arc::new(life.clone())) }]);
    lab.until(life.holder, RuntimePhase::Ready, "").await;
    lab.run(&life, 2);
    until("the later fence", PATIENCE, || async { lab.report(life.holder).fence == 2 }).await;
    assert_eq!(lab.api::<Pod>().get("ws-lab-r1").await.unwrap().uid(), pod.uid());
    assert!(lab.node("shared-0").foreign.iter().all(|f| f.grants.iter().all(|g| g.device != a)), "ours is no stranger");

    let goal = Goal::Stop { grace: Duration::from_secs(2) };
    lab.backend.apply(Order { holder: life.holder, fence: 3, goal });
    let gone = lab.until(life.holder, RuntimePhase::Gone, "").await;
    assert_eq!(gone.fence, 3);
    assert!(
        lab.api::<ResourceClaim>().get_opt("ws-lab-r1").await.unwrap().is_none(),
        "GONE is said when its devices are free"
    );
    // What has ended is told again after a restart, and does not begin again.
    lab.restart().await;
    lab.until(life.holder, RuntimePhase::Gone, "").await;
    lab.run(&life, 4);
    until("the later fence", PATIENCE, || async { lab.report(life.holder).fence == 4 }).await;
    assert_eq!(lab.report(life.holder).phase(), RuntimePhase::Gone);
    lab.end(&life, 5).await;
    assert!(lab.api::<Pod>().list(&ListParams::default()).await.unwrap().items.is_empty());
    assert!(lab.api::<Service>().list(&ListParams::default()).await.unwrap().items.is_empty());
    assert!(lab.api::<NetworkPolicy>().list(&ListParams::default()).await.unwrap().items.is_empty());
    assert_eq!(lab.report(life.holder), pb::RuntimeReport::default(), "nothing is reported any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn troubles_have_codes() {
    let Some(lab) = Lab::new("trouble").await else { return };
    lab.backend.recover().await.unwrap();
    let namespaces: Api<Namespace> = Api::all(lab.client.clone());
    let device = chip("shared-1", 0);
    let mut number = 0;
    let mut next = || {
        number += 1;
        life(&format!("trouble-{number}"), "shared-1", &[(&device, 100)])
    };
    for (fault, phase, code) in [
        ("image-pull", RuntimePhase::Pulling, "IMAGE_PULL_FAILED"),
        ("prepare", RuntimePhase::Pulling, "DEVICE_PREPARE_FAILED"),
        ("oom", RuntimePhase::Failed, "OUT_OF_MEMORY"),
        ("exit=3", RuntimePhase::Failed, "APP_FAILED"),
        ("exit=0", RuntimePhase::Failed, "EXITED"),
    ] {
        lab.annotate(namespaces.clone(), &lab.place.namespace, "kubelab/fault", Some(fault)).await;
        let life = next();
        lab.run(&life, 1);
        lab.until(life.holder, phase, code).await;
        lab.end(&life, 2).await;
    }
    lab.annotate(namespaces, &lab.place.namespace, "kubelab/fault", None).await;

    // A device that is not there, and a volume of nobody's.
    let mut strange = next();
    strange.grants[0].device = chip("shared-1", 99);
    lab.run(&strange, 1);
    lab.until(strange.holder, RuntimePhase::Misplaced, "DEVICE_MISSING").await;
    lab.end(&strange, 2).await;
    let mut greedy = next();
    greedy.spec.mounts = serde_json::from_value(json!([{ "volume": "others", "path": "/data" }])).unwrap();
    lab.run(&greedy, 1);
    lab.until(greedy.holder, RuntimePhase::Failed, "VOLUME_FORBIDDEN").await;
    lab.end(&greedy, 2).await;

    // A pod that somebody took away.
    let lost = next();
    lab.run(&lost, 1);
    lab.until(lost.holder, RuntimePhase::Ready, "").await;
    let name = names::object(&lost.workspace, lost.number);
    lab.api::<Pod>().delete(&name, &DeleteParams::default().grace_period(0)).await.unwrap();
    lab.until(lost.holder, RuntimePhase::Failed, "POD_LOST").await;
    lab.end(&lost, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_lost_devices_are_seen_in_time() {
    let Some(lab) = Lab::new("strangers").await else { return };
    lab.backend.recover().await.unwrap();
    // A stranger takes 70 of 100 cores of what we are about to pin.
    let device = chip("shared-1", 3);
    let mut stranger = life("stranger", "shared-1", &[(&device, 700)]);
    stranger.queue_priority = 0;
    let other = Place { pool: "another".to_owned(), ..lab.place.clone() };
    let cluster = Cluster::connect(&lab.access, other).await.unwrap();
    let theirs = Arc::new(Board::default());
    let another = Backend::new(cluster, Arc::clone(&theirs) as Arc<dyn Sink>);
    another.recover().await.unwrap();
    another.apply(Order { holder: stranger.holder, fence: 1, goal: Goal::Run(Arc::new(stranger.clone())) });
    until("the stranger's share", PATIENCE, || async {
        let foreign = lab.node("shared-1").foreign;
        foreign.iter().flat_map(|f| &f.grants).any(|grant| grant.device == device && grant.milli == 700)
    })
    .await;
    // Pinned all the same: kube-scheduler refuses, and after its patience it is to be placed anew.
    let unlucky = life("unlucky", "shared-1", &[(&device, 400)]);
    lab.run(&unlucky, 1);
    lab.until(unlucky.holder, RuntimePhase::PodCreated, "NO_MATCHING_DEVICE").await;
    let told = lab.until(unlucky.holder, RuntimePhase::Misplaced, "NO_MATCHING_DEVICE").await;
    assert!(told.message.contains("cannot allocate all claims"), "{}", told.message);
    lab.end(&unlucky, 2).await;

    // Health, within 5 s.
    let nodes: Api<Node> = Api::all(lab.client.clone());
    lab.annotate(nodes.clone(), "shared-1", "kubelab/devices", Some("hami-gpu-2=unhealthy")).await;
    until("the failed device", Duration::from_secs(5), || async {
        lab.node("shared-1")
            .devices
            .iter()
            .any(|d| d.name == chip("shared-1", 2) && !d.healthy && d.condition.contains("xid"))
    })
    .await;
    lab.annotate(nodes, "shared-1", "kubelab/devices", None).await;
    until("the device's recovery", PATIENCE, || async { lab.node("shared-1").devices.iter().all(|d| d.healthy) }).await;
}
