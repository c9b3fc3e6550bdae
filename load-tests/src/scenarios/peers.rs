//! The same work on Orrery and on what a user would pick instead, one after the other on one machine.
//!
//! Each system has a private PostgreSQL that commits durably, eight tasks at once where that can be said, and Python for user
//! code unless its label says otherwise. What it needs is installed into the user's cache, in versions that are written down;
//! one that cannot be installed or run is told with the reason and does not stop the others. There is no bar: it is a table
//! of ratios. The floor is measured first and last, so that a machine that changed meanwhile is seen.

mod bare;
mod orrery;
mod system;
mod table;

use anyhow::{Result, ensure};
use serde::Serialize;
use std::{collections::BTreeMap, path::Path};
use system::SYSTEMS;

/// The names of ourselves and of the floor, beside those of the peers.
const ORRERY: &str = "orrery";
const FLOOR: &str = "floor";
/// What can be measured, as programs of peers name it.
const FIGURES: [&str; 7] = ["chain", "fan_out", "runs", "first_line", "bulk", "cron", "idle"];

/// Which, and how much.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Which ones, by their names, `orrery` and `floor` among them; all without
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    peers: Vec<String>,
    /// Which figures; all without
    #[arg(long, value_delimiter = ',', value_parser = FIGURES, value_name = "NAME,…")]
    figures: Vec<String>,
    /// How often a chain, a fan-out, runs at once and runs in bulk are done, unless that takes half a minute
    #[arg(long, default_value_t = 3)]
    repeats: usize,
}

impl Options {
    fn picks(&self, name: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|picked| picked == name)
    }
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
    /// Tasks that are handed over together, where a system can.
    bulk: usize,
    /// Schedules that are due in one minute.
    schedules: usize,
    repeats: usize,
    /// Those of [`FIGURES`] that are wanted.
    figures: Vec<String>,
}

impl Work {
    fn wants(&self, figure: &str) -> bool {
        self.figures.iter().any(|wanted| wanted == figure)
    }
}

/// What one system came to.
#[derive(Debug, Clone, Default)]
struct Measured {
    /// Seconds by figure; see [`table::COLUMNS`].
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

/// One line of the table.
#[derive(Debug, Clone)]
struct Row {
    label: &'static str,
    /// What it does not do, or what favours it.
    note: &'static str,
    measured: Measured,
}

/// Measures the floor, Orrery, each peer, and the floor again; prints a table, and with `json` a line for each system;
/// appends both to `record`.
pub(crate) async fn run(options: &Options, json: bool, record: Option<&Path>) -> Result<()> {
    let known: Vec<&str> = [ORRERY, FLOOR].into_iter().chain(SYSTEMS.iter().map(|system| system.name)).collect();
    let unknown = options.peers.iter().find(|name| !known.contains(&name.as_str()));
    ensure!(
        unknown.is_none(),
        "there is no peer {}; there are {}",
        unknown.map_or("", String::as_str),
        known.join(", ")
    );
    let wanted = |figure: &&&str| options.figures.is_empty() || options.figures.iter().any(|name| name == **figure);
    let work = Work {
        tasks: 40,
        runs: 20,
        calls: 5,
        bulk: 10_000,
        schedules: 10,
        repeats: options.repeats.max(1),
        figures: FIGURES.iter().filter(wanted).map(|name| (*name).to_owned()).collect(),
    };
    let mut rows = Vec::new();
    if options.picks(FLOOR) {
        rows.push(bare::measure("PostgreSQL by hand, first", &work).await?);
    }
    let base = rows.len();
    if options.picks(ORRERY) {
        rows.extend(orrery::measure(&work).await?);
    }
    for system in SYSTEMS.iter().filter(|system| options.picks(system.name)) {
        eprintln!("measuring {}", system.label);
        let measured = system.measure(&work).await;
        rows.push(Row { label: system.label, note: system.note, measured });
    }
    if options.picks(FLOOR) {
        rows.push(bare::measure("PostgreSQL by hand, last", &work).await?);
    }
    let base = rows.get(base).filter(|_| options.picks(ORRERY)).map(|row| row.measured.clone()).unwrap_or_default();
    table::print(&rows, &base, json);
    record.map_or(Ok(()), |path| table::record(path, &work, &rows, &base))
}
