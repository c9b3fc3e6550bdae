//! The scheduler as one value: built from settings, served until it is drained.

use crate::{
    background::Background,
    calls::Calls,
    changes::Changes,
    clock::DbClock,
    commands::Commands,
    engine::{Engine, Message, Ownership, QUEUE_MAX},
    load::LoadGauge,
    log_retention::LogRetention,
    logs::LogSink,
    loops::{
        expirer,
        housekeeper::Housekeeper,
        keeper::{Keeper, LEASE_TTL, Parts},
        notifier::Notifier,
        recorder::Recorder,
        sealer::Sealer,
    },
    metrics::Metrics,
    orders::Orders,
    owners::Owners,
    peers::{self, Peers, service::PeerLinks},
    placer,
    pools::{Pools, service::PoolStreams},
    reads::Reads,
    retention::Removals,
    runtimes::Runtimes,
    session::{Ageing, Sessions},
    settings::{LeaseKeeper, Settings},
};
use anyhow::Context;
use domain::{ErrorKind, id::SchedulerId};
use lease::Leases;
use proto::internal::v1::{
    command_service_server::CommandServiceServer, executor_session_service_server::ExecutorSessionServiceServer,
    output_read_service_server::OutputReadServiceServer, output_removal_service_server::OutputRemovalServiceServer,
    peer_service_server::PeerServiceServer, pool_service_server::PoolServiceServer,
    runtime_command_service_server::RuntimeCommandServiceServer,
};
use runtime::{
    backoff::{self, Backoff},
    health::Health,
    secret::Secret,
    shutdown::Shutdown,
    telemetry::Telemetry,
    watchdog::Watchdog,
};
use secrets::Keyring;
use std::{sync::Arc, time::Duration};
use store::{Store, schedulers::Load};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

/// Changes of ownership that the engine has not taken.
const OWNED_MAX: usize = 4;
/// Connections for log lines: one for the writer, one for the sealer.
const LOG_CONNECTIONS: usize = 2;
/// The longest time that a drain waits for its shards to be given back.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a start waits for the database.
const DATABASE_TRIES: u32 = 8;

/// A scheduler that is ready to serve.
pub struct App {
    store: Store,
    background: Background,
    log_store: Store,
    policy: notify::Policy,
    scheduler: SchedulerId,
    address: String,
    clock: DbClock,
    metrics: Arc<Metrics>,
    listener: TcpListener,
    leases: Leases,
    token: Option<rpc::auth::Token>,
    keyring: Option<Arc<Keyring>>,
    settings: Settings,
    health: Health,
    shutdown: Shutdown,
}

impl App {
    /// Connects, migrates, listens.
    ///
    /// # Errors
    /// When the database does not answer or the address is taken.
    pub async fn build(
        settings: Settings,
        given: Given,
        telemetry: &Telemetry,
        health: Health,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        let Given { database_url, redis, token, keyring, policy } = given;
        let store = connect(database_url.expose(), settings.database_connections).await?;
        let leases = leases(settings.leases, redis, &store);
        let background = Background::start().context("start the background thread")?;
        let log_url = database_url.expose().to_owned();
        // There, so that its connections are served there too.
        let log_store = background
            .handle()
            .spawn(async move { patiently(|| Store::connect_for_logs(&log_url, LOG_CONNECTIONS)).await });
        let log_store = log_store.await??;
        let scheduler = SchedulerId(uuid::Uuid::new_v4());
        let metrics = Arc::new(Metrics::new(telemetry.registry())?);
        for store in [&store, &log_store] {
            let waits = metrics.pool_wait.clone();
            store.observe_waits(move |waited| waits.observe(waited.as_secs_f64()));
        }
        let listener =
            rpc::server::bind(settings.listen).await.with_context(|| format!("listen on {}", settings.listen))?;
        let address = settings.address(listener.local_addr()?);
        let clock =
            DbClock::new(store::schedulers::renew(&store, scheduler, LEASE_TTL, &address, Load::default()).await?);
        Ok(Self {
            store,
            background,
            log_store,
            policy,
            scheduler,
            address,
            clock,
            metrics,
            listener,
            leases,
            token,
            keyring,
            settings,
            health,
            shutdown,
        })
    }

