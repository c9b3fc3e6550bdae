//! `cargo xtask load <scenario>`: an optimised build, then the scenario.

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
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--package", "load-tests"]);
    if !arguments.iter().any(|argument| STANDALONE.contains(&argument.as_str())) {
        build.args(up::PACKAGES.iter().flat_map(|p| ["--package", p]));
    }
    if !build.status().context("cannot run cargo")?.success() {
        bail!("the build failed");
    }
    let mut scenario = Command::new(workspace::metadata()?.target_directory.join("release/load-tests"));
    Err(scenario.current_dir(workspace::root()).args(arguments).exec()).context("cannot start the scenario")
}
