//! The settings that every service has.

use super::{Key, Kind};
use crate::telemetry::TelemetrySettings;
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, time::Duration};

/// The rows of the settings that every service has. A service may describe one itself, with another default.
pub const COMMON_KEYS: &[Key] = &[
    Key::new(
        "log.filter",
        Kind::Text,
        "info",
        "What is logged: a level, or directives such as `info,scheduler=debug`.",
    ),
    Key::new("log.format", Kind::Text, "auto", "`human`, `json`, or `auto`: human on a terminal, JSON elsewhere."),
    Key::new(
        "otlp_endpoint",
        Kind::Uri,
        "",
        "Where traces and metrics are sent by OTLP over gRPC; nowhere without it.",
    ),
    Key::new(
        "metrics_token_file",
        Kind::SecretFile,
        "",
        "Bearer token that `/metrics` asks for; without it, metrics are served on loopback addresses only.",
    ),
    Key::new("admin.listen", Kind::Address, "127.0.0.1:0", "Where `/livez`, `/readyz` and `/metrics` are served."),
    Key::new(
        "drain_delay",
        Kind::Duration,
        "0s",
        "Time between the loss of readiness and the drain, for load balancers to notice.",
    ),
    Key::new("drain_timeout", Kind::Duration, "30s", "The longest drain; what still runs after it is left to others."),
];

/// The settings that every service has: `#[serde(flatten)] pub common: Common`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Common {
    /// Logs, traces and metrics.
    #[serde(flatten)]
    pub telemetry: TelemetrySettings,
    /// The server of the health and metrics pages.
    pub admin: Admin,
    /// Between the loss of readiness and the drain.
    #[serde(with = "super::duration")]
    pub drain_delay: Duration,
    /// The longest drain.
    #[serde(with = "super::duration")]
    pub drain_timeout: Duration,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            telemetry: TelemetrySettings::default(),
            admin: Admin::default(),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// The server of the health and metrics pages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Admin {
    /// Where it listens.
    pub listen: SocketAddr,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 0)) }
    }
}