    /// Serves until it is drained: readiness goes first, streams are asked to move, shards are handed back.
    ///
    /// # Errors
    /// When the server fails.
    pub async fn serve(self) -> anyhow::Result<()> {
        let changes = Changes::default();
        let (engine_sender, inbox) = mpsc::channel::<Message>(QUEUE_MAX);
        let (owned, shards) = mpsc::channel::<Ownership>(OWNED_MAX);
        let stop_engine = CancellationToken::new();
        let stop_keeper = CancellationToken::new();
        let owners = Owners::new(self.store.clone(), self.scheduler, self.token.clone());
        let peers = Peers::new(owners.clone());
        let engine = Engine::new(
            self.store.clone(),
            self.scheduler,
            self.clock.clone(),
            changes.clone(),
            Arc::clone(&self.metrics),
            self.settings.timing(),
            peers.clone(),
            stop_engine.clone(),
        );
        let watchdog = Watchdog::start().context("start the watchdog")?;
        let load = Arc::new(LoadGauge::default());
        let engine = engine.observed(Arc::clone(&load), watchdog.duty("engine"));
        let engine = tokio::spawn(engine.run(inbox, shards));
        let clock = self.clock.clone();
        let keeper = Keeper::new(Parts {
            store: self.store.clone(),
            scheduler: self.scheduler,
            address: self.address,
            clock: self.clock,
            health: self.health.clone(),
            metrics: Arc::clone(&self.metrics),
            load,
            peers: peers.clone(),
            leases: self.leases,
            owned,
        });
        let keeper = keeper.watched_by(watchdog.duty("keeper of shards"));
        let keeper = tokio::spawn(keeper.run(stop_keeper.clone()));
        let links = tokio::spawn(peers::link::keep_all(
            peers.clone(),
            engine_sender.clone(),
            stop_engine.clone(),
            watchdog.duty("links to peers"),
        ));
        let log_retention = LogRetention::new(self.log_store.clone(), clock.clone(), self.settings.log_retention);
        let house = Housekeeper::new(
            self.store.clone(),
            self.log_store.clone(),
            log_retention.clone(),
            clock.clone(),
            Arc::clone(&self.metrics),
        )
        .keeping_gpu_usage(self.settings.gpu_usage_retention);
        let duties = [
            tokio::spawn(house.run(stop_keeper.clone(), watchdog.duty("housekeeper"))),
            tokio::spawn(expirer::run(
                self.store.clone(),
                clock.clone(),
                self.settings.run_retention,
                stop_keeper.clone(),
                watchdog.duty("expirer"),
            )),
            self.background
                .handle()
                .spawn(Sealer::new(self.log_store.clone()).run(stop_keeper.clone(), watchdog.duty("sealer"))),
            tokio::spawn(
                Recorder::new(self.store.clone(), self.settings.public_url.clone())
                    .run(stop_keeper.clone(), watchdog.duty("recorder")),
            ),
            tokio::spawn(
                Notifier::new(
                    self.store.clone(),
                    clock.clone(),
                    self.policy,
                    Arc::clone(&self.metrics),
                    (self.keyring.clone(), self.settings.unnamed_secrets),
                )
                .run(stop_keeper.clone(), watchdog.duty("notifier")),
            ),
        ];
        let of_logs = watchdog.duty("writer of log lines");
        let pools = Pools::new(
            placer::Parts {
                store: self.store.clone(),
                clock: clock.clone(),
                metrics: Arc::clone(&self.metrics),
                keyring: self.keyring.clone(),
                timing: self.settings.placer_timing(),
                watchdog,
            },
            stop_engine.clone(),
        );
        let placers = tokio::spawn(pools.clone().follow(peers.clone()));
        let runtimes = RuntimeCommandServiceServer::new(Runtimes::new(pools.clone(), owners.clone()))
            .max_decoding_message_size(rpc::server::MESSAGE_BYTES_MAX);
        let pool_streams = PoolServiceServer::new(PoolStreams::new(pools, owners.clone(), stop_engine.clone()))
            .max_decoding_message_size(rpc::server::MESSAGE_BYTES_MAX);
        let reads = OutputReadServiceServer::new(Reads::new(
            self.store.clone(),
            self.keyring.clone(),
            owners.clone(),
            stop_engine.clone(),
        ))
        .max_decoding_message_size(rpc::server::MESSAGE_BYTES_MAX);
        let orders = Orders::new(engine_sender.clone(), owners);
        let calls = Calls::new(
            self.store.clone(),
            orders.clone(),
            changes.clone(),
            self.keyring.clone(),
            self.settings.unnamed_secrets,
        );
        let logs = LogSink::start(
            self.background.handle(),
            self.log_store,
            changes.clone(),
            Arc::clone(&self.metrics),
            of_logs,
        );
        let ageing = Ageing { max: self.settings.session_age_max, moved: self.metrics.sessions_moved.clone() };
        let sessions = Sessions::new(engine_sender.clone(), calls, logs, peers.clone(), ageing, stop_engine.clone());
        let sessions =
            ExecutorSessionServiceServer::new(sessions).max_decoding_message_size(rpc::server::MESSAGE_BYTES_MAX);
        let removals = OutputRemovalServiceServer::new(Removals::new(self.store.clone(), self.keyring));
        let commands = CommandServiceServer::new(Commands::new(orders, self.store, changes, log_retention))
            .max_decoding_message_size(rpc::server::MESSAGE_BYTES_MAX);
        let links_of_others = PeerServiceServer::new(PeerLinks::new(peers, engine_sender))
            .max_decoding_message_size(rpc::server::MESSAGE_BYTES_MAX);
        let drained = self.shutdown.draining_token();
        let (left, has_left) = oneshot::channel();
        let keeper = tokio::spawn(async move {
            let ended = keeper.await;
            let _ = left.send(());
            ended
        });
        let stopping = {
            let (stop_keeper, stop_engine) = (stop_keeper.clone(), stop_engine.clone());
            let metrics = Arc::clone(&self.metrics);
            async move {
                drained.cancelled().await;
                tokio::spawn(tell_drain(metrics));
                // Shards first, so that others have them before anything else is given up here.
                stop_keeper.cancel();
                drop(tokio::time::timeout(HAND_OVER_TIMEOUT, has_left).await);
                // The engine asks every executor to go elsewhere; then no stream keeps the server.
                stop_engine.cancel();
            }
        };
        let limits = rpc::server::Limits::default();
        let served = rpc::server::Builder::new(limits)
            .token(self.token)
            .ready(self.health.subscribe())
            .add_service(sessions)
            .add_service(commands)
            .add_service(removals)
            .add_service(reads)
            .add_service(links_of_others)
            .add_service(runtimes)
            .add_service(pool_streams)
            .serve(self.listener, stopping);
        let stopped = self.shutdown.stopped();
        let outcome = tokio::select! {
            outcome = served => outcome.map_err(anyhow::Error::from),
            () = stopped => Ok(()),
        };
        stop_keeper.cancel();
        drop(tokio::time::timeout(Duration::from_secs(5), keeper).await);
        stop_engine.cancel();
        drop(tokio::time::timeout(Duration::from_secs(5), engine).await);
        links.abort();
        placers.abort();
        duties.iter().for_each(tokio::task::JoinHandle::abort);
        outcome
    }
}

