//! Load scenarios against a real cluster of release binaries, each beside a floor that is measured in the same run on
//! the same Postgres. A figure is a ratio: machines differ and are noisy.
#![allow(clippy::print_stdout, reason = "a command-line program reports on stdout")]

mod floor;
mod report;
mod scenarios;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use load_tests::{cluster, faults, project_files};
use report::Verdict;
use std::process::ExitCode;

/// One scenario, with what it needs started for it.
#[derive(Parser)]
#[command(name = "cargo xtask load")]
struct Arguments {
    /// What to measure
    scenario: Scenario,
    /// End with one line of JSON per figure
    #[arg(long)]
    json: bool,
    /// Append the figures to this file, with the machine's description
    #[arg(long)]
    record: Option<std::path::PathBuf>,
    #[command(flatten)]
    logs: scenarios::logs::Size,
    #[command(flatten)]
    openb: scenarios::openb::Options,
    #[command(flatten)]
    faults: faults::Options,
    #[command(flatten)]
    peers: scenarios::peers::Options,
    #[command(flatten)]
    soak: scenarios::soak::Length,
    #[command(flatten)]
    devices: scenarios::devices::Options,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// 40 no-op blocks in a row, against durable commits
    Chain,
    /// 10,000 dynamic children, against 100, and against batched SQL
    Fanout,
    /// 10,000 runs of one block, against batched SQL
    Independent,
    /// Python no-op blocks, against a loop that forks the same warm interpreter
    Python,
    /// From the API call to a no-op and to the first line of Python
    FirstLine,
    /// 1,000 and 10,000 schedules that are due in the same second
    Herd,
    /// 100,000 active triggers of which none is due, against none
    IdleTriggers,
    /// A backfill of a million intervals, against one of ten
    Backfill,
    /// Searches over 10 million log lines, and no-ops beside a flood of 20,000 lines a second
    Logs,
    /// A trace of tasks and GPUs through the planner, against published placement policies; needs --nodes and --tasks
    Openb,
    /// 10,000 starts and stops of runtimes against too few GPUs, on three schedulers that are killed at random
    Devices,
    /// Durable placements with three schedulers, and decisions over a large fleet
    Placements,
    /// What one, two and four schedulers get done, and what a run costs with each
    Replicas,
    /// What idle services take of the machine, and what a further one of each adds
    Idle,
    /// A steady load for an hour (--minutes): growth of memory, dead rows and lateness
    Soak,
    /// The same work on what a user would pick instead (--peers), as a table of ratios
    Peers,
    /// A cluster under load that is broken in every way; needs --smoke, --row N or --full
    Faults,
    /// All that start a cluster and break nothing, but the soak and the peers
    All,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.scenario == Scenario::Faults {
        let held = faults::run(&arguments.faults, arguments.json, arguments.record.as_ref()).await?;
        return Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    if arguments.scenario == Scenario::Peers {
        scenarios::peers::run(&arguments.peers, arguments.json, arguments.record.as_deref()).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = |scenario| arguments.scenario == scenario || arguments.scenario == Scenario::All;
    let mut figures = Vec::new();
    if wanted(Scenario::Chain) {
        figures.extend(scenarios::chain::run().await?);
    }
    if wanted(Scenario::Fanout) {
        figures.extend(scenarios::fanout::run().await?);
    }
    if wanted(Scenario::Independent) {
        figures.extend(scenarios::independent::run().await?);
    }
    if wanted(Scenario::Python) {
        figures.extend(scenarios::python::run().await?);
    }
    if wanted(Scenario::FirstLine) {
        figures.extend(scenarios::first_line::run().await?);
    }
    if wanted(Scenario::Herd) {
        figures.extend(scenarios::herd::run().await?);
    }
    if wanted(Scenario::IdleTriggers) {
        figures.extend(scenarios::idle_triggers::run().await?);
    }
    if wanted(Scenario::Backfill) {
        figures.extend(scenarios::backfill::run().await?);
    }
    if wanted(Scenario::Logs) {
        figures.extend(scenarios::logs::run(arguments.logs).await?);
    }
    if wanted(Scenario::Replicas) {
        figures.extend(scenarios::replicas::run().await?);
    }
    if wanted(Scenario::Idle) {
        figures.extend(scenarios::idle::run().await?);
    }
    if arguments.scenario == Scenario::Soak {
        figures.extend(scenarios::soak::run(arguments.soak).await?);
    }
    if wanted(Scenario::Devices) {
        figures.extend(scenarios::devices::run(&arguments.devices).await?);
    }
    if wanted(Scenario::Placements) {
        figures.extend(scenarios::placements::run().await?);
    }
    if arguments.scenario == Scenario::Openb {
        figures.extend(scenarios::openb::run(&arguments.openb)?);
    }
    report::print(&figures, arguments.json);
    if let Some(path) = &arguments.record {
        report::record(path, &figures)?;
    }
    let missed = figures.iter().any(|figure| figure.verdict() == Verdict::Missed);
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
