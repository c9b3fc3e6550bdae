//! `cargo xtask load <scenario>`: an optimised build, then the scenario.

use crate::{up, workspace};
use anyhow::{Context, Result, bail};
use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

/// Builds the services and the scenarios in release and becomes the scenario.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--package", "load-tests"]);
    build.args(up::PACKAGES.iter().flat_map(|p| ["--package", p]));
    if !build.status().context("cannot run cargo")?.success() {
        bail!("the build failed");
    }
    let mut scenario = Command::new(workspace::metadata()?.target_directory.join("release/load-tests"));
    Err(scenario.current_dir(workspace::root()).args(arguments).exec()).context("cannot start the scenario")
}
