//! A cluster of real processes with a Postgres of its own, ended and removed when dropped.

mod service;
mod standby;
mod stores;
mod wires;

use crate::repeater::Repeater;
use anyhow::{Context, Result, bail, ensure};
use proto::v1::{
    self as pb, backfill_service_client::BackfillServiceClient, deployment_service_client::DeploymentServiceClient,
    log_service_client::LogServiceClient, run_service_client::RunServiceClient,
    workspace_service_client::WorkspaceServiceClient,
};
use provision::{ClusterOptions, Postgres, PrivatePostgres, PrivateRedis, Python};
use rpc::{auth::Token, client::Channel};
pub use service::Service;
use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tempfile::TempDir;
pub use wires::Wires;

/// The workspace that load runs in.
pub const WORKSPACE: &str = "load";
/// How long anything may take to be ready.
const READY: Duration = Duration::from_secs(60);
/// How long a run may take that nobody watches, and how often it is looked at.
const RUN_MAX: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How many of what.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Schedulers that start with the cluster.
    pub schedulers: usize,
    /// Places for schedulers, which executors and web-servers know from the start: the rest can be added later.
    pub scheduler_places: usize,
    /// Executors.
    pub executors: usize,
    /// Web-servers; clients use all of them.
    pub web_servers: usize,
    /// Attempts at once on each executor.
    pub slots: u32,
    /// Settings of every service, as environment variables.
    pub settings: Vec<(String, String)>,
    /// Variables of single services, by name: they win over everything else.
    pub own_settings: Vec<(&'static str, String, String)>,
    /// Folders for the logs of single services, by name.
    pub log_folders: Vec<(&'static str, PathBuf)>,
    /// A Redis of its own keeps the leases.
    pub redis: bool,
    /// A wire with this seed lies between any two processes; see [`Cluster::wires`].
    pub wires: Option<u64>,
    /// Between everybody and each scheduler stands a [`Repeater`].
    pub repeaters: bool,
    /// Another folder of programs for single services, by name: an earlier build, say.
    pub programs: Vec<(&'static str, PathBuf)>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            schedulers: 1,
            scheduler_places: 1,
            executors: 1,
            web_servers: 1,
            slots: 8,
            settings: Vec::new(),
            own_settings: Vec::new(),
            log_folders: Vec::new(),
            redis: false,
            wires: None,
            repeaters: false,
            programs: Vec::new(),
        }
    }
}

/// See the module's page.
pub struct Cluster {
    services: BTreeMap<String, Service>,
    postgres: Option<PrivatePostgres>,
    standby: Option<standby::Standby>,
    /// The standby is the database now.
    took_over: bool,
    redis: Option<PrivateRedis>,
    wires: Option<Wires>,
    /// Those in front of schedulers, by their places.
    repeaters: Vec<Repeater>,
    channel: Channel,
    /// The environment that Python blocks run in.
    pub base_env: PathBuf,
    shape: Shape,
    scheduler_ports: Vec<u16>,
    web_ports: Vec<u16>,
    folder: TempDir,
}

impl Cluster {
    /// Starts one of each and waits until the executor is connected.
    ///
    /// # Errors
    /// When something is missing on this machine or a service does not start; the message names its log.
    pub async fn start(slots: u32) -> Result<Self> {
        Self::start_as(Shape { slots, ..Shape::default() }).await
    }

