//! The `orrery` command: a client of the public API, and `orrery up`, which runs the services on this machine.
//!
//! Refuses to know the database's schema and the internal protocol.

mod arguments;
mod commands;
mod connection;
mod failure;
mod json;
mod kept;
mod meant;
mod record;
mod render;
mod terminal;
mod up;

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use failure::Code;
use render::Output;
use std::process::ExitCode;

fn main() -> ExitCode {
    let (words, arguments) = match typed() {
        Ok(typed) => typed,
        Err(error) => {
            let asked = !error.use_stderr();
            // Help and usage errors go where clap sends them; a closed pipe is no failure.
            let _ = error.print();
            return if asked { Code::Ok } else { Code::Usage }.into();
        }
    };
    let output = Output::new(arguments.json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return Code::Internal.into();
        }
    };
    let result = runtime.block_on(commands::run(arguments, &output));
    // Threads that still read a folder or a terminal must not hold up the exit.
    runtime.shutdown_background();
    match result {
        Ok(code) => code.into(),
        Err(failure) => {
            let failure = failure.of_command(&words);
            failure.print(&output);
            failure.code.into()
        }
    }
}

/// The words of the command, such as `triggers edit`, and what they mean.
fn typed() -> Result<(String, arguments::Arguments), clap::Error> {
    let matches = arguments::Arguments::command().try_get_matches()?;
    let arguments = arguments::Arguments::from_arg_matches(&matches)
        .map_err(|error| error.format(&mut arguments::Arguments::command()))?;
    Ok((words(&matches).join(" "), arguments))
}

fn words(matches: &ArgMatches) -> Vec<&str> {
    std::iter::successors(matches.subcommand(), |(_, inner)| inner.subcommand()).map(|(word, _)| word).collect()
}
