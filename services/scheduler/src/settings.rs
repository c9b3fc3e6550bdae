//! The scheduler's settings: one table, checked against docs/configuration.md by a test.

use crate::{engine::Timing, placer};
use domain::runtime::life::Rules;
use jiff::SignedDuration;
use runtime::settings::{Common, Key, Kind, duration, shared};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Every row of the table but the common ones.
pub const KEYS: &[Key] = &[
    Key::new("listen", Kind::Address, "127.0.0.1:7071", "Where executors and web-servers reach it by gRPC."),
    Key::new(
        "advertised_address",
        Kind::Text,
        "",
        "host:port at which other schedulers reach it; otherwise listen's, with the host's name for a wildcard address.",
    ),
    shared::DATABASE_URL,
    shared::DATABASE_URL_FILE,
    shared::DATABASE_CONNECTIONS,
    Key::new(
        "redis_url",
        Kind::Uri,
        "",
        "Redis for leases, as in redis://host:6379/0; without it PostgreSQL keeps them.",
    ),
    Key::new("redis_url_file", Kind::SecretFile, "", "File that holds redis_url, when it contains a password."),
    Key::new(
        "leases",
        Kind::Text,
        "auto",
        "`auto`; or `liar`, for tests only: every scheduler tries to own everything.",
    ),
    shared::CLUSTER_TOKEN_FILE,
    shared::SECRET_KEYS_FILE,
    Key::new("heartbeat_interval", Kind::Duration, "2s", "Between two heartbeats of an executor."),
    Key::new("executor_lost_after", Kind::Duration, "10s", "Silence after which an executor's attempts go to others."),
    Key::new("cancel_grace", Kind::Duration, "10s", "Between SIGTERM and SIGKILL of a cancelled attempt."),
    Key::new(
        "runtime_grace",
        Kind::Duration,
        "30s",
        "From asking a runtime to end to ending it, where its own spec says nothing.",
    ),
    Key::new(
        "runtime_min_running",
        Kind::Duration,
        "10m",
        "A runtime is left alone for so long after it came up: not stopped for idleness, nor for others.",
    ),
    Key::new(
        "runtime_preemption_notice",
        Kind::Duration,
        "30s",
        "From telling a runtime that others come first to stopping it for them; 0s is at once.",
    ),
    Key::new(
        "runtime_preemption_delay",
        Kind::Duration,
        "0s",
        "How long a runtime or block has waited before others are stopped for it, give or take five seconds.",
    ),
    Key::new(
        "runtime_lost_after",
        Kind::Duration,
        "5m",
        "Silence of a node's executor after which its runtimes are told to end; what they hold stays held. Of \
         a device that is held, silence after which it counts as failed.",
    ),
    shared::PUBLIC_URL,
    Key::new(
        "notification_networks",
        Kind::List,
        "",
        "Networks besides the public internet that notifications may go to, such as 10.1.0.0/16.",
    ),
    Key::new(
        "log_retention",
        Kind::Duration,
        "720h",
        "Log lines are kept so long, in whole days; 0s keeps them for ever.",
    ),
    Key::new(
        "run_retention",
        Kind::Duration,
        "8760h",
        "Ended runs are kept so long where their project or pipeline has no run_retention_period; 0s keeps them for ever.",
    ),
    Key::new(
        "gpu_usage_retention",
        Kind::Duration,
        "17520h",
        "Who held which GPUs is remembered so long after they were free again, and what happened to runtimes; 0s keeps it for ever.",
    ),
    Key::new(
        "unnamed_secrets",
        Kind::Boolean,
        "true",
        "Whether pipelines whose metadata has no `secrets` may read all of their workspace and project, as Mage's code expects.",
    ),
    Key::new(
        "session_age_max",
        Kind::Duration,
        "5m",
        "About how long an executor stays with this scheduler, give or take a fifth, when there are others.",
    ),
];

