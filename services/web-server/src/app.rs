//! Puts the server together and runs it. Refuses to read the environment and to install signal handlers: `main` does.

use crate::authorisation::{self, Authority, Guarded, TableError};
use crate::browser::Browsers;
use crate::changes::Changes;
use crate::core::Core;
use crate::fault::Fault;
use crate::gate::{self, Gate};
use crate::given::Given;
use crate::identity::{
    bootstrap::{self, Telling},
    credentials::Credentials,
    passwords::Guesses,
};
use crate::loops::{forgetter, prober, subscriber};
use crate::mage::Mage;
use crate::metrics::Metrics;
use crate::models::Transfers;
use crate::proxy::{self, Proxy};
use crate::router::{self, Api};
use crate::scaler::Scaler;
use crate::settings::Settings;
use crate::transcode::Transcoder;
use crate::{grpc, listener};
use domain::ErrorKind;
use oidc::RegistrationError;
use prost_reflect::DescriptorPool;
use rpc::auth::{AuthError, Token};
use rpc::client::ConnectError;
use runtime::health::Health;
use runtime::rates::Rates;
use runtime::secret::SecretError;
use runtime::shutdown::Shutdown;
use runtime::telemetry::Telemetry;
use runtime::watchdog::Watchdog;
use secrets::KeyFileError;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use store::Store;
use tokio::net::TcpListener;

/// A server that listens and does not serve yet.
pub struct App {
    listener: TcpListener,
    router: axum::Router,
    core: Arc<Core>,
    connections: usize,
    scaler: Option<(TcpListener, Option<Token>)>,
    proxy: Arc<Proxy>,
    watchdog: Watchdog,
}

