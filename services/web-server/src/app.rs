//! Puts the server together and runs it. Refuses to read the environment and to install signal handlers: `main` does.

use crate::authorisation::{self, Authority, Guarded, TableError};
use crate::browser::Browsers;
use crate::changes::Changes;
use crate::commands::Commands;
use crate::core::Core;
use crate::fault::Fault;
use crate::gate::{self, Gate};
use crate::identity::{bootstrap, credentials::Credentials, passwords::Guesses};
use crate::loops::{forgetter, prober, subscriber};
use crate::mage::Mage;
use crate::metrics::Metrics;
use crate::models::Transfers;
use crate::oidc_sign_in::Elsewhere;
use crate::outputs::OutputStores;
use crate::proxy::{self, Proxy};
use crate::router::{self, Api};
use crate::scaler::Scaler;
use crate::settings::Settings;
use crate::storage_classes::StorageClasses;
use crate::transcode::Transcoder;
use crate::{grpc, listener, people};
use oidc::{Provider, Registration, RegistrationError};
use prost_reflect::DescriptorPool;
use registry::Registries;
use rpc::auth::{AuthError, Token};
use rpc::client::ConnectError;
use runtime::health::Health;
use runtime::rates::Rates;
use runtime::secret::{Secret, SecretError};
use runtime::shutdown::Shutdown;
use runtime::telemetry::Telemetry;
use runtime::watchdog::Watchdog;
use secrets::{KeyFileError, Keyring};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use store::{Store, audit};
use tokio::net::TcpListener;
use tonic::transport::Uri;

/// A server that listens and does not serve yet.
pub struct App {
    listener: TcpListener,
    router: axum::Router,
    core: Arc<Core>,
    health: Health,
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
        matches!(
            self,
            Self::Missing(_)
                | Self::Scheduler(_)
                | Self::Auth(_)
                | Self::Secret(_)
                | Self::Keys(_)
                | Self::Connect(_)
                | Self::Provider(_)
                | Self::StorageClass(_)
                | Self::Registry(_)
                | Self::AuditRetention
        )
    }
}

impl App {
    /// Connects to what it needs and binds its address. The schema is there already: `migrate` runs before.
    ///
    /// # Errors
    /// When a setting is wrong, or something that it needs is away.
    pub async fn build(settings: &Settings, shutdown: &Shutdown, telemetry: &Telemetry) -> Result<Self, BuildError> {
        let core = Arc::new(core(settings, shutdown).await?);
        let credentials = Arc::new(credentials(settings, &core).await?);
        let health = Health::until(shutdown);
        let watchdog = Watchdog::start().map_err(BuildError::Watchdog)?;
        let database = health.condition("database");
        prober::start(core.store.clone(), database, shutdown.draining_token(), watchdog.duty("prober"));
        forgetter::start(core.store.clone(), audit_kept(settings)?, shutdown.draining_token());
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
        let scaler = match settings.scaler_listen {
            Some(addr) => Some(scaler(settings, addr).await?),
            None => None,
        };
        let browsers = Browsers {
            core: core.clone(),
            credentials: credentials.clone(),
            authority: authority.clone(),
            secure: settings.secure_cookies,
            elsewhere: elsewhere(settings)?,
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
        };
        let mage = Mage {
            core: core.clone(),
            default_workspace: settings.default_workspace.as_str().into(),
            token_in_url: settings.trigger_token_in_url,
        };
        let api = Api {
            services,
            transcoder,
            mage,
            browsers: Arc::new(browsers),
            health: health.clone(),
            proxy: proxy.clone(),
        };
        let router = router::router(surface, api, Arc::new(gate));
        Ok(Self { listener, router, core, health, connections: settings.limits.connections, scaler, proxy, watchdog })
    }

