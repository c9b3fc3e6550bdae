//! The settings of the web-server: one table, which the documentation shows and a test compares.

use runtime::settings::{Common, Key, Kind, shared};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// The program's name.
pub const SERVICE: &str = "orrery-web-server";
/// Its part of the environment: `ORRERY_WEB_SERVER_LISTEN`.
pub const PREFIX: &str = "WEB_SERVER";

/// Everything that can be set, besides the common settings.
pub const KEYS: &[Key] = &[
    Key::new("listen", Kind::Address, "127.0.0.1:7070", "Where gRPC, gRPC-Web, JSON and the UI are served."),
    Key::new(
        "token_file",
        Kind::SecretFile,
        "",
        "Bearer token of the operator, who acts as the first owner; people and programs sign in with their own.",
    ),
    Key::new(
        "secure_cookies",
        Kind::Boolean,
        "false",
        "Send session cookies over TLS only; set it where people reach this server by https.",
    ),
    Key::new(
        "owner_email",
        Kind::Text,
        "owner@localhost",
        "E-mail address of the first owner, made by the first start.",
    ),
    Key::new(
        "owner_password_file",
        Kind::Path,
        "",
        "Where the first start writes the first owner's one-time password, for this user's eyes. Else it is printed; or told nobody \
         where there is a `token_file`, with which `orrery users reset-password` makes one.",
    ),
    Key::new(
        "oidc.issuer",
        Kind::Text,
        "",
        "Address of an OpenID Connect provider by which people may sign in, as it writes it itself; https, but on the loopback.",
    ),
    Key::new("oidc.client_id", Kind::Text, "", "This cluster's name at the provider."),
    Key::new(
        "oidc.client_secret_file",
        Kind::SecretFile,
        "",
        "This cluster's secret at the provider; without it PKCE alone proves who asks.",
    ),
    Key::new(
        "oidc.redirect_url",
        Kind::Text,
        "",
        "Where the provider sends people back: https://HOST/auth/oidc/callback, as it is registered there.",
    ),
    Key::new("oidc.name", Kind::Text, "Single sign-on", "What the button of the sign-in page says."),
    Key::new(
        "oidc.email_domains",
        Kind::List,
        "",
        "People with verified addresses of these domains get an account by signing in; others need one, or an invitation.",
    ),
    Key::new(
        "allowed_hosts",
        Kind::List,
        "",
        "Host names under which browsers may reach this server, besides those of the loopback.",
    ),
    Key::new(
        "runtimes_domain",
        Kind::Text,
        "",
        "Domain, with a port where there is one, below which each workspace's application has an origin of its own; a \
         wildcard name must lead here. Without it applications are served below `/runtimes/`, and whoever opens one has \
         to trust whoever may change it.",
    ),
    Key::new(
        "image_registries",
        Kind::List,
        "",
        "Registries that are asked, at the start of a runtime, which content the tag of its image names: as `docker.io`, or \
         as `host=https://address`. That content is what runs, and what a project's list of digests is held against. Tags \
         of images elsewhere stay tags.",
    ),
    Key::new(
        "storage_classes",
        Kind::List,
        "",
        "Storage classes of Kubernetes that volumes may be asked for with: `class`, in every pool, or `pool=class`. Others are \
         refused; a volume that asks for none is of its cluster's default one.",
    ),
    shared::PUBLIC_URL,
    shared::DATABASE_URL,
    shared::DATABASE_URL_FILE,
    shared::DATABASE_CONNECTIONS.with_default("20"),
    shared::SCHEDULER_URLS,
    shared::CLUSTER_TOKEN_FILE,
    Key::new(
        "scaler_listen",
        Kind::Address,
        "",
        "Where KEDA's external scaler is served; nowhere without it, and beyond loopback only with `scaler_token_file`.",
    ),
    Key::new(
        "scaler_token_file",
        Kind::SecretFile,
        "",
        "Token that KEDA presents in scalerMetadata, as `token` or by `tokenFromEnv`.",
    ),
    shared::BLOBS_URL,
    shared::OUTPUTS_URL,
    shared::PROJECT_OUTPUTS,
    Key::new(
        "projects.run_pipeline_in_one_process",
        Kind::Boolean,
        "false",
        "What holds for deployed pipelines that do not say it: Mage's RUN_PIPELINE_IN_ONE_PROCESS.",
    ),
    Key::new("projects.block_run_limit", Kind::Integer, "0", "Likewise CONCURRENCY_CONFIG_BLOCK_RUN_LIMIT; 0 is none."),
    Key::new(
        "projects.pipeline_run_limit",
        Kind::Integer,
        "0",
        "Likewise CONCURRENCY_CONFIG_PIPELINE_RUN_LIMIT; 0 is none.",
    ),
    Key::new(
        "projects.default_executor_type",
        Kind::Text,
        "",
        "Likewise DEFAULT_EXECUTOR_TYPE, for pipelines whose executor_type is none or local_python.",
    ),
    shared::SECRET_KEYS_FILE,
    Key::new(
        "environment",
        Kind::Text,
        "dev",
        "What `envs` of `triggers.yaml` is held against: dev, test, staging, prod. The others are left out.",
    ),
    Key::new(
        "default_workspace",
        Kind::Text,
        "default",
        "Where events of `POST /api/events` go that name no workspace.",
    ),
    Key::new(
        "trigger_token_in_url",
        Kind::Boolean,
        "true",
        "Whether API triggers may be called with the token in the address, as Mage's are; it ends up in logs of proxies.",
    ),
    Key::new(
        "audit_retention",
        Kind::Duration,
        "9600h",
        "Entries of the trail of who did what are kept so long, 720h at least; 0s keeps them for ever.",
    ),
    Key::new("limits.message_bytes", Kind::Bytes, "8 MiB", "The largest request message."),
    Key::new("limits.variables_bytes", Kind::Bytes, "256 KiB", "The largest variables of one run, as JSON."),
    Key::new("limits.bundle_files", Kind::Integer, "20000", "The most files of one deployment."),
    Key::new("limits.bundle_bytes", Kind::Bytes, "1 GiB", "The largest deployment, all files together."),
    Key::new("limits.file_bytes", Kind::Bytes, "256 MiB", "The largest file of a deployment."),
    Key::new("limits.model_bytes", Kind::Bytes, "64 GiB", "The largest model."),
    Key::new(
        "limits.project_bytes",
        Kind::Bytes,
        "256 GiB",
        "The most that one project may store: files of its deployments, each once, and its models.",
    ),
    Key::new(
        "limits.trigger_calls_per_second",
        Kind::Integer,
        "50",
        "The most calls with one token of an API trigger, per second over all replicas; twice as many at once.",
    ),
    Key::new("limits.watchers", Kind::Integer, "2000", "The most open streams that follow runs and logs."),
    Key::new("limits.connections", Kind::Integer, "4096", "The most open connections."),
    Key::new(
        "limits.request_timeout",
        Kind::Duration,
        "30s",
        "The longest that a request may take; streams are not requests.",
    ),
    Key::new("limits.upload_timeout", Kind::Duration, "15m", "The longest that an upload or a deployment may take."),
    Key::new(
        "limits.transfer_stall_timeout",
        Kind::Duration,
        "1m",
        "The longest that the next MiB of a model or an output may take on its way; slower transfers are broken off.",
    ),
];

