//! Load scenarios against a real cluster of release binaries, each beside a floor that is measured in the same run on
//! the same Postgres. A figure is a ratio: machines differ and are noisy.
#![allow(clippy::print_stdout, reason = "a command-line program reports on stdout")]

mod floor;
mod report;
mod scenarios;

use anyhow::Result;
use clap::{Parser, Subcommand};
use load_tests::{cluster, faults, project_files};
use report::{Figure, Verdict};
use std::process::ExitCode;

/// One scenario, with what it needs started for it.
#[derive(Parser)]
#[command(
    name = "cargo xtask load",
    after_help = "`cargo xtask load upgrade --from REF` builds an earlier commit and replaces it by this one, under load; see its --help"
)]
struct Arguments {
    /// What to measure
    #[command(subcommand)]
    scenario: Scenario,
    /// End with one line of JSON per figure
    #[arg(long, global = true)]
    json: bool,
    /// Append the figures to this file, with the machine's description
    #[arg(long, global = true)]
    record: Option<std::path::PathBuf>,
}

#[derive(Subcommand)]
enum Scenario {
    #[command(flatten)]
    Measured(Measured),
    /// A cluster under load that is broken in every way; needs --smoke, --row N or --full
    Faults(faults::Options),
    /// The same work on what a user would pick instead, as a table of ratios
    Peers(scenarios::peers::Options),
    /// All that start a cluster and break nothing, each at its usual size; neither the soak nor the peers
    All,
}

/// Scenarios that end with figures.
#[derive(Subcommand)]
enum Measured {
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
    /// Searches over 10 million log lines
    Logs(scenarios::logs::Size),
    /// No-ops beside a flood of 20,000 log lines a second, against no-ops without it
    Flood(scenarios::flood::Size),
    /// A trace of tasks and GPUs through the planner, against published placement policies
    Openb(scenarios::openb::Options),
    /// 10,000 starts and stops of runtimes against too few GPUs, on three schedulers that are killed at random
    Devices(scenarios::devices::Options),
    /// Durable placements with three schedulers, and decisions over a large fleet
    Placements,
    /// From asking for a workspace on Kubernetes to its open application, against the same pod and claim by hand
    WorkspaceStart,
    /// What one, two and four schedulers get done, and what a run costs with each
    Replicas,
    /// What idle services take of the machine, and what a further one of each adds
    Idle,
    /// A steady load for an hour: growth of memory, dead rows and lateness
    Soak(scenarios::soak::Length),
}

/// One scenario at its usual size.
#[derive(Parser)]
struct Alone {
    #[command(subcommand)]
    scenario: Measured,
}

/// What `all` runs, in this order.
const ALL: [&str; 15] = [
    "chain",
    "fanout",
    "independent",
    "python",
    "first-line",
    "herd",
    "idle-triggers",
    "backfill",
    "logs",
    "flood",
    "devices",
    "placements",
    "workspace-start",
    "replicas",
    "idle",
];

async fn measure(scenario: Measured) -> Result<Vec<Figure>> {
    match scenario {
        Measured::Chain => scenarios::chain::run().await,
        Measured::Fanout => scenarios::fanout::run().await,
        Measured::Independent => scenarios::independent::run().await,
        Measured::Python => scenarios::python::run().await,
        Measured::FirstLine => scenarios::first_line::run().await,
        Measured::Herd => scenarios::herd::run().await,
        Measured::IdleTriggers => scenarios::idle_triggers::run().await,
        Measured::Backfill => scenarios::backfill::run().await,
        Measured::Logs(size) => scenarios::logs::run(size).await,
        Measured::Flood(size) => scenarios::flood::run(size).await,
        Measured::Openb(options) => scenarios::openb::run(&options),
        Measured::Devices(options) => scenarios::devices::run(&options).await,
        Measured::Placements => scenarios::placements::run().await,
        Measured::WorkspaceStart => scenarios::workspace_start::run().await,
        Measured::Replicas => scenarios::replicas::run().await,
        Measured::Idle => scenarios::idle::run().await,
        Measured::Soak(length) => scenarios::soak::run(length).await,
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let Arguments { scenario, json, record } = Arguments::parse();
    let figures = match scenario {
        Scenario::Faults(options) => {
            let held = faults::run(&options, json, record.as_ref()).await?;
            return Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Scenario::Peers(options) => {
            scenarios::peers::run(&options, json, record.as_deref()).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Scenario::All => {
            let mut figures = Vec::new();
            for name in ALL {
                figures.extend(measure(Alone::parse_from(["load", name]).scenario).await?);
            }
            figures
        }
        Scenario::Measured(one) => measure(one).await?,
    };
    report::print(&figures, json);
    if let Some(path) = &record {
        report::record(path, &figures)?;
    }
    let missed = figures.iter().any(|figure| figure.verdict() == Verdict::Missed);
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_scenario_can_be_asked_for_by_its_name_alone() {
        Arguments::command().debug_assert();
        for name in ALL {
            assert!(Alone::try_parse_from(["load", name]).is_ok(), "{name}");
        }
    }
}
