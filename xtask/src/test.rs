//! `cargo xtask test`: every check and every test, all of them even when one fails.

use crate::{
    step::{self, Count},
    tidy, workspace,
};
use anyhow::{Context, Result};
use provision::{Postgres, Python, TestServer};
use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
};

/// The Python that is tested with Python: the runner inside executors, and the client.
const PACKAGES: [(&str, &str); 2] =
    [("the runner's tests", "services/executor/python"), ("the Python client's tests", "clients/python")];
/// What the runner's environments hold; the client needs nothing.
const REQUIREMENTS: &str = "services/executor/python/base-requirements.txt";

/// Runs everything, and prints `N passed, N failed` as its last line.
pub(crate) fn run() -> Result<ExitCode> {
    let postgres = Postgres::find_or_install()?;
    println!("PostgreSQL {} in {}", postgres.major, postgres.bin.display());
    let python = Python::find_or_install()?;
    println!("Python {}.{} at {}", python.version.0, python.version.1, python.path.display());

    let mut count = step::check("format", workspace::cargo().args(["fmt", "--all", "--check"]))?;
    count += step::check(
        "clippy",
        workspace::cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
    )?;
    // Binaries first: tests start services beside the binaries that they are built into.
    count += step::check("build", workspace::cargo().args(["build", "--workspace", "--quiet"]))?;
    count += step::tests("cargo test", workspace::cargo().args(["test", "--workspace", "--no-fail-fast", "--quiet"]))?;
    count += python_tests(&python)?;
    count += step::check(
        "docs",
        workspace::cargo().args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    count += tidy::check()?;
    if let Err(error) = TestServer::stop_if_unused() {
        println!("the test server was left running: {error}");
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    Ok(if count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The packages' own tests, in the environment that blocks get.
fn python_tests(python: &Python) -> Result<Count> {
    let requirements = workspace::root().join(REQUIREMENTS);
    let text = fs::read_to_string(&requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let environment = python.environment(&text)?;
    let mut all = Count::default();
    for (name, package) in PACKAGES {
        let count = step::tests(name, &mut unittest(&environment, &workspace::root().join(package)))?;
        // "Ran N tests" counts the failed ones too.
        all += Count { passed: count.passed.saturating_sub(count.failed), failed: count.failed };
    }
    Ok(all)
}

fn unittest(environment: &Path, folder: &Path) -> Command {
    let mut command = Command::new(environment.join("bin/python"));
    command.args(["-m", "unittest", "discover", "--start-directory", "tests", "--top-level-directory", "."]);
    command.current_dir(folder).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}