/// What the process is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// Where everything is served.
    pub listen: SocketAddr,
    /// The operator's token.
    pub token_file: Option<PathBuf>,
    /// Session cookies travel by TLS only.
    pub secure_cookies: bool,
    /// The first owner.
    pub owner_email: String,
    /// Where the first owner's one-time password goes.
    pub owner_password_file: Option<PathBuf>,
    /// Where people may sign in elsewhere.
    pub oidc: Oidc,
    /// Names of this server for browsers.
    pub allowed_hosts: Vec<String>,
    /// Below which each workspace's application has an origin.
    pub runtimes_domain: Option<String>,
    /// Where tags of images are looked up.
    pub image_registries: Vec<String>,
    /// Of which kinds volumes may be.
    pub storage_classes: Vec<String>,
    /// Where people reach this server.
    pub public_url: Option<String>,
    /// The database, when its URL holds no secret.
    pub database_url: Option<String>,
    /// The database, when it does.
    pub database_url_file: Option<PathBuf>,
    /// The most connections to it.
    pub database_connections: usize,
    /// Every scheduler.
    pub scheduler_urls: Vec<String>,
    /// The token of the cluster.
    pub cluster_token_file: Option<PathBuf>,
    /// Where KEDA is served.
    pub scaler_listen: Option<SocketAddr>,
    /// What KEDA presents.
    pub scaler_token_file: Option<PathBuf>,
    /// The store of bundles.
    pub blobs_url: Option<String>,
    /// The store of outputs.
    pub outputs_url: Option<String>,
    /// Stores of projects that may be read.
    pub project_outputs: Vec<String>,
    /// What holds for projects that do not say it.
    pub projects: Projects,
    /// The keys that seal secrets.
    pub secret_keys_file: Option<PathBuf>,
    /// Which triggers of a project hold.
    pub environment: String,
    /// Of events that name none.
    pub default_workspace: String,
    /// Whether the token of an API trigger may stand in the address.
    pub trigger_token_in_url: bool,
    /// How long entries of the trail are kept; zero is for ever.
    #[serde(with = "runtime::settings::duration")]
    pub audit_retention: Duration,
    /// What is too much.
    pub limits: Limits,
    /// What every service has.
    #[serde(flatten)]
    pub common: Common,
}

