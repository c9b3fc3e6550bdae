//! The executor as one value: built from settings, served until it is drained.

use crate::{
    attempts::Attempts,
    bundles::Bundles,
    core::{Core, CoreEvent, DEADLINE_GRACE, Identity},
    data_dir::DataDir,
    journal::{Detail, Journal},
    kubernetes::{self, KubernetesRuntimes},
    link,
    logs::{Lines, LogQueue, Shipper},
    metrics::Metrics,
    one_shot,
    outputs::{self, Outputs},
    pool::{
        RuntimeBackend, Wishes,
        client::{Member, PoolClient},
        wishes::OnlyWishes,
    },
    process::{AttemptLimits, Parts, ProcessBackend, passed_environment},
    reads::Reader,
    remote::{self, RemoteBackend, guests::Guests},
    removals::Remover,
    runner::{self, Runner},
    runtimes::{self, Apps, DeviceSource, ProcessRuntimes},
    settings::{AttemptBackend, PreStartNetwork, Runtimes, Settings},
    views::Views,
};
use anyhow::Context;
use backend::Backend;
use backend_kubernetes::Jobs;
use backend_process::{Environments, Sweeper, ZygoteOptions, Zygotes, process};
use domain::id::ExecutorId;
use proto::internal::v1::{executor_session_service_server::ExecutorSessionServiceServer, result::Outcome};
use rpc::client::Dialer;
use runtime::{health::Health, shutdown::Shutdown, telemetry::Telemetry, watchdog::Watchdog};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;
use tonic::transport::Uri;

/// Events of attempts that the core has not taken; attempts wait beyond it.
const EVENTS_MAX: usize = 4_096;
/// Messages of the scheduler that the core has not taken.
const LINK_MAX: usize = 1_024;
/// Attempts at once that run as Jobs, unless the settings say otherwise: this machine only talks with them.
const JOBS_AT_ONCE: u32 = 100;
/// After the last runtime, for its report.
const LAST_REPORTS: Duration = Duration::from_millis(200);
/// After the last attempt, for the last log lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// After the deadline of a drain and the end of the last attempt, for everything that is still to be said, log lines included.
const STOPPED_REST: Duration = Duration::from_millis(500);

/// An executor that is ready to serve.
pub struct App {
    core: Core,
    attempts: Arc<dyn Attempts>,
    events: mpsc::Receiver<CoreEvent>,
    dialer: Dialer,
    lines: Lines,
    /// What becomes of outputs later. One that runs a single attempt has no time for it, and one that runs none has nothing to
    /// do with it.
    keepers: Option<(Remover, Reader)>,
    /// Where attempts in containers of their own come back to.
    reception: Option<(TcpListener, Guests)>,
    /// What runs runtimes of workspaces, and for which pool.
    runtimes: Option<(Member, Arc<dyn RuntimeBackend>)>,
    /// What attempts want of that pool.
    wishes: Wishes,
    shutdown: Shutdown,
    // Held until the end: nobody else may use the folder meanwhile.
    data: DataDir,
}

/// What every executor has, whatever runs its attempts.
struct Base {
    data: DataDir,
    identity: Identity,
    journal: Arc<Journal>,
    metrics: Arc<Metrics>,
    logs: LogQueue,
    lines: Lines,
    core: mpsc::Sender<CoreEvent>,
    events: mpsc::Receiver<CoreEvent>,
    bundles: Arc<Bundles>,
    outputs: Arc<Outputs>,
    dialer: Dialer,
}

impl App {
    /// An executor as its settings say. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// As [`App::build`] and [`App::on`]; and when the cluster that is to run attempts cannot be read.
    pub async fn start(
        settings: &Settings,
        telemetry: &Telemetry,
        health: &Health,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        match settings.attempts {
            AttemptBackend::None | AttemptBackend::Process => Self::build(settings, telemetry, health, shutdown),
            AttemptBackend::Kubernetes => {
                let (access, policy) = (kubernetes::access(settings)?, kubernetes::jobs(settings)?);
                Self::on(settings, telemetry, health, shutdown, async move |mark: &str| {
                    Jobs::connect(&access, policy, mark).await.context("reach Kubernetes")
                })
                .await
            }
        }
    }