/// Why a server cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A setting that has no default is missing.
    #[error("the setting `{0}` is missing; give it in the file, the environment or as a flag")]
    Missing(&'static str),
    /// A scheduler's URL is none.
    #[error("`{0}` in scheduler_urls is no URL; write http://host:port")]
    Scheduler(String),
    /// A token cannot be used, or is missing where one is needed.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// A method or a route that nobody is allowed or everybody is by mistake.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The first owner's address is none.
    #[error("{0}")]
    Email(String),
    /// The first owner cannot be made.
    #[error("make the first owner: {0}")]
    Owner(String),
    /// A file with a secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The provider of sign-ins cannot be used.
    #[error("the provider of sign-ins: {0}")]
    Provider(#[from] RegistrationError),
    /// A class of volumes is none.
    #[error("`{0}` in storage_classes names no class; write `class`, or `pool=class`")]
    StorageClass(String),
    /// A registry of images is none.
    #[error("image_registries: {0}")]
    Registry(#[from] registry::Error),
    /// The trail would be kept for too short a time.
    #[error("audit_retention is less than 30 days, for which every entry is kept; 0s keeps them for ever")]
    AuditRetention,
    /// The keys of secrets cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The schedulers cannot be reached by what was given.
    #[error("connect to the schedulers")]
    Connect(#[from] ConnectError),
    /// The store of bundles cannot be used.
    #[error("open the store of bundles")]
    Blobs(#[from] blobs::Error),
    /// The database does not answer.
    #[error("connect to the database")]
    Store(#[from] store::Error),
    /// The address is taken, or not ours.
    #[error("listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The system gives no thread that watches the loops.
    #[error("start the watchdog")]
    Watchdog(#[source] std::io::Error),
    /// The contract inside this binary is broken.
    #[error("read the compiled contract")]
    Contract(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl BuildError {
    /// Starting again changes nothing: the configuration is wrong.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Missing(_)
            | Self::Scheduler(_)
            | Self::Auth(_)
            | Self::Email(_)
            | Self::Secret(_)
            | Self::Keys(_)
            | Self::Connect(_)
            | Self::Provider(_)
            | Self::StorageClass(_)
            | Self::AuditRetention
            | Self::Registry(registry::Error::Row(_)) => true,
            // A folder that cannot be made may be a volume that is not there yet.
            Self::Blobs(error) => error.kind() == ErrorKind::InvalidArgument,
            _ => false,
        }
    }
}

impl App {
    /// Connects to what it needs and binds its address. The schema is there already: `migrate` runs before.
    ///
    /// # Errors
    /// When something that it needs is away, or the first owner cannot be made.
    pub async fn build(
        settings: &Settings,
        mut given: Given,
        health: Health,
        shutdown: &Shutdown,
        telemetry: &Telemetry,
    ) -> Result<Self, BuildError> {
        let store = Store::connect(given.database_url(), settings.database_connections).await?;
        let credentials = Arc::new(credentials(settings, &given, store.clone()).await?);
        let (elsewhere, scaler, audit_kept) = (given.elsewhere.take(), given.scaler.take(), given.audit_kept);
        let core = Arc::new(core(settings, given, store, shutdown));
        let watchdog = Watchdog::start().map_err(BuildError::Watchdog)?;
        let database = health.condition("database");
        prober::start(core.store.clone(), database, shutdown.draining_token(), watchdog.duty("prober"));
        forgetter::start(core.store.clone(), audit_kept, shutdown.draining_token());
        let services = grpc::routes(&core, health.subscribe()).await.map_err(|e| BuildError::Contract(e.into()))?;
        let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).map_err(|e| BuildError::Contract(e.into()))?;
        let bytes = settings.limits.message_bytes;
        let methods: HashSet<String> = authorisation::methods(&pool).map(|(path, _)| path).collect();
        let surface = router::surface(methods.iter().map(String::as_str));
        let templates: Vec<_> = surface.routes().iter().map(|route| route.template).collect();
        let authority = Arc::new(Authority::new(&pool, &templates, core.store.clone(), &settings.limits)?);
        let services = Guarded::new(services, authority.clone());
        let transcoder = Arc::new(Transcoder::new(&pool, services.clone(), bytes));
        let listener = TcpListener::bind(settings.listen).await.map_err(|e| BuildError::Listen(settings.listen, e))?;
        let scaler = match scaler {
            Some((addr, token)) => {
                Some((TcpListener::bind(addr).await.map_err(|e| BuildError::Listen(addr, e))?, token))
            }
            None => None,
        };
        let browsers = Browsers {
            core: core.clone(),
            credentials: credentials.clone(),
            authority: authority.clone(),
            secure: settings.secure_cookies,
            elsewhere,
        };
        let domain = settings.runtimes_domain.as_deref().unwrap_or_default();
        let names = (domain, settings.public_url.as_deref().unwrap_or_default());
        let proxy = Arc::new(Proxy::new(core.clone(), credentials.clone(), names, settings.secure_cookies));
        let gate = Gate {
            hosts: gate::hosts(settings.listen.ip().is_loopback(), &settings.allowed_hosts),
            credentials,
            authority,
            limits: settings.limits.clone(),
            metrics: Metrics::new(&telemetry.meter("web-server"), methods, &core.changes),
            store: core.store.clone(),
        };
        let mage = Mage {
            core: core.clone(),
            default_workspace: settings.default_workspace.as_str().into(),
            token_in_url: settings.trigger_token_in_url,
        };
        let api = Api { services, transcoder, mage, browsers: Arc::new(browsers), health, proxy: proxy.clone() };
        let router = router::router(surface, api, Arc::new(gate));
        Ok(Self { listener, router, core, connections: settings.limits.connections, scaler, proxy, watchdog })
    }

    /// Where it listens: the port that was chosen when 0 was asked for.
    ///
    /// # Errors
    /// When the socket is broken.
    pub fn addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until drained.
    pub async fn serve(self, shutdown: Shutdown) {
        subscriber::start(&self.core, self.watchdog.duty("subscriber"));
        proxy::report_activity(self.proxy, self.watchdog.duty("reporter of activity"));
        if let Some((listener, token)) = self.scaler {
            let draining = self.core.draining.clone();
            let scaler = Scaler::start(self.core.store.clone(), token, draining.clone(), self.watchdog.duty("scaler"));
            tokio::spawn(scaler.serve(listener, draining));
        }
        let beat = self.watchdog.duty("listener");
        listener::serve(self.listener, self.router, self.connections, &shutdown, beat).await;
    }
}

/// What callers present, and the first owner when nobody is there yet.
async fn credentials(settings: &Settings, given: &Given, store: Store) -> Result<Credentials, BuildError> {
    let failed = |fault: Fault| BuildError::Owner(fault.0.message);
    let telling = Telling::of(settings.owner_password_file.as_deref(), given.operator.is_some());
    let owner = bootstrap::first_owner(&store, &given.owner_email, telling).await.map_err(failed)?;
    Ok(Credentials { store, operator: given.operator.clone().zip(owner) })
}

fn core(settings: &Settings, given: Given, store: Store, shutdown: &Shutdown) -> Core {
    Core {
        blobs: given.blobs,
        store,
        changes: Changes::new(settings.limits.watchers),
        draining: shutdown.draining_token(),
        outputs: given.outputs,
        commands: given.commands,
        projects: settings.projects.clone(),
        limits: settings.limits.clone(),
        guesses: Guesses::default(),
        keyring: given.keyring,
        registries: given.registries,
        storage_classes: given.storage_classes,
        transfers: Transfers::default(),
        rates: Rates::default(),
        environment: settings.environment.clone(),
    }
}
