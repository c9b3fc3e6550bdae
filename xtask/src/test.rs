//! `cargo xtask test`: every check and every test, all of them even when one fails.

use crate::{
    kube,
    step::{self, Count},
    tidy, workspace,
};
use anyhow::{Context, Result};
use provision::{
    Postgres, Python, TestServer,
    kubelab::{self, Kubelab},
};
use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
    time::Instant,
};

/// The Python that is tested with Python: the runner inside executors, and the client.
const PACKAGES: [(&str, &str); 2] =
    [("the runner's tests", "services/executor/python"), ("the Python client's tests", "clients/python")];
/// Tells tests that there is no Kubernetes, and why.
const WITHOUT_KUBERNETES: &str = "ORRERY_WITHOUT_KUBERNETES";
/// What the runner's environments hold; the client needs nothing.
const REQUIREMENTS: &str = "services/executor/python/base-requirements.txt";

/// Runs everything, and prints `N passed, N failed` as its last line. Where no Kubernetes can be had, its tests are skipped,
/// which counts as a failure if they `must_run`.
pub(crate) fn run(must_run: bool) -> Result<ExitCode> {
    let postgres = Postgres::find_or_install()?;
    println!("PostgreSQL {} in {}", postgres.major, postgres.bin.display());
    let python = Python::find_or_install()?;
    println!("Python {}.{} at {}", python.version.0, python.version.1, python.path.display());

    let without = without_kubernetes();

    let mut count = step::check("format", workspace::cargo().args(["fmt", "--all", "--check"]))?;
    count += step::check(
        "clippy",
        workspace::cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
    )?;
    // Binaries first: tests start services beside the binaries that they are built into.
    count += step::check("build", workspace::cargo().args(["build", "--workspace", "--quiet"]))?;
    let mut tests = workspace::cargo();
    tests.args(["test", "--workspace", "--no-fail-fast", "--quiet"]);
    if let Some(reason) = &without {
        tests.env(WITHOUT_KUBERNETES, reason);
        count += Count { passed: 0, failed: must_run.into() };
    }
    count += step::tests("cargo test", &mut tests)?;
    count += python_tests(&python)?;
    count += step::check(
        "docs",
        workspace::cargo().args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    count += tidy::check()?;
    if let Err(error) = TestServer::stop_if_unused() {
        println!("the test server was left running: {error}");
    }
    if let Err(error) = kubelab::TestLab::stop_if_unused() {
        println!("the tests' Kubernetes was left running: {error}");
    }
    if let Some(reason) = without {
        println!("SKIPPED: every test on Kubernetes: {reason}");
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    Ok(if count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the Kubernetes that tests share, before they would wait for it; why not, where it cannot be had.
fn without_kubernetes() -> Option<String> {
    if let Some(named) = Kubelab::named() {
        println!("Kubernetes {}", named.server);
        return None;
    }
    let begun = Instant::now();
    match kubelab::build(&kube::sources()) {
        Ok(program) => {
            println!("Kubernetes in {}, after {:.0} s", program.display(), begun.elapsed().as_secs_f64());
            None
        }
        Err(error) => {
            println!("SKIPPED: every test on Kubernetes: {error}");
            Some(error.to_string())
        }
    }
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