/// What settings and the files that they name say, before anything is connected.
pub struct Given {
    database_url: Secret,
    redis: Option<lease::Redis>,
    token: Option<rpc::auth::Token>,
    keyring: Option<Arc<Keyring>>,
    policy: notify::Policy,
}

impl Given {
    /// Reads everything that can be wrong.
    ///
    /// # Errors
    /// The first mistake.
    pub fn read(settings: &Settings) -> anyhow::Result<Self> {
        let token = settings.cluster_token_file.as_deref().map(rpc::auth::Token::from_file).transpose()?;
        rpc::auth::require_auth_beyond_loopback(settings.listen, token.is_some())?;
        let given = Secret::given(settings.database_url_file.as_deref(), settings.database_url.as_deref())?;
        let redis = Secret::given(settings.redis_url_file.as_deref(), settings.redis_url.as_deref())?;
        Ok(Self {
            database_url: given.context("database_url is not set; give it, or database_url_file")?,
            redis: redis.map(|url| lease::Redis::new(url.expose())).transpose().context("read redis_url")?,
            token,
            keyring: settings.secret_keys_file.as_deref().map(Keyring::from_file).transpose()?.map(Arc::new),
            policy: notify::Policy::new(&settings.notification_networks).context("read notification_networks")?,
        })
    }
}

/// Who bothers with what is kept in Redis where there is one.
fn leases(keeper: LeaseKeeper, redis: Option<lease::Redis>, store: &Store) -> Leases {
    if keeper == LeaseKeeper::Liar {
        tracing::warn!("leases=liar: every scheduler tries to own everything; this is for tests");
        return Leases::lying();
    }
    let postgres = lease::Postgres::new(store.clone());
    match redis {
        Some(redis) => Leases::in_redis(redis, postgres),
        None => Leases::in_postgres(postgres),
    }
}

/// Tells how long the drain takes, until the process ends.
async fn tell_drain(metrics: Arc<Metrics>) {
    let begun = std::time::Instant::now();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        metrics.drain.set(begun.elapsed().as_secs_f64());
    }
}

async fn connect(url: &str, connections: usize) -> anyhow::Result<Store> {
    patiently(|| async {
        Store::migrate(url).await?;
        Store::connect(url, connections).await
    })
    .await
}

/// A database that starts together with its clients needs a moment.
async fn patiently<F>(mut attempt: impl FnMut() -> F) -> anyhow::Result<Store>
where
    F: Future<Output = Result<Store, store::Error>>,
{
    let mut pause = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
    loop {
        match attempt().await {
            Ok(store) => return Ok(store),
            Err(error) if pause.failures() >= DATABASE_TRIES || error.kind() == ErrorKind::FailedPrecondition => {
                return Err(error).context("connect to the database");
            }
            Err(error) => {
                tracing::warn!(error = runtime::exit::chain(&error), "the database does not answer yet");
                tokio::time::sleep(pause.next(backoff::random())).await;
            }
        }
    }
}