/// Values of the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "documented by KEYS")]
pub struct Settings {
    pub listen: SocketAddr,
    pub advertised_address: Option<String>,
    pub database_url: Option<String>,
    pub database_url_file: Option<PathBuf>,
    pub database_connections: usize,
    pub redis_url: Option<String>,
    pub redis_url_file: Option<PathBuf>,
    pub leases: LeaseKeeper,
    pub cluster_token_file: Option<PathBuf>,
    pub secret_keys_file: Option<PathBuf>,
    #[serde(with = "duration")]
    pub heartbeat_interval: Duration,
    #[serde(with = "duration")]
    pub executor_lost_after: Duration,
    #[serde(with = "duration")]
    pub cancel_grace: Duration,
    #[serde(with = "duration")]
    pub runtime_grace: Duration,
    #[serde(with = "duration")]
    pub runtime_min_running: Duration,
    #[serde(with = "duration")]
    pub runtime_preemption_notice: Duration,
    #[serde(with = "duration")]
    pub runtime_preemption_delay: Duration,
    #[serde(with = "duration")]
    pub runtime_lost_after: Duration,
    pub public_url: Option<String>,
    pub notification_networks: Vec<String>,
    #[serde(with = "duration")]
    pub log_retention: Duration,
    #[serde(with = "duration")]
    pub run_retention: Duration,
    #[serde(with = "duration")]
    pub gpu_usage_retention: Duration,
    pub unnamed_secrets: bool,
    #[serde(with = "duration")]
    pub session_age_max: Duration,
    #[serde(flatten)]
    pub common: Common,
}

/// Who says which scheduler bothers to take a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseKeeper {
    /// Redis where one is configured, else PostgreSQL.
    Auto,
    /// Nobody: each believes that everything is its own. Only epochs decide.
    Liar,
}

impl Default for Settings {
    fn default() -> Self {
        let timing = Timing::default();
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7071)),
            advertised_address: None,
            database_url: None,
            database_url_file: None,
            database_connections: 8,
            redis_url: None,
            redis_url_file: None,
            leases: LeaseKeeper::Auto,
            cluster_token_file: None,
            secret_keys_file: None,
            heartbeat_interval: timing.heartbeat,
            executor_lost_after: timing.lost_after,
            cancel_grace: timing.grace,
            runtime_grace: Duration::from_secs(30),
            runtime_min_running: Duration::from_secs(600),
            runtime_preemption_notice: Duration::from_secs(30),
            runtime_preemption_delay: Duration::ZERO,
            runtime_lost_after: Duration::from_secs(300),
            public_url: None,
            notification_networks: Vec::new(),
            log_retention: Duration::from_secs(30 * 24 * 3600),
            run_retention: Duration::from_secs(365 * 24 * 3600),
            gpu_usage_retention: Duration::from_secs(730 * 24 * 3600),
            unnamed_secrets: true,
            session_age_max: Duration::from_secs(300),
            common: Common::default(),
        }
    }
}

impl Settings {
    /// Where other schedulers reach this one, which listens at `bound`.
    #[must_use]
    pub fn address(&self, bound: SocketAddr) -> String {
        match &self.advertised_address {
            Some(address) => address.clone(),
            None if bound.ip().is_unspecified() => {
                format!("{}:{}", rustix::system::uname().nodename().to_string_lossy(), bound.port())
            }
            None => bound.to_string(),
        }
    }

    /// How the engine measures executors.
    #[must_use]
    pub fn timing(&self) -> Timing {
        Timing { heartbeat: self.heartbeat_interval, lost_after: self.executor_lost_after, grace: self.cancel_grace }
    }

    /// How placers measure executors with nodes, and what ends runtimes.
    #[must_use]
    pub fn placer_timing(&self) -> placer::Timing {
        let signed = |duration: Duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        let (min_running, preemption_notice) =
            (signed(self.runtime_min_running), signed(self.runtime_preemption_notice));
        let grace_s = u32::try_from(self.runtime_grace.as_secs()).unwrap_or(u32::MAX);
        placer::Timing {
            heartbeat: self.heartbeat_interval,
            lost_after: self.executor_lost_after,
            given_up_after: self.runtime_lost_after,
            preempt_after: self.runtime_preemption_delay,
            rules: Rules { min_running, preemption_notice, grace_s, ..Rules::default() },
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
    fn the_table_is_complete_and_documented() {
        runtime::settings::check_table::<Settings>(KEYS).unwrap();
        let doc = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        runtime::settings::check_doc(doc, "scheduler", KEYS).unwrap();
    }
}
