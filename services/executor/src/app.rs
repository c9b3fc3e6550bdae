//! The executor as one value: built from settings, served until it is drained.

use crate::{
    bundles::Bundles,
    core::{Core, CoreEvent, Identity},
    data_dir::DataDir,
    journal::{Detail, Journal},
    link::{self, Dialer},
    logs::{Lines, LogQueue, Shipper},
    metrics::Metrics,
    outputs::{self, Outputs},
    pool::{
        RuntimeBackend,
        client::{Member, PoolClient},
    },
    process::{AttemptLimits, Parts, ProcessBackend, passed_environment},
    removals::Remover,
    runner::{self, Runner},
    runtimes::{self, Apps, DeclaredDevices, ProcessRuntimes},
    settings::{Runtimes, Settings},
};
use anyhow::Context;
use backend_process::{Environments, Sweeper, ZygoteOptions, Zygotes, process};
use domain::id::ExecutorId;
use runtime::{health::Health, shutdown::Shutdown, telemetry::Telemetry};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Uri;

/// Events of attempts that the core has not taken; attempts wait beyond it.
const EVENTS_MAX: usize = 4_096;
/// Messages of the scheduler that the core has not taken.
const LINK_MAX: usize = 1_024;
/// After the last runtime, for its report.
const LAST_REPORTS: Duration = Duration::from_millis(200);
/// After the last attempt, for the last log lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// An executor that is ready to serve.
pub struct App {
    core: Core,
    backend: Arc<ProcessBackend>,
    events: mpsc::Receiver<CoreEvent>,
    dialer: Dialer,
    lines: Lines,
    remover: Remover,
    runtimes: Option<(Member, Arc<dyn RuntimeBackend>)>,
    // Held until the end: nobody else may use the folder meanwhile.
    data: DataDir,
}

impl App {
    /// Prepares folders, kills what an earlier life left running, and puts the parts together. Must be called inside a
    /// tokio runtime.
    ///
    /// # Errors
    /// When the data folder cannot be written or is in use, or a setting makes no sense.
    pub fn build(
        settings: &Settings,
        telemetry: &Telemetry,
        health: &Health,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let data = DataDir::open(&settings.data_dir)?;
        let leftovers = process::kill(process::marked(data.mark()).into_iter().map(|process| process.pid));
        if leftovers > 0 {
            tracing::warn!(processes = leftovers, "killed what an earlier life of this executor left running");
        }
        let identity = identity(settings);
        let metrics = Arc::new(Metrics::new(telemetry.registry())?);
        let (logs, lines) = LogQueue::new(Arc::clone(&metrics));
        let (core_events, events) = mpsc::channel(EVENTS_MAX);
        let stores = stores(settings, &data)?;
        let dialer = dialer(settings)?;
        let remover = Remover::new(dialer.channel(), Arc::clone(&stores.0), Arc::clone(&stores.1));
        let backend = Arc::new(backend(settings, &data, &identity, stores, (logs, core_events))?);
        let runtimes = runtimes(settings, &data, &identity)?;
        let connected = health.condition("session");
        let core = Core::new(identity, Arc::clone(&backend), metrics, connected, shutdown.clone());
        Ok(Self { core, backend, events, dialer, lines, remover, runtimes, data })
    }

    /// Serves until it is drained or stopped; then the last log lines are sent.
    pub async fn serve(self) {
        let stop = CancellationToken::new();
        let (link_events, link) = mpsc::channel(LINK_MAX);
        let opener = tokio::spawn(link::keep_open(self.dialer.clone(), link_events, stop.clone()));
        let pool = self.runtimes.map(|(member, backend)| {
            let client = PoolClient::new(member, Arc::clone(&backend), self.dialer.clone());
            (tokio::spawn(client.run(stop.clone())), backend)
        });
        let shipper = tokio::spawn(Shipper::new(self.dialer, self.lines, stop.clone()).run());
        let warmed = Arc::clone(&self.backend);
        tokio::spawn(async move { warmed.warm_up().await });
        let remover = tokio::spawn(self.remover.run(stop.clone()));
        let sweeper = tokio::spawn(self.backend.sweep());
        self.core.run(link, self.events).await;
        if let Some((client, backend)) = pool {
            backend.close().await;
            // For the last reports to leave; whatever is missed, the next life says again.
            tokio::time::sleep(LAST_REPORTS).await;
            client.abort();
        }
        stop.cancel();
        if tokio::time::timeout(FLUSH_TIMEOUT, shipper).await.is_err() {
            tracing::warn!("the last log lines could not be sent in time");
        }
        sweeper.abort();
        remover.abort();
        opener.abort();
        drop(self.data);
    }
}

