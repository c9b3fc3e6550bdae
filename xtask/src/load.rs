//! `cargo xtask load <scenario>`: an optimised build, then the scenario.

mod upgrade;

use crate::{up, workspace};
use anyhow::{Context, Result, bail};
use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

/// Scenarios that start no service.
const STANDALONE: [&str; 1] = ["openb"];

/// Builds the scenarios in release, and the services for those that start some, and becomes the scenario.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    if arguments.first().is_some_and(|first| first == upgrade::NAME) {
        return upgrade::run(arguments);
    }
    let has_services = !arguments.iter().any(|argument| STANDALONE.contains(&argument.as_str()));
    build(has_services)?;
    become_scenario(scenario()?.args(arguments))
}

fn build(has_services: bool) -> Result<()> {
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--package", "load-tests"]);
    if has_services {
        build.args(up::PACKAGES.iter().flat_map(|p| ["--package", p]));
    }
    if !build.status().context("cannot run cargo")?.success() {
        bail!("the build failed");
    }
    Ok(())
}

/// The program of all scenarios.
fn scenario() -> Result<Command> {
    let mut scenario = Command::new(workspace::metadata()?.target_directory.join("release/load-tests"));
    scenario.current_dir(workspace::root());
    Ok(scenario)
}

fn become_scenario(scenario: &mut Command) -> Result<ExitCode> {
    Err(scenario.exec()).context("cannot start the scenario")
}