    /// An executor that runs attempts as processes. Prepares folders, kills what an earlier life left running, and puts
    /// the parts together. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the data folder cannot be written or is in use, or a setting makes no sense.
    pub fn build(
        settings: &Settings,
        telemetry: &Telemetry,
        health: &Health,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let base = Base::new(settings, telemetry)?;
        let leftovers = process::kill(process::marked(base.data.mark()).into_iter().map(|process| process.pid));
        if leftovers > 0 {
            tracing::warn!(processes = leftovers, "killed what an earlier life of this executor left running");
        }
        let runtimes = runtimes(settings, &base)?;
        let attempts = Arc::new(processes(settings, &base)?);
        Ok(Self { runtimes, ..base.app(attempts, health, shutdown) })
    }

    /// As [`App::build`], for one attempt and no other.
    ///
    /// # Errors
    /// As [`App::build`].
    pub fn for_one_attempt(
        settings: &Settings,
        telemetry: &Telemetry,
        health: &Health,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let app = Self::build(&one_shot::settings(settings), telemetry, health, shutdown)?;
        Ok(Self { core: app.core.for_one_attempt(), keepers: None, runtimes: None, ..app })
    }

    /// An executor that runs each attempt in a container of its own, on a backend that is made with this executor's mark.
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// As [`App::build`]; when `attempts_listen` is taken; and when code or outputs would only lie on this disk.
    pub async fn on<B: Backend>(
        settings: &Settings,
        telemetry: &Telemetry,
        health: &Health,
        shutdown: &Shutdown,
        backend: impl AsyncFnOnce(&str) -> anyhow::Result<B>,
    ) -> anyhow::Result<Self> {
        let given = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.is_empty());
        if !given(&settings.blobs_url) || !(given(&settings.outputs_url) || settings.outputs_dir.is_some()) {
            anyhow::bail!(
                "attempts in containers of their own need blobs_url, and outputs_url or an outputs_dir that they share"
            );
        }
        let base = Base::new(settings, telemetry)?;
        let backend = backend(base.data.mark()).await?;
        let runtimes = runtimes(settings, &base)?.or_else(|| only_wishes(settings, &base.identity));
        let listener = rpc::server::bind(settings.attempts_listen).await.context("attempts_listen")?;
        let url = settings.attempts_url.clone().filter(|url| !url.is_empty());
        let url = url.unwrap_or(format!("http://{}", listener.local_addr().context("attempts_listen")?));
        let (guests, wishes) = (Guests::default(), Wishes::default());
        let parts = remote::Parts {
            bundles: Arc::clone(&base.bundles),
            outputs: Arc::clone(&base.outputs),
            journal: Arc::clone(&base.journal),
            logs: base.logs.clone(),
            log_bytes: settings.log_limit,
            env: one_shot::environment(settings, &url)?,
            start_timeout: settings.start_timeout,
            core: base.core.clone(),
            wishes: runtimes.is_some().then(|| wishes.clone()),
            shutdown: shutdown.clone(),
        };
        let attempts = Arc::new(RemoteBackend::new(backend, guests.clone(), parts));
        Ok(Self { reception: Some((listener, guests)), runtimes, wishes, ..base.app(attempts, health, shutdown) })
    }

    /// Serves until it is drained or stopped, or until its one attempt is over; then the last log lines are sent. Answers
    /// how that one attempt ended.
    ///
    /// # Errors
    /// When the server of attempts in containers fails, or the system gives no thread for the watchdog.
    pub async fn serve(self) -> anyhow::Result<Option<Outcome>> {
        let watchdog = Watchdog::start().context("start the watchdog")?;
        let core = self.core.watched_by(watchdog.duty("core"));
        let stopped_max = DEADLINE_GRACE + self.attempts.last_words() + STOPPED_REST;
        let stop = CancellationToken::new();
        let (link_events, link) = mpsc::channel(LINK_MAX);
        let opener = tokio::spawn(link::keep_open(self.dialer.clone(), link_events, stop.clone()));
        let pool = self.runtimes.map(|(member, backend)| {
            let client = PoolClient::new(member, Arc::clone(&backend), self.wishes, self.dialer.clone());
            (tokio::spawn(client.run(CancellationToken::new(), watchdog.duty("client of the pool"))), backend)
        });
        let shipper = tokio::spawn(
            Shipper::new(self.dialer, self.lines, stop.clone()).run(watchdog.duty("shipper of log lines")),
        );
        let (warmed, swept) = (Arc::clone(&self.attempts), self.attempts);
        tokio::spawn(async move { warmed.warm_up().await });
        let keepers = self.keepers.map(|(remover, reader)| {
            (tokio::spawn(remover.run(stop.clone(), watchdog.duty("remover"))), tokio::spawn(reader.run(stop.clone())))
        });
        let sweeper = tokio::spawn(async move { swept.sweep().await });
        // Counts from the stop on, whatever goes on then.
        let late = tokio::spawn(async move {
            self.shutdown.stopped().await;
            tokio::time::sleep(stopped_max).await;
        });
        let (reception, closed) = (receive(self.reception, stop.clone()), stop.clone());
        let (ended, received) = tokio::join!(
            async {
                let _close = closed.drop_guard();
                core.run(link, self.events).await
            },
            reception
        );
        if let Some((client, backend)) = pool {
            backend.close().await;
            // For the last reports to leave; whatever is missed, the next life says again.
            tokio::time::sleep(LAST_REPORTS).await;
            client.abort();
        }
        let is_flushed = tokio::select! {
            _ = shipper => true,
            () = tokio::time::sleep(FLUSH_TIMEOUT) => false,
            _ = late => false,
        };
        if !is_flushed {
            tracing::warn!("the last log lines could not be sent in time");
        }
        sweeper.abort();
        if let Some((remover, reader)) = keepers {
            remover.abort();
            reader.abort();
        }
        opener.abort();
        drop(self.data);
        received.map(|()| ended)
    }
}

