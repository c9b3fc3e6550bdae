//! From asking for a workspace with shares of two GPUs to its open application, beside the same claim and pod made by hand.
//!
//! On the lab that tests share, so that nothing is pulled: what is above the floor is Orrery's.

use crate::report::{Bar, Figure, percentile};
use anyhow::{Context, Result, ensure};
use backend_kubernetes::{
    Access, Classes, Cluster as Kubernetes,
    render::{Place, app::Images},
};
use k8s_openapi::api::{
    core::v1::{Namespace, Pod, Secret},
    resource::v1::ResourceClaim,
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use load_tests::{
    cluster::{Cluster, Shape, WORKSPACE},
    runtimes::keys,
};
use proto::v1::{
    self as pb, RuntimeState, device_service_client::DeviceServiceClient, runtime_service_client::RuntimeServiceClient,
};
use provision::{Kubelab, TestLab};
use rpc::client::Channel;
use serde_json::Value;
use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Starts that count; one before them warms everything.
const STARTS: usize = 9;
/// For one step.
const WAIT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Where the application listens.
const PORT: u16 = 8000;
/// The name of what is made by hand.
const BY_HAND: &str = "by-hand";

/// The median of both, in turns.
pub(crate) async fn run() -> Result<Vec<Figure>> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubelab");
    let lab = tokio::task::spawn_blocking(move || TestLab::share(&sources)).await??;
    let stage = Stage::new(&lab.lab).await?;
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    let mut measured = Ok(());
    for round in 0..=STARTS {
        match stage.round().await {
            Ok((open, floor)) if round > 0 => {
                ours.push(open);
                floors.push(floor);
            }
            Ok(_) => {}
            Err(error) => {
                measured = Err(error.context(format!("logs are in {}", stage.cluster.keep_logs()?)));
                break;
            }
        }
    }
    Api::<Namespace>::all(stage.client.clone()).delete(&stage.namespace, &DeleteParams::default()).await?;
    measured?;
    let (open, floor) = (percentile(&mut ours, 0.5), percentile(&mut floors, 0.5));
    Ok(vec![Figure {
        name: "start to open, beyond the floor",
        figure: open - floor,
        unit: "ms",
        floor,
        floor_is: "the same claim and pod made by hand, until it answers",
        bar: Bar::FigureAtMost(1_000.0),
    }])
}

/// A cluster whose executor runs runtimes on the lab, in a namespace of this scenario's own.
struct Stage {
    cluster: Cluster,
    client: Client,
    namespace: String,
    token: String,
    _keys: tempfile::NamedTempFile,
}

impl Stage {
    async fn new(lab: &Kubelab) -> Result<Self> {
        let namespace = format!("load-{}", std::process::id());
        let (keys, setting) = keys()?;
        let executor = |key: &str, value: String| ("executor-1", format!("ORRERY_EXECUTOR_{key}"), value);
        let shape = Shape {
            own_settings: vec![
                executor("RUNTIMES", "kubernetes".to_owned()),
                executor("KUBECONFIG", lab.kubeconfig.display().to_string()),
                executor("KUBERNETES_NAMESPACE", namespace.clone()),
                ("web-server-1", "ORRERY_WEB_SERVER_SECRET_KEYS_FILE".to_owned(), setting.1.clone()),
            ],
            settings: vec![setting],
            ..Shape::default()
        };
        let access = Access { kubeconfig: Some(lab.kubeconfig.clone()) };
        let place = Place {
            pool: "default".to_owned(),
            namespace: namespace.clone(),
            images: Images { jupyter: String::new(), vs_code: String::new(), pre_start: String::new() },
            classes: Classes::known(),
            visitors: Vec::new(),
        };
        // Makes the namespace, and asks the server what it can do, as an executor does.
        Kubernetes::connect(&access, place).await?;
        let config = Kubeconfig::read_from(&lab.kubeconfig)?;
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
        let cluster = Cluster::start_as(shape).await?;
        let token = std::fs::read_to_string(cluster.folder().join("token"))?.trim().to_owned();
        let stage = Self { cluster, client: Client::try_from(config)?, namespace, token, _keys: keys };
        stage.set().await?;
        Ok(stage)
    }

