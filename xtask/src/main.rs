//! Every command a person types while working on Orrery: `cargo xtask up`, `test`, `ci`, `tidy`, `load`,
//! `kube`.
//!
//! Refuses to know what the services do; it builds, checks and starts them.
#![allow(clippy::print_stdout, reason = "a command-line program reports on stdout")]

mod kube;
mod load;
mod step;
mod suite;
mod test;
mod tidy;
mod up;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// What a person types to work on Orrery.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds what is needed, then runs a sample project on a cluster of its own and stays up
    Up {
        /// Passed to `orrery up`; see `orrery up --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The tests; ends with one line that counts them
    Test {
        /// Only the runner's tests, in an environment with xgboost, dbt, polars and scikit-learn too
        #[arg(long)]
        libraries: bool,
    },
    /// What CI runs: the tests, the fault matrix, and every check; tests that cannot be run on Kubernetes or in a browser have failed
    Ci,
    /// Checks the house: who depends on whom, names, sizes, SQL, protos, the schema
    Tidy {
        /// Write migrations/schema.sql anew instead of comparing it
        #[arg(long)]
        schema: bool,
    },
    /// A Kubernetes of one's own with simulated GPUs, on the loopback
    #[command(subcommand)]
    Kube(kube::Task),
    /// Builds in release and runs one load scenario beside its floor
    Load {
        /// The scenario and its options; see `cargo xtask load --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().task {
        Task::Up { arguments } => up::run(&arguments),
        Task::Test { libraries: true } => test::run_with_libraries(),
        Task::Test { libraries: false } => test::run(test::Extent::Tests),
        Task::Ci => test::run(test::Extent::All),
        Task::Tidy { schema } => tidy::run(schema),
        Task::Kube(task) => kube::run(&task),
        Task::Load { arguments } => load::run(&arguments),
    }
}
