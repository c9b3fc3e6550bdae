//! What has to hold of one history beside what has to hold of all: bounds on time, and that the faults bit.

use super::check::Check;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

const FILE: &str = "promises.json";

/// See the module's page. A file may leave out what stays as it is by default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Promises {
    /// A time need not be decided when the history ended, or the trigger was edited or paused, so soon after it.
    pub settle_ms: u32,
    /// No scheduled run is later than this, from its due time to the beginning of its transaction; `None` for no bound.
    pub lateness_max_ms: Option<u64>,
    /// The same for 99 of 100.
    pub lateness_p99_ms: Option<u64>,
    /// Whether the cluster was left alone until nothing was to do: every run has ended, nothing runs.
    pub is_quiet: bool,
    /// Instants that different services noted may be this far apart.
    pub clock_slack_ms: u32,
    /// Members of a gang start this close together.
    pub gang_slack_ms: u32,
    /// Writes of former owners that were refused; fewer mean that the fault did not bite. Counted by the services.
    pub fenced_writes_min: u64,
    /// Changes of owners that must have happened.
    pub takings_min: u64,
    /// The database lost what it committed between these instants. What was acknowledged then is gone, and decided again.
    pub forgotten_us: Option<(i64, i64)>,
    /// Of these checks each must have had something to check.
    pub must_check: Vec<Check>,
}

impl Default for Promises {
    fn default() -> Self {
        Self {
            settle_ms: 10_000,
            lateness_max_ms: None,
            lateness_p99_ms: None,
            is_quiet: true,
            clock_slack_ms: 50,
            gang_slack_ms: 60_000,
            fenced_writes_min: 0,
            takings_min: 0,
            forgotten_us: None,
            must_check: Vec::new(),
        }
    }
}

impl Promises {
    /// Writes them into the folder of a history.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        std::fs::write(&path, serde_json::to_string_pretty(self)?).with_context(|| format!("write {}", path.display()))
    }

    /// Those of a folder; the defaults where it has none.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(&path)?;
        serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))
    }
}