    /// Starts a whole cluster and waits until its executors are connected.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn start_as(shape: Shape) -> Result<Self> {
        let folder = TempDir::with_prefix("orrery-load-")?;
        // The database's own user must be able to reach its folder.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Postgres::find_or_install()?;
        let requirements = include_str!("../../services/executor/python/base-requirements.txt");
        let base_env = Python::find_or_install()?.environment(requirements)?;
        let postgres = PrivatePostgres::start(&folder.path().join("postgres"), ClusterOptions::DURABLE)?;
        let secret: String = (0..4).map(|_| format!("{:016x}", rand::random::<u64>())).collect();
        std::fs::write(folder.path().join("token"), &secret)?;
        std::fs::create_dir(folder.path().join("history"))?;
        let places = shape.scheduler_places.max(shape.schedulers);
        let scheduler_ports = (0..places).map(|_| free_port()).collect::<Result<Vec<_>>>()?;
        let web_ports = (0..shape.web_servers).map(|_| free_port()).collect::<Result<Vec<_>>>()?;
        let redis = shape.redis.then(PrivateRedis::start).transpose()?;
        let mut wires = shape.wires.map(Wires::new);
        let seed = shape.wires.unwrap_or_default();
        let behind = scheduler_ports.iter().take(if shape.repeaters { places } else { 0 });
        let repeaters =
            behind.map(|port| Repeater::to(SocketAddr::from(([127, 0, 0, 1], *port)), seed ^ u64::from(*port)));
        let repeaters = repeaters.collect::<Result<Vec<_>>>()?;
        let uris = web_ports.iter().enumerate().map(|(at, port)| {
            let to = SocketAddr::from(([127, 0, 0, 1], *port));
            let near = wires.as_mut().map(|wires| wires.lay("clients", &format!("web-server-{}", at + 1), to));
            Ok(format!("http://{}", near.transpose()?.unwrap_or(to)).parse()?)
        });
        let channel = rpc::client::connect(&uris.collect::<Result<Vec<_>>>()?, Some(&Token::new(&secret)?))?;
        let mut cluster = Self {
            services: BTreeMap::new(),
            postgres: Some(postgres),
            standby: None,
            took_over: false,
            redis,
            wires,
            repeaters,
            channel,
            base_env,
            scheduler_ports,
            web_ports,
            shape: shape.clone(),
            folder,
        };
        for number in 1..=shape.schedulers {
            cluster.start_scheduler(number)?;
        }
        for number in 1..=shape.web_servers {
            cluster.start_web_server(number)?;
        }
        for number in 1..=shape.executors {
            cluster.start_executor(number)?;
        }
        cluster.wait_ready().await?;
        Ok(cluster)
    }

    /// Starts `scheduler-<number>`, at one of the places, counted from 1.
    ///
    /// # Errors
    /// When there is no such place or the process cannot be started.
    pub fn start_scheduler(&mut self, number: usize) -> Result<()> {
        let port = *self.scheduler_ports.get(number - 1).context("a place for a scheduler; see Shape")?;
        let (name, listen) = (format!("scheduler-{number}"), SocketAddr::from(([127, 0, 0, 1], port)));
        let reached = self.repeaters.get(number - 1).map_or(listen, Repeater::address);
        let reached = self.wire("peers", &name, reached)?;
        let mut own = vec![("LISTEN", listen.to_string()), ("ADVERTISED_ADDRESS", reached.to_string())];
        if let Some(redis) = &self.redis {
            let at = redis.url();
            let at = socket(at.trim_start_matches("redis://").trim_end_matches("/0"))?;
            own.push(("REDIS_URL", format!("redis://{}/0", self.wire(&name, "redis", at)?)));
        }
        self.launch(&name, "SCHEDULER", own)
    }

    /// Starts `web-server-<number>`.
    ///
    /// # Errors
    /// As [`Cluster::start_scheduler`].
    pub fn start_web_server(&mut self, number: usize) -> Result<()> {
        let port = *self.web_ports.get(number - 1).context("a place for a web-server; see Shape")?;
        let name = format!("web-server-{number}");
        let own = vec![
            ("LISTEN", format!("127.0.0.1:{port}")),
            ("TOKEN_FILE", self.folder.path().join("token").display().to_string()),
            ("SCHEDULER_URLS", self.scheduler_urls(&name)?),
        ];
        self.launch(&name, "WEB_SERVER", own)
    }

    /// Starts `executor-<number>`; any number will do.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start_executor(&mut self, number: usize) -> Result<()> {
        let name = format!("executor-{number}");
        let own = vec![
            ("NAME", name.clone()),
            ("DATA_DIR", self.folder.path().join(&name).display().to_string()),
            ("BASE_ENV", self.base_env.display().to_string()),
            ("SLOTS", self.shape.slots.to_string()),
            ("SCHEDULER_URLS", self.scheduler_urls(&name)?),
            ("HISTORY_FILE", self.history().join(format!("{name}.jsonl")).display().to_string()),
        ];
        self.launch(&name, "EXECUTOR", own)
    }

    /// A service by its name: `scheduler-1`, `executor-2`, `web-server-1`.
    ///
    /// # Errors
    /// When it was never started.
    pub fn service(&mut self, name: &str) -> Result<&mut Service> {
        self.services.get_mut(name).with_context(|| format!("a service {name}"))
    }

    /// Starts a service again that has ended, or ends it first, with the programs of this build and settings as they are
    /// now.
    ///
    /// # Errors
    /// When it was never started, or cannot be.
    pub fn renew(&mut self, name: &str) -> Result<()> {
        self.service(name)?.kill()?;
        self.shape.programs.retain(|(of, _)| *of != name);
        let (kind, number) = name.rsplit_once('-').context("a service's name")?;
        let number = number.parse()?;
        match kind {
            "scheduler" => self.start_scheduler(number),
            "executor" => self.start_executor(number),
            _ => self.start_web_server(number),
        }
    }

    /// Every service that was started, by name.
    pub fn services(&mut self) -> impl Iterator<Item = (&String, &mut Service)> {
        self.services.iter_mut()
    }

    /// The wires between all of them.
    ///
    /// # Errors
    /// When the cluster was started without.
    pub fn wires(&self) -> Result<&Wires> {
        self.wires.as_ref().context("wires; see Shape")
    }

    /// Calls, and messages of streams, that schedulers were told twice.
    #[must_use]
    pub fn repeated(&self) -> (u64, u64) {
        (self.repeaters.iter().map(Repeater::calls).sum(), self.repeaters.iter().map(Repeater::messages).sum())
    }

    /// A way to the first web-server over a wire of its own, for a client that is to be harmed alone.
    ///
    /// # Errors
    /// When there is no web-server, or no port is free.
    pub fn slow_reader(&mut self, name: &str) -> Result<Channel> {
        let port = *self.web_ports.first().context("a web-server")?;
        let near = self.wire(name, "web-server-1", SocketAddr::from(([127, 0, 0, 1], port)))?;
        let token = Token::from_file(&self.folder.path().join("token"))?;
        Ok(rpc::client::connect(&[format!("http://{near}").parse()?], Some(&token))?)
    }

    /// Where `from` reaches what listens at `target`.
    fn wire(&mut self, from: &str, to: &str, target: SocketAddr) -> Result<SocketAddr> {
        self.wires.as_mut().map_or(Ok(target), |wires| wires.lay(from, to, target))
    }

    fn scheduler_urls(&mut self, from: &str) -> Result<String> {
        let ports = self.scheduler_ports.clone();
        let urls = ports.iter().enumerate().map(|(at, port)| {
            let listen = SocketAddr::from(([127, 0, 0, 1], *port));
            let to = self.repeaters.get(at).map_or(listen, Repeater::address);
            Ok(format!("http://{}", self.wire(from, &format!("scheduler-{}", at + 1), to)?))
        });
        Ok(urls.collect::<Result<Vec<_>>>()?.join(","))
    }

    fn launch(&mut self, name: &str, prefix: &str, own: Vec<(&str, String)>) -> Result<()> {
        let database = self.database_address()?;
        let near = self.wire(name, "postgres", database)?;
        let database_url = self.database_url().replace(&database.to_string(), &near.to_string());
        let folder = self.folder.path().display();
        let kind = name.rsplit_once('-').map_or(name, |(kind, _)| kind);
        let mut environment = vec![
            ("ORRERY_DATABASE_URL".to_owned(), database_url),
            ("ORRERY_CLUSTER_TOKEN_FILE".to_owned(), format!("{folder}/token")),
            ("ORRERY_BLOBS_URL".to_owned(), format!("file://{folder}/blobs")),
            ("ORRERY_LOG__FILTER".to_owned(), "warn".to_owned()),
            ("ORRERY_ADMIN__LISTEN".to_owned(), format!("127.0.0.1:{}", free_port()?)),
        ];
        environment.extend(self.shape.settings.iter().cloned());
        environment.extend(own.into_iter().map(|(key, value)| (format!("ORRERY_{prefix}_{key}"), value)));
        let of_its_own = self.shape.own_settings.iter().filter(|(of, ..)| *of == name);
        environment.extend(of_its_own.map(|(_, key, value)| (key.clone(), value.clone())));
        let programs = self.shape.programs.iter().find(|(of, _)| *of == name).map(|(_, folder)| folder.clone());
        let program = programs.map_or_else(binaries, Ok)?.join(format!("orrery-{kind}"));
        let logs = self.shape.log_folders.iter().find(|(of, _)| *of == name).map(|(_, folder)| folder.clone());
        let log = logs.unwrap_or_else(|| self.folder.path().to_owned()).join(format!("{name}.log"));
        let service = Service::start(name, program, log, environment)?;
        self.services.insert(name.to_owned(), service);
        Ok(())
    }

    /// A folder for whatever a scenario writes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// To the public API, over all web-servers.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The folder of this cluster's [history](crate::history), in which every executor writes from the start.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.folder.path().join("history")
    }

    /// A client of the public API.
    pub fn runs(&self) -> RunServiceClient<Channel> {
        RunServiceClient::new(self.channel.clone())
    }

    /// A client of the public API for backfills.
    #[must_use]
    pub fn backfills(&self) -> BackfillServiceClient<Channel> {
        BackfillServiceClient::new(self.channel.clone())
    }

    /// A client of the public API's logs.
    #[must_use]
    pub fn logs(&self) -> LogServiceClient<Channel> {
        LogServiceClient::new(self.channel.clone())
    }

    /// To each place of a scheduler, whether one is there or not.
    ///
    /// # Errors
    /// When the token cannot be read.
    pub fn schedulers(&self) -> Result<Vec<Channel>> {
        let token = Token::from_file(&self.folder.path().join("token"))?;
        let channel =
            |port: &u16| Ok(rpc::client::connect(&[format!("http://127.0.0.1:{port}").parse()?], Some(&token))?);
        self.scheduler_ports.iter().map(channel).collect()
    }

    /// To the first scheduler, as executors and web-servers reach it.
    ///
    /// # Errors
    /// When there is none, or its token cannot be read.
    pub fn scheduler(&self) -> Result<Channel> {
        let port = self.scheduler_ports.first().context("a scheduler")?;
        let token = Token::from_file(&self.folder.path().join("token"))?;
        Ok(rpc::client::connect(&[format!("http://127.0.0.1:{port}").parse()?], Some(&token))?)
    }

    /// Deploys a project folder.
    ///
    /// # Errors
    /// When the cluster refuses or does not answer.
    pub async fn deploy(&self, folder: &Path) -> Result<()> {
        let manifest = project::bundle::scan(folder)?.manifest;
        let wire = pb::Manifest {
            project_name: manifest.project_name.clone(),
            files: manifest
                .files
                .iter()
                .map(|file| {
                    Ok(pb::ManifestFile {
                        path: file.path.clone(),
                        sha256: file.sha256.clone(),
                        size_bytes: i64::try_from(file.size)?,
                        executable: file.executable,
                    })
                })
                .collect::<Result<_>>()?,
        };
        let mut client = DeploymentServiceClient::new(self.channel.clone());
        let plan = pb::PlanDeploymentRequest { workspace: WORKSPACE.to_owned(), manifest: Some(wire.clone()) };
        let missing = client.plan_deployment(plan).await?.into_inner().missing_sha256;
        let mut parts = Vec::new();
        for sha256 in missing {
            let file =
                manifest.files.iter().find(|file| file.sha256 == sha256).context("the plan names a file of ours")?;
            let header = pb::FileHeader { sha256, size_bytes: i64::try_from(file.size)? };
            parts.push(pb::UploadFilesRequest { part: Some(pb::upload_files_request::Part::Header(header)) });
            let content = std::fs::read(folder.join(&file.path))?;
            parts.push(pb::UploadFilesRequest { part: Some(pb::upload_files_request::Part::Chunk(content)) });
        }
        client.upload_files(tokio_stream::iter(parts)).await?;
        let request = pb::CreateDeploymentRequest {
            workspace: WORKSPACE.to_owned(),
            manifest: Some(wire),
            ..pb::CreateDeploymentRequest::default()
        };
        let answer = client.create_deployment(request).await?.into_inner();
        let errors: Vec<_> = answer.diagnostics.iter().filter(|d| d.severity == 2).map(|d| &d.message).collect();
        ensure!(errors.is_empty(), "the load project has errors: {errors:?}");
        Ok(())
    }

    /// Starts one run and waits for its end; answers it.
    ///
    /// # Errors
    /// When the cluster refuses or does not answer.
    pub async fn run(&self, pipeline: &str) -> Result<pb::Run> {
        let id = self.create(pipeline).await?;
        self.wait(&id).await
    }

    /// The same, without watching each block: whoever watches costs the cluster something too.
    ///
    /// # Errors
    /// As [`Cluster::run`], and when it takes longer than two minutes.
    pub async fn run_unwatched(&self, pipeline: &str) -> Result<pb::Run> {
        let run_id = self.create(pipeline).await?;
        let started = Instant::now();
        loop {
            let answer = self.runs().get_run(pb::GetRunRequest { run_id: run_id.clone() }).await?.into_inner();
            let run = answer.run.context("the run's state")?;
            if run.completed_at.is_some() {
                return completed(run);
            }
            ensure!(started.elapsed() < RUN_MAX, "run {run_id} has not ended in {} s", RUN_MAX.as_secs());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn create(&self, pipeline: &str) -> Result<String> {
        let request = pb::CreateRunRequest {
            workspace: WORKSPACE.to_owned(),
            pipeline: pipeline.to_owned(),
            ..pb::CreateRunRequest::default()
        };
        Ok(self.runs().create_run(request).await?.into_inner().run.context("a run")?.id)
    }

    /// Waits for the end of a run.
    ///
    /// # Errors
    /// When the cluster refuses or does not answer.
    pub async fn wait(&self, run_id: &str) -> Result<pb::Run> {
        let mut changes = self.runs().watch_run(pb::WatchRunRequest { run_id: run_id.to_owned() }).await?.into_inner();
        let mut last = None;
        while let Some(change) = changes.message().await? {
            last = change.run;
        }
        completed(last.context("the run's state")?)
    }

    /// Copies the services' logs and the history to where they outlive this cluster; answers the folder.
    ///
    /// # Errors
    /// When they cannot be copied.
    pub fn keep_logs(&self) -> Result<String> {
        let kept = TempDir::with_prefix("orrery-load-logs-")?.keep();
        for entry in std::fs::read_dir(self.folder.path())?.flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                std::fs::copy(entry.path(), kept.join(entry.file_name()))?;
            }
        }
        let history = kept.join("history");
        std::fs::create_dir(&history)?;
        for entry in std::fs::read_dir(self.history())?.flatten() {
            std::fs::copy(entry.path(), history.join(entry.file_name()))?;
        }
        Ok(kept.display().to_string())
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        let mut workspaces = WorkspaceServiceClient::new(self.channel.clone());
        let mut executors = pb::executor_service_client::ExecutorServiceClient::new(self.channel.clone());
        loop {
            let request = pb::CreateWorkspaceRequest {
                name: WORKSPACE.to_owned(),
                idempotency_key: "load-tests".to_owned(),
                ..Default::default()
            };
            let created = workspaces.create_workspace(request).await.is_ok();
            let online = executors.list_executors(pb::ListExecutorsRequest::default()).await;
            // A wire accepts what its far end does not yet.
            let listen = self.web_ports.iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok());
            if created
                && listen
                && online.is_ok_and(|answer| answer.into_inner().executors.len() >= self.shape.executors)
            {
                return Ok(());
            }
            if self.services.values_mut().any(|service| !service.is_running()) {
                bail!("a service has ended; see {}", self.keep_logs()?);
            }
            if started.elapsed() > READY {
                bail!(
                    "the cluster was not ready in {} s; logs are in {}",
                    READY.as_secs(),
                    self.folder.path().display()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.services.clear();
        self.standby = None;
        if let Some(postgres) = self.postgres.take() {
            drop(postgres.stop());
        }
    }
}

/// Where the services' programs are: beside this one, or above it when this is a test.
fn binaries() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let folder = here.parent().context("a folder of programs")?;
    Ok(if folder.ends_with("deps") { folder.parent().context("a target folder")? } else { folder }.to_owned())
}

fn socket(text: &str) -> Result<SocketAddr> {
    text.parse().with_context(|| format!("read the address {text}"))
}

fn completed(run: pb::Run) -> Result<pb::Run> {
    ensure!(run.status() == pb::RunStatus::Completed, "run {} ended as {:?}: {}", run.id, run.status(), run.reason);
    Ok(run)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Seconds between two instants of the API.
///
/// # Errors
/// When one of them is missing.
pub fn seconds_between(from: Option<prost_types::Timestamp>, to: Option<prost_types::Timestamp>) -> Result<f64> {
    let (from, to) = (from.context("a start")?, to.context("an end")?);
    #[expect(clippy::cast_precision_loss, reason = "a span of seconds")]
    let seconds = (to.seconds - from.seconds) as f64;
    Ok(seconds + f64::from(to.nanos - from.nanos) / 1e9)
}
