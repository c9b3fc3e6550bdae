//! `cargo xtask test`: every check and every test, all of them even when one fails.

use crate::{
    kube,
    step::{self, Count},
    tidy, workspace,
};
use anyhow::{Context, Result};
use provision::{
    Postgres, Python, Rscript, TestServer,
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
/// Further libraries that outputs and blocks know and that are heavy: tried on demand only.
const LIBRARIES: &str = "services/executor/python/tests/libraries.txt";

/// Runs everything, and prints `N passed, N failed, N skipped` as its last line. Where no Kubernetes can be had, its tests are skipped,
/// which counts as a failure if they `must_run`.
pub(crate) fn run(must_run: bool) -> Result<ExitCode> {
    let postgres = Postgres::find_or_install()?;
    println!("PostgreSQL {} in {}", postgres.major, postgres.bin.display());
    let python = Python::find_or_install()?;
    println!("Python {}.{} at {}", python.version.0, python.version.1, python.path.display());

    match Rscript::find_or_install() {
        Ok(rscript) => println!("R at {}", rscript.path.display()),
        Err(error) => println!("blocks in R are not tested: {error}"),
    }
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
        count += Count { failed: must_run.into(), skipped: (!must_run).into(), ..Count::default() };
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
    Ok(told(count))
}

/// `cargo xtask test --libraries`: the runner's tests alone, in an environment with libraries that are too heavy for the base.
pub(crate) fn run_with_libraries() -> Result<ExitCode> {
    let python = Python::find_or_install()?;
    let environment = python.environment(&[read(REQUIREMENTS)?, read(LIBRARIES)?].join("\n"))?;
    let (name, package) = PACKAGES[0];
    Ok(told(unittest(name, &environment, package)?))
}

fn told(count: Count) -> ExitCode {
    println!("{} passed, {} failed, {} skipped", count.passed, count.failed, count.skipped);
    if count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read(file: &str) -> Result<String> {
    fs::read_to_string(workspace::root().join(file)).with_context(|| format!("cannot read {file}"))
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
    let environment = python.environment(&read(REQUIREMENTS)?)?;
    let mut all = Count::default();
    for (name, package) in PACKAGES {
        all += unittest(name, &environment, package)?;
    }
    Ok(all)
}

fn unittest(name: &str, environment: &Path, package: &str) -> Result<Count> {
    let mut command = Command::new(environment.join("bin/python"));
    // Verbose, since only then it says why a test was skipped.
    command.args([
        "-m",
        "unittest",
        "discover",
        "--verbose",
        "--start-directory",
        "tests",
        "--top-level-directory",
        ".",
    ]);
    command.current_dir(workspace::root().join(package)).env("PYTHONDONTWRITEBYTECODE", "1");
    let count = step::tests(name, &mut command)?;
    // "Ran N tests" counts those that failed or were skipped too.
    Ok(Count { passed: count.passed.saturating_sub(count.failed + count.skipped), ..count })
}
