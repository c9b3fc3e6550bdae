//! `cargo xtask up`: from a fresh clone to a project that ran, and a cluster to look at.

use crate::workspace;
use anyhow::{Context, Result, bail};
use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

/// The sample project that a newcomer sees.
const EXAMPLE: &str = "examples/hello";
/// Its pipeline that runs first.
const PIPELINE: &str = "penguins";

/// What `orrery up` starts, besides itself.
pub(crate) const PACKAGES: [&str; 4] = ["orrery", "web-server", "scheduler", "executor"];

/// Builds with the profile that builds fastest and becomes `orrery up`; `arguments` go on to it.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let mut build = workspace::cargo();
    build.arg("build").args(PACKAGES.iter().flat_map(|p| ["--package", p]));
    if !build.status().context("cannot run cargo")?.success() {
        bail!("the build failed");
    }
    let mut orrery = Command::new(workspace::metadata()?.target_directory.join("debug/orrery"));
    orrery.arg("up");
    if !arguments.iter().any(|a| a == "--project" || a.starts_with("--project=")) {
        orrery.arg("--project").arg(workspace::root().join(EXAMPLE));
        if !arguments.iter().any(|a| a == "--run" || a.starts_with("--run=")) {
            orrery.args(["--run", PIPELINE]);
        }
    }
    // Replacing this process leaves one that gets the terminal's signals.
    Err(orrery.args(arguments).exec()).context("cannot start orrery")
}
