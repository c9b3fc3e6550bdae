//! A cluster of real processes with a Postgres of its own, ended and removed when dropped.

mod clients;
mod launch;
mod service;
mod standby;
mod stores;
mod wires;

pub use clients::seconds_between;
pub use launch::{PROGRAMS, differing};
pub use service::Service;
pub use wires::Wires;

use crate::repeater::Repeater;
use anyhow::{Context, Result, bail};
use proto::v1::{
    self as pb, executor_service_client::ExecutorServiceClient, workspace_service_client::WorkspaceServiceClient,
};
use provision::{Postgres, PrivatePostgres, PrivateRedis, Python, ports};
use rpc::{auth::Token, client::Channel};
use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The workspace that load runs in.
pub const WORKSPACE: &str = "load";
/// How long anything may take to be ready.
const READY: Duration = Duration::from_secs(60);
/// What a single call may take while everything starts, and before the next one.
const CALL_MAX: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

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
        let postgres = PrivatePostgres::start(&folder.path().join("postgres"), stores::POSTGRES)?;
        let secret: String = (0..4).map(|_| format!("{:016x}", rand::random::<u64>())).collect();
        std::fs::write(folder.path().join("token"), &secret)?;
        std::fs::create_dir(folder.path().join("history"))?;
        let places = shape.scheduler_places.max(shape.schedulers);
        let scheduler_ports = (0..places).map(|_| ports::free()).collect::<Result<Vec<_>, _>>()?;
        let web_ports = (0..shape.web_servers).map(|_| ports::free()).collect::<Result<Vec<_>, _>>()?;
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

    /// A service by its name: `scheduler-1`, `executor-2`, `web-server-1`.
    ///
    /// # Errors
    /// When it was never started.
    pub fn service(&mut self, name: &str) -> Result<&mut Service> {
        self.services.get_mut(name).with_context(|| format!("a service {name}"))
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

    /// Calls, and messages of streams, that schedulers were told twice, and messages that executors were.
    #[must_use]
    pub fn repeated(&self) -> [u64; 3] {
        let counts = [Repeater::calls, Repeater::messages, Repeater::messages_back];
        counts.map(|count| self.repeaters.iter().map(count).sum())
    }

    /// A folder for whatever a scenario writes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of this cluster's [history](crate::history), in which every executor writes from the start.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.folder.path().join("history")
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
        loop {
            // A wire accepts what its far end does not yet.
            let listen = self.web_ports.iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok());
            // A call that waits for a connection has no deadline of its own.
            if listen && tokio::time::timeout(CALL_MAX, self.answers()).await == Ok(true) {
                return Ok(());
            }
            if let Some(ended) = self.services.values_mut().find_map(Service::last_word) {
                bail!("{ended}; logs are in {}", self.keep_logs()?);
            }
            if started.elapsed() > READY {
                bail!("the cluster was not ready in {} s; logs are in {}", READY.as_secs(), self.keep_logs()?);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Whether there is a workspace, and every executor.
    async fn answers(&self) -> bool {
        let request = pb::CreateWorkspaceRequest {
            name: WORKSPACE.to_owned(),
            idempotency_key: "load-tests".to_owned(),
            ..Default::default()
        };
        let created = WorkspaceServiceClient::new(self.channel.clone()).create_workspace(request).await;
        let mut executors = ExecutorServiceClient::new(self.channel.clone());
        let online = executors.list_executors(pb::ListExecutorsRequest::default()).await;
        created.is_ok() && online.is_ok_and(|answer| answer.into_inner().executors.len() >= self.shape.executors)
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

fn socket(text: &str) -> Result<SocketAddr> {
    text.parse().with_context(|| format!("read the address {text}"))
}