/// Serves the sessions of attempts in containers, as long as there may be any.
async fn receive(reception: Option<(TcpListener, Guests)>, stop: CancellationToken) -> anyhow::Result<()> {
    let Some((listener, guests)) = reception else { return Ok(()) };
    let sessions = ExecutorSessionServiceServer::new(guests).max_decoding_message_size(rpc::server::MESSAGE_BYTES_MAX);
    let server = rpc::server::Builder::new(rpc::server::Limits::default()).authenticating().add_service(sessions);
    // Nothing that a session still says after the last attempt is of use.
    let served = stop.run_until_cancelled(server.serve(listener, std::future::pending())).await;
    served.unwrap_or(Ok(())).context("serve the sessions of attempts")
}

impl Base {
    fn new(settings: &Settings, telemetry: &Telemetry) -> anyhow::Result<Self> {
        let data = DataDir::open(&settings.data_dir)?;
        let metrics = Arc::new(Metrics::new(telemetry.registry())?);
        let (logs, lines) = LogQueue::new(Arc::clone(&metrics));
        let (core, events) = mpsc::channel(EVENTS_MAX);
        let (bundles, outputs) = stores(settings, &data)?;
        let (identity, dialer) = (identity(settings), dialer(settings)?);
        let journal = Arc::new(journal(settings, &data, &identity)?);
        Ok(Self { data, identity, journal, metrics, logs, lines, core, events, bundles, outputs, dialer })
    }

    fn app(self, attempts: Arc<dyn Attempts>, health: &Health, shutdown: &Shutdown) -> App {
        let Self { data, identity, journal, metrics, lines, events, bundles, outputs, dialer, .. } = self;
        // Whoever runs no attempt has none of the outputs that are to go, or to be looked at.
        let keepers = (identity.slots > 0).then(|| {
            let remover = Remover::new(dialer.clone(), Arc::clone(&bundles), Arc::clone(&outputs));
            (remover, Reader::new(dialer.clone(), bundles, outputs))
        });
        let connected = health.condition("session");
        let core = Core::new(identity, journal, Arc::clone(&attempts), metrics, connected, shutdown.clone());
        let shutdown = shutdown.clone();
        let (reception, runtimes, wishes) = (None, None, Wishes::default());
        App { core, attempts, events, dialer, lines, keepers, reception, runtimes, wishes, shutdown, data }
    }
}

fn journal(settings: &Settings, data: &DataDir, identity: &Identity) -> anyhow::Result<Journal> {
    let (path, detail) = match &settings.history_file {
        Some(path) if !path.as_os_str().is_empty() => (path.clone(), Detail::Everything),
        _ => (data.join("journal.jsonl"), Detail::Processes),
    };
    Journal::open(&path, identity, detail).with_context(|| format!("open the journal {}", path.display()))
}

