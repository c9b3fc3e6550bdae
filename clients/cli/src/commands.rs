//! One command, one file; what they share is the connection and the output.

/// Gathers every page of a list.
macro_rules! pages {
    ($client:expr, $call:ident, $request:expr, $items:ident) => {{
        let mut all = Vec::new();
        let mut request = $request;
        loop {
            let page = $client.$call(rpc::client::within(crate::connection::CALL_TIMEOUT, request.clone())).await?;
            let page = page.into_inner();
            all.extend(page.$items);
            if page.next_page_token.is_empty() {
                break all;
            }
            request.page_token = page.next_page_token;
        }
    }};
}

mod again;
mod audit;
mod backfills;
mod blocks;
mod clean;
mod control;
pub(crate) mod deploy;
mod gpus;
mod groups;
mod limits;
mod lists;
mod login;
mod logs;
mod members;
mod models;
mod monitor;
mod notifications;
mod outputs;
mod plans;
mod policies;
mod projects;
mod queues;
pub(crate) mod run;
mod runs;
mod secrets;
mod tokens;
mod triggers;
mod users;
mod volumes;
mod workspaces;

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
    // Everything but these needs a server and a token.
    let command = match command {
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "orrery", &mut std::io::stdout());
            return Ok(Code::Ok);
        }
        Command::Up(options) => return up::run(options, &workspace, output).await,
        Command::Login(options) => {
            return login::login(server.as_deref(), token_file.as_deref(), &workspace, output, options).await;
        }
        command => command,
    };
    // What is given back is the token that is kept, whatever else commands are told to use.
    let token_file = token_file.filter(|_| !matches!(command, Command::Logout));
    let connection = Connection::open(server.as_deref(), token_file.as_deref(), &workspace)?;
    served(&connection, output, command).await.map_err(|failure| failure.of_server(connection.server()))
}

/// What a server does.
async fn served(connection: &Connection, output: &Output, command: Command) -> Result<Code> {
    match command {
        Command::Up(_) | Command::Login(_) | Command::Completions { .. } => Ok(Code::Ok),
        Command::Logout => login::logout(connection, output).await,
        Command::Password { password_file } => login::password(connection, output, password_file.as_deref()).await,
        Command::Whoami => login::whoami(connection, output).await,
        Command::Users { act } => users::run(connection, output, act).await,
        Command::Groups { act } => groups::run(connection, output, act).await,
        Command::Tokens { act } => tokens::run(connection, output, act).await,
        Command::Members { act } => members::run(connection, output, act).await,
        Command::Models { act } => models::run(connection, output, act).await,
        Command::Projects { act } => projects::run(connection, output, act).await,
        Command::Secrets { act, scope } => secrets::run(connection, output, act, scope).await,
        Command::Audit(options) => audit::run(connection, output, options).await,
        Command::Deploy(options) => deploy::run(connection, output, &options).await,
        Command::Run(options) => run::run(connection, output, options).await,
        Command::Runs(options) => runs::run(connection, output, options).await,
        Command::Logs(options) => logs::run(connection, output, options).await,
        Command::Monitor(options) => monitor::run(connection, output, options).await,
        Command::Notifications { act } => notifications::run(connection, output, act).await,
        Command::Blocks { run, children } => {
            blocks::run(connection, output, &connection.resolve_run(&run).await?, children).await
        }
        Command::Outputs { run, block, child, name, save } => {
            let run_id = connection.resolve_run(&run).await?;
            let request = GetOutputsRequest { run_id, block, child, name: name.unwrap_or_default() };
            match save {
                Some(folder) => outputs::save(connection, output, request, &folder).await,
                None => outputs::run(connection, output, request).await,
            }
        }
        Command::Clean { logs: true, before, dry_run, .. } => clean::logs(connection, output, before, dry_run).await,
        Command::Clean { pipeline, before, dry_run, .. } => {
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
        Command::Backfills { act } => backfills::run(connection, output, act).await,
        Command::Limits { act } => limits::run(connection, output, act).await,
        Command::Triggers { command } => triggers::run(connection, output, command).await,
        Command::Pipelines => lists::pipelines(connection, output).await,
        Command::Executors => lists::executors(connection, output).await,
        Command::Gpus { act } => gpus::run(connection, output, act).await,
        Command::Volumes { act, project } => volumes::run(connection, output, act, project).await,
        Command::Queues { act } => queues::run(connection, output, act).await,
        Command::Plans { act } => plans::run(connection, output, act).await,
        Command::Workspaces { act: Some(act), .. } => workspaces::run(connection, output, act).await,
        Command::Workspaces { act: None, create, project, archive, force, restore, archived } => {
            let project = project.unwrap_or_default();
            match (create, archive, restore) {
                (Some(name), _, _) => lists::create_workspace(connection, output, name, project).await,
                (None, Some(name), _) => lists::archive_workspace(connection, output, name, force).await,
                (None, None, Some(name)) => lists::restore_workspace(connection, output, name).await,
                (None, None, None) => lists::workspaces(connection, output, project, archived).await,
            }
        }
    }
}
