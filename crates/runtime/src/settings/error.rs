//! What can be wrong with a configuration. Every message names the key, where it came from and what to write.

use crate::secret::SecretError;
use std::path::PathBuf;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A key that the service does not have.
    #[error("unknown setting `{key}` in {origin}{}", nearest.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    Unknown {
        /// As it was written.
        key: String,
        /// The file, the environment or the flags.
        origin: String,
        /// The most similar key that exists.
        nearest: Option<&'static str>,
    },
    /// A value that does not fit its key.
    #[error("setting `{key}` in {origin} must be {expected}{}", got.as_ref().map(|got| format!(", not `{got}`")).unwrap_or_default())]
    Invalid {
        /// The key.
        key: String,
        /// The file, the environment or the flags.
        origin: String,
        /// What it must be.
        expected: String,
        /// What it was, unless that may be a secret.
        got: Option<String>,
    },
    /// The file cannot be read or is not TOML.
    #[error("failed to read the configuration file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The arguments cannot be understood.
    #[error("{0}")]
    Arguments(String),
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The settings do not fit together.
    #[error("{0}")]
    Rule(String),
    /// The values do not fit the type of the service.
    #[error("failed to build the settings")]
    Shape(#[source] serde_json::Error),
    /// `--help` or `--version` was asked for: the text to print.
    #[error("{0}")]
    Asked(String),
}