fn processes(settings: &Settings, base: &Base) -> anyhow::Result<ProcessBackend> {
    let data = &base.data;
    let runner = runner(settings, data)?;
    let env = passed_environment(&settings.pass_env);
    Ok(ProcessBackend::new(Parts {
        environments: Environments::new(
            data.join("envs"),
            settings.python.clone(),
            runner.base_requirements,
            settings.base_env.clone(),
        )
        .kept_below(settings.environments_cache),
        zygotes: Zygotes::new(ZygoteOptions {
            runner: runner.folder,
            sockets: data.sockets()?,
            idle: settings.idle_children,
            executor: data.mark().to_owned(),
            env: env.clone(),
        }),
        zygote_idle: settings.zygote_idle,
        sweeper: Arc::new(Sweeper::new(data.mark().to_owned())),
        bundles: Arc::clone(&base.bundles),
        views: Views::new(data.join("views"), settings.bundles_cache)
            .context("empty the folder of copies of projects")?,
        outputs: Arc::clone(&base.outputs),
        journal: Arc::clone(&base.journal),
        logs: base.logs.clone(),
        limits: AttemptLimits { memory_bytes: settings.memory_limit, log_bytes: settings.log_limit },
        env,
        core: base.core.clone(),
    }))
}

/// What runs runtimes of workspaces here, if anything does.
fn runtimes(settings: &Settings, base: &Base) -> anyhow::Result<Option<(Member, Arc<dyn RuntimeBackend>)>> {
    let backend: Arc<dyn RuntimeBackend> = match settings.runtimes {
        Runtimes::None => return Ok(None),
        Runtimes::Process => Arc::new(process_runtimes(settings, base)?),
        Runtimes::Kubernetes => {
            let (access, place) = (kubernetes::access(settings)?, kubernetes::place(settings)?);
            let exporter = kubernetes::exporter(settings)?;
            Arc::new(KubernetesRuntimes::new(access, place, exporter, Arc::clone(&base.journal)))
        }
    };
    Ok(Some((member(settings, &base.identity), backend)))
}

/// The pool whose devices blocks may have, when they may and nothing else is served of it here.
fn only_wishes(settings: &Settings, identity: &Identity) -> Option<(Member, Arc<dyn RuntimeBackend>)> {
    let wanted = settings.jobs_gpu_classes.iter().any(|class| !class.trim().is_empty());
    wanted.then(|| (member(settings, identity), Arc::new(OnlyWishes::default()) as Arc<dyn RuntimeBackend>))
}

fn member(settings: &Settings, identity: &Identity) -> Member {
    Member { id: identity.id, name: identity.name.clone(), pool: settings.pool.clone() }
}

fn process_runtimes(settings: &Settings, base: &Base) -> anyhow::Result<ProcessRuntimes> {
    let data = &base.data;
    let sources = settings.devices.iter().map(|text| text.parse::<DeviceSource>());
    let sources = sources.collect::<Result<Vec<_>, _>>().map_err(|what| anyhow::anyhow!("devices: {what}"))?;
    let cgroups = runtimes::Cgroups::divide_own();
    match &cgroups {
        Ok(_) => tracing::info!("runtimes are kept within their processor and memory by cgroups"),
        Err(why) => tracing::info!(why, "no cgroups: memory limits hold for single processes, processors are counted"),
    }
    Ok(ProcessRuntimes::new(runtimes::Parts {
        // In the child this is still our binary, also when its file was replaced.
        launcher: PathBuf::from("/proc/self/exe"),
        executor: data.mark().to_owned(),
        folder: data.join("runtimes"),
        volumes: data.join("volumes"),
        apps: Apps::new(data.join("apps"), settings.python.clone()),
        address: settings.runtimes_address,
        env: passed_environment(&settings.pass_env),
        machine: runtimes::Machine::new(&base.identity.name, &sources),
        journal: Arc::clone(&base.journal),
        cgroups: cgroups.ok(),
        isolated_pre_start: settings.pre_start_network == PreStartNetwork::None,
    }))
}

/// Where code comes from and where outputs go.
fn stores(settings: &Settings, data: &DataDir) -> anyhow::Result<(Arc<Bundles>, Arc<Outputs>)> {
    let url = settings.blobs_url.clone().unwrap_or_else(|| format!("file://{}", data.join("blobs").display()));
    let laid = data.join("bundles");
    let bundles = Bundles::new(blobs::Blobs::open(&url)?, (&laid, settings.bundles_cache), &settings.pass_env);
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
        _ if settings.attempts == AttemptBackend::None => 0,
        0 if settings.attempts == AttemptBackend::Kubernetes => JOBS_AT_ONCE,
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
    Ok(Dialer::new(&uris, token.as_ref())?)
}