/// What holds for pipelines that do not say it; Mage takes the same from its environment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Projects {
    /// All blocks of a run share one process.
    pub run_pipeline_in_one_process: bool,
    /// Blocks of one run at once; 0 is no limit.
    pub block_run_limit: u32,
    /// Runs of one trigger at once; 0 is no limit.
    pub pipeline_run_limit: u32,
    /// Where blocks run; `None` is a process of an executor.
    pub default_executor_type: Option<String>,
}

impl Projects {
    /// The variable of Mage's environment that says the same.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        let limit = |limit: u32| (limit > 0).then(|| limit.to_string());
        match name {
            "RUN_PIPELINE_IN_ONE_PROCESS" => Some(self.run_pipeline_in_one_process.to_string()),
            "CONCURRENCY_CONFIG_BLOCK_RUN_LIMIT" => limit(self.block_run_limit),
            "CONCURRENCY_CONFIG_PIPELINE_RUN_LIMIT" => limit(self.pipeline_run_limit),
            "DEFAULT_EXECUTOR_TYPE" => self.default_executor_type.clone(),
            _ => None,
        }
    }
}

/// A provider by which people may sign in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Oidc {
    /// Its address; without it there is none.
    pub issuer: Option<String>,
    /// Our name there.
    pub client_id: Option<String>,
    /// Our secret there.
    pub client_secret_file: Option<PathBuf>,
    /// Where it sends people back.
    pub redirect_url: Option<String>,
    /// What the button says.
    pub name: String,
    /// Whose people need no invitation.
    pub email_domains: Vec<String>,
}

impl Default for Oidc {
    fn default() -> Self {
        Self {
            issuer: None,
            client_id: None,
            client_secret_file: None,
            redirect_url: None,
            name: "Single sign-on".to_owned(),
            email_domains: Vec::new(),
        }
    }
}

/// What is too much.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Limits {
    /// One message.
    pub message_bytes: usize,
    /// The variables of one run.
    pub variables_bytes: usize,
    /// Files of one deployment.
    pub bundle_files: usize,
    /// Bytes of one deployment.
    pub bundle_bytes: u64,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Bytes of one model.
    pub model_bytes: u64,
    /// Bytes of one project's files and models.
    pub project_bytes: u64,
    /// Calls of one API trigger's token.
    pub trigger_calls_per_second: u32,
    /// Open streams.
    pub watchers: usize,
    /// Open connections.
    pub connections: usize,
    /// Of a request.
    #[serde(with = "runtime::settings::duration")]
    pub request_timeout: Duration,
    /// Of an upload or a deployment.
    #[serde(with = "runtime::settings::duration")]
    pub upload_timeout: Duration,
    /// Of the next MiB of a transfer.
    #[serde(with = "runtime::settings::duration")]
    pub transfer_stall_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7070)),
            token_file: None,
            secure_cookies: false,
            owner_email: "owner@localhost".to_owned(),
            owner_password_file: None,
            oidc: Oidc::default(),
            allowed_hosts: Vec::new(),
            runtimes_domain: None,
            image_registries: Vec::new(),
            storage_classes: Vec::new(),
            public_url: None,
            database_url: None,
            database_url_file: None,
            database_connections: 20,
            scheduler_urls: vec!["http://127.0.0.1:7071".to_owned()],
            cluster_token_file: None,
            scaler_listen: None,
            scaler_token_file: None,
            blobs_url: None,
            outputs_url: None,
            project_outputs: Vec::new(),
            projects: Projects::default(),
            secret_keys_file: None,
            environment: "dev".to_owned(),
            default_workspace: "default".to_owned(),
            trigger_token_in_url: true,
            audit_retention: Duration::from_secs(400 * 24 * 3_600),
            limits: Limits::default(),
            common: Common::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 8 << 20,
            variables_bytes: 256 << 10,
            bundle_files: 20_000,
            bundle_bytes: 1 << 30,
            file_bytes: 256 << 20,
            model_bytes: 64 << 30,
            project_bytes: 256 << 30,
            trigger_calls_per_second: 50,
            watchers: 2_000,
            connections: 4_096,
            request_timeout: Duration::from_secs(30),
            upload_timeout: Duration::from_secs(15 * 60),
            transfer_stall_timeout: Duration::from_secs(60),
        }
    }
}

impl AsRef<Common> for Settings {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_struct_and_the_documentation() {
        runtime::settings::check_table::<Settings>(KEYS).unwrap();
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        runtime::settings::check_doc(page, "web-server", KEYS).unwrap();
    }
}
