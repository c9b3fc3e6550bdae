//! The same work on Orrery and on what a user would pick instead, one after the other on one machine.
//!
//! Each system has a private PostgreSQL that commits durably, eight tasks at once where that can be said, and Python for user
//! code. What it needs is installed into the user's cache, in versions that are written down; one that cannot be installed or
//! run is told with the reason and does not stop the others. There is no bar: it is a table of ratios.

mod orrery;
mod system;
mod table;

use anyhow::{Result, ensure};
use serde::Serialize;
use std::{collections::BTreeMap, path::Path};
use system::SYSTEMS;

/// Which, and how much.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Which ones, by their names; all without
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    peers: Vec<String>,
    /// How often a chain and a fan-out are run, unless that takes a minute
    #[arg(long, default_value_t = 3)]
    repeats: usize,
}

/// What every system is asked to do.
#[derive(Debug, Clone, Serialize)]
struct Work {
    /// Tasks of a chain, and of a fan-out.
    tasks: usize,
    /// Runs of one task that are started at once.
    runs: usize,
    /// Runs of one task, one after the other.
    calls: usize,
    /// Schedules that are due in one minute.
    schedules: usize,
    repeats: usize,
}

/// What one system came to.
#[derive(Debug, Clone, Default)]
struct Measured {
    /// Seconds by figure; see [`table::FIGURES`].
    seconds: BTreeMap<String, Vec<f64>>,
    idle_mb: Option<f64>,
    idle_cpu_percent: Option<f64>,
    /// Why something is missing.
    failed: Option<String>,
}

impl Measured {
    fn fail(&mut self, why: String) {
        self.failed = Some(self.failed.take().map_or(why.clone(), |before| format!("{before}; {why}")));
    }
}

/// Measures Orrery, then each peer; prints a table, and with `json` a line for each system; appends both to `record`.
pub(crate) async fn run(options: &Options, json: bool, record: Option<&Path>) -> Result<()> {
    let unknown = options.peers.iter().find(|name| SYSTEMS.iter().all(|system| system.name != **name));
    ensure!(
        unknown.is_none(),
        "there is no peer {}; there are {}",
        unknown.map_or("", String::as_str),
        SYSTEMS.iter().map(|system| system.name).collect::<Vec<_>>().join(", ")
    );
    let work = Work { tasks: 40, runs: 20, calls: 5, schedules: 10, repeats: options.repeats.max(1) };
    let mut rows = orrery::measure(&work).await?;
    for system in SYSTEMS.iter().filter(|s| options.peers.is_empty() || options.peers.iter().any(|name| name == s.name))
    {
        eprintln!("measuring {}", system.label);
        rows.push((system.label, system.measure(&work).await));
    }
    table::print(&rows, json);
    record.map_or(Ok(()), |path| table::record(path, &work, &rows))
}
