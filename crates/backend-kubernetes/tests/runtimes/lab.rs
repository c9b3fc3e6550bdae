//! The lab that all tests share, as one test sees it: a namespace and a pool of its own, and a backend that is ordered by hand.

use backend_kubernetes::{
    Access, Backend, Classes, Cluster, Goal, Grant, Life, Order, Sink, names,
    render::{Place, app::Images},
};
use domain::id::{HolderId, VolumeId, WorkspaceId};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use proto::internal::v1::{self as pb, RuntimePhase};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{Arc, Mutex},
    time::Duration,
};
use testkit::wait_for;
use uuid::Uuid;

/// For one step, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const GIB: u64 = 1 << 30;
pub(crate) const SHARED: &str = "hami-core-gpu.project-hami.io";

/// Waits until something holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, timeout: Duration, mut look: impl FnMut() -> F) {
    wait_for(what, timeout, || {
        let holds = look();
        async { holds.await.then_some(()) }
    })
    .await;
}

/// What the backend says, kept as levels.
#[derive(Default)]
pub(crate) struct Board {
    nodes: Mutex<Vec<pb::Node>>,
    reports: Mutex<BTreeMap<HolderId, pb::RuntimeReport>>,
    volumes: Mutex<BTreeMap<VolumeId, pb::VolumeReport>>,
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

    fn volume(&self, report: pb::VolumeReport) {
        self.volumes.lock().unwrap().insert(VolumeId::from_slice(&report.id).unwrap(), report);
    }
}

pub(crate) struct Lab {
    pub(crate) client: Client,
    pub(crate) place: Place,
    pub(crate) access: Access,
    pub(crate) backend: Backend,
    board: Arc<Board>,
    config: Config,
}

impl Lab {
    /// `None` where tests on Kubernetes are skipped.
    pub(crate) async fn new(name: &str) -> Option<Self> {
        Self::with(name, Classes::known()).await
    }

    /// The same, with these classes of devices.
    pub(crate) async fn with(name: &str, classes: Classes) -> Option<Self> {
        let lab = tokio::task::spawn_blocking(testkit::kubernetes::lab).await.unwrap()?;
        let namespace = format!("{name}-{}", &Uuid::new_v4().to_string()[..8]);
        let place = Place {
            pool: namespace.clone(),
            namespace,
            images: Images { jupyter: "jupyter".into(), vs_code: "code".into(), pre_start: String::new() },
            classes,
            visitors: Vec::new(),
        };
        let access = Access { kubeconfig: Some(lab.kubeconfig.clone()) };
        // The namespace is not there yet; whoever connects first makes it.
        let cluster = Cluster::connect(&access, place.clone()).await.unwrap();
        let config = Kubeconfig::read_from(&lab.kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config.clone()).unwrap();
        let board = Arc::new(Board::default());
        let backend = Backend::new(cluster, Arc::clone(&board) as Arc<dyn Sink>);
        Some(Self { client, place, access, board, backend, config })
    }

    /// Another life of the process: nothing is known but what is in the cluster.
    pub(crate) async fn restart(&mut self) -> Vec<Order> {
        self.board = Arc::new(Board::default());
        let cluster = Cluster::connect(&self.access, self.place.clone()).await.unwrap();
        self.backend = Backend::new(cluster, Arc::clone(&self.board) as Arc<dyn Sink>);
        self.backend.recover().await.unwrap()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.place.namespace)
    }

    pub(crate) fn report(&self, holder: HolderId) -> pb::RuntimeReport {
        self.board.reports.lock().unwrap().get(&holder).cloned().unwrap_or_default()
    }

    pub(crate) async fn until(&self, holder: HolderId, phase: RuntimePhase, code: &str) -> pb::RuntimeReport {
        wait_for(Awaited { lab: self, holder, phase, code }, PATIENCE, || async {
            Some(self.report(holder)).filter(|report| report.phase() == phase && report.code == code)
        })
        .await
    }

    pub(crate) fn volume(&self, id: VolumeId) -> pb::VolumeReport {
        self.board.volumes.lock().unwrap().get(&id).cloned().unwrap_or_default()
    }

    pub(crate) fn node(&self, name: &str) -> pb::Node {
        self.board.nodes.lock().unwrap().iter().find(|node| node.name == name).cloned().unwrap_or_default()
    }

    pub(crate) fn run(&self, life: &Life, fence: i64) {
        self.backend.apply(Order { holder: life.holder, fence, goal: Goal::Run(Arc::new(life.clone())) });
    }

    pub(crate) async fn end(&self, life: &Life, fence: i64) {
        let goal = Goal::Stop { grace: Duration::from_secs(2) };
        self.backend.apply(Order { holder: life.holder, fence, goal });
        self.until(life.holder, RuntimePhase::Gone, "").await;
        self.backend.apply(Order { holder: life.holder, fence, goal: Goal::Forget });
        let name = names::object(&life.workspace, life.number);
        until("the record's end", PATIENCE, || async { self.api::<Secret>().get_opt(&name).await.unwrap().is_none() })
            .await;
    }

    pub(crate) async fn annotate<K>(&self, api: Api<K>, name: &str, annotation: &str, value: Option<&str>)
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let patch = json!({ "metadata": { "annotations": { annotation: value } } });
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
}

/// What was waited for, and what was seen in its place, in words.
struct Awaited<'a> {
    lab: &'a Lab,
    holder: HolderId,
    phase: RuntimePhase,
    code: &'a str,
}

impl Display for Awaited<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}; instead: {:?}", self.phase, self.code, self.lab.report(self.holder))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // With the namespace goes whatever a test that failed has left.
        let name = self.place.namespace.clone();
        afterwards(&self.config, async |client| {
            drop(Api::<Namespace>::all(client).delete(&name, &DeleteParams::default()).await);
        });
    }
}

/// Does what has to be done when a test has ended, which takes its own runtime along.
pub(crate) fn afterwards(config: &Config, act: impl AsyncFnOnce(Client) + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { act(Client::try_from(config.clone()).unwrap()).await });
        });
    });
}

/// A life whose application is a plain HTTP server, on these devices of a node.
pub(crate) fn life(workspace: &str, node: &str, grants: &[(&str, u32)]) -> Life {
    let ask = json!({ "gpus": grants.len(), "gpu_milli": 400, "gpu_memory_bytes": null, "models": [],
                      "models_ordered": false, "link": "any", "cpu_milli": 100, "memory_bytes": 1 << 28 });
    let server = ["python3", "-m", "http.server", "--bind", "$(POD_IP)", "8000"];
    let spec = json!({ "app": { "custom": { "port": 8000, "command": server } }, "ask": ask, "image": "none",
                       "env": { "PRICE": "$(POD_IP)" }, "post_start": { "script": "touch started" } });
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

pub(crate) fn chip(node: &str, index: u32) -> String {
    format!("{SHARED}/{node}/hami-gpu-{index}")
}

pub(crate) fn get(endpoint: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(endpoint).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