    fn runtimes(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.cluster.channel())
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// What is started: a small server, so that its own start weighs little. Waits for the devices first.
    async fn set(&self) -> Result<()> {
        let words = ["python3", "-m", "http.server", "--bind", "$(POD_IP)", "8000"];
        let custom = pb::CustomApp {
            port: PORT.into(),
            command: words.map(str::to_owned).into(),
            health_path: "/".to_owned(),
            ..pb::CustomApp::default()
        };
        let spec = pb::RuntimeSpec {
            app: pb::RuntimeApp::Custom.into(),
            custom: Some(custom),
            image: "none".to_owned(),
            gpus: 2,
            sm_percent: 40,
            gpu_memory_bytes: 8 << 30,
            cpu_milli: 100,
            memory_bytes: 256 << 20,
            ..pb::RuntimeSpec::default()
        };
        let request = pb::SetRuntimeSpecRequest {
            workspace: WORKSPACE.to_owned(),
            spec: Some(spec),
            ..pb::SetRuntimeSpecRequest::default()
        };
        self.runtimes().set_runtime_spec(request).await?;
        let begun = Instant::now();
        loop {
            let known = DeviceServiceClient::new(self.cluster.channel())
                .list_devices(pb::ListDevicesRequest::default())
                .await?
                .into_inner();
            if !known.devices.is_empty() {
                return Ok(());
            }
            ensure!(begun.elapsed() < WAIT, "the executor tells of no devices");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Milliseconds of a start through Orrery, and of the same objects by hand.
    async fn round(&self) -> Result<(f64, f64)> {
        let begun = Instant::now();
        let request = pb::StartRuntimeRequest { workspace: WORKSPACE.to_owned(), ..pb::StartRuntimeRequest::default() };
        self.runtimes().start_runtime(request).await?;
        self.until(RuntimeState::Running).await?;
        let path = format!("/runtimes/{WORKSPACE}/");
        until_open(self.cluster.web_server()?, &path, &self.token).await?;
        let open = begun.elapsed();
        let copies = self.copies().await?;
        self.runtimes().stop_runtime(pb::StopRuntimeRequest { workspace: WORKSPACE.to_owned() }).await?;
        self.until(RuntimeState::Stopped).await?;
        let floor = self.by_hand(&copies).await?;
        Ok((open.as_secs_f64() * 1000.0, floor.as_secs_f64() * 1000.0))
    }

    async fn until(&self, wanted: RuntimeState) -> Result<()> {
        let request = pb::WatchRuntimeRequest { workspace: WORKSPACE.to_owned() };
        let mut changes = self.runtimes().watch_runtime(request).await?.into_inner();
        let seen = async {
            while let Some(change) = changes.message().await? {
                let runtime = change.runtime.unwrap_or_default();
                if runtime.state() == wanted {
                    return Ok(());
                }
                let failed = runtime.state() == RuntimeState::Error;
                ensure!(!failed, "the runtime failed: {} {}", runtime.reason, runtime.message);
            }
            anyhow::bail!("nothing more is told of the runtime")
        };
        tokio::time::timeout(WAIT, seen).await.with_context(|| format!("wait for {wanted:?}"))?
    }

    /// What Orrery has made for the life that runs, as somebody would write it down who makes it by hand.
    async fn copies(&self) -> Result<Copies> {
        let pod = only(self.api::<Pod>().list(&ListParams::default()).await?.items)?;
        let claim = only(self.api::<ResourceClaim>().list(&ListParams::default()).await?.items)?;
        let name = pod.metadata.name.clone().context("a pod's name")?;
        let secret = self.api::<Secret>().get(&name).await?;
        let metadata = ObjectMeta { name: Some(BY_HAND.to_owned()), ..ObjectMeta::default() };
        // Each refers to the others by the one name that all of them have.
        let mut spec: Value = serde_json::to_value(pod.spec.context("a pod's spec")?)?;
        rename(&mut spec, &name);
        let mut pod = Pod { metadata: metadata.clone(), spec: serde_json::from_value(spec)?, status: None };
        if let Some(spec) = pod.spec.as_mut() {
            spec.node_name = None;
            spec.priority = None;
        }
        let claim = ResourceClaim { metadata: metadata.clone(), spec: claim.spec, status: None };
        Ok(Copies { secret: Secret { metadata, data: secret.data, ..Secret::default() }, claim, pod })
    }

    /// From the first object to the first answer; then everything is taken away.
    async fn by_hand(&self, copies: &Copies) -> Result<Duration> {
        let made = PostParams::default();
        let (secrets, claims, pods) = (self.api::<Secret>(), self.api::<ResourceClaim>(), self.api::<Pod>());
        let begun = Instant::now();
        secrets.create(&made, &copies.secret).await?;
        claims.create(&made, &copies.claim).await?;
        pods.create(&made, &copies.pod).await?;
        let address = loop {
            let status = pods.get(BY_HAND).await?.status.unwrap_or_default();
            let ready =
                status.conditions.iter().flatten().any(|known| known.type_ == "Ready" && known.status == "True");
            match status.pod_ip {
                Some(address) if ready => break SocketAddr::new(address.parse()?, PORT),
                _ => ensure!(begun.elapsed() < WAIT, "the pod that was made by hand is not ready"),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        until_open(address, "/", "").await?;
        let took = begun.elapsed();
        pods.delete(BY_HAND, &DeleteParams::default().grace_period(1)).await?;
        claims.delete(BY_HAND, &DeleteParams::default()).await?;
        secrets.delete(BY_HAND, &DeleteParams::default()).await?;
        let begun = Instant::now();
        while pods.get_opt(BY_HAND).await?.is_some() || claims.get_opt(BY_HAND).await?.is_some() {
            ensure!(begun.elapsed() < WAIT, "what was made by hand does not end");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(took)
    }
}

/// What a life consists of.
struct Copies {
    secret: Secret,
    claim: ResourceClaim,
    pod: Pod,
}

fn only<K>(mut all: Vec<K>) -> Result<K> {
    ensure!(all.len() == 1, "{} objects where there is one life", all.len());
    all.pop().context("one object")
}

/// Puts the new name wherever the old one stands.
fn rename(value: &mut Value, old: &str) {
    match value {
        Value::String(text) if text == old => BY_HAND.clone_into(text),
        Value::Array(all) => all.iter_mut().for_each(|one| rename(one, old)),
        Value::Object(all) => all.values_mut().for_each(|one| rename(one, old)),
        _ => {}
    }
}

/// Until a request is answered as it should.
async fn until_open(address: SocketAddr, path: &str, token: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        let told = ask(address, path, token).await;
        if told.as_ref().is_ok_and(|head| head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.0 200")) {
            return Ok(());
        }
        ensure!(begun.elapsed() < WAIT, "{address}{path} does not open: {told:?}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The answer to one request, as far as one packet holds it.
async fn ask(address: SocketAddr, path: &str, token: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let bearer = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{bearer}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = vec![0; 512];
    let length = tokio::time::timeout(WAIT, stream.read(&mut head)).await??;
    Ok(String::from_utf8_lossy(&head[..length]).into_owned())
}
