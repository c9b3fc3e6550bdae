//! Judges a history: `check-history DIR`. Ends with 1 when a promise was broken, with 2 when the history cannot be read.
#![allow(clippy::print_stdout, reason = "a command-line program reports on stdout")]

use clap::Parser;
use load_tests::history::{self, History};
use std::{path::PathBuf, process::ExitCode};

/// Decides whether what a cluster did was right, from what the database, the executors and the clients wrote down
#[derive(Parser)]
struct Arguments {
    /// The folder of the history
    folder: PathBuf,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let history = match History::read(&arguments.folder) {
        Ok(history) => history,
        Err(error) => {
            eprintln!("failed to read the history: {error:#}");
            return ExitCode::from(2);
        }
    };
    let report = history::check(&history);
    if arguments.json {
        println!("{}", serde_json::json!(report));
    } else {
        print!("{report}");
    }
    if report.is_held() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