    /// Where it listens: the port that was chosen when 0 was asked for.
    ///
    /// # Errors
    /// When the socket is broken.
    pub fn addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Whether it should get work, for the admin server.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.clone()
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

/// How long entries of the trail are kept; zero is for ever.
fn audit_kept(settings: &Settings) -> Result<Duration, BuildError> {
    let kept = settings.audit_retention;
    if kept.is_zero() || kept >= audit::KEPT_MIN { Ok(kept) } else { Err(BuildError::AuditRetention) }
}

/// What callers present, and the first owner when nobody is there yet.
async fn credentials(settings: &Settings, core: &Core) -> Result<Credentials, BuildError> {
    let failed = |fault: Fault| BuildError::Owner(fault.0.message);
    let email = people::email(&settings.owner_email, "owner_email").map_err(failed)?;
    let file = settings.owner_password_file.as_deref();
    let owner = bootstrap::first_owner(&core.store, &email, file).await.map_err(failed)?;
    let token = settings.token_file.as_deref().map(Token::from_file).transpose()?;
    Ok(Credentials { store: core.store.clone(), operator: token.zip(owner) })
}

/// The provider by which people may sign in, when one is named.
fn elsewhere(settings: &Settings) -> Result<Option<Elsewhere>, BuildError> {
    let oidc = &settings.oidc;
    let Some(issuer) = oidc.issuer.clone() else { return Ok(None) };
    let secret = oidc.client_secret_file.as_deref().map(Secret::from_file).transpose()?;
    let provider = Provider::new(Registration {
        issuer,
        client_id: oidc.client_id.clone().ok_or(BuildError::Missing("oidc.client_id"))?,
        client_secret: secret.map(|secret| secret.expose().to_owned()),
        redirect_url: oidc.redirect_url.clone().ok_or(BuildError::Missing("oidc.redirect_url"))?,
    })?;
    let domains = oidc.email_domains.iter().map(|domain| domain.trim_start_matches('@').to_lowercase()).collect();
    Ok(Some(Elsewhere { provider, name: oidc.name.clone(), domains }))
}

async fn scaler(settings: &Settings, addr: SocketAddr) -> Result<(TcpListener, Option<Token>), BuildError> {
    let token = settings.scaler_token_file.as_deref().map(Token::from_file).transpose()?;
    rpc::auth::require_auth_beyond_loopback(addr, token.is_some())?;
    let listener = TcpListener::bind(addr).await.map_err(|e| BuildError::Listen(addr, e))?;
    Ok((listener, token))
}

/// The URL of the database, from the settings.
///
/// # Errors
/// When there is none, or its file cannot be read.
pub fn database_url(settings: &Settings) -> Result<Secret, BuildError> {
    let given = Secret::given(settings.database_url_file.as_deref(), settings.database_url.as_deref())?;
    given.ok_or(BuildError::Missing("database_url"))
}

async fn core(settings: &Settings, shutdown: &Shutdown) -> Result<Core, BuildError> {
    let uri = |url: &String| url.parse::<Uri>().map_err(|_| BuildError::Scheduler(url.clone()));
    let schedulers = settings.scheduler_urls.iter().map(uri).collect::<Result<Vec<_>, _>>()?;
    let cluster = settings.cluster_token_file.as_deref().map(Token::from_file).transpose()?;
    let commands = Commands::new(&schedulers, cluster.as_ref())?;
    let blobs_url = settings.blobs_url.as_deref().ok_or(BuildError::Missing("blobs_url"))?;
    Ok(Core {
        blobs: blobs::Blobs::open(blobs_url)?,
        store: Store::connect(database_url(settings)?.expose(), settings.database_connections).await?,
        changes: Changes::new(settings.limits.watchers),
        draining: shutdown.draining_token(),
        outputs: OutputStores::open(settings.outputs_url.as_deref(), &settings.project_outputs, commands.clone())?,
        commands,
        projects: settings.projects.clone(),
        limits: settings.limits.clone(),
        guesses: Guesses::default(),
        keyring: settings.secret_keys_file.as_deref().map(Keyring::from_file).transpose()?,
        registries: Registries::new(settings.image_registries.iter().map(String::as_str))?,
        storage_classes: StorageClasses::new(&settings.storage_classes).map_err(BuildError::StorageClass)?,
        transfers: Transfers::default(),
        rates: Rates::default(),
        environment: settings.environment.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trail_is_kept_for_a_month_at_least_or_for_ever() {
        let kept = |kept: Duration| audit_kept(&Settings { audit_retention: kept, ..Settings::default() });
        for good in [Duration::ZERO, audit::KEPT_MIN, Settings::default().audit_retention] {
            assert_eq!(kept(good).unwrap(), good);
        }
        assert!(kept(audit::KEPT_MIN - Duration::from_secs(1)).unwrap_err().is_usage());
    }
}
