//! One command, one file; what they share is the connection and the output.

mod blocks;
mod clean;
mod control;
pub(crate) mod deploy;
mod lists;
mod logs;
mod monitor;
mod notifications;
mod outputs;
pub(crate) mod run;
mod runs;
mod triggers;

use crate::{
    arguments::{Arguments, Command},
    connection::Connection,
    failure::{Code, Result},
    render::Output,
    up,
};
use clap::CommandFactory;
use proto::v1::{GetOutputsRequest, RetryMode};

/// Carries out what was typed.
pub(crate) async fn run(arguments: Arguments, output: &Output) -> Result<Code> {
    let Arguments { server, token_file, workspace, command, .. } = arguments;
    // Everything but these two needs a server.
    let command = match command {
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "orrery", &mut std::io::stdout());
            return Ok(Code::Ok);
        }
        Command::Up(options) => return up::run(options, &workspace, output).await,
        command => command,
    };
    let connection = Connection::open(server.as_deref(), token_file.as_deref(), &workspace)?;
    let connection = &connection;
    match command {
        Command::Up(_) | Command::Completions { .. } => Ok(Code::Ok),
        Command::Deploy { directory, validate_only } => {
            deploy::run(connection, output, &directory, validate_only).await
        }
        Command::Run(options) => run::run(connection, output, options).await,
        Command::Runs { pipeline, status, limit } => {
            runs::run(connection, output, pipeline.unwrap_or_default(), &status, limit).await
        }
        Command::Logs(options) => logs::run(connection, output, options).await,
        Command::Monitor(options) => monitor::run(connection, output, options).await,
        Command::Notifications { act } => notifications::run(connection, output, act).await,
        Command::Blocks { run, children } => {
            blocks::run(connection, output, &connection.resolve_run(&run).await?, children).await
        }
        Command::Outputs { run, block, child, name } => {
            let run_id = connection.resolve_run(&run).await?;
            outputs::run(connection, output, GetOutputsRequest { run_id, block, child, name: name.unwrap_or_default() })
                .await
        }
        Command::Clean { pipeline, before, dry_run } => {
            clean::run(connection, output, pipeline.unwrap_or_default(), before, dry_run).await
        }
        Command::Cancel { run, reason } => {
            control::cancel(connection, output, connection.resolve_run(&run).await?, reason).await
        }
        Command::Retry { run, incomplete, from, wait } => {
            let mode = match (&from, incomplete) {
                (Some(_), _) => RetryMode::FromBlock,
                (None, true) => RetryMode::Incomplete,
                (None, false) => RetryMode::Whole,
            };
            let run_id = connection.resolve_run(&run).await?;
            control::retry(connection, output, run_id, mode, from.unwrap_or_default(), wait).await
        }
        Command::Triggers { command } => triggers::run(connection, output, command).await,
        Command::Pipelines => lists::pipelines(connection, output).await,
        Command::Executors => lists::executors(connection, output).await,
        Command::Workspaces { create: Some(name) } => lists::create_workspace(connection, output, name).await,
        Command::Workspaces { create: None } => lists::workspaces(connection, output).await,
    }
}