fn backend(
    settings: &Settings,
    data: &DataDir,
    identity: &Identity,
    (bundles, outputs): (Arc<Bundles>, Arc<Outputs>),
    (logs, core): (LogQueue, mpsc::Sender<CoreEvent>),
) -> anyhow::Result<ProcessBackend> {
    let runner = runner(settings, data)?;
    let env = passed_environment(&settings.pass_env);
    let (path, detail) = match &settings.history_file {
        Some(path) if !path.as_os_str().is_empty() => (path.clone(), Detail::Everything),
        _ => (data.join("journal.jsonl"), Detail::Processes),
    };
    let journal =
        Journal::open(&path, identity, detail).with_context(|| format!("open the journal {}", path.display()))?;
    Ok(ProcessBackend::new(Parts {
        environments: Environments::new(
            data.join("envs"),
            settings.python.clone(),
            runner.base_requirements,
            settings.base_env.clone(),
        ),
        zygotes: Zygotes::new(ZygoteOptions {
            runner: runner.folder,
            sockets: data.sockets()?,
            idle: settings.idle_children,
            executor: data.mark().to_owned(),
            env: env.clone(),
        }),
        sweeper: Arc::new(Sweeper::new(data.mark().to_owned())),
        bundles,
        outputs,
        journal,
        logs,
        limits: AttemptLimits { memory_bytes: settings.memory_limit, log_bytes: settings.log_limit },
        env,
        core,
    }))
}

/// What runs runtimes of workspaces here, if anything does.
fn runtimes(
    settings: &Settings,
    data: &DataDir,
    identity: &Identity,
) -> anyhow::Result<Option<(Member, Arc<dyn RuntimeBackend>)>> {
    match settings.runtimes {
        Runtimes::None => return Ok(None),
        Runtimes::Process => {}
    }
    let declared = settings.devices.iter().map(|text| text.parse::<DeclaredDevices>());
    let declared = declared.collect::<Result<Vec<_>, _>>().map_err(|what| anyhow::anyhow!("devices: {what}"))?;
    let backend = ProcessRuntimes::new(runtimes::Parts {
        // In the child this is still our binary, also when its file was replaced.
        launcher: PathBuf::from("/proc/self/exe"),
        executor: data.mark().to_owned(),
        folder: data.join("runtimes"),
        volumes: data.join("volumes"),
        apps: Apps::new(data.join("apps"), settings.python.clone()),
        address: settings.runtimes_address,
        env: passed_environment(&settings.pass_env),
        node: runtimes::node(&identity.name, &declared)?,
    });
    let member = Member { id: identity.id, name: identity.name.clone(), pool: settings.pool.clone() };
    Ok(Some((member, Arc::new(backend))))
}

/// Where code comes from and where outputs go.
fn stores(settings: &Settings, data: &DataDir) -> anyhow::Result<(Arc<Bundles>, Arc<Outputs>)> {
    let url = settings.blobs_url.clone().unwrap_or_else(|| format!("file://{}", data.join("blobs").display()));
    let bundles = Bundles::new(blobs::Blobs::open(&url)?, &data.join("bundles"), &settings.pass_env);
    let mage = std::env::var_os("MAGE_DATA_DIR").filter(|folder| !folder.is_empty());
    let shared = settings.outputs_dir.clone().or_else(|| mage.map(|folder| PathBuf::from(folder).join("outputs")));
    // A file:// URL is a shared folder like any other.
    let url = settings.outputs_url.as_deref().filter(|url| !url.is_empty());
    let folder = url.and_then(|url| url.strip_prefix("file://")).map(PathBuf::from);
    let store = url.filter(|_| folder.is_none());
    let store = store.map(|url| blobs::Folders::open(url, &blobs::Access::default())).transpose();
    let outputs = Outputs::new(outputs::Parts {
        shared: folder.or(shared).unwrap_or_else(|| data.join("outputs")),
        store: store.context("outputs_url")?,
        cache: data.join("outputs-cache"),
        cache_bytes: settings.outputs_cache,
        allowed: settings.project_outputs.clone(),
    });
    Ok((Arc::new(bundles), Arc::new(outputs.context("empty the folder of copies of outputs")?)))
}

fn runner(settings: &Settings, data: &DataDir) -> anyhow::Result<Runner> {
    match &settings.runner_dir {
        Some(folder) => runner::at(folder.clone()).with_context(|| format!("read the runner in {}", folder.display())),
        None => runner::unpack(&data.join("runner")).context("unpack the Python runner"),
    }
}

fn identity(settings: &Settings) -> Identity {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let slots = match settings.slots {
        0 => u32::try_from(cores * 4).unwrap_or(u32::MAX),
        slots => slots,
    };
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let name = settings.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(host);
    Identity { id: ExecutorId(uuid::Uuid::new_v4()), name, slots }
}

fn dialer(settings: &Settings) -> anyhow::Result<Dialer> {
    let uris = settings
        .scheduler_urls
        .iter()
        .map(|url| url.parse::<Uri>().with_context(|| format!("scheduler_urls: `{url}` is no URL")))
        .collect::<Result<Vec<_>, _>>()?;
    let token = settings.cluster_token_file.as_deref().map(rpc::auth::Token::from_file).transpose()?;
    Ok(Dialer::new(rpc::client::connect(&uris, token.as_ref())?))
}
